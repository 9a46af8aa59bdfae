"""The actors of a market: hired by a placement, pinged, and brought back after a death."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actors.checkpoint import CheckpointPlace
from actors.cluster import ClusterResources
from actors.errors import own_errors
from actors.feeder import FeederData
from actors.feeders import Feeders, hire, lost_round, near
from actors.hiring import MAX_RESTARTS, Handle, await_ready, hire_host, hire_operator
from actors.log import RoundLog
from actors.operator import OperatorData
from actors.placement import Placement
from actors.prosumer import HostData, Pulse
from actors.roll import call_roll
from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import EndedShortError
from raygrid.grid.limits import empty_rows
from raygrid.grid.tree_rows import TreeRows
from raygrid.market.clearing import ClearingOptions, WarmStart
from raygrid.market.messages import Aggregate, HostSummary, RoundOutcome
from raygrid.prosumer.carried import CarriedCommunity
from raygrid.prosumer.survey import Survey, joined
from raygrid.results.charge_file import StoredCharge
from raygrid.scenario.build import CaseDraft
from raygrid.scenario.case import Case

SCHEDULE_TIMEOUT_S = 30.0
"""Longest wait without any actor becoming ready before the cluster counts as full."""
REVIVE_TIMEOUT_S = 30.0
"""Longest wait for a dead actor's successor."""
REPLACE_AFTER_S = 10.0
"""Wait for Ray to start an actor anew elsewhere, where its machine is gone and CPUs are free."""


@dataclass(frozen=True)
class _Opening:
    """What a clearing began with, kept for the successors of dead actors.

    The messages of all rounds bring a host's state back (`replays`), but not where it began with
    schedules that went with its process, nor where it missed some of them.
    """

    options: ClearingOptions
    initial_pi_kw: FloatArray
    summaries: tuple[HostSummary, ...]
    replays: bool


