"""Which prosumers share a Ray actor: a policy, a plan with its numbers, and its resources."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from actors.cluster import ClusterResources
from raygrid.errors import InputError
from raygrid.grid.limits import MAX_DENSE_TREE_ENTRIES
from raygrid.grid.network import Network

PROCESS_BYTES = 110 * 1024**2
"""Memory that one actor process has for itself: Python, Ray, NumPy, compiled kernels [B]."""
FIXED_BYTES = 700 * 1024**2
"""Memory of everything else on a machine of one's own: driver, operator, Ray's processes [B]."""
MEMORY_SHARE = 0.6
"""Share of the cluster's memory that a plan may take."""
PROCESS_START_CPU_S = 1.6
"""CPU time until an actor process is ready: Ray 0.9 s, other imports and cached kernels [s]."""
START_BUDGET_S = 5.0
"""Longest start-up that `auto` spends on one actor per prosumer [s]."""
BUS_PERIOD_BYTES = 800
"""Memory that operators, hosts and driver take for a bus and period of a large network, all of them
together [B]."""
FEEDER_BUSES = 20_000
"""Buses of a radial network from which on feeder operators share the network operator's work."""
CPUS_PER_HOST = 8
"""Most threads of a packed host; beyond them Python's part of a step shows."""


class PlacementKind(StrEnum):
    """How prosumers are spread over Ray actors."""

    EACH = "each"
    AUTO = "auto"
    COUNT = "count"


@dataclass(frozen=True)
class PlacementPolicy:
    """What the user asked for: `each`, `auto` or a number of actors.

    Attributes
    ----------
    kind : PlacementKind
        The rule.
    count : int
        Number of actors where the rule is COUNT, else 0.
    """

    kind: PlacementKind = PlacementKind.AUTO
    count: int = 0

    @classmethod
    def parse(cls, text: str, where: str = "--actors") -> Self:
        """Read `each`, `auto` or a positive whole number.

        Parameters
        ----------
        text : str
            What the user gave.
        where : str
            The option or key, for the message.

        Returns
        -------
        PlacementPolicy

        Raises
        ------
        InputError
            Anything else.
        """
        if text in (PlacementKind.EACH, PlacementKind.AUTO):
            return cls(PlacementKind(text))
        if text.isascii() and text.isdecimal() and int(text) > 0:
            return cls(PlacementKind.COUNT, int(text))
        raise InputError(
            f"{text!r} is no placement", where, "give 'each', 'auto' or a number of actors from 1"
        )

    def check(self, n_prosumers: int) -> None:
        """Refuse more actors than prosumers.

        Parameters
        ----------
        n_prosumers : int
            Number of prosumers N.

        Raises
        ------
        InputError
            Says the numbers.
        """
        if self.count > n_prosumers:
            raise InputError(
                f"{self.count} actors for {n_prosumers} prosumers",
                "--actors",
                f"ask for at most {n_prosumers}, or 'each'",
            )

    def __str__(self) -> str:
        return str(self.count) if self.kind is PlacementKind.COUNT else str(self.kind)


@dataclass(frozen=True)
class HostSeat:
    """One prosumer actor before it exists.

    Attributes
    ----------
    host : int
        Its number, the sender of its messages.
    start, stop : int
        Its prosumers: positions start to stop - 1 of all of them by bus, then by id.
    """

    host: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def carries_grid(self) -> bool:
        """Whether the grid connection sits here too: with the first host."""
        return self.host == 0


@dataclass(frozen=True)
class Placement:
    """Who sits where, and what each actor asks of the cluster.

    Attributes
    ----------
    kind : PlacementKind
        EACH or COUNT, whichever the policy led to.
    seats : tuple of HostSeat
        One per prosumer actor, in host order.
    threads : int
        Threads of each prosumer actor.
    num_cpus : int
        CPUs each prosumer actor reserves; 0 for actors that share the CPUs.
    memory_bytes : int
        Memory all prosumer actors are expected to take [B].
    largest_bytes : int
        The same of the one with most prosumers [B].
    start_s : float
        Start-up the plan expects [s].
    network_bytes : int
        Memory for the buses, all processes together [B].
    feeders : int
        Feeder operators between prosumer actors and network operator; 0 for none.
    """

    kind: PlacementKind
    seats: tuple[HostSeat, ...]
    threads: int
    num_cpus: int
    memory_bytes: int
    largest_bytes: int
    start_s: float
    network_bytes: int = 0
    feeders: int = 0

    @property
    def n_hosts(self) -> int:
        """Number of prosumer actors."""
        return len(self.seats)

    def describe(self) -> str:
        """The plan in one line, shown before the run."""
        sizes = [len(seat) for seat in self.seats]
        each = str(sizes[0]) if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
        cpus = f"{self.num_cpus} CPU each" if self.num_cpus else "sharing the CPUs"
        whole = (self.memory_bytes + self.network_bytes + FIXED_BYTES) / 1024**3
        plural = "s" * (self.feeders != 1)
        feeders = f"{self.feeders} feeder operator{plural}, " if self.feeders else ""
        return (
            f"{self.n_hosts} prosumer actor{'s' * (self.n_hosts != 1)}, "
            f"{each} prosumer{'s' * (each != '1')} each, {cpus}, "
            f"{feeders}up to {self.largest_bytes / 1024**2:.0f} MiB each "
            f"and about {whole:.1f} GiB in all, {self.start_s:.0f} s to start"
        )


