"""Compiling the kernels once, while Ray starts, instead of in every actor at once."""

from __future__ import annotations

import glob
import subprocess
import sys
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from raygrid.grid.network import Network, NetworkRows
from raygrid.market.active_set import solve_periods
from raygrid.market.block import close_round
from raygrid.market.clearing import ClearingOptions
from raygrid.market.matching import match_pairs
from raygrid.market.projection import Projection
from raygrid.market.session import local_exchange
from raygrid.market.trades import sparse_trades
from raygrid.prosumer.community import GivenCommunity
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.kernels import solve_rows
from raygrid.prosumer.population import GridConnection, Population
from raygrid.prosumer.valuation import dual_value, welfare_rate
from raygrid.scenario.case import Case


class Part(StrEnum):
    """Halves of the kernels that compile side by side."""

    HOSTS = "hosts"
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
    kernels: tuple[Any, ...] = (solve_rows, close_round, solve_periods, match_pairs)
    for kernel in kernels:
        name = f"{kernel.py_func.__module__.rpartition('.')[2]}.{kernel.py_func.__qualname__}"
        cache = kernel.stats.cache_path
        if not cache or not any(Path(cache).glob(f"{glob.escape(name)}-*.nbc")):
            return False
    return True


def warm_up(part: Part) -> None:
    """Compile kernels, or load them, by a round of a market of two.

    Parameters
    ----------
    part : Part
        HOSTS for what prosumer hosts need, OTHERS for operator, valuation and trades.
    """
    case, options = _market_of_two(), ClearingOptions()
    if part is Part.HOSTS:
        exchange = local_exchange(case, options)
        exchange.blocks[0].step(exchange.open().messages[0])
        return
    Projection(case.rows, np.ones(2)).project(np.ones((2, case.n_periods)))
    zeros = np.zeros((2, case.n_periods))
    welfare_rate(case.population, Dispatch(*(zeros for _ in fields(Dispatch))))
    dual_value(case.population, 0, 2, zeros, zeros, case.period_hours)
    load_matching()


def load_matching() -> None:
    """Compile the kernel that matches trades, or load it."""
    agents, energy = np.arange(2), np.array([[5, -5], [-5, 5]])
    sparse_trades(agents, agents, energy, np.ones((2, 2)))


def _market_of_two() -> Case:
    """A battery owner with a generator and a consumer, on one line that binds."""
    n_periods = 2
    population = Population.empty(2, n_periods)
    population.bus[:] = [0, 1]
    population.alpha[0], population.beta[0] = 0.01, 0.05
    population.generation_limit_kw[0] = [2.0, 0.0]
    population.omega[1], population.demand_limit_kw[1] = 0.5, 3.0
    population.soc_max_kwh[0] = 2.0
    population.charge_max_kw[0] = population.discharge_max_kw[0] = 1.0
    ones = np.ones(n_periods)
    network = Network(
        name="two",
        bus_id=np.arange(2),
        slack=0,
        line_id=np.arange(1),
        from_bus=np.array([0]),
        to_bus=np.array([1]),
        r_pu=np.array([0.01]),
        x_pu=np.array([0.01]),
        limit_kw=np.array([1.0]),
        flow_offset_kw=np.zeros(1),
    )
    rows = NetworkRows(
        matrix=np.array([[0.0, -1.0]]),
        lower=-ones[None, :],
        upper=ones[None, :],
        kind=np.array(["line"]),
        index=np.array([0]),
    )
    return Case(
        name="two",
        network=network,
        rows=rows,
        community=GivenCommunity(population),
        grid=GridConnection(0.2 * ones, 0.1 * ones, 9.0 * ones, 9.0 * ones, 6.0),
        period_hours=1.0,
        currency="EUR",
        reactive_load_kvar=np.zeros((2, n_periods)),
    )


if __name__ == "__main__":
    warm_up(Part(sys.argv[1]))
