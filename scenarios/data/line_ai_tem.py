"""Skill of the hybrid's regression alone on `ai_tem`, with and without the sky in its line of load.

    python scenarios/data/line_ai_tem.py

Prints, for both horizons, mean load and PV skill over validation and test days, for
docs/forecasting.md.
"""

from __future__ import annotations

from unittest.mock import patch

import numpy as np

from raygrid.learning import direct
from raygrid.learning.baselines import SEASON, persistence
from raygrid.learning.dataset import build_dataset
from raygrid.learning.features import fit_scaling, make_series
from raygrid.learning.inference import Forecaster
from raygrid.learning.metrics import skill
from raygrid.learning.network import TASKS, NetworkSpec, initial_weights
from raygrid.learning.training import part_of
from raygrid.scenario.load import load_scenario


def main() -> None:
    """Fit and score."""
    data = build_dataset(*load_scenario("ai_tem"))
    scaling = fit_scaling(data)
    series, owner = make_series(data, scaling), scaling.pv_rating_kw > 0
    for task in TASKS:
        spec = NetworkSpec(task=task)
        sums = direct.products(spec, series, scaling, part_of(data, spec, "train"), 1)
        everything = np.ones(spec.direct_inputs, dtype=np.bool_)
        for name, seen in (("without sky", direct.load_inputs(spec)), ("with sky", everything)):
            with patch.object(direct, "load_inputs", lambda _, seen=seen: seen):
                line = direct.solve(sums)
            weights = initial_weights(spec, 1, len(data.prosumer_id), 1) | line
            weights["head2.w"][:] = 0.0  # the network adds nothing
            forecaster = Forecaster(spec, weights, scaling, data.prosumer_id, {})
            for part in ("validation", "test"):
                at = part_of(data, spec, part)
                steps = data.steps(part)
                found = forecaster.forecast(series, at).expected.reshape(len(owner), -1, 3)
                before = persistence(data, steps, 1 if task == "step" else SEASON)
                scores = []
                for k, actual in enumerate((data.load_kw[:, steps], data.pv_kw[:, steps])):
                    of = owner if k else np.ones(len(owner), dtype=np.bool_)
                    ours, naive = (
                        np.sqrt(((f[of, :, k] - actual[of]) ** 2).mean(axis=1))
                        for f in (found, before)
                    )
                    scores.append(skill(ours, naive).mean())
                print(f"{task}, {name}, {part}: load {scores[0]:.4f}, PV {scores[1]:.4f}")


if __name__ == "__main__":
    main()
