"""A market on Ray from the driver's side: place, clear, fetch or write the schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from actors.carriers import Transport
from actors.checkpoint import CheckpointWriter, PastRounds
from actors.cluster import ClusterResources
from actors.crew import Crew
from actors.exchange import RayExchange
from actors.failure import FailurePolicy
from actors.host_tables import TablePlace
from actors.metrics import ClearingMetrics
from actors.parts import PART_ROWS
from actors.placement import Placement, PlacementPolicy, plan_feeders, plan_placement
from actors.prosumer import Pulse
from actors.stages import Stage
from actors.trading import BYTES_EACH_PERIOD, TradePrices, match_in_hosts
from raygrid.market.clearing import ClearingOptions, ClearingResult
from raygrid.market.marketplace import MAX_MATCHED_PROSUMERS, TradeTotals
from raygrid.market.messages import FinalMessage, RoundOutcome
from raygrid.market.session import RoundCallback, clear
from raygrid.market.staleness import Traffic
from raygrid.market.stragglers import Waits
from raygrid.prosumer.dispatch import Dispatch
from raygrid.results.charge_file import StoredCharge, write_charge
from raygrid.scenario.build import CaseDraft
from raygrid.scenario.case import Case
from raygrid.scenario.config import Market

if TYPE_CHECKING:
    from raygrid.results.store import PartRecord


def place(
    case: Case | CaseDraft,
    policy: PlacementPolicy,
    resources: ClusterResources,
    feeders: int | None = None,
    match_up_to: int = 0,
) -> Placement:
    """Plan who sits where, before any actor starts; see `plan_placement` and `plan_feeders`.

    Parameters
    ----------
    case : Case or CaseDraft
        The market.
    policy : PlacementPolicy
        What the user asked for.
    resources : ClusterResources
        The cluster's machines.
    feeders : int, optional
        Number of feeder operators, where the user asked for one.
    match_up_to : int
        Prosumers up to which hosts match trades, which takes memory besides.

    Returns
    -------
    Placement
        `describe()` is the line to show before the run.
    """
    community = case.community
    bytes_each = community.bytes_each
    if MAX_MATCHED_PROSUMERS < len(community) <= match_up_to:
        bytes_each += BYTES_EACH_PERIOD * case.n_periods
    bus_periods = case.network.n_buses * case.n_periods
    placement = plan_placement(policy, len(community), bytes_each, resources, bus_periods)
    count = plan_feeders(feeders, case.network, placement.n_hosts, resources)
    return replace(placement, feeders=count)


class RayMarket:
    """A case whose prosumers and operator are Ray actors; clears as often as asked.

    A context manager that ends its actors.

    Parameters
    ----------
    case : Case or CaseDraft
        The market; a draft is surveyed by the hosts.
    placement : Placement
        From `place`.
    resources : ClusterResources
        The cluster's machines.
    before_load : callable, optional
        Called when the processes run and before they load compiled code, for example
        `WarmUp().wait`.

    Attributes
    ----------
    case : Case
        The market.
    day : int
        Which of the days in a row it is, from 0.
    start_s : float
        Time until the actors were ready [s].
    """

    def __init__(
        self,
        case: Case | CaseDraft,
        placement: Placement,
        resources: ClusterResources,
        before_load: Callable[[], None] | None = None,
    ) -> None:
        started = perf_counter()
        self.placement = placement
        self._crew = Crew(case, placement, resources, before_load=before_load)
        self.case = self._crew.case
        self.day = 0
        self._exchange: RayExchange | None = None
        self._last: ClearingResult | None = None
        self._metrics = ClearingMetrics(self.case.name)
        self.start_s = perf_counter() - started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the actors."""
        if self._exchange is not None:
            self._exchange.close()
        self._crew.dismiss()

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Processes and memory of the actors: hosts in host order, feeder operators, operator."""
        return tuple(self._crew.pulses)

    def take_pulses(self) -> tuple[Pulse, ...]:
        """The pulses of now, in the same order."""
        return tuple(self._crew.take_pulses())

    def note_stages(self, on: bool) -> None:
        """Let all actors note how long the stages of each round take, or stop."""
        self._crew.ask_everybody("note_stages", on)

    def noted_stages(self) -> list[tuple[dict[Stage, float], ...]]:
        """Seconds by stage of every round since: of the hosts in host order, then the operator."""
        return self._crew.ask_everybody("noted_stages")

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed during the last clearing and was mended."""
        return () if self._exchange is None else tuple(self._exchange.failures)

    @property
    def traffic(self) -> Traffic | None:
        """What the last clearing sent over modelled links, where it had such."""
        return None if self._exchange is None else self._exchange.traffic

    @property
    def waits(self) -> Waits | None:
        """How the last clearing waited for stragglers, where that had bounds."""
        return None if self._exchange is None else self._exchange.waits

    def clear(
        self,
        options: ClearingOptions,
        on_round: RoundCallback | None = None,
        transport: Transport = Transport.LINKS,
        policy: FailurePolicy | None = None,
        warm: bool = False,
        checkpoint: CheckpointWriter | None = None,
        past: PastRounds | None = None,
    ) -> ClearingResult:
        """Clear the market once.

        An interrupt (Ctrl-C) ends the rounds and is passed on; the rounds so far
        have been shown to `on_round`.

        Parameters
        ----------
        options : ClearingOptions
            Settings.
        on_round : callable, optional
            Called after every round.
        transport : Transport
            How rounds travel.
        policy : FailurePolicy, optional
            What to do when Ray fails.
        warm : bool
            Begin where the last clearing ended, its prices and schedules, rather than at the
            tariff: for the same market under other settings.
        checkpoint : CheckpointWriter, optional
            Gets what opens each round.
        past : PastRounds, optional
            Rounds of another driver's checkpoint of this very market, under any placement, to
            go on after them.

        Returns
        -------
        ClearingResult

        Raises
        ------
        EndedShortError
            Ray failed more often than the policy bears.
        """

        n_buses = self.case.network.n_buses

        def note(outcome: RoundOutcome) -> None:
            if checkpoint is not None:
                checkpoint.add(outcome, self._crew.host_buses, n_buses)
            self._metrics.observe(outcome)
            if on_round is not None:
                on_round(outcome)

        start = self._last.warm_start if warm and self._last is not None else None
        self._last = None
        self._crew.checkpoint = None if checkpoint is None else checkpoint.place
        self._exchange = RayExchange(
            self._crew, self.case, options, transport, policy, warm=start, past=past
        )
        with self._exchange as exchange:
            exchange.prepare()
            if checkpoint is not None:
                for outcome in past or ():
                    checkpoint.put(outcome)
                if not past:
                    checkpoint.add(exchange.open(), self._crew.host_buses, n_buses)
            self._last = clear(self.case, options, exchange, note)
        return self._last

    def dispatch(self) -> Dispatch:
        """The final schedule of all prosumers in the case's order, for communities that fit here.

        Returns
        -------
        Dispatch
            (N, T) arrays.

        Raises
        ------
        RuntimeError
            The last clearing has no final schedule.
        """
        parts: Sequence[Dispatch] = self._finished().ask_hosts("dispatch")
        population = self.case.population
        order = np.lexsort((population.prosumer_id, population.bus))
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return Dispatch.joined(parts).take(back)

    def write_charge(self, path: Path) -> str:
        """Write what the last final schedule leaves in batteries and stores, host by host.

        Parameters
        ----------
        path : Path
            A file of `raygrid.results.charge_file`.

        Returns
        -------
        str
            Its SHA-256.

        Raises
        ------
        RuntimeError
            The last clearing has no final schedule.
        """

        def write(hosts: Sequence[Any], messages: Sequence[FinalMessage]) -> str:
            import ray

            left = [h.end_day.remote(m) for h, m in zip(hosts, messages, strict=True)]
            return write_charge(path, map(ray.get, left))

        return self._finished().with_hosts(write)

    def begin_day(self, draft: CaseDraft, day: int, charge: StoredCharge) -> None:
        """Take up another market day with the same actors.

        Batteries and EVs begin with a charge; the day is cleared as if it were the first one,
        from the tariff on.

        Parameters
        ----------
        draft : CaseDraft
            Of the new day, from `raygrid.scenario.build.draft_another_day`.
        day : int
            Which of the days in a row, from 0.
        charge : StoredCharge
            What the day before left.

        Raises
        ------
        InputError
            No market could clear the new day.
        """
        is_small = len(draft.community) <= MAX_MATCHED_PROSUMERS
        if self._exchange is None:
            self._crew.begin_day(draft, charge, is_small)
        else:
            self._exchange.with_hosts(lambda *_: self._crew.begin_day(draft, charge, is_small))
        self.case, self.day, self._last = self._crew.case, day, None

    @property
    def _place(self) -> TablePlace:
        network = self.case.network
        return TablePlace(
            network.bus_id, network.slack, self.day, self.case.n_periods, self.case.stores > 0
        )

    def write_population(self, folders: Mapping[str, Path]) -> dict[str, list[PartRecord]]:
        """Let every host write its rows of the tables that describe prosumers.

        Parameters
        ----------
        folders : mapping of str to Path
            Folder of each table, on storage that every node shares.

        Returns
        -------
        dict of str to list of PartRecord
            What was written of each.
        """
        written = self._crew.ask_hosts("write_population", folders, self._place)
        return {name: [record for parts in written for record in parts[name]] for name in folders}

    def write_schedule(self, folder: Path) -> list[PartRecord]:
        """Write `schedule.parquet` as parts, the grid connection included.

        Small schedules are fetched and written here; of large ones every host writes its own.

        Parameters
        ----------
        folder : Path
            The table's folder, on storage that every node shares.

        Returns
        -------
        list of PartRecord
            What was written.

        Raises
        ------
        RuntimeError
            The last clearing has no final schedule.
        """
        exchange, place = self._finished(), self._place
        if len(self.case.community) * self.case.n_periods > PART_ROWS:
            written = exchange.ask_hosts("write_schedule", folder, place)
            return [record for records in written for record in records]
        from raygrid.results.frames import grid_schedule_table, schedule_table
        from raygrid.results.store import write_part

        first, with_stores = place.first_period, place.with_stores
        population, dispatch = self.case.population, self.dispatch()
        tables = [schedule_table(population, place.bus_id, dispatch, first, with_stores)]
        if self.case.grid is not None:
            grid_kw = exchange.grid_kw()
            tables.append(grid_schedule_table(grid_kw, place.slack_bus, first, with_stores))
        return [write_part(folder, "schedule", k, table) for k, table in enumerate(tables)]

    def write_trades(
        self, folder: Path, result: ClearingResult, section: Market, first_id: int = 0
    ) -> tuple[list[PartRecord], TradeTotals]:
        """Let the hosts match the trades of the final schedule and write them as parts.

        The trades of `raygrid.market.marketplace.match_trades`, sparse ones.

        Parameters
        ----------
        folder : Path
            `RunWriter.part_folder("trades")`, on storage that every node shares.
        result : ClearingResult
            The last clearing's.
        section : Market
            How to price, and the minimum trade size.
        first_id : int
            Id of the first trade.
        """
        locational = section.settlement_price == "locational"
        prices = TradePrices(
            result.settlement_price_per_kwh, result.lmp_per_kwh if locational else None
        )
        return self._finished().with_hosts(
            lambda hosts, messages: match_in_hosts(
                hosts,
                messages,
                self.case.network,
                section.minimum_trade_wh,
                prices,
                folder,
                first_id,
                self._place.first_period,
            )
        )

    def _finished(self) -> RayExchange:
        if self._exchange is None:
            raise RuntimeError("the market was not cleared yet")
        return self._exchange
