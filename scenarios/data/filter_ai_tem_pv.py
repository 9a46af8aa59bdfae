"""How well could ai_tem's PV be forecast by who knows the law of its sky, but not the sky?

    python scenarios/data/filter_ai_tem_pv.py

`bound_ai_tem_pv.py` bounds forecasts by what nobody can know, the smooth course of the sky. Here a
Kalman filter is told how that course is made (straight lines between the middles of hours), how its
midnight forecast errs (6 h of memory, 0.05 to 0.20) and how strong clouds are, which no forecaster
of raygrid is told, and sees what they see: the forecast, and the sky of the past. Its forecast of
the coming quarter hour joins the inputs of a linear regression, fitted to the training days like
the hybrid's. Skill against persistence over ai_tem's test days, without and with the filter, and
with the mean of all roofs' clear-sky index, which a prosumer could be told by its neighbours.
"""

from __future__ import annotations

import numpy as np

from raygrid.learning.dataset import build_dataset
from raygrid.learning.features import MIN_CLEAR_W, fit_scaling, make_series
from raygrid.learning.weather import FORECAST_MEMORY_HOURS, INDEX_ERROR
from raygrid.scenario.load import load_scenario

HOURS, STEPS = 24, 96
LAST = 8
SHADE = 0.02
CLOUDS = 0.075
"""Deviation of a quarter hour's mean from the smooth course under broken sky."""
BRIGHTEST = 1.15


def filtered(data, sky):
    """The clear-sky index (K,) expected for each step by all that was known before it."""
    clear = data.weather.clear_ghi_w_per_m2
    forecast = np.where(
        clear > MIN_CLEAR_W, data.weather.forecast_ghi_w_per_m2 / np.maximum(clear, MIN_CLEAR_W), 0
    ).reshape(-1, HOURS, 4)
    lit = (clear > 2 * MIN_CLEAR_W).reshape(-1, STEPS)
    hour = np.arange(HOURS)
    low, high = INDEX_ERROR
    deviation = low + (high - low) * np.sqrt((hour * 4 + 2.5) / STEPS)
    memory = np.exp(-np.abs(hour[:, None] - hour) / FORECAST_MEMORY_HOURS)
    prior = memory * deviation[:, None] * deviation + 0.03**2 * np.eye(HOURS)
    expected = np.zeros_like(lit, dtype=float)
    for day, by_day in enumerate(lit):
        count = by_day.reshape(HOURS, 4).sum(axis=1)
        sunny = np.flatnonzero(count)
        known = (forecast[day] * by_day.reshape(HOURS, 4)).sum(axis=1)[sunny] / count[sunny]
        mean, spread = np.interp(hour, sunny, known), prior.copy()
        for k in range(STEPS):
            place = (k + 0.5) / 4 - 0.5
            first = int(np.clip(np.floor(place), 0, HOURS - 2))
            share = float(np.clip(place - first, 0.0, 1.0))
            row = np.zeros(HOURS)
            row[first], row[first + 1] = 1 - share, share
            expected[day, k] = there = row @ mean
            if by_day[k]:
                broken = np.sin(np.pi * np.clip(there / BRIGHTEST, 0.05, 0.98))
                moved = spread @ row
                gain = moved / (row @ moved + (CLOUDS * broken) ** 2 + 0.005**2)
                mean = mean + gain * (sky[day * STEPS + k] - there)
                spread = spread - np.outer(gain, moved)
    return expected.reshape(-1)


def main() -> None:
    """Print the skills."""
    data = build_dataset(*load_scenario("ai_tem"))
    scaling = fit_scaling(data)
    series = make_series(data, scaling)
    owner = np.flatnonzero(scaling.pv_rating_kw > 0)
    index = series.own[owner, :, 2].astype(float)
    envelope, pv = (a[owner].astype(float) for a in (series.envelope_kw, series.pv_kw))
    rating = scaling.pv_rating_kw[owner][:, None]
    share = envelope / rating
    weight = np.where(share > SHADE, share, 0.0)
    sky, course = series.public[:, 2].astype(float), series.ahead[:, 0].astype(float)
    roofs = (index * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-9)
    told = filtered(data, sky)

    def inputs(at, neighbours, law):
        shape = (len(owner), len(at))
        columns = [share[:, at], np.ones(shape)]
        columns += [series.ahead[at, 1], *series.calendar[at, :4].T]
        for k in range(1, LAST + 1):
            columns += [index[:, at - k], sky[at - k], course[at - k]]
            columns += [roofs[at - k]] if neighbours else []
        for ahead in (0, 1, 4):
            columns.append(course[at - at % STEPS + np.minimum(at % STEPS + ahead, STEPS - 1)])
        if law:
            columns += [told[at], told[at - 1], told[at - 2]]
            columns.append(index[:, at - 1] * told[at] / np.maximum(sky[at - 1], 0.1))
        return np.stack([np.broadcast_to(c, shape) for c in columns], axis=-1)

    def skill(at, *which):
        train = data.steps("train")
        train = train[train >= STEPS]
        x = inputs(train, *which) * weight[:, train, None]
        target = pv[:, train] / np.maximum(envelope[:, train], SHADE * rating)
        target = weight[:, train] * (np.clip(target, 0.0, 1.5) - index[:, train - 1])
        x = x.reshape(-1, x.shape[-1])
        gram = x.T @ x
        ridge = 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
        fitted = np.linalg.solve(gram + ridge, x.T @ target.reshape(-1))
        found = envelope[:, at] * (index[:, at - 1] + inputs(at, *which) @ fitted)
        error, before = (
            np.sqrt(((f - pv[:, at]) ** 2).mean(axis=1))
            for f in (np.maximum(found, 0.0), pv[:, at - 1])
        )
        return (1 - error / before).mean()

    names = {
        "regression on what forecasters see": (False, False),
        "and on the mean of all roofs": (True, False),
        "and on a filter that knows the law of the sky": (True, True),
    }
    for name, which in names.items():
        shown = (skill(data.steps(part), *which) for part in ("validation", "test"))
        print(f"{name}: skill {next(shown):.3f} on validation days, {next(shown):.3f} on test days")


if __name__ == "__main__":
    main()
