"""Compiling the kernels once, while Ray starts, instead of in every actor at once."""

from __future__ import annotations

import gc
import glob
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from raygrid.grid.network import NetworkRows
from raygrid.market.actions import Action
from raygrid.market.active_set import solve_periods
from raygrid.market.auction_kernels import clear_many
from raygrid.market.block import ProsumerBlock, close_round
from raygrid.market.feeder_limits import FeederLimits
from raygrid.market.intraday import IntradayMarket
from raygrid.market.judge import bus_sums
from raygrid.market.matching import match_pairs
from raygrid.market.messages import PriceMessage
from raygrid.market.projection import Projection
from raygrid.market.trades import sparse_trades
from raygrid.market.units import N_SLOTS, Units, make_feed
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.kernels import solve_rows
from raygrid.prosumer.local import LocalSolver
from raygrid.prosumer.packed import ShapedProfile
from raygrid.prosumer.population import GridConnection, Population
from raygrid.prosumer.valuation import best_value, welfare_rate

N_PERIODS = 2


class Part(StrEnum):
    """Parts of the kernels that compile side by side, the first being the longer."""

    SOLVER = "solver"
    OTHERS = "others"


class WarmUp:
    """Compiles the kernels in processes of their own; actors then load them from the disk cache.

    Processes, since a compiling thread would hold up everything else that Python does here.
    Where the cache has them all, nothing is started.
    """

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        if is_warm():
            return
        for part in Part:
            # Not in our process group: Ctrl-C ends them through `close`, not by a traceback.
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "actors.warm", part],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=Path(__file__).resolve().parents[1],
                    start_new_session=True,
                )
            )

    def wait(self) -> None:
        """Return when every kernel is compiled; where that failed, actors compile themselves."""
        for process in self._processes:
            process.wait()

    def close(self) -> None:
        """End the compilers that still run."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def is_warm() -> bool:
    """Whether the disk cache holds machine code of the kernels that take longest."""
    kernels: tuple[Any, ...] = (solve_rows, close_round, solve_periods, match_pairs, clear_many)
    for kernel in kernels:
        name = f"{kernel.py_func.__module__.rpartition('.')[2]}.{kernel.py_func.__qualname__}"
        cache = kernel.stats.cache_path
        if not cache or not any(Path(cache).glob(f"{glob.escape(name)}-*.nbc")):
            return False
    return True


def warm_up(part: Part) -> None:
    """Compile kernels, or load them, by a little work for two prosumers.

    Parameters
    ----------
    part : Part
        SOLVER for the local problems, OTHERS for what hosts, operator and trades need besides.
    """
    people, zeros = _two_prosumers(), np.zeros((2, N_PERIODS))
    if part is Part.SOLVER:
        LocalSolver(people, 1.0).solve(0, 2, zeros, np.ones(2), np.empty_like(zeros))
        return
    ones = np.ones(N_PERIODS)
    grid = GridConnection(0.2 * ones, 0.1 * ones, 9.0 * ones, 9.0 * ones, 6.0)
    nobody = Population.empty(0, N_PERIODS)
    block = ProsumerBlock(0, nobody, grid, 0, 1.0, 1.0, zeros[0])
    block.step(PriceMessage(0, zeros[:1], 1.0, 1.0))
    rows = NetworkRows(
        matrix=np.array([[0.0, -1.0]]),
        lower=-ones[None, :],
        upper=ones[None, :],
        kind=np.array(["line"]),
        index=np.array([0]),
    )
    Projection(rows, np.ones(2)).project(np.ones((2, N_PERIODS)))
    bus_sums(np.ones(2), zeros, zeros, zeros, zeros)
    welfare_rate(people, Dispatch(*7 * (zeros,)))
    best_value(people, zeros, 1.0)
    shape = ShapedProfile(zeros, np.zeros(2, dtype=np.int32), zeros[0])
    shape.values(0, 2)
    load_matching()
    load_auction()


def load_matching() -> None:
    """Compile the kernel that matches trades, or load it."""
    agents, energy = np.arange(2), np.array([[5, -5], [-5, 5]])
    sparse_trades(agents, agents, energy, np.ones((2, 2)))


def load_auction() -> None:
    """Compile the kernels of the intraday stage, or load them, by one sale that breaks a limit."""
    nothing, whole = np.zeros((2, N_SLOTS)), np.ones((2, N_SLOTS))
    ids = np.arange(2)
    units = Units(ids, ids, ids, nothing, nothing, nothing, whole, whole, nothing)
    feed = make_feed(
        units,
        period_hours=1.0,
        day_periods=N_PERIODS,
        load_kw=np.array([[0.0, 0.0], [1.0, 1.0]]),
        pv_kw=np.array([[2.0, 2.0], [0.0, 0.0]]),
        import_price_per_kwh=np.full(N_PERIODS, 0.3),
        export_price_per_kwh=np.full(N_PERIODS, 0.1),
        charge_max_kw=np.zeros((N_PERIODS, 2, N_SLOTS)),
        discharge_max_kw=np.zeros((N_PERIODS, 2, N_SLOTS)),
    )
    of_one = np.array([[1.0], [0.0]])
    limits = FeederLimits(
        of_one, 0 * of_one, np.zeros(1), np.array(["line"]), np.zeros(1, np.int64)
    )
    IntradayMarket(units, feed, limits).step(np.array([[Action.SELL, Action.BUY]]))


def _two_prosumers() -> Population:
    """A battery owner with a generator, and a consumer."""
    people = Population.empty(2, N_PERIODS)
    people.bus[:] = [0, 1]
    people.alpha[0], people.beta[0] = 0.01, 0.05
    people.generation_limit_kw[0] = [2.0, 0.0]
    people.omega[1], people.demand_limit_kw[1] = 0.5, 3.0
    people.soc_max_kwh[0] = 2.0
    people.charge_max_kw[0] = people.discharge_max_kw[0] = 1.0
    return people


if __name__ == "__main__":
    gc.disable()  # a compiler keeps what it makes; looking for garbage takes a tenth of its time
    warm_up(Part(sys.argv[1]))
