"""Rounds that go on without late hosts: bounded staleness over a modelled channel.

The operator sends prices and waits for answers, but no longer than its patience. Of a host whose
answer is late or lost it takes the last one that it used, and tells the host so with the next
prices: the host then goes back to its state before the unused answer. Both sides thus always
agree on every host's last step, and a round is ADMM in which some agents keep still: a randomly
activated fixed-point iteration, whose limits are those of the full one.

A host is waited for, and sent to again, where it has not moved for so many rounds; and nothing
counts as converged but a round in which everybody answered in time.

Time is that of the model, not of this machine: a round takes as long as its slowest message that
was waited for. Computing counts as instantaneous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raygrid.arrays import BoolArray, FloatArray, IntArray
from raygrid.market.channel import Direction, Staleness
from raygrid.market.messages import Aggregate, PriceMessage, RoundOutcome

StepHosts = Callable[[Sequence[int], Sequence[PriceMessage]], Sequence[Aggregate]]
"""Let some hosts take a step each, wherever they run."""
Handle = Callable[[Sequence[Aggregate], bool], RoundOutcome]
"""The operator's round: one aggregate of every host, and whether all are of this round."""


@dataclass
class Traffic:
    """What went over the channel.

    Attributes
    ----------
    messages, lost, late : int
        Messages sent, of them lost, and answers that came too late to be used.
    bits : float
        Bits sent [bit].
    seconds : float
        Time of the model [s].
    waited_rounds : int
        Rounds in which somebody was waited for beyond the patience.
    cost : float or None
        What keeping all links for that time costs, TES (6) [currency]; None where nothing says.
    """

    messages: int = 0
    lost: int = 0
    late: int = 0
    bits: float = 0.0
    seconds: float = 0.0
    waited_rounds: int = 0
    cost: float | None = None

    def describe(self, currency: str) -> str:
        """One line for the run's notes."""
        cost = "" if self.cost is None else f"; they cost {self.cost:.3g} {currency}"
        if self.late > self.messages / 8:  # a quarter of the answers
            cost += "; many answers come too late: raise communication.patience_s"
        return (
            f"modelled links: {self.messages} messages of {self.bits / 8e6:.3g} MB in all, "
            f"{self.lost} lost, {self.late} answers late; {self.seconds:.3g} s on the way, "
            f"somebody waited for in {self.waited_rounds} rounds{cost}"
        )


class StaleBook:
    """Whose answers the operator uses, who must take a step back, and whom a round needs.

    Parameters
    ----------
    n_hosts : int
        Number of hosts.
    max_staleness : int
        Rounds that a host may miss in a row; then rounds need it.
    handle : callable
        `Handle`.
    """

    def __init__(self, n_hosts: int, max_staleness: int, handle: Handle) -> None:
        self._max_staleness, self._handle = max_staleness, handle
        self._used: list[Aggregate | None] = [None] * n_hosts
        self._unused: BoolArray = np.zeros(n_hosts, dtype=np.bool_)
        self._missed: IntArray = np.zeros(n_hosts, dtype=np.int64)
        self._all_wanted = True

    @property
    def must(self) -> BoolArray:
        """(n_hosts,) whether the open round cannot go on without a host."""
        return np.asarray((self._missed >= self._max_staleness) | self._all_wanted)

    def marked(self, host: int, message: PriceMessage) -> PriceMessage:
        """The message with the mark whether the host's last answer was used."""
        return replace(message, used=not self._unused[host])

    def take_back(self, host: int) -> None:
        """Note that a host's last answer is not used."""
        self._unused[host] = True

    def close(self, answers: Mapping[int, Aggregate]) -> RoundOutcome:
        """Let the operator do its round with these answers and the last ones of the others."""
        fresh = np.zeros(len(self._used), dtype=np.bool_)
        for host, answer in answers.items():
            self._used[host] = answer
            fresh[host] = True
        self._unused[fresh] = False
        self._missed = np.where(fresh, 0, self._missed + 1)
        everybody = bool(fresh.all())
        following = self._handle([one for one in self._used if one is not None], everybody)
        record = following.record
        # What looks converged is only so if a round with everybody confirms it.
        self._all_wanted = not everybody and record is not None and record.within_tolerance
        return following


