"""Rounds over Ray: links between the actors, plain calls where those fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

from actors.carriers import Carrier, PatientCarrier, StaleCarrier, Transport, carrier_for
from actors.checkpoint import PastRounds
from actors.crew import Crew
from actors.failure import FailureDecision, FailurePolicy
from actors.link import LinkError
from actors.log import LOG_BYTES, RoundLog
from actors.resume import catch_up
from raygrid.arrays import FloatArray
from raygrid.errors import RaygridError
from raygrid.market.clearing import ClearingOptions, IterationRecord, WarmStart
from raygrid.market.messages import FinalMessage, HostFinal, OperatorFinal, RoundOutcome
from raygrid.market.session import TIGHTENING, initial_pi
from raygrid.market.staleness import Traffic
from raygrid.market.stragglers import SilentHostError, Waits
from raygrid.scenario.case import Case

R = TypeVar("R")


class RayExchange:
    """Hosts and operator as Ray actors; implements `raygrid.market.session.Exchange`.

    What carries the rounds is opened before the first and closed after the last, since plain
    calls may not run beside it. Every carrier brings the same messages to the same methods,
    hence the same bits. What a dead actor knew is brought back from the log of messages, hence
    the same bits again.

    Parameters
    ----------
    crew : Crew
        The actors.
    case : Case
        The market they carry.
    options : ClearingOptions
        Settings.
    transport : Transport
        How rounds travel at first.
    policy : FailurePolicy
        What to do when Ray fails.
    log_bytes : int
        Messages kept for the successors of dead actors [B].
    warm : WarmStart, optional
        Where the last clearing of the same crew ended, to go on from there.
    past : PastRounds, optional
        Rounds of a checkpoint of the same scenario, to go on after them.

    Attributes
    ----------
    transport : Transport
        How rounds travel now.
    failures : list of str
        What failed and was mended, one line each.
    traffic : Traffic or None
        What went over the modelled links, where there are such.
    waits : Waits or None
        How long stragglers were waited for, where that has bounds.
    final : OperatorFinal or None
        The final schedule's messages, once there is one.
    """

    def __init__(
        self,
        crew: Crew,
        case: Case,
        options: ClearingOptions,
        transport: Transport = Transport.LINKS,
        policy: FailurePolicy | None = None,
        log_bytes: int = LOG_BYTES,
        warm: WarmStart | None = None,
        past: PastRounds | None = None,
    ) -> None:
        self._crew = crew
        self._options = options
        self._period_hours = case.period_hours
        self._initial_pi_kw = initial_pi(case, options, warm)
        self._warm = warm
        self._past = past or PastRounds()
        self.traffic = Traffic() if options.staleness is not None else None
        self.waits = Waits() if options.patience is not None else None
        self._policy = policy or FailurePolicy()
        self._log_bytes = log_bytes
        self._log: RoundLog | None = None
        self._carrier: Carrier | None = None
        self._tightening = 1.0
        self.transport = transport
        self.failures: list[str] = []
        self.final: OperatorFinal | None = None
        self._sums: list[HostFinal] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what carries the rounds; the actors stay."""
        if self._carrier is not None:
            carrier, self._carrier = self._carrier, None
            carrier.close()

    def prepare(self) -> None:
        """Begin the clearing in all actors, so that rounds can run.

        A graph takes as long to compile as some twenty rounds; done here, it does not count as
        clearing. Links are opened by the first round, since the operator goes on at once.
        """
        self._tightening = TIGHTENING**self._past.tightenings
        self._log = log = self._mending(self._begin)
        if self.transport is Transport.GRAPH:
            self._mending(lambda: self._open_carrier(log.opening))

    def _begin(self) -> RoundLog:
        log = RoundLog(self._log_bytes)
        log.add(self._crew.start(self._options, self._initial_pi_kw, self._warm))
        if self._past:
            catch_up(self._crew, self._past, log, self._tightening)
        return log

    @property
    def past(self) -> Sequence[IterationRecord]:
        """Residuals of the rounds that another driver did."""
        return self._past.records

    def open(self) -> RoundOutcome:
        """Messages that open the first round."""
        if self._log is None:
            self.prepare()
        assert self._log is not None
        return self._log.opening

    def round(self, outcome: RoundOutcome) -> RoundOutcome:
        """Send the messages of `outcome`, gather the hosts' sums, return what follows.

        Parameters
        ----------
        outcome : RoundOutcome
            What opened the round.

        Returns
        -------
        RoundOutcome

        Raises
        ------
        EndedShortError
            Ray failed more often than the policy bears, or an actor is gone for good.
        """
        assert self._log is not None
        following = self._mending(lambda: self._carry(outcome))
        if following.messages:
            self._log.add(following)
        return following

    def tighten(self, factor: float) -> RoundOutcome:
        """Make the tolerances `factor` times as tight and go on."""
        assert self._log is not None
        self.close()
        outcome: RoundOutcome = self._mending(
            lambda: _get(self._crew.operator.tighten.remote(factor))
        )
        self._tightening *= factor
        self._log.add(outcome)
        return outcome

    def finish(self) -> tuple[OperatorFinal, Sequence[HostFinal]]:
        """Final schedule and its sums; no sums where there is no final schedule."""
        self.close()
        crew, hours = self._crew, self._period_hours

        def final() -> OperatorFinal:
            rooms = [host.headroom.remote() for host in crew.hosts]
            result: OperatorFinal = _get(crew.operator.finish.remote(*rooms))
            # Batteries would go to the operator one by one.
            if result.faults and not self._options.masked_sums:
                where = result.fault_buses
                batteries = [host.batteries.remote(where) for host in crew.hosts]
                result = _get(crew.operator.finish_with_batteries.remote(hours, *batteries))
            return result

        self.final = self._mending(final)
        if self.final.faults:
            return self.final, ()
        self._sums = self.ask_hosts("finish")
        return self.final, self._sums

    def dual_value_quanta(self, price_per_kwh: FloatArray) -> int:
        """Sum over all agents of what each gains at most at given prices (B, T)."""
        prices = [price_per_kwh[buses] for buses in self._crew.host_buses]
        return sum(
            self._mending(
                lambda: _get(
                    [
                        host.dual_value_quanta.remote(price)
                        for host, price in zip(self._crew.hosts, prices, strict=True)
                    ]
                )
            )
        )

    def grid_kw(self) -> FloatArray:
        """(T,) net import of the final schedule [kW], where there is a grid connection."""
        return next(host.grid_p_kw for host in self._sums if host.grid_p_kw is not None)

    def ask_hosts(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every host with its final message, mending the crew if need be.

        Parameters
        ----------
        method : str
            A method of `ProsumerActor` that takes a `FinalMessage` first.
        *arguments : object
            What it takes besides.

        Returns
        -------
        list
            The answers in host order.
        """
        if self.final is None or self.final.faults:
            raise RuntimeError("there is no final schedule to ask for")
        messages = self.final.messages
        return self._mending(
            lambda: list(
                _get(
                    [
                        getattr(host, method).remote(message, *arguments)
                        for host, message in zip(self._crew.hosts, messages, strict=True)
                    ]
                )
            )
        )

    def with_hosts(self, action: Callable[[Sequence[Any], Sequence[FinalMessage]], R]) -> R:
        """Do something with all hosts and their final messages; once more after a failure."""
        if self.final is None or self.final.faults:
            raise RuntimeError("there is no final schedule to ask for")
        messages = self.final.messages
        return self._mending(lambda: action(self._crew.hosts, messages))

    def _mending(self, action: Callable[[], R]) -> R:
        """Do `action`; after a failure of Ray mend the crew and do it again."""
        from ray.exceptions import RayError

        while True:
            try:
                return action()
            except (RayError, LinkError, SilentHostError) as error:
                self.close()
                cause = getattr(error, "cause", None)
                if isinstance(cause, RaygridError):
                    raise cause from error
                decision = self._note(error)
                if decision is FailureDecision.GIVE_UP:
                    raise
            while True:
                try:
                    self._crew.revive(self._log, self._tightening)
                    break
                except RayError as error:
                    if self._note(error) is FailureDecision.GIVE_UP:
                        raise

    def _note(self, error: Exception) -> FailureDecision:
        """Write a failure down and decide about it."""
        self.failures.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        decision = self._policy.decide(error, len(self.failures))
        if decision is FailureDecision.PLAIN_CALLS:
            self.transport = Transport.PLAIN
        return decision

    def _carry(self, outcome: RoundOutcome) -> RoundOutcome:
        assert self._log is not None
        # Where feeder operators keep the prices, a mended crew says where it goes on.
        opening = outcome if outcome.messages else self._log.opening
        following = (self._carrier or self._open_carrier(opening)).carry(opening)
        while _is_known(following, outcome):
            assert self._carrier is not None
            following = self._carrier.carry(following)
        return following

    def _open_carrier(self, outcome: RoundOutcome) -> Carrier:
        carrier: Carrier
        if self._options.staleness is not None and self.traffic is not None:
            carrier = StaleCarrier(self._crew, self._options.staleness, self.traffic)
        elif self._options.patience is not None and self.waits is not None:
            masked = self._options.masked_sums
            carrier = PatientCarrier(self._crew, self._options.patience, masked, self.waits)
        else:
            carrier = carrier_for(self.transport, self._crew)
        self._carrier = carrier
        carrier.open(outcome)
        return carrier


def _is_known(following: RoundOutcome, last: RoundOutcome) -> bool:
    """Whether a mended crew has done a round again of which the driver has heard."""
    if following.record is None or last.record is None:
        return False
    return following.record.iteration <= last.record.iteration


def _get(refs: Any) -> Any:
    import ray

    return ray.get(refs)
