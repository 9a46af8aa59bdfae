"""Clears the thesis' cases on Ray: what `raygrid reproduce thesis` measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from actors.cluster import ClusterOptions
from actors.driver import RayMarket, place
from actors.placement import PlacementPolicy
from actors.session import Session, clearing_options
from raygrid.arrays import FloatArray
from raygrid.grid.ptdf import PtdfFactor
from raygrid.market.clearing import ClearingOptions, ClearingResult
from raygrid.results.figure import HEAVY, RECONSTRUCTED
from raygrid.results.folder import check_writable
from raygrid.results.printed import RHO_SWEEP
from raygrid.results.reproduce import (
    SCENARIOS,
    MeasuredCase,
    MethodRecord,
    Reproduction,
    reproduce_thesis,
)
from raygrid.results.summary import LIMIT_TOLERANCE, line_utilisation
from raygrid.scenario.build import build_case
from raygrid.scenario.case import Case
from raygrid.scenario.load import load_scenario

if TYPE_CHECKING:
    from raygrid.market.central import CentralResult

MAX_ITERATIONS = 1_000
"""Twice the thesis' K_max, so that a slow penalty parameter shows how slow it is."""


@dataclass(frozen=True)
class ReproduceOptions:
    """What `raygrid reproduce thesis` was asked for.

    Attributes
    ----------
    out : Path
        Folder of all results.
    command : str
        The command line, for the manifest.
    actors : PlacementPolicy
        How prosumers are spread over Ray actors.
    cluster : ClusterOptions
        Which Ray to use.
    rhos : tuple of float
        Penalty parameters of the sweep.
    """

    out: Path
    command: str
    actors: PlacementPolicy = field(default_factory=PlacementPolicy)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    rhos: tuple[float, ...] = RHO_SWEEP


def reproduce(
    options: ReproduceOptions, tell: Callable[[str], None] = lambda _: None
) -> Reproduction:
    """Rerun the thesis' cases and its rho sweep on Ray, and store them beside the printed tables.

    Parameters
    ----------
    options : ReproduceOptions
        Where to run and where to write.
    tell : callable
        Gets a line before each step.

    Returns
    -------
    Reproduction
        See `raygrid.results.reproduce.reproduce_thesis`.

    Raises
    ------
    InputError
        If the address or the results folder is wrong; nothing is left behind.
    EndedShortError
        If Ray failed for good.
    """
    check_writable(options.out)
    with Session(options.cluster) as session, WarmMarkets(session, options.actors, tell) as markets:
        return reproduce_thesis(
            markets.measure, options.out, options.command, markets.notes, options.rhos, tell
        )


class WarmMarkets:
    """The scenarios' markets, whose actors are kept from clearing to clearing.

    Actors of one scenario at a time: packed ones reserve CPUs. A context manager that ends them.

    Parameters
    ----------
    session : Session
        Where the actors run.
    policy : PlacementPolicy
        How prosumers are spread over them.
    tell : callable
        Gets a line before actors start.
    scenarios : iterable of str
        Names of shipped scenarios, or files.

    Attributes
    ----------
    notes : tuple of str
        The scenarios' notes and how their prosumers are placed.
    """

    def __init__(
        self,
        session: Session,
        policy: PlacementPolicy,
        tell: Callable[[str], None] = lambda _: None,
        scenarios: Iterable[str] = SCENARIOS,
    ) -> None:
        self._session, self._policy, self._tell = session, policy, tell
        self._warm: tuple[str, RayMarket] | None = None
        self._cases: dict[str, tuple[Case, ClearingOptions]] = {}
        notes = [
            f"iterations: at most {MAX_ITERATIONS} (thesis: 500)",
            "times: one clearing or one solve each, after an unmeasured one",
        ]
        for name in scenarios:
            scenario, base_dir = load_scenario(name)
            case = build_case(scenario, base_dir=base_dir)
            options = replace(clearing_options(scenario), max_iterations=MAX_ITERATIONS)
            self._cases[name] = (case, options)
            notes += [note for note in case.notes if note != RECONSTRUCTED]
            notes.append(f"{name}: {place(case, policy, session.resources).describe()}")
        self.notes = tuple(dict.fromkeys(notes))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def measure(
        self, scenario: str, *, network_constrained: bool, rho: float, central: bool
    ) -> MeasuredCase:
        """Clear a scenario once on warm actors; fits `raygrid.results.reproduce.RunCase`.

        Parameters
        ----------
        scenario : str
            One of the scenarios.
        network_constrained : bool
            Whether line limits are enforced.
        rho : float
            Penalty parameter [currency/kW^2/h].
        central : bool
            Whether to solve the central benchmark too.

        Returns
        -------
        MeasuredCase
        """
        case, options = self._cases[scenario]
        market = self._open(scenario)
        options = replace(options, rho=rho, network_constrained=network_constrained)
        admm = clearing_record(case, market.clear(options))
        return MeasuredCase(admm, central_record(case, network_constrained) if central else None)

    def _open(self, scenario: str) -> RayMarket:
        """The scenario's market; where it is new, cleared once by both methods unmeasured.

        What is loaded and compiled on first use is then no part of anybody's time.
        """
        if self._warm is None or self._warm[0] != scenario:
            self._close()
            case, options = self._cases[scenario]
            market = self._session.market(
                case, self._policy, lambda plan: self._tell(f"{scenario}: {plan}")
            )
            self._warm = (scenario, market)
            market.clear(options)
            central_record(case, network_constrained=True)
        return self._warm[1]

    def _close(self) -> None:
        if self._warm is not None:
            self._warm[1].close()
            self._warm = None


def clearing_record(case: Case, result: ClearingResult) -> MethodRecord:
    """What the tables show of a clearing.

    Parameters
    ----------
    case : Case
        What was cleared.
    result : ClearingResult
        How it ended.
    """
    last = result.records[-1] if result.records else None
    return _record(
        case,
        result.flow_kw,
        str(result.status),
        result.welfare,
        result.seconds,
        iterations=result.iterations,
        primal_residual=last.primal_residual if last else None,
        dual_residual=last.dual_residual if last else None,
    )


def central_record(case: Case, network_constrained: bool) -> MethodRecord:
    """Solve the central benchmark and give what the tables show of it.

    Parameters
    ----------
    case : Case
        What to solve.
    network_constrained : bool
        Whether limits are enforced.
    """
    from raygrid.market.central import solve_central

    central: CentralResult = solve_central(case, network_constrained=network_constrained)
    flow_kw = PtdfFactor(case.network).flows(central.p_bus_kw)
    return _record(case, flow_kw, str(central.status), central.welfare, central.seconds)


def _record(
    case: Case,
    flow_kw: FloatArray,
    status: str,
    welfare: float,
    seconds: float,
    iterations: int | None = None,
    primal_residual: float | None = None,
    dual_residual: float | None = None,
) -> MethodRecord:
    use = line_utilisation(flow_kw, case.network.limit_kw[:, None])
    return MethodRecord(
        status=status,
        welfare=welfare,
        seconds=seconds,
        max_line_utilisation=float(use.max(initial=0.0)),
        lines_above_80=int(np.count_nonzero(use.max(axis=1, initial=0.0) > HEAVY)),
        lines=case.network.n_lines,
        line_violations=int(np.count_nonzero(use > 1 + LIMIT_TOLERANCE)),
        iterations=iterations,
        primal_residual=primal_residual,
        dual_residual=dual_residual,
    )