class StaleRounds:
    """Carries rounds over a channel; a state machine that knows no Ray.

    Parameters
    ----------
    n_hosts : int
        Number of hosts.
    options : Staleness
        Delays, losses and patience.
    step : callable
        `StepHosts`.
    handle : callable
        `Handle`.
    traffic : Traffic, optional
        Counts on; by default from zero.

    Attributes
    ----------
    traffic : Traffic
        What went over the channel so far.
    """

    def __init__(
        self,
        n_hosts: int,
        options: Staleness,
        step: StepHosts,
        handle: Handle,
        traffic: Traffic | None = None,
    ) -> None:
        self._n = n_hosts
        self._channel, self._options = options.channel, options
        self._step = step
        self._book = StaleBook(n_hosts, options.max_staleness, handle)
        self._attempt = 0
        self.traffic = traffic or Traffic()

    def round(self, outcome: RoundOutcome) -> RoundOutcome:
        """One round: send prices, wait, go on with what there is.

        Parameters
        ----------
        outcome : RoundOutcome
            What opens the round.

        Returns
        -------
        RoundOutcome
            What opens the next one.
        """
        must = self._book.must
        arrived_s, stepped = self._exchange(outcome.messages, must)
        patience = self._options.patience_s
        fresh = must | (arrived_s <= patience)
        slowest = float(arrived_s[fresh].max(initial=0.0))
        self._pass(slowest if fresh.all() else max(patience, slowest))
        self.traffic.waited_rounds += slowest > patience
        self.traffic.late += int((~fresh & np.isfinite(arrived_s)).sum())

        who = [int(k) for k in np.flatnonzero(stepped)]
        messages = [self._book.marked(k, outcome.messages[k]) for k in who]
        answers = dict(zip(who, self._step(who, messages), strict=True))
        for k in who:
            if not fresh[k]:
                self._book.take_back(k)
        return self._book.close({k: answers[k] for k in who if fresh[k]})

    def _pass(self, seconds: float) -> None:
        """Let time pass, which every link costs."""
        self.traffic.seconds += seconds
        if (link := self._options.link) is not None:
            self.traffic.cost = (self.traffic.cost or 0.0) + self._n * link.cost(seconds)

    def _exchange(
        self, messages: Sequence[PriceMessage], must: BoolArray
    ) -> tuple[FloatArray, BoolArray]:
        """Arrival of each host's answer [s], inf where none comes, and who got the prices.

        To hosts that must answer, what was lost is sent again each time the patience is over.
        """
        down_bytes = np.array([float(message.pi_kw.nbytes) for message in messages])
        arrived_s = np.full(self._n, np.inf)
        stepped = np.zeros(self._n, dtype=np.bool_)
        wanted = np.ones(self._n, dtype=np.bool_)
        begun_s = 0.0
        while wanted.any():
            down, up = (
                self._channel.delay_s(self._attempt, way, self._n, size)
                for way, size in (
                    (Direction.TO_HOST, down_bytes),
                    # Sums of p and of phat are twice as long as the prices.
                    (Direction.TO_OPERATOR, 2.0 * down_bytes),
                )
            )
            self._attempt += 1
            got = wanted & np.isfinite(down)
            back = got & np.isfinite(up)
            self.traffic.messages += int(wanted.sum() + got.sum())
            self.traffic.lost += int((wanted & ~got).sum() + (got & ~back).sum())
            self.traffic.bits += 8.0 * float(down_bytes[wanted].sum() + 2.0 * down_bytes[got].sum())
            stepped |= got
            arrived_s[back] = begun_s + down[back] + up[back]
            wanted = must & ~np.isfinite(arrived_s)
            begun_s += self._options.patience_s
        return arrived_s, stepped
