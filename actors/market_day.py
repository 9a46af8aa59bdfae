"""One market day of a run, stage by stage; each stage writes what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.checkpoint import CheckpointWriter, PastRounds
from actors.driver import RayMarket
from actors.session import clearing_options
from raygrid.arrays import FloatArray
from raygrid.errors import RaygridError
from raygrid.grid.ptdf import ptdf
from raygrid.market.marketplace import (
    MAX_MATCHED_PROSUMERS,
    MatchedMarket,
    TradeTotals,
    match_trades,
    unmatched,
)
from raygrid.market.messages import RoundOutcome
from raygrid.market.sessions import session_table
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.stores import StoreKind
from raygrid.results import frames
from raygrid.results.day_tables import DayTables
from raygrid.results.day_totals import DaySummary
from raygrid.results.progress import ProgressLine
from raygrid.results.store import MERGE_ROWS, PTDF_CELLS, RunWriter
from raygrid.results.summary import (
    CentralSummary,
    central_summary,
    clearing_summary,
    communication_summary,
    powerflow_summary,
)
from raygrid.scenario.case import Case
from raygrid.scenario.config import Scenario
from raygrid.scenario.tables import day_tables, network_tables, population_tables, tariff_rows

if TYPE_CHECKING:
    from raygrid.learning.delivered_day import DeliveredDay
    from raygrid.learning.stages import DayStages
    from raygrid.market.central import CentralResult
    from raygrid.market.clearing import ClearingResult


@dataclass
class Run:
    """What the days of a run share.

    Attributes
    ----------
    scenario : Scenario
        What is run.
    writer : RunWriter
        Its folder.
    tables : DayTables
        The tables that every day adds to.
    tell : callable
        Gets a line now and then.
    central : bool or None
        Whether the central benchmark was asked for; None leaves it to the scenario.
    stages : DayStages or None
        Who forecasts and bids; None without an intraday stage.
    notes : list of str
        What a reader must know.
    trades, dropped_wh : int
        Trades so far, and the energy of matches too small to be one [Wh].
    traded_wh : int
        Energy of the trades so far [Wh].
    """

    scenario: Scenario
    writer: RunWriter
    tables: DayTables
    tell: Callable[[str], None]
    central: bool | None = None
    stages: DayStages | None = None
    notes: list[str] = field(default_factory=list)
    trades: int = 0
    traded_wh: int = 0
    dropped_wh: int = 0

    @property
    def has_several(self) -> bool:
        """Whether there are several days."""
        return self.scenario.horizon.days > 1

    def note(self, text: str, day: int | None = None) -> None:
        """Add what a reader must know, if it says anything."""
        if text:
            self.notes.append(self.of_day(text, day))

    def of_day(self, text: str, day: int | None) -> str:
        """The text, with the day that it is of where there are several."""
        return f"day {day}: {text}" if text and day is not None and self.has_several else text


class MarketDay:
    """A market day on its way through its stages.

    Parameters
    ----------
    run : Run
        What it shares with the other days.
    market : RayMarket
        Its market, which has taken up this day.
    measured : Case, optional
        The day as it is measured, where the market has taken it up as it is forecast.

    Attributes
    ----------
    day : int
        Which of the days in a row, from 0.
    case, measured : Case
        What is cleared, and what is then measured.
    delivered : DeliveredDay or None
        The intraday stage, where there is one.
    result : ClearingResult
        How it cleared, from `clear` on.
    matched : bool
        Whether its trades are at hand here.
    """

    result: ClearingResult

    def __init__(self, run: Run, market: RayMarket, measured: Case | None = None) -> None:
        self.run = run
        self.measured = measured or market.case
        self.delivered: DeliveredDay | None = None
        self.day = market.day
        self.case = market.case
        self.matched = False
        self._traded: TradeTotals | None = None
        self._central: CentralSummary | None = None
        self._powerflow: Mapping[str, Any] | None = None
        self._stored_kwh: float | None = None
        self._communication: Mapping[str, Any] | None = None

    @property
    def first_period(self) -> int:
        """Global index of the day's first period."""
        return self.day * self.case.n_periods

    @property
    def has_schedule(self) -> bool:
        """Whether the clearing came to a final schedule."""
        return not np.isnan(self.result.welfare)

    # --- with the market's actors ------------------------------------------------------------

    def write_case(self, market: RayMarket) -> None:
        """Write what the market is made of; of many prosumers the hosts write it."""
        run, case, is_first = self.run, self.case, self.day == 0
        if is_first:
            for name, table in network_tables(self.measured, case.network).items():
                if name != "tariffs":
                    run.writer.write_table(name, table)
        if case.grid is not None:
            run.tables.write("tariffs", self.day, tariff_rows(case.grid, self.first_period))
        if len(case.community) <= MAX_MATCHED_PROSUMERS:
            if is_first:
                run.writer.write_table("prosumers", population_tables(self.measured)["prosumers"])
            for name, table in day_tables(self.measured, self.day).items():
                run.tables.write(name, self.day, table)
            return
        names = ["profiles", *(["stores"] if case.stores else [])]
        folders = {name: run.tables.folder(name, self.day) for name in names}
        if is_first:
            folders["prosumers"] = run.writer.part_folder("prosumers")
        for name, records in market.write_population(folders).items():
            if name == "prosumers":
                run.writer.add_parts(name, records)
            else:
                run.tables.add(name, self.day, records)

    def clear(
        self,
        market: RayMarket,
        checkpoint: CheckpointWriter,
        past: PastRounds | None = None,
    ) -> None:
        """Clear, and write everything that the hosts hold while they are there."""
        run = self.run
        records = [] if past is None else past.records
        options = clearing_options(run.scenario)
        before = f"day {self.day}  " if run.has_several else ""
        with ProgressLine() as line:

            def on_round(outcome: RoundOutcome) -> None:
                if outcome.record is not None:
                    records.append(outcome.record)
                    line.update(outcome.record, outcome.mean_price_per_kwh, before)

            try:
                self.result = market.clear(options, on_round, checkpoint=checkpoint, past=past)
            finally:
                checkpoint.close()
                table = frames.convergence_table(records, self.day)
                run.tables.write("convergence", self.day, table)
        for text in market.failures:
            run.note(f"mended during the clearing: {text}", self.day)
        for text in self.result.notes:
            run.note(text, self.day)
        if market.traffic is not None and options.staleness is not None:
            run.note(market.traffic.describe(run.scenario.currency), self.day)
            self._communication = communication_summary(market.traffic, options.staleness)
        if market.waits is not None:
            run.note(market.waits.describe(), self.day)
        if not self.has_schedule:
            return
        network, result, first = self.measured.network, self.result, self.first_period
        rows = (self.case.n_periods, MERGE_ROWS)
        run.tables.write_pieces(
            "flows",
            self.day,
            (
                frames.flows_table(network, result, first, lines=some)
                for some in frames.pieces(network.n_lines, *rows)
            ),
        )
        run.tables.write_pieces(
            "prices",
            self.day,
            (
                frames.prices_table(network, result, first, buses=some)
                for some in frames.pieces(network.n_buses, *rows)
            ),
        )
        if self.day == 0 and network.n_lines * network.n_buses <= PTDF_CELLS:
            run.writer.write_ptdf(ptdf(network), network.bus_id, network.line_id)
        folder = run.tables.folder("schedule", self.day)
        run.tables.add("schedule", self.day, market.write_schedule(folder))

    def trade(self, market: RayMarket) -> None:
        """Match trades: here, or of many prosumers in the hosts."""
        if not self.has_schedule:
            return
        run, section, n = self.run, self.run.scenario.market, len(self.case.community)
        if n <= MAX_MATCHED_PROSUMERS:
            dispatch = market.dispatch()
            self._stored_kwh = _stored_kwh(dispatch)
            matched = match_trades(self.case, self.result, dispatch.p_kw, section)
            self._traded, self.matched = matched.totals, True
            if run.stages is not None:
                self._deliver(run.stages, dispatch, matched)
            else:
                table = matched.trades.later(run.trades, self.first_period).table()
                run.tables.write("trades", self.day, table)
        elif reason := unmatched(n, section):
            if reason not in run.notes:
                run.note(reason)
            return
        else:
            folder = run.tables.folder("trades", self.day)
            records, self._traded = market.write_trades(folder, self.result, section, run.trades)
            run.tables.add("trades", self.day, records)
        run.trades += self._traded.trades
        run.traded_wh += self._traded.energy_wh
        run.dropped_wh += self._traded.dropped_wh

    def _deliver(self, stages: DayStages, dispatch: Dispatch, matched: MatchedMarket) -> None:
        """The intraday stage: what is measured is traded on top of what peers agreed on."""
        from raygrid.learning.delivered_day import deliver

        run, first = self.run, self.first_period
        run.tell(run.of_day("trading what was not as forecast", self.day))
        outlook = stages.outlook(self.day)
        self.delivered = done = deliver(
            stages.scenario,
            self.case,
            self.measured,
            self.result,
            dispatch,
            matched.trades,
            bidders=stages.bidders,
            policy=stages.policy,
            outlook=outlook,
        )
        if outlook is not None and run.scenario.stages.update != "none":
            run.stages, learned = stages.learned_from(outlook, self.day)
            run.tables.write("calibration", self.day, learned)
        sessions = done.sessions
        run.tables.write("trades", self.day, session_table(sessions, run.trades, first))
        run.tables.write("forecasts", self.day, done.forecast_rows(first))
        run.tables.write("intraday", self.day, done.rows(first))
        agreed = int(done.plan.trades.energy_wh.sum())
        count = sum(len(trades) for trades in sessions)
        self._traded = TradeTotals(count, agreed, matched.dropped_wh)
        population = self.measured.population
        is_ev = population.stores.kind == StoreKind.EV
        charge = done.charge(population)
        order = np.argsort(population.bus[population.stores.owner], kind="stable")
        self._stored_kwh = float(charge.soc_kwh.sum() + charge.store_kwh[is_ev[order]].sum())

    # --- without them ------------------------------------------------------------------------

    def check(self) -> None:
        """What looks at the cleared day from outside: the central benchmark, the AC load flow."""
        if not self.has_schedule:
            return
        if self._wants_central:
            self._solve_central()
        if self.run.scenario.results.powerflow:
            self._check_powerflow()

    @property
    def _wants_central(self) -> bool:
        if self.run.central is not None:
            return self.run.central
        return len(self.case.community) <= self.run.scenario.results.central_up_to_prosumers

    def _solve_central(self) -> None:
        from raygrid.market.central import CentralStatus, solve_central

        self.run.tell(self.run.of_day("solving the central benchmark", self.day))
        central: CentralResult = solve_central(
            self.case, network_constrained=self.run.scenario.market.network_constrained
        )
        if central.status is not CentralStatus.OPTIMAL:
            self.run.note(f"the central benchmark ended as {central.status}", self.day)
            return
        self._central = central_summary(self.result.welfare, central.welfare, central.seconds)

    def _check_powerflow(self) -> None:
        from raygrid.grid.powerflow import ac_check

        limits = self.run.scenario.voltage
        bounds = (
            {}
            if limits is None
            else {
                "v_min_pu": limits.v_min_pu,
                "v_max_pu": limits.v_max_pu,
                "v_slack_pu": limits.v_slack_pu,
            }
        )
        self.run.tell(self.run.of_day("checking the day by an AC load flow", self.day))
        case = self.measured
        try:
            check = ac_check(case.network, self._bus_kw, -case.reactive_load_kvar, **bounds)
        except RaygridError as error:
            self.run.note(f"no AC check: {error}", self.day)
            return
        self._powerflow = powerflow_summary(check, case.period_hours)

    @property
    def _bus_kw(self) -> FloatArray:
        """(B, T) net injections of the day, as measured where there is an intraday stage [kW]."""
        if self.delivered is None:
            return self.result.p_bus_kw
        return self.delivered.bus_kw(self.case.network.n_buses)

    def summary(self) -> DaySummary:
        """The day in figures."""
        horizon, traded = self.run.scenario.horizon, self._traded
        began = horizon.begin(self.day)
        energy = None if traded is None else traded.energy_wh / 1e3
        constrained = self.run.scenario.market.network_constrained
        # Markets may keep a reserve; how full a line is, its own limit says.
        within_limits = replace(self.case, network=self.measured.network)
        return DaySummary(
            self.day,
            began.isoformat(),
            clearing_summary(within_limits, self.result, constrained, energy),
            self._central,
            self._powerflow,
            None if traded is None else traded.trades,
            self._stored_kwh,
            self._communication,
            *self._stages_summary(),
        )

    def _stages_summary(self) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
        done, stages = self.delivered, self.run.stages
        if done is None or stages is None:
            return None, None
        return done.forecast_summary(stages.forecast), done.summary()


def _stored_kwh(dispatch: Dispatch) -> float:
    """Energy in all batteries and EVs at the day's end [kWh]."""
    total = float(dispatch.soc_kwh[:, -1].sum())
    if dispatch.stores is not None:
        is_ev = dispatch.stores.kind == StoreKind.EV
        total += float(dispatch.stores.energy_kwh[is_ev, -1].sum())
    return total
