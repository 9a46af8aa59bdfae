"""FeederOperatorActor: the Ray actor around the operator of some feeders, near their hosts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import uuid4

from actors.checkpoint import CheckpointPlace, PartWriter
from actors.errors import LostStateError
from actors.link import Door, DoorAddress, Link, LinkError
from actors.prosumer import OutOfStepError, Pulse, node_id, take_pulse
from actors.wire import (
    decode_connection,
    decode_next_round,
    decode_sums,
    encode_bus_sums,
    encode_feeder_sums,
    encode_prices,
)
from raygrid.grid.tree_rows import LimitRows, TreeRows
from raygrid.market.division import Division
from raygrid.market.hierarchy import (
    ConnectionPrices,
    FeederOperator,
    FeederState,
    FeederSums,
    load_kernels,
)
from raygrid.market.messages import Aggregate, HostSummary, PriceMessage, RoundDecision


@dataclass(frozen=True)
class FeederData:
    """What a feeder operator knows of a case, sent through the object store once.

    Attributes
    ----------
    rows : TreeRows
        Limits of the whole network.
    """

    rows: LimitRows


class FeederOperatorActor:
    """Carries a `FeederOperator`; adds only what a process that can die needs.

    Leads its hosts over links as the network operator leads them where there are no feeder
    operators, and follows the network operator over another.
    """

    def __init__(self) -> None:
        self._incarnation = uuid4().hex
        self._rows: TreeRows | None = None
        self._operator: FeederOperator | None = None
        self._hosts: tuple[int, ...] = ()
        self._door: Door | None = None
        self._openings: dict[int, tuple[PriceMessage, ...]] = {}
        self._written: PartWriter | None = None

    def ping(self) -> Pulse:
        """Show that the process lives, and which incarnation it is."""
        return replace(take_pulse(self._incarnation), node_id=node_id())

    def load(self, data: FeederData) -> None:
        """Take over the network, and load compiled code."""
        assert isinstance(data.rows, TreeRows)
        load_kernels()
        self._rows, self._operator, self._openings = data.rows, None, {}

    def start(
        self,
        feeder: int,
        division: Division,
        hosts: Sequence[HostSummary],
        masked: bool,
        checkpoint: CheckpointPlace | None = None,
    ) -> None:
        """Begin a clearing.

        Parameters
        ----------
        feeder, division, hosts, masked
            See `FeederOperator`.
        checkpoint : CheckpointPlace, optional
            Gets what opens each round, if this machine sees its folder.
        """
        if self._rows is None:
            raise LostStateError("no network loaded")
        self._operator = FeederOperator(feeder, self._rows, division, hosts, masked)
        self._hosts, self._openings = division.hosts[feeder], {}
        if self._written is not None:
            self._written.close()
        self._written = None
        if checkpoint is not None:
            buses = [host.buses for host in hosts]
            with suppress(FileNotFoundError):
                self._written = PartWriter(checkpoint, feeder, division.n_feeders, buses)

    def open_door(self, loopback: bool) -> DoorAddress:
        """Listen for the calls of its hosts; see `NetworkOperatorActor.open_door`."""
        import ray

        if self._door is not None:
            self._door.close()
        here = "127.0.0.1" if loopback else ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._door = Door(here)
        return self._door.address

    def lead(self, above: DoorAddress, key: bytes, messages: Sequence[PriceMessage]) -> None:
        """Lead its hosts through rounds until the network operator decides that they end.

        Parameters
        ----------
        above : DoorAddress
            Where the network operator waits.
        key : bytes
            What callers must know.
        messages : sequence of PriceMessage
            What opens the open round, one per host of its own.

        Raises
        ------
        LinkError
            Somebody is gone.
        """
        if self._door is None:
            raise LostStateError("no door is open")
        door, self._door = self._door, None
        links = [Link.call(above, key, self.operator.feeder)]
        try:
            links += door.admit_all(self._hosts, key)
            self._lead(links[0], links[1:], tuple(messages))
        finally:
            door.close()
            for link in links:
                link.close()

    def _lead(self, above: Link, hosts: Sequence[Link], messages: tuple[PriceMessage, ...]) -> None:
        operator = self.operator
        while True:
            iteration = messages[0].iteration
            self._openings[iteration] = messages
            self._openings.pop(iteration - 2, None)
            for link, message in zip(hosts, messages, strict=True):
                link.send_bytes(encode_prices(message))
            self._write(messages)  # while the hosts are at it
            sums = [_of_round(decode_sums(link.recv_bytes()), iteration) for link in hosts]
            gathered = operator.gather(sums, messages[0].rho)
            above.send_bytes(encode_feeder_sums(gathered))
            try:
                prices = decode_connection(above.recv_bytes())
            except LinkError:
                return  # the network operator has hung up
            above.send_bytes(encode_bus_sums(operator.settle(prices)))
            following = decode_next_round(above.recv_bytes())
            messages = operator.messages(following)
            if following.decision is not RoundDecision.CONTINUE:
                self._write(messages)
                return

    def _write(self, messages: Sequence[PriceMessage]) -> None:
        if self._written is not None:
            self._written.add(messages)

    def gather(self, rho: float, *sums: Aggregate) -> FeederSums:
        """A round that is known, done once more: what the network operator needs of it."""
        return self.operator.gather(sums, rho)

    def settle(self, prices: Sequence[ConnectionPrices]) -> None:
        """The duals of that round; of the prices of all feeder operators it takes its own."""
        self.operator.settle(prices[self.operator.feeder])

    def openings(self) -> dict[int, dict[int, PriceMessage]]:
        """By host and round, what opened the last two rounds."""
        return {
            host: {iteration: sent[k] for iteration, sent in self._openings.items()}
            for k, host in enumerate(self._hosts)
        }

    def forget(self) -> None:
        """Be ready to do a round again, after somebody was lost."""
        self.operator.forget()

    def state(self) -> FeederState:
        """Its part of the last projections."""
        return self.operator.state()

    @property
    def operator(self) -> FeederOperator:
        """The operator of the open clearing."""
        if self._operator is None:
            raise LostStateError("no clearing is open")
        return self._operator


def _of_round(sums: Aggregate, iteration: int) -> Aggregate:
    if sums.iteration != iteration:
        raise OutOfStepError(f"round {iteration} is open, got sums of {sums.iteration}")
    return sums
