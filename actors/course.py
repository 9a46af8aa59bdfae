"""The days of a run, one after the other, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from actors.borders import Borders, DoneDay, EarlierRun
from actors.checkpoint import CheckpointWriter, PastRounds
from actors.driver import RayMarket
from actors.market_day import MarketDay, Run
from actors.prosumer import take_pulse
from actors.settling import SettledDays
from raygrid.errors import InputError, RaygridError
from raygrid.market.clearing import ClearingResult, ClearingStatus
from raygrid.prosumer.carried import CarriedCommunity
from raygrid.results.charge_file import StoredCharge, write_charge
from raygrid.results.day_totals import (
    total_central,
    total_clearing,
    total_communication,
    total_forecast,
    total_intraday,
    total_powerflow,
)
from raygrid.results.files import SCENARIO, RunStatus, copy_file
from raygrid.results.reader import RunReader
from raygrid.results.report import write_report
from raygrid.results.summary import Seconds, Summary, memory_summary
from raygrid.scenario.build import CaseDraft, draft_another_day
from raygrid.scenario.case import Case

if TYPE_CHECKING:
    from raygrid.settlement.desk import SettledRun


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes
    ----------
    path : Path
        Its folder.
    summary : Summary
        Its figures.
    clearing : ClearingResult
        How the market of the last day cleared.
    case : Case
        What was cleared on the last day.
    trades : int or None
        Number of trades; None where none were matched.
    notes : tuple of str
        What a reader must know.
    reason : str
        Why it ended short; empty where it did not.
    mean_price_per_kwh : float or None
        Mean settlement price of the days with a schedule [currency/kWh].
    welfare_bound : float or None
        Upper bound on the optimal welfare of all days, each with the charge that it began with
        [currency].
    """

    path: Path
    summary: Summary
    clearing: ClearingResult
    case: Case
    trades: int | None
    notes: tuple[str, ...]
    reason: str = ""
    mean_price_per_kwh: float | None = None
    welfare_bound: float | None = None