def plan_placement(
    policy: PlacementPolicy,
    n_prosumers: int,
    bytes_each: float,
    resources: ClusterResources,
    bus_periods: int = 0,
) -> Placement:
    """Spread N prosumers over Ray actors.

    Prosumers are sorted by bus, then by id, and cut into equal counts, so that an actor
    exchanges the rows of few buses. Every plan gives the same market bit for bit.

    Parameters
    ----------
    policy : PlacementPolicy
        `each` gives every prosumer its own process. `auto` does so while the processes fit
        `MEMORY_SHARE` of the memory and start within `START_BUDGET_S`, and else packs over the
        CPUs.
    n_prosumers : int
        Number of prosumers N.
    bytes_each : float
        Memory that one prosumer takes, see `raygrid.prosumer.community` [B].
    resources : ClusterResources
        The cluster's machines.
    bus_periods : int
        Buses times periods.

    Returns
    -------
    Placement

    Raises
    ------
    InputError
        More actors than prosumers, or more memory than the cluster has; says the numbers.
    """
    n = n_prosumers
    policy.check(n)
    kind, n_hosts = policy.kind, n
    if kind is PlacementKind.AUTO:
        fits_memory = _memory_bytes(n, n, bytes_each) <= MEMORY_SHARE * resources.memory_bytes
        fits_start = _start_s(n, resources) <= START_BUDGET_S
        kind = PlacementKind.EACH if fits_memory and fits_start else PlacementKind.COUNT
        if kind is PlacementKind.COUNT:
            n_hosts = min(n, max(1, _packed_hosts(resources)))
    elif kind is PlacementKind.COUNT:
        n_hosts = policy.count
    memory = _memory_bytes(n_hosts, n, bytes_each)
    largest = _memory_bytes(1, -(-n // n_hosts), bytes_each)
    node = max((node.memory_bytes for node in resources.nodes), default=0)
    if largest > node:
        raise InputError(
            f"a prosumer actor with {-(-n // n_hosts)} of {n} prosumers needs about "
            f"{largest / 1024**3:.1f} GiB, the largest node has {node / 1024**3:.1f} GiB",
            "--agents",
            "take fewer prosumers or periods, more --actors on more nodes, or larger nodes",
        )
    network = bus_periods * BUS_PERIOD_BYTES
    if memory + network > resources.memory_bytes:
        buses = f", {network / 1024**3:.1f} of it for the buses" if network > memory else ""
        raise InputError(
            f"{n_hosts} prosumer actors need about {(memory + network) / 1024**3:.1f} GiB{buses}, "
            "the cluster has "
            f"{resources.memory_bytes / 1024**3:.1f} GiB on {len(resources.nodes)} node(s)",
            "--actors",
            "take fewer actors ('auto' packs prosumers), fewer prosumers or buses, or a larger "
            "cluster",
        )
    # As numpy.array_split: the first n % n_hosts seats have one more.
    edges = [k * (n // n_hosts) + min(k, n % n_hosts) for k in range(n_hosts + 1)]
    seats = tuple(HostSeat(k, *edges[k : k + 2]) for k in range(n_hosts))
    threads = _threads(n_hosts, resources)
    packed = kind is PlacementKind.COUNT and n_hosts * threads <= resources.cpus
    return Placement(
        kind=kind,
        seats=seats,
        threads=threads if packed else 1,
        num_cpus=threads if packed else 0,
        memory_bytes=memory,
        largest_bytes=largest,
        start_s=_start_s(n_hosts, resources),
        network_bytes=network,
    )


def plan_feeders(
    asked: int | None, network: Network, n_hosts: int, resources: ClusterResources
) -> int:
    """How many feeder operators share the network operator's work.

    Parameters
    ----------
    asked : int or None
        What the user asked for; None leaves it to the network's size.
    network : Network
        The grid.
    n_hosts : int
        Number of prosumer actors, each of which has one feeder operator.
    resources : ClusterResources
        The cluster's machines.

    Returns
    -------
    int
        As asked; else one per prosumer actor, at most one per CPU, in a radial network of
        `FEEDER_BUSES` or more, and none in others.

    Raises
    ------
    InputError
        More than prosumer actors, or the network's limits are too few to be divided.
    """
    if asked is None:
        large = network.is_radial and network.n_buses >= FEEDER_BUSES
        return min(n_hosts, max(1, resources.cpus)) if large else 0
    if asked > n_hosts:
        raise InputError(
            f"{asked} feeder operators for {n_hosts} prosumer actors",
            "--feeders",
            f"ask for at most {n_hosts}, or for more --actors",
        )
    if asked and not (
        network.is_radial and network.n_lines * network.n_buses > MAX_DENSE_TREE_ENTRIES
    ):
        raise InputError(
            f"feeder operators divide large radial networks, not one of {network.n_buses} buses "
            f"and {network.n_lines} lines",
            "--feeders",
            "leave the option out: one operator is faster here",
        )
    return asked


def _memory_bytes(n_hosts: int, n: int, bytes_each: float) -> int:
    return n_hosts * PROCESS_BYTES + round(n * bytes_each)


def _start_s(n_hosts: int, resources: ClusterResources) -> float:
    return n_hosts * PROCESS_START_CPU_S / max(1, resources.cpus)


def _packed_hosts(resources: ClusterResources) -> int:
    """Hosts that use every CPU with at most `CPUS_PER_HOST` threads each."""
    return sum(
        -(-node.cpus // CPUS_PER_HOST) if node.cpus > CPUS_PER_HOST else node.cpus
        for node in resources.nodes
    )


def _threads(n_hosts: int, resources: ClusterResources) -> int:
    """Threads per host, such that every host finds its CPUs on one node."""
    for threads in range(min(CPUS_PER_HOST, max(1, resources.cpus // n_hosts)), 1, -1):
        if sum(node.cpus // threads for node in resources.nodes) >= n_hosts:
            return threads
    return 1
