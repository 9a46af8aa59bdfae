"""ProsumerActor: the Ray actor around a block of prosumers."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from actors.errors import LostStateError
from actors.link import DoorAddress, Link, LinkError
from actors.stages import Stage, StageClock
from actors.wire import decode_prices, encode_sums
from raygrid.arrays import FloatArray, IntArray
from raygrid.market.battery_schedule import Batteries
from raygrid.market.block import ProsumerBlock
from raygrid.market.masking import HostIdentity, Masks
from raygrid.market.messages import (
    Aggregate,
    FinalMessage,
    HostFinal,
    HostHeadroom,
    HostSummary,
    PriceMessage,
)
from raygrid.prosumer.carried import Charge
from raygrid.prosumer.community import Recipe
from raygrid.prosumer.dispatch import Dispatch
from raygrid.prosumer.population import (
    PROFILE_FIELDS,
    UNIT_FIELDS,
    GridConnection,
    Population,
    Prosumers,
)
from raygrid.prosumer.size import with_weights
from raygrid.prosumer.survey import Survey, SurveyedRecipe

if TYPE_CHECKING:
    from actors.host_tables import TablePlace
    from actors.trading import HostBook
    from raygrid.results.store import PartRecord


class OutOfStepError(RuntimeError):
    """A message belongs to another round than the one that is open."""


@dataclass(frozen=True)
class Pulse:
    """An actor's answer to a ping.

    Attributes
    ----------
    incarnation : str
        New with every start of the process: tells a restarted actor from its predecessor.
    pid : int
        Its process.
    resident_bytes : int
        Its resident memory, shared pages included [B].
    peak_bytes : int
        The most that this was since the process began [B].
    node_id : str
        Ray's name of the machine it runs on; empty in a process without Ray.
    """

    incarnation: str
    pid: int
    resident_bytes: int
    peak_bytes: int
    node_id: str = ""


def take_pulse(incarnation: str) -> Pulse:
    """The pulse of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        resident = 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Pulse(incarnation, os.getpid(), resident, peak)