class Crew:
    """Prosumer actors and the network operator of one case, loaded and warm.

    Parameters
    ----------
    case : Case or CaseDraft
        The market; each host gets its part, the operator the limits.
    placement : Placement
        Who sits where.
    resources : ClusterResources
        The cluster's numbers, for the message where it is full.
    timeout_s : float
        Longest wait without any actor becoming ready [s].
    before_load : callable, optional
        Called when the processes run, before they load compiled code.

    Attributes
    ----------
    case : Case
        The market, also where a draft was given.
    on_one_node : bool
        Whether driver and actors share one node, so that links need not leave it.
    checkpoint : CheckpointPlace or None
        Where feeder operators note what opens each round of the clearings to come.

    Raises
    ------
    EndedShortError
        The cluster did not schedule the actors.
    """

    def __init__(
        self,
        case: Case | CaseDraft,
        placement: Placement,
        resources: ClusterResources,
        timeout_s: float = SCHEDULE_TIMEOUT_S,
        before_load: Callable[[], None] | None = None,
    ) -> None:

        self.placement = placement
        self.on_one_node = len(resources.nodes) == 1
        self.hosts = [hire_host(placement.threads, placement.num_cpus) for _ in placement.seats]
        self.feeders: list[Handle] = []
        self.operator = hire_operator()
        self._divided: Feeders | None = None
        self.checkpoint: CheckpointPlace | None = None
        self._opening: _Opening | None = None
        try:
            await_ready(self.members, placement, resources, timeout_s)
            if before_load is not None:
                before_load()
            self._charge: list[Any] = [None] * len(self.hosts)
            self._hand_out(case if isinstance(case, Case) else self._surveyed(case, self._charge))
            if placement.feeders and isinstance(self.case.rows, TreeRows):
                homes = [pulse.node_id for pulse in self.take_pulses()[: len(self.hosts)]]
                nodes = near(homes, placement.feeders)
                self.feeders = [hire(node, MAX_RESTARTS) for node in nodes]
            self._load_all()
            self.pulses = self.take_pulses()
        except BaseException:
            self.dismiss()
            raise

    @property
    def members(self) -> list[Handle]:
        """All actors: the hosts in host order, feeder operators if any, then the operator."""
        return [*self.hosts, *self.feeders, self.operator]

    @property
    def _data(self) -> list[tuple[Any, ...]]:
        """What each member loads."""
        return [
            *zip(self._host_data, self._charge, strict=True),
            *((self._feeder_data,) for _ in self.feeders),
            (self._operator_data,),
        ]

    @property
    def divided(self) -> Feeders | None:
        """The feeder operators that have parts of the network in the open clearing, if any."""
        return self._divided

    @property
    def replays(self) -> bool:
        """Whether the messages of all rounds bring a host's state back in the open clearing."""
        assert self._opening is not None
        return self._opening.replays

    @property
    def host_buses(self) -> list[IntArray]:
        """Positions of the buses of each host, in host order, once a clearing has begun."""
        assert self._opening is not None
        return [summary.buses for summary in self._opening.summaries]

    def _surveyed(self, draft: CaseDraft, charge: Sequence[Any]) -> Case:
        """The case of a draft, surveyed by the hosts, which keep what they built."""
        import ray

        asked = [
            host.survey.remote(draft.recipe(seat.start, seat.stop), own)
            for host, seat, own in zip(self.hosts, self.placement.seats, charge, strict=True)
        ]
        with own_errors():
            surveys: list[Survey] = ray.get(asked)
        return draft.case(joined(surveys))

    def begin_day(self, draft: CaseDraft, left: StoredCharge, everything_here: bool) -> None:
        """Take up another market day, which begins with the charge that the one before left.

        Charges stay in Ray's object store, from which hosts and their successors get them. The
        actors load the day when its clearing starts.

        Parameters
        ----------
        draft : CaseDraft
            Of the new day, from `draft_another_day`.
        left : StoredCharge
            What it begins with.
        everything_here : bool
            Whether the new case is to know everybody's charge, as a small one can.
        """
        import ray

        charge = [ray.put(left.rows(seat.start, seat.stop)) for seat in self.placement.seats]
        case = self._surveyed(draft, charge)
        known = left.rows(0, len(case.community)) if everything_here else None
        self._charge = charge
        self._hand_out(case)
        self.case = replace(case, community=CarriedCommunity(case.community, known))
        self._is_loaded = False

    def _hand_out(self, case: Case) -> None:
        """Lay out what the actors of a case load."""
        import ray

        self.case = case
        self._host_data = [ray.put(data) for data in self._parts()]
        self._operator_data = ray.put(
            OperatorData(
                case.rows,
                empty_rows(case.network, case.n_periods),
                case.network.n_buses,
                case.n_periods,
            )
        )
        self._feeder_data = ray.put(FeederData(case.rows))

    def _load_all(self) -> None:
        """Let all actors load the case."""
        import ray

        data = self._data
        first = len(self.hosts)
        # What the operator compiles feeder operators then find on disk.
        ray.get(_load(self.members[-1:], data[-1:]) + _load(self.hosts, data[:first]))
        ray.get(_load(self.feeders, data[first:-1]))
        self._is_loaded = True

    def _parts(self) -> Iterator[HostData]:
        """What each host gets."""
        case = self.case
        for seat in self.placement.seats:
            yield HostData(
                seat.host,
                case.community.recipe(seat.start, seat.stop),
                case.price_level,
                case.grid if seat.carries_grid else None,
                case.network.slack,
                case.period_hours,
            )

    def ask_hosts(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every host; their answers in host order."""
        return _ask(self.hosts, method, *arguments)

    def ask_everybody(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every host and of the network operator; its answer comes last."""
        return _ask([*self.hosts, self.operator], method, *arguments)

    def start(
        self, options: ClearingOptions, initial_pi_kw: FloatArray, warm: WarmStart | None = None
    ) -> RoundOutcome:
        """Begin a clearing in every actor.

        Parameters
        ----------
        options : ClearingOptions
            Settings.
        initial_pi_kw : (T,) or (B, T) float64
            Start of the duals [kW].
        warm : WarmStart, optional
            Where the hosts' last clearing ended, if they are to go on from there.

        Returns
        -------
        RoundOutcome
            The messages that open the first round.
        """
        import ray

        if not self._is_loaded:
            self._load_all()
        alpha = options.relaxation
        if warm is None or self._opening is None:
            begun = [host.start.remote(alpha, initial_pi_kw) for host in self.hosts]
        else:
            pi_kw, rescale = warm.pi_kw, warm.rho / options.rho
            begun = [
                host.reopen.remote(alpha, pi_kw[buses], rescale)
                for host, buses in zip(self.hosts, self.host_buses, strict=True)
            ]
        summaries = tuple(ray.get(begun))
        if options.masked_sums:
            summaries = self._agree_on_masks()
        self._opening = _Opening(
            options, initial_pi_kw, summaries, warm is None and options.in_step
        )
        outcome: RoundOutcome = ray.get(
            self.operator.start.remote(summaries, options, initial_pi_kw)
        )
        self._divided = None
        rows = self.case.rows
        if self.feeders and options.network_constrained and isinstance(rows, TreeRows):
            self._divided = Feeders(
                self.feeders, rows, summaries, options.masked_sums, self.checkpoint
            )
            ray.get(self._divided.start(range(len(self.feeders))) + self._divide())
        return outcome

    def _divide(self) -> list[Any]:
        """Let the operator know of its feeder operators; what to wait for."""
        if self._divided is None or self._opening is None:
            return []
        return [self.operator.divide.remote(self._divided.division, self._opening.summaries)]

    def revive(self, log: RoundLog | None, tightening: float) -> tuple[int, ...]:
        """Find out who was restarted and bring them to the open round.

        A host does all finished rounds again; where the log no longer holds them it starts
        from its slice and the operator's duals, which costs some more rounds. The operator's
        state is in the messages of the last two rounds and in the hosts' last answers.

        Parameters
        ----------
        log : RoundLog or None
            What opened the rounds; None where no clearing is open yet.
        tightening : float
            Product of the factors by which tolerances were tightened.

        Returns
        -------
        tuple of int
            Positions in `members` of those that were restarted.

        Raises
        ------
        EndedShortError
            An actor did not come back in time.
        """
        import ray

        pulses = self._rally()
        restarted = tuple(
            k
            for k, (now, before) in enumerate(zip(pulses, self.pulses, strict=True))
            if now.incarnation != before.incarnation
        )
        hosts = [k for k in restarted if k < len(self.hosts)]
        for k in restarted:
            ray.get(self.members[k].load.remote(*self._data[k]))
        if log is not None and self._divided is not None:
            log.add(self._lost_round(restarted, log.opening))
        if log is not None:
            for k in hosts:
                self._revive_host(k, log)
            assert self._opening is not None
            if hosts and self._opening.options.masked_sums:
                # What is sent again must not meet masks that went with a process.
                self._agree_on_masks()
            operator = len(self.members) - 1
            if operator in restarted:
                self._revive_operator(log, tightening)
                ray.get(self._divide())
            elif self._divided is not None:
                ray.get(self.operator.resume.remote(log.opening, None, [], tightening))
        self.pulses = pulses
        return restarted

    def _lost_round(self, restarted: Sequence[int], opening: RoundOutcome) -> RoundOutcome:
        """What opens the round to be done anew, from what hosts and feeder operators know."""
        import ray

        assert self._divided is not None
        n_hosts = len(self.hosts)
        feeders = range(len(self.feeders))
        there = [f for f in feeders if n_hosts + f not in restarted]
        gone = [f for f in feeders if f not in there]
        ray.get(self._divided.start(gone) + [self.feeders[f].forget.remote() for f in there])
        known = _ask([h for k, h in enumerate(self.hosts) if k not in restarted], "openings")
        by_host = iter(known)
        hosts = [None if k in restarted else next(by_host) for k in range(n_hosts)]
        sent = _ask([self.feeders[f] for f in there], "openings")
        return lost_round(hosts, sent, opening)

    def dismiss(self) -> None:
        """End the actors' processes."""
        import ray

        for member in self.members:
            ray.kill(member)

    def _agree_on_masks(self) -> tuple[HostSummary, ...]:
        """Make all hosts agree on new masks; their summaries, masked."""
        import ray

        identities = ray.get([host.make_masks.remote() for host in self.hosts])
        return tuple(ray.get([host.meet.remote(identities) for host in self.hosts]))

    def _revive_host(self, k: int, log: RoundLog) -> None:

        assert self._opening is not None
        host, opening = self.hosts[k], self._opening
        pi_kw = opening.initial_pi_kw
        host.start.remote(opening.options.relaxation, pi_kw if pi_kw.ndim == 1 else pi_kw[0])
        self._replay(k, log)

    def _replay(self, k: int, log: RoundLog) -> None:
        """Let a host do all finished rounds again, or take up the open one from the duals."""
        import ray

        assert self._opening is not None
        host = self.hosts[k]
        if log.is_complete and self._opening.replays:
            done = [host.step.remote(message) for message in log.done(k)]
        else:
            done = [host.resume.remote(log.opening.messages[k])]
        ray.get(done)

    def _revive_operator(self, log: RoundLog, tightening: float) -> None:
        import ray

        assert self._opening is not None
        opening = self._opening
        # Where rounds leave hosts out there are no sums of all of one round to go back to.
        before = log.before if opening.options.in_step else None
        sums: list[Aggregate] = []
        if before is not None:
            asked = zip(self.hosts, before.messages, strict=True)
            sums = ray.get([host.step.remote(message) for host, message in asked])
        self.operator.start.remote(opening.summaries, opening.options, opening.initial_pi_kw)
        resumed = log.opening, before, sums, tightening, log.memories
        ray.get(self.operator.resume.remote(*resumed))

    def take_pulses(self) -> list[Pulse]:
        """Ping everybody; a restarted actor is waited for."""
        n = len(self.members)
        pulses = call_roll(self.members, lambda _: [REVIVE_TIMEOUT_S] * n)
        return [_there(pulse) for pulse in pulses]

    def _rally(self) -> list[Pulse]:
        """Ping everybody, and put others in the place of those who do not come back.

        Ray starts a dead process anew, also elsewhere if its machine is gone, but only where the
        CPUs that it asks for are free. A substitute takes none, so that it always finds a place:
        beside those who answer, where rounds are slower from then on.
        """
        import ray

        homes = [pulse.node_id for pulse in self.pulses]
        needs = [self.placement.num_cpus] * len(self.hosts) + [0] * (len(self.feeders) + 1)

        def patience_s(alive: frozenset[str]) -> list[float]:
            free = ray.available_resources()  # type: ignore[no-untyped-call]
            return [
                REVIVE_TIMEOUT_S
                if home in alive
                else REPLACE_AFTER_S * (need <= free.get("CPU", 0.0))
                for home, need in zip(homes, needs, strict=True)
            ]

        pulses = call_roll(self.members, patience_s)
        silent = [k for k, pulse in enumerate(pulses) if pulse is None]
        if silent:
            nodes = sorted({pulse.node_id for pulse in pulses if pulse is not None})
            nodes = nodes or [ray.get_runtime_context().get_node_id()]
            for turn, k in enumerate(silent):
                self._substitute(k, nodes[turn % len(nodes)])
            members = [self.members[k] for k in silent]
            found = call_roll(members, lambda _: [REVIVE_TIMEOUT_S] * len(silent))
            for k, pulse in zip(silent, found, strict=True):
                pulses[k] = pulse
        return [_there(pulse) for pulse in pulses]

    def _substitute(self, k: int, node: str) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ray.kill(self.members[k])
        where = NodeAffinitySchedulingStrategy(node, soft=True)
        feeder = k - len(self.hosts)
        if feeder < 0:
            self.hosts[k] = hire_host(self.placement.threads, 0, where)
        elif feeder < len(self.feeders):
            self.feeders[feeder] = hire(node, MAX_RESTARTS)
        else:
            self.operator = hire_operator(where)


def _ask(members: Sequence[Handle], method: str, *arguments: Any) -> list[Any]:
    import ray

    with own_errors():
        answers: list[Any] = ray.get([getattr(m, method).remote(*arguments) for m in members])
    return answers


def _load(members: Sequence[Handle], data: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [member.load.remote(*own) for member, own in zip(members, data, strict=True)]


def _there(pulse: Pulse | None) -> Pulse:
    if pulse is None:
        raise EndedShortError(
            f"an actor died for good, or did not come back within {REVIVE_TIMEOUT_S:.0f} s"
        )
    return pulse
