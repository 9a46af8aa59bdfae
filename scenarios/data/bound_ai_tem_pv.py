"""How well could the next quarter hour of ai_tem's PV be forecast at all?

    pip install 'raygrid[data]'
    python scenarios/data/bound_ai_tem_pv.py

The sky of `make_ai_tem_weather.py` is a smooth course plus seeded clouds, so that what a forecaster
could know at best can be computed. Skill against persistence on ai_tem's 30 test days, of
forecasters that are told ever more:

- the smooth course of the sky, exactly, for the coming quarter hour too;
- also by how much its own output of the last quarter hour was off that course;
- also the clouds over its roof five minutes by five minutes up to the issue time: then the mean
  over what the cloud process can still do is the best forecast that there is, its skill the bound.

No forecaster knows the smooth course, so all three are beyond what can be reached. The script also
prints how the clear-sky index moves from one quarter hour to the next.
"""

from __future__ import annotations

from datetime import date

import numpy as np
from make_ai_tem_weather import CLOUD_AMPLITUDE, MEMORY_HOURS, ROOFS, START, STEPS_PER_HOUR, Sky

FIRST_TEST_DAY, TEST_DAYS = date(2016, 8, 13), 30
STEPS_PER_DAY = 24 * STEPS_PER_HOUR
DRAWS = 16
SEED = 1


def best_forecast(sky, roof, last, part, random):
    """Mean output over draws of the next three steps of the cloud process, antithetic in pairs."""
    keep = np.exp(-1.0 / (STEPS_PER_HOUR * MEMORY_HOURS))
    total = 0.0
    for _ in range(DRAWS // 2):
        shocks = np.sqrt(1 - keep**2) * random.standard_normal((3, len(last)))
        for sign in (1.0, -1.0):
            steps, state = [], last
            for shock in shocks:
                state = keep * state + sign * shock
                steps.append(state)
            total = total + sky.power(roof, np.stack(steps, axis=1).reshape(-1), part)
    return total / (2 * (DRAWS // 2))


def main() -> None:
    """Print skills of the better-informed forecasters, and of the sky's moves."""
    sky, random = Sky(CLOUD_AMPLITUDE), np.random.default_rng(SEED)
    begin = (FIRST_TEST_DAY - date.fromisoformat(START)).days * STEPS_PER_DAY
    part = slice(begin, begin + TEST_DAYS * STEPS_PER_DAY)
    with_last = slice(begin - 3, part.stop)
    errors = []
    for roof in range(ROOFS):
        cloud = sky.cloud[roof, with_last]
        actual = sky.power(roof, cloud, with_last)
        smooth = sky.power(roof, np.zeros(len(cloud)), with_last)
        off = actual - smooth
        keeps = (off[1:] * off[:-1]).sum() / (off[:-1] ** 2).sum()
        told = (
            actual[:-1],
            smooth[1:],
            smooth[1:] + keeps * off[:-1],
            best_forecast(sky, roof, cloud[2:-1:3], part, random),
        )
        errors.append([np.sqrt(((f - actual[1:]) ** 2).mean()) for f in told])
    errors = np.array(errors)
    names = ("persistence", "smooth course", "and last quarter hour", "and clouds so far (bound)")
    for name, error in zip(names, errors.T, strict=True):
        skill = (1 - error / errors[:, 0]).mean()
        print(f"{name}: RMSE {100 * error.mean():.2f} % of the rating, skill {skill:.3f}")
    ghi = sky.irradiance(sky.cloud[ROOFS])[0].reshape(-1, 3).mean(axis=1)
    clear = sky.clear.reshape(-1, 3).mean(axis=1)
    high = (clear[1:] > 200) & (clear[:-1] > 200)
    index = ghi / np.maximum(clear, 1.0)
    step = np.diff(index)[high]
    memory = np.corrcoef(index[1:][high], index[:-1][high])[0, 1]
    print(
        f"clear-sky index, sun above 200 W/m2: deviation {index[1:][high].std():.3f}, correlation "
        f"with the quarter hour before {memory:.3f}, change {step.std():.3f} (deviation), "
        f"{np.quantile(np.abs(step), 0.95):.3f} (95 % are smaller)"
    )


if __name__ == "__main__":
    main()
