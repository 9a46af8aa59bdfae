"""Compared cases as Ray tasks: the days of this process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from actors.cluster import ClusterOptions
from actors.play_cases import RayPlayers
from raygrid.errors import InputError
from raygrid.learning.compare_cases import Errand, Weights, play_here
from raygrid.results.ai_tem_printed import CaseName

SETTINGS = (
    "population.agents=8",
    "history.train_days=8",
    "history.validation_days=1",
    "history.test_days=2",
    "horizon.start=2016-03-25",
)


def errand(case: CaseName, begin: int = 0) -> Errand:
    return Errand("ai_tem", SETTINGS, Weights(), case, 9, 2, begin, None)


def test_tasks_give_the_days_of_this_process() -> None:
    errands = [errand(CaseName.GRID_ONLY), errand(CaseName.RULE), errand(CaseName.OPTIMISATION, 1)]
    with RayPlayers(ClusterOptions(num_cpus=2), 2) as players:
        found = list(players(errands))
        with pytest.raises(InputError, match=r"nowhere"):
            list(players([replace(errands[0], scenario="nowhere")]))
    expected = list(play_here(errands))
    order = lambda item: (item[0], item[1][0].day)  # noqa: E731
    for (name, (row, energy)), (other, (its, its_energy)) in zip(
        sorted(found, key=order), sorted(expected, key=order), strict=True
    ):
        assert name == other
        # The load flow's matrix products are rounded by the threads that a process has.
        flow = ("highest_loading", "lowest_voltage_pu", "highest_voltage_pu")
        for part in flow:
            assert getattr(row, part) == pytest.approx(getattr(its, part), rel=1e-12)
        same = dict.fromkeys(("clearing_s", *flow), 0.0)
        assert replace(row, **same) == replace(its, **same)
        np.testing.assert_array_equal(energy, its_energy)