def node_id() -> str:
    """Ray's name of the machine that this actor runs on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


@dataclass(frozen=True)
class HostData:
    """One host's slice of a case, sent through the object store once.

    Attributes
    ----------
    host : int
        Number of the host.
    prosumers : Recipe
        How to build its prosumers.
    price_level : float
        As in `Case`, for size weights that are not given.
    grid : GridConnection or None
        The grid connection, where this host carries it.
    slack : int
        Position of the bus of the grid connection.
    period_hours : float
        Length of a period [h].
    """

    host: int
    prosumers: Recipe
    price_level: float
    grid: GridConnection | None
    slack: int
    period_hours: float


class ProsumerActor:
    """Carries a `ProsumerBlock`; adds only what a process that can die needs.

    A plain class: `ray.remote` is applied where it is hired. A step may be repeated: the last
    two rounds return their answers again (the second last brings back a lost operator), any
    other round than the next is refused. After a step, all calls but `start` only read.

    Parameters
    ----------
    threads : int
        Threads of the block. Compiled code starts none of its own, and Ray gives BLAS and
        OpenMP as many as the actor has CPUs.
    """

    def __init__(self, threads: int = 1) -> None:
        self._incarnation = uuid4().hex
        self._threads = threads
        self._data: HostData | None = None
        self._prosumers: Prosumers | None = None
        self._surveyed: Prosumers | None = None
        self._block: ProsumerBlock | None = None
        self._expected = 0
        self._answers: dict[int, Aggregate] = {}
        self._openings: dict[int, PriceMessage] = {}
        self._book: HostBook | None = None
        self._masks: Masks | None = None
        self.stages = StageClock()

    def ping(self) -> Pulse:
        """Show that the process lives, and which incarnation it is."""
        return replace(take_pulse(self._incarnation), node_id=node_id())

    def survey(self, recipe: SurveyedRecipe, charge: Charge | None = None) -> Survey:
        """Build this host's part of a case that nobody has surveyed, and survey it.

        Parameters
        ----------
        recipe : SurveyedRecipe
            The part that `load` asks for next.
        charge : Charge, optional
            What the day before left it.
        """
        self._surveyed = _built(recipe.prosumers, charge)
        return recipe.survey(self._surveyed)

    def load(self, data: HostData, charge: Charge | None = None) -> None:
        """Take over a part of a case and load the compiled kernels with one small step.

        Parameters
        ----------
        data : HostData
            The part; profiles of prosumers that are sent stay in the object store, read-only.
        charge : Charge, optional
            What the day before left it.
        """
        built = _built(data.prosumers, charge) if self._surveyed is None else self._surveyed
        self._surveyed = None
        # Compiled code is made per array type, and read-only is a type of its own: the small
        # arrays are copied, so that every placement runs the same machine code.
        units = {name: np.require(getattr(built, name), requirements="W") for name in UNIT_FIELDS}
        self._data = data
        self._prosumers = with_weights(replace(built, **units), data.price_level)
        self._block = None
        n_periods = built.n_periods
        stores = self._prosumers.stores
        row = int(stores.owner[0]) if len(stores) else 0  # a prosumer that needs all kernels
        one = _owned(self._prosumers.rows(row, row + 1))
        warm = self._new_block(one, 1.0, n_periods * [0.0])
        n_buses = len(warm.summary().buses)
        with _without_blas():
            warm.step(PriceMessage(0, np.zeros((n_buses, n_periods)), 1.0, 1.0))

    def start(self, relaxation: float, initial_pi_kw: FloatArray) -> HostSummary:
        """Begin a clearing of the loaded slice.

        Parameters
        ----------
        relaxation : float
            Over-relaxation alpha.
        initial_pi_kw : (T,) float64
            Start of the duals [kW].

        Returns
        -------
        HostSummary
            What the operator must know of this host.
        """
        if self._prosumers is None:
            raise LostStateError("no prosumers loaded")
        self._block = self._new_block(self._prosumers, relaxation, initial_pi_kw)
        self._expected, self._answers, self._openings, self._masks = 0, {}, {}, None
        return self._block.summary()

    def reopen(self, relaxation: float, pi_kw: FloatArray, rescale: float) -> HostSummary:
        """Begin another clearing where the last one ended; see `ProsumerBlock.reopen`."""
        self.block.reopen(relaxation, pi_kw, rescale)
        self._expected, self._answers, self._openings, self._masks = 0, {}, {}, None
        return self.block.summary()

    def make_masks(self) -> HostIdentity:
        """Make a new secret, before anything of the open clearing goes to the operator."""
        self._masks = Masks(self.block.host, self.block.buses)
        return self._masks.identity

    def meet(self, everybody: Sequence[HostIdentity]) -> HostSummary:
        """Agree on masks with the other hosts.

        Parameters
        ----------
        everybody : sequence of HostIdentity
            All hosts, in host order.

        Returns
        -------
        HostSummary
            What the operator must know of this host, masked.
        """
        masks = self._masks
        if masks is None:
            raise LostStateError("no secret was made")
        masks.meet(everybody)
        return masks.hide(self.block.summary(), 0)

    def resume(self, message: PriceMessage) -> None:
        """Take up a clearing at the round that `message` opens, without the rounds before it."""
        message = _writable(message)
        self.block.restore(message)
        self._expected, self._answers, self._openings = message.iteration, {}, {}

    def step(self, message: PriceMessage) -> Aggregate:
        """One round of the block; a repeated one returns the same sums again.

        Parameters
        ----------
        message : PriceMessage
            Duals of this host's buses.

        Returns
        -------
        Aggregate

        Raises
        ------
        LostStateError
            The process was restarted since the clearing began.
        OutOfStepError
            The message opens another round than the one this host waits for.
        """
        block, iteration = self.block, message.iteration
        if iteration in self._answers:
            return self._hidden(self._answers[iteration])
        # Over lossy links a host may miss rounds.
        if iteration < self._expected or (message.used is None and iteration > self._expected):
            raise OutOfStepError(
                f"host {block.host} waits for round {self._expected}, got {iteration}"
            )
        message = _writable(message)
        answer = self._answers[iteration] = block.step(message)
        self._openings[iteration] = message
        for kept in (self._answers, self._openings):
            kept.pop(iteration - 2, None)
        self._expected = iteration + 1
        return self._hidden(answer)

    def openings(self) -> dict[int, PriceMessage]:
        """By round, what opened the last two rounds."""
        return self._openings

    def follow(self, door: DoorAddress, key: bytes) -> None:
        """Do the rounds that the operator leads over a link, until it hangs up.

        Parameters
        ----------
        door : DoorAddress
            Where the operator waits.
        key : bytes
            What it asks callers for.

        Raises
        ------
        LinkError
            The operator does not answer.
        """
        link, clock = Link.call(door, key, self.block.host), self.stages
        clock.start()
        try:
            while True:
                try:
                    data = link.recv_bytes()
                except LinkError:
                    return
                clock.lap(Stage.WAIT)
                message = decode_prices(data)
                clock.lap(Stage.TRANSFER)
                sums = self.step(message)
                clock.lap(Stage.SOLVE)
                try:
                    link.send_bytes(encode_sums(sums))
                except LinkError:
                    return
                clock.lap(Stage.TRANSFER)
                clock.end_round()
        finally:
            link.close()

    def note_stages(self, on: bool) -> None:
        """Begin to note the stages of rounds over links, or stop; a restart stops it too."""
        self.stages.turn(on)

    def noted_stages(self) -> tuple[dict[Stage, float], ...]:
        """Seconds by stage of the rounds since `note_stages` [s]."""
        return self.stages.rounds

    def headroom(self) -> HostHeadroom:
        """By how much this host's buses can still move."""
        room, masks = self.block.headroom(), self._masks
        return room if masks is None else masks.hide(room, self._expected)

    def batteries(self, buses: IntArray | None) -> Batteries:
        """This host's batteries, at some buses or all, with the schedules of the last round."""
        return self.block.batteries(buses)

    def finish(self, message: FinalMessage) -> HostFinal:
        """Move the schedules as the operator asks and add up the result."""
        return self.block.finish(message)

    def dual_value_quanta(self, price_per_kwh: FloatArray) -> int:
        """Sum of the most that each agent gains at the prices (nb, T) of this host's buses."""
        return self.block.dual_value_quanta(price_per_kwh)

    def dispatch(self, message: FinalMessage) -> Dispatch:
        """The final schedule of this host's prosumers, in the order of its seat."""
        return Dispatch.joined([d for _, _, d in self.block.final_chunks(message)])

    def open_book(self, message: FinalMessage) -> None:
        """Take the final schedule's energies, to match trades with other hosts."""
        from actors.trading import HostBook

        assert self._data is not None
        self._book = HostBook.of(self.block, message, self._data.slack)

    def ask_book(self, method: str, *arguments: Any) -> Any:
        """Call a method of the open `HostBook`."""
        if self._book is None:
            raise LostStateError("no trades are being matched")
        return getattr(self._book, method)(*arguments)

    def end_day(self, message: FinalMessage) -> Charge:
        """The energy that the final schedule leaves in this host's batteries and stores."""
        return Charge.joined(Charge.at_end(d) for _, _, d in self.block.final_chunks(message))

    def write_schedule(
        self, message: FinalMessage, folder: Path, place: TablePlace
    ) -> list[PartRecord]:
        """Write this host's rows of `schedule.parquet`; see `actors.host_tables`."""
        from actors.host_tables import write_schedule

        return write_schedule(self.block, message, folder, place)

    def write_population(
        self, folders: Mapping[str, Path], place: TablePlace
    ) -> dict[str, list[PartRecord]]:
        """Write this host's rows of the tables of prosumers; see `actors.host_tables`."""
        from actors.host_tables import write_population

        data = self._data
        if data is None or self._prosumers is None:
            raise LostStateError("no prosumers loaded")
        return write_population(data.host, self._prosumers, data.grid, folders, place)

    @property
    def block(self) -> ProsumerBlock:
        """The block of the open clearing."""
        if self._block is None:
            raise LostStateError("no clearing is open")
        return self._block

    def _hidden(self, answer: Aggregate) -> Aggregate:
        """Answers are kept as they are: after another host's restart they get other masks."""
        masks = self._masks
        return answer if masks is None else masks.hide(answer, answer.iteration)

    def _new_block(
        self, prosumers: Prosumers, relaxation: float, initial_pi_kw: FloatArray | list[float]
    ) -> ProsumerBlock:
        data = self._data
        assert data is not None
        return ProsumerBlock(
            data.host,
            prosumers,
            data.grid,
            data.slack,
            data.period_hours,
            relaxation,
            np.array(initial_pi_kw, dtype=np.float64),
            self._threads,
        )


def _built(recipe: Recipe, charge: Charge | None) -> Prosumers:
    built = recipe.build()
    return built if charge is None else charge.put_into(built)


@contextmanager
def _without_blas() -> Iterator[None]:
    """Keep numba from loading `scipy.linalg`, with which it only looks whether BLAS is there.

    No kernel of a host calls BLAS; this is an eighth of the start of its process.
    """
    name = "scipy.linalg"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def _owned(population: Population) -> Population:
    names = (*UNIT_FIELDS, *PROFILE_FIELDS)
    arrays: dict[str, Any] = {name: np.array(getattr(population, name)) for name in names}
    return replace(population, **arrays)


def _writable(message: PriceMessage) -> PriceMessage:
    """The message with arrays of its own: what Ray delivers is read-only, a type of its own."""
    return replace(message, pi_kw=np.array(message.pi_kw))