class Course:
    """The days of a run, one after the other, and what they come to.

    Parameters
    ----------
    run : Run
        What the days share; its scenario is written.
    draft : CaseDraft
        Of the first day.
    base_dir : Path
        Folder that the scenario's data paths are relative to.
    measured : Case, optional
        The first day as it is measured, where it is cleared as it is forecast.
    """

    def __init__(
        self, run: Run, draft: CaseDraft, base_dir: Path, measured: Case | None = None
    ) -> None:
        self._run = run
        self._measured = measured
        self._draft = draft
        self._base_dir = base_dir
        self._borders = Borders(run.writer.path)
        self._borders.begin()
        self._days: list[DoneDay] = []
        self._noted = 0
        self._cannot_begin = ""
        self._rounds: CheckpointWriter | None = None
        self._memory: Mapping[str, int] | None = None
        self._settled: SettledRun | None = None
        self._last: MarketDay
        for text in () if run.stages is None else run.stages.notes:
            run.note(text)

    @property
    def clearing_s(self) -> float:
        """Wall time of all clearings [s]."""
        return sum(done.summary.clearing.seconds for done in self._days)

    def take_over(self, earlier: EarlierRun) -> PastRounds:
        """Go on with a run that did not come to its end; its days that are done are copied.

        Returns
        -------
        PastRounds
            Of the next day's clearing.

        Raises
        ------
        InputError
            A file of that run is missing or is not the one that it wrote.
        """
        run, rounds = self._run, earlier.rounds
        for done in earlier.days:
            run.writer.take_over(earlier.path, done.files)
            run.tables.take_over(earlier.path, done.day, done.parts)
        if earlier.days:
            last = earlier.days[-1]
            copy_file(earlier.charge, self._borders.charge_file(last.day), last.charge_sha256)
            run.notes = [text for done in earlier.days for text in done.notes]
            self._noted = len(run.notes)
            run.trades, run.traded_wh, run.dropped_wh = last.trades, last.traded_wh, last.dropped_wh
            if run.stages is not None:
                run.stages = run.stages.with_spreads(last.spreads)
        # The first day last: before it is there, nobody goes on from half of this.
        for done in reversed(earlier.days):
            self._borders.add(done)
        self._days = list(earlier.days)
        where = f" of day {len(self._days)}" if run.has_several else ""
        what = f"after round {len(rounds.records)}{where}" if rounds else f"at the start{where}"
        run.note(f"resumed {what} of an earlier run")
        return rounds

    def go(self, market: RayMarket, settled: SettledDays | None, past: PastRounds) -> None:
        """Let the market's actors do one day after the other, as far as there is one to do."""
        run, first = self._run, len(self._days)
        if settled is not None:
            for done in self._days:
                settled.offer(done.day)
        if first:
            self._take_up(market, first)
        for day in range(first, run.scenario.horizon.days):
            if day > first and not self._begin(market, day):
                break
            today = self._last = MarketDay(run, market, self._measured)
            today.write_case(market)
            self._rounds = self._borders.new_rounds(day)
            today.clear(market, self._rounds, past if day == first else None)
            today.trade(market)
            if settled is not None and today.matched:
                settled.offer(day)
            if not today.has_schedule:
                break
        # The markets are cleared: an actor that is gone by now costs no more than this figure.
        own = take_pulse("").peak_bytes
        with suppress(RaygridError):
            self._memory = memory_summary(own, sum(p.peak_bytes for p in market.take_pulses()))

    def _begin(self, market: RayMarket, day: int) -> bool:
        """Take up the next day; False where its data do not allow that."""
        self.end_last_day()
        self._run.tell(f"day {day}; the last one is {self._run.scenario.horizon.days - 1}")
        charge_sha256 = self._leave_charge(market)
        try:
            self._take_up(market, day)
        except InputError as error:
            self._cannot_begin = f"day {day} cannot begin: {error}"
            return False
        self._days[-1] = replace(self._days[-1], charge_sha256=charge_sha256)
        self._borders.add(self._days[-1])
        assert self._rounds is not None
        self._rounds.discard()
        return True

    def _leave_charge(self, market: RayMarket) -> str:
        """Write what the last day leaves in batteries and EVs; the file's SHA-256."""
        last = self._last
        path = self._borders.charge_file(last.day)
        if last.delivered is None:
            return market.write_charge(path)
        return write_charge(path, [last.delivered.charge(last.measured.population)])

    def _take_up(self, market: RayMarket, day: int) -> None:
        """Let the market take up a day with the charge that the day before left: as it is
        forecast, where there are forecasts."""
        stages, charge = self._run.stages, StoredCharge(self._borders.charge_file(day - 1))
        network = (self._measured or market.case).network
        draft = draft_another_day(self._draft, network, base_dir=self._base_dir, day=day)
        if stages is not None:
            measured = draft.surveyed()
            of_all = charge.rows(0, len(measured.community))
            community = CarriedCommunity(measured.community, of_all)
            self._measured = replace(measured, community=community)
            draft = stages.forecast_draft(draft, measured, day)
        market.begin_day(draft, day, charge)

    def end_last_day(self) -> None:
        """What is done with a day after its market, once: it needs no actors."""
        run, today = self._run, self._last
        if len(self._days) > today.day:
            return
        today.check()
        result, reason = today.result, ""
        if result.status is not ClearingStatus.CONVERGED or result.reason:
            reason = result.reason or str(result.status).replace("_", " ")
        known = {SCENARIO}.union(*(done.files for done in self._days))
        files = {name: sha for name, sha in run.writer.files.items() if name not in known}
        price = float(result.settlement_price_per_kwh.mean()) if today.has_schedule else None
        self._days.append(
            DoneDay(
                today.summary(),
                result.bound,
                price,
                run.of_day(reason, today.day),
                tuple(run.notes[self._noted :]),
                run.trades,
                run.traded_wh,
                run.dropped_wh,
                files,
                run.tables.parts_of(today.day),
                {} if run.stages is None else run.stages.spreads,
            )
        )
        self._noted = len(run.notes)

    def take_settlement(self, settled: SettledRun | None) -> None:
        """Write what came of the settlement, where there was one."""
        if settled is None:
            return
        self._settled = settled
        for name, table in settled.tables.items():
            self._run.tables.replace(name, table)
        self._run.notes += settled.notes

    def finish(self, actors: int, seconds: Seconds) -> RunResult:
        """Write summary, manifest and report."""
        run, case, writer, settled = self._run, self._last.case, self._run.writer, self._settled
        days = [done.summary for done in self._days]
        reasons = [done.reason for done in self._days] + [self._cannot_begin]
        if not any(reasons) and settled is not None:
            reasons = [settled.reason]
        reason = "; ".join(filter(None, reasons))
        status = RunStatus.ENDED_SHORT if reason else RunStatus.OK
        if run.dropped_wh:
            run.note(f"{run.dropped_wh} Wh in matches below the minimum trade size were left out")
        summary = Summary(
            scenario=run.scenario.name,
            run_id=writer.run_id,
            status=str(status),
            prosumers=len(case.community),
            actors=actors,
            periods=case.n_periods * len(days),
            buses=case.network.n_buses,
            lines=case.network.n_lines,
            clearing=total_clearing(days),
            central=total_central(days),
            seconds=seconds,
            settlement=None if settled is None else settled.summary,
            forecast=total_forecast(days),
            intraday=total_intraday(days),
            powerflow=total_powerflow(days),
            memory=self._memory,
            communication=total_communication(days),
            days=[asdict(day) for day in days],
        )
        notes = tuple(dict.fromkeys([*case.notes, *run.notes]))
        writer.write_summary(summary)
        bounds = [done.bound for done in self._days if done.bound is not None]
        bound = sum(bounds) if len(bounds) == len(days) else None
        prices = [done.price_per_kwh for done in self._days if done.price_per_kwh is not None]
        settle = {} if settled is None else {"settle": settled.summary.seconds}
        writer.finish(
            status, asdict(seconds) | settle, reason=reason, welfare_bound=bound, notes=notes
        )
        self._borders.discard()
        run.tables.discard()
        write_report(RunReader(writer.path))
        matched = any(day.trades is not None for day in days)
        return RunResult(
            writer.path,
            summary,
            self._last.result,
            case,
            run.trades if matched else None,
            notes,
            reason,
            sum(prices) / len(prices) if prices else None,
            bound,
        )
