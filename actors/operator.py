"""NetworkOperatorActor: the Ray actor around the network operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import numpy as np

from actors.errors import LostStateError
from actors.link import Door, DoorAddress, Link
from actors.prosumer import OutOfStepError, Pulse, node_id, take_pulse
from actors.stages import Stage, StageClock
from actors.wire import (
    decode_bus_sums,
    decode_feeder_sums,
    decode_sums,
    encode_connection,
    encode_next_round,
    encode_outcome,
    encode_prices,
)
from raygrid.arrays import FloatArray
from raygrid.grid.tree_rows import LimitRows, TreeRows
from raygrid.market.battery_schedule import Batteries
from raygrid.market.clearing import ClearingOptions
from raygrid.market.division import Division
from raygrid.market.hierarchy import (
    ConnectionPrices,
    FeederState,
    FeederSums,
    TopOperator,
    load_kernels,
)
from raygrid.market.messages import (
    Aggregate,
    HostHeadroom,
    HostSummary,
    OperatorFinal,
    OperatorMemory,
    PriceMessage,
    RoundDecision,
    RoundOutcome,
)
from raygrid.market.operator import Operator
from raygrid.market.tree import projection_onto

RUN_AHEAD = 2
"""Rounds that the operator may be ahead of the driver: enough that nobody waits for it."""


@dataclass(frozen=True)
class OperatorData:
    """The operator's part of a case: limits and sizes, sent through the object store once.

    Attributes
    ----------
    rows : NetworkRows or TreeRows
        The case's limits.
    no_rows : NetworkRows
        What stands in their place where a clearing enforces none.
    n_buses, n_periods : int
        B and T.
    """

    rows: LimitRows
    no_rows: LimitRows
    n_buses: int
    n_periods: int


class NetworkOperatorActor:
    """Carries an `Operator`; adds only what a process that can die needs."""

    def __init__(self) -> None:
        self._incarnation = uuid4().hex
        self._data: OperatorData | None = None
        self._operator: Operator | None = None
        self._top: TopOperator | None = None
        self._outcome: RoundOutcome | None = None
        self._door: Door | None = None
        self.stages = StageClock()

    def ping(self) -> Pulse:
        """Show that the process lives, and which incarnation it is."""
        return replace(take_pulse(self._incarnation), node_id=node_id())

    def load(self, data: OperatorData) -> None:
        """Take over the limits and load the compiled projection with one run of it."""
        self._data, self._operator, self._outcome = data, None, None
        if isinstance(data.rows, TreeRows):
            load_kernels()
        still = np.zeros((data.n_buses, data.n_periods))
        projection_onto(data.rows, np.ones(data.n_buses)).project(still)

    def start(
        self, hosts: Sequence[HostSummary], options: ClearingOptions, initial_pi_kw: FloatArray
    ) -> RoundOutcome:
        """Begin a clearing.

        Parameters
        ----------
        hosts : sequence of HostSummary
            One per host, in host order.
        options : ClearingOptions
            Settings.
        initial_pi_kw : (T,) float64
            Start of the duals [kW].

        Returns
        -------
        RoundOutcome
            The messages that open the first round.
        """
        if self._data is None:
            raise LostStateError("no network loaded")
        data = self._data
        self._operator = Operator(
            data.rows if options.network_constrained else data.no_rows,
            data.n_buses,
            data.n_periods,
            hosts,
            options,
            initial_pi_kw,
        )
        self._outcome, self._top = None, None
        return self._operator.open()

    def handle(self, *aggregates: Aggregate) -> RoundOutcome:
        """One round of the operator; a repeated round returns the same outcome again.

        Parameters
        ----------
        *aggregates : Aggregate
            One per host.

        Returns
        -------
        RoundOutcome

        Raises
        ------
        LostStateError
            The process was restarted since the clearing began.
        OutOfStepError
            The sums do not all belong to the open round.
        """
        operator = self.operator
        rounds = {part.iteration for part in aggregates}
        if self._outcome is not None and rounds == {operator.iteration - 1}:
            return self._outcome
        if rounds != {operator.iteration}:
            raise OutOfStepError(f"round {operator.iteration} is open, got sums of {rounds}")
        self._outcome = operator.handle(aggregates)
        return self._outcome

    def handle_stale(self, aggregates: Sequence[Aggregate], all_fresh: bool) -> RoundOutcome:
        """One round with sums of which some may be of earlier rounds; see `StaleBook`."""
        self._outcome = None
        return self.operator.handle(aggregates, all_fresh)

    def open_door(self, loopback: bool) -> DoorAddress:
        """Listen for the calls of hosts and driver, who carry the next rounds over links.

        Parameters
        ----------
        loopback : bool
            Whether all of them are on this machine.
        """
        import ray

        if self._door is not None:
            self._door.close()
        here = "127.0.0.1" if loopback else ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._door = Door(here)
        return self._door.address

    def lead(self, n_hosts: int, key: bytes, messages: Sequence[PriceMessage]) -> None:
        """Lead rounds over links until the operator decides that they end.

        The driver hears of every round before the hosts do, so that its log is never behind
        them, and answers, so that it is never far behind either.

        Parameters
        ----------
        n_hosts : int
            Hosts that call.
        key : bytes
            What callers must know.
        messages : sequence of PriceMessage
            What opens the open round, in host order.

        Raises
        ------
        LinkError
            Somebody is gone.
        """
        if self._door is None:
            raise LostStateError("no door is open")
        door, self._door = self._door, None
        driver, hosts = door.admit(n_hosts, key)
        try:
            self._lead(driver, hosts, messages)
        finally:
            for link in (driver, *hosts):
                link.close()

    def _lead(self, driver: Link, hosts: Sequence[Link], messages: Sequence[PriceMessage]) -> None:
        ahead, clock = 0, self.stages
        clock.start()
        while True:
            for link, message in zip(hosts, messages, strict=True):
                link.send_bytes(encode_prices(message))
            clock.lap(Stage.TRANSFER)
            sums: list[Aggregate] = []
            for link in hosts:
                data = link.recv_bytes()
                clock.lap(Stage.WAIT)
                sums.append(decode_sums(data))
                clock.lap(Stage.TRANSFER)
            outcome = self.handle(*sums)
            clock.lap(Stage.PROJECT)
            driver.send_bytes(encode_outcome(outcome))
            if outcome.decision is RoundDecision.CONTINUE:
                messages = outcome.messages
                ahead += 1
                if ahead == RUN_AHEAD:
                    driver.recv_bytes()
                    ahead -= 1
            clock.lap(Stage.REPORT)
            clock.end_round()
            if outcome.decision is not RoundDecision.CONTINUE:
                return

    def divide(self, division: Division, hosts: Sequence[HostSummary]) -> None:
        """Let feeder operators have parts of the network, after `start`.

        Parameters
        ----------
        division, hosts
            See `TopOperator`.
        """
        self._top = TopOperator(self.operator, division, hosts)

    def lead_feeders(self, n_feeders: int, key: bytes) -> None:
        """Lead rounds over links to feeder operators; otherwise as `lead`.

        The driver hears of every round before the hosts can begin the next one, but not of prices.

        Parameters
        ----------
        n_feeders : int
            Feeder operators that call.
        key : bytes
            What callers must know.

        Raises
        ------
        LinkError
            Somebody is gone.
        """
        if self._door is None or self._top is None:
            raise LostStateError("no door is open, or no clearing")
        door, self._door = self._door, None
        driver, feeders = door.admit(n_feeders, key)
        try:
            self._lead_feeders(self._top, driver, feeders)
        finally:
            for link in (driver, *feeders):
                link.close()

    def _lead_feeders(self, top: TopOperator, driver: Link, feeders: Sequence[Link]) -> None:
        ahead, clock = 0, self.stages
        clock.start()
        while True:
            sums = []
            for link in feeders:
                data = link.recv_bytes()
                clock.lap(Stage.WAIT)
                sums.append(decode_feeder_sums(data))
                clock.lap(Stage.TRANSFER)
            rounds = {part.iteration for part in sums}
            if rounds != {self.operator.iteration}:
                raise OutOfStepError(
                    f"round {self.operator.iteration} is open, got sums of {rounds}"
                )
            prices = top.project(sums)
            if prices is None:
                driver.send_bytes(encode_outcome(top.give_up()))
                return
            clock.lap(Stage.PROJECT)
            for link, message in zip(feeders, prices, strict=True):
                link.send_bytes(encode_connection(message))
            clock.lap(Stage.TRANSFER)
            settled = [decode_bus_sums(link.recv_bytes()) for link in feeders]
            clock.lap(Stage.WAIT)
            outcome, following = top.decide(settled)
            driver.send_bytes(encode_outcome(outcome))
            for link in feeders:
                link.send_bytes(encode_next_round(following))
            if outcome.decision is RoundDecision.CONTINUE:
                ahead += 1
                if ahead == RUN_AHEAD:
                    driver.recv_bytes()
                    ahead -= 1
            clock.lap(Stage.REPORT)
            clock.end_round()
            if outcome.decision is not RoundDecision.CONTINUE:
                return

    def redo(self, opening: RoundOutcome, tightening: float, *aggregates: Aggregate) -> None:
        """Do a known round once more, for what it leaves behind.

        Parameters
        ----------
        opening : RoundOutcome
            What opened the round.
        tightening : float
            Product of the factors by which tolerances were tightened.
        *aggregates : Aggregate
            One per host.
        """
        self.go_on(opening, tightening)
        self.operator.handle(aggregates)

    def redo_feeders(
        self, opening: RoundOutcome, tightening: float, *sums: FeederSums
    ) -> tuple[ConnectionPrices, ...]:
        """As `redo`, with the sums of all feeder operators; the prices of each."""
        if self._top is None:
            raise LostStateError("no clearing is open")
        self.go_on(opening, tightening)
        return self._top.redo(sums)

    def go_on(self, opening: RoundOutcome, tightening: float) -> None:
        """Go on with the round that `opening` opens, after those that were done once more."""
        operator, memory = self.operator, opening.memory
        known = () if memory is None or operator.projected is not None else (memory,)
        operator.resume(opening.messages, tightening, known)
        self._outcome = None

    def take_over(self, *states: FeederState) -> None:
        """Go on alone, after rounds that feeder operators had a part in have ended."""
        if self._top is None:
            raise LostStateError("no clearing is open")
        self._outcome = None
        self._top.hand_back(states)

    def note_stages(self, on: bool) -> None:
        """Begin to note the stages of rounds over links, or stop; a restart stops it too."""
        self.stages.turn(on)

    def noted_stages(self) -> tuple[dict[Stage, float], ...]:
        """Seconds by stage of the rounds since `note_stages` [s]."""
        return self.stages.rounds

    def tighten(self, factor: float) -> RoundOutcome:
        """Make the tolerances `factor` times as tight and go on."""
        self._outcome = None
        return self.operator.tighten(factor)

    def finish(self, *headrooms: HostHeadroom) -> OperatorFinal:
        """The final schedule from the headrooms of all hosts."""
        return self.operator.finish(headrooms)

    def finish_with_batteries(self, period_hours: float, *batteries: Batteries) -> OperatorFinal:
        """The final schedule with batteries moved too, after `finish` found faults."""
        return self.operator.finish_with_batteries(batteries, period_hours)

    def resume(
        self,
        opening: RoundOutcome,
        before: RoundOutcome | None,
        aggregates: Sequence[Aggregate],
        tightening: float,
        memories: Sequence[OperatorMemory] = (),
    ) -> None:
        """Take up a clearing at the round that `opening` opens, after a restart and `start`.

        The round before is done once more, since its projection holds the last z and the
        multipliers that the final prices need.

        Parameters
        ----------
        opening : RoundOutcome
            What opened the round to be done.
        before : RoundOutcome or None
            What opened the round before it; None at the first.
        aggregates : sequence of Aggregate
            The hosts' sums of the round before.
        tightening : float
            Product of the factors by which tolerances were tightened.
        memories : sequence of OperatorMemory
            Of the last projections before that round, the newest last.
        """
        operator = self.operator
        if before is None:
            operator.resume(opening.messages, tightening, memories)
        else:
            operator.resume(before.messages, tightening, memories)
            operator.handle(aggregates)
            operator.resume(opening.messages, tightening)
        self._outcome = None
        if self._top is not None:
            self._top.forget()

    @property
    def operator(self) -> Operator:
        """The operator of the open clearing."""
        if self._operator is None:
            raise LostStateError("no clearing is open")
        return self._operator
