"""The feeder operators of a crew: hired near their hosts, told their parts, and asked for rounds
that others have lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from actors.checkpoint import CheckpointPlace
from actors.feeder import FeederOperatorActor
from raygrid.grid.tree_rows import TreeRows
from raygrid.market.division import Division, divide
from raygrid.market.messages import HostSummary, PriceMessage, RoundDecision, RoundOutcome

Handle = Any


def near(hosts: Sequence[str], n_feeders: int) -> list[str]:
    """Nodes for feeder operators: for each the one on which most of its hosts are.

    Parameters
    ----------
    hosts : sequence of str
        Node of each host, in host order.
    n_feeders : int
        Number of feeder operators.
    """
    n_hosts = len(hosts)
    nodes = []
    for feeder in range(n_feeders):
        own = [hosts[k] for k in range(n_hosts) if k * n_feeders // n_hosts == feeder]
        nodes.append(max(own, key=own.count))
    return nodes


def hire(node: str, max_restarts: int) -> Handle:
    """A feeder operator on a node, or elsewhere if that is gone; it reserves no CPU."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    actor_class: Any = ray.remote(FeederOperatorActor)
    where = NodeAffinitySchedulingStrategy(node, soft=True)
    options = {"scheduling_strategy": where, "max_restarts": max_restarts}
    return actor_class.options(num_cpus=0, **options).remote()


class Feeders:
    """What a clearing has told its feeder operators.

    Parameters
    ----------
    handles : list of actor handles
        The feeder operators; the crew replaces those that are gone.
    rows : TreeRows
        Limits of the whole network.
    summaries : sequence of HostSummary
        Of all hosts, in host order.
    masked : bool
        Whether hosts mask what they send.
    checkpoint : CheckpointPlace, optional
        Where they note what opens each round.

    Attributes
    ----------
    division : Division
        Who has what.
    """

    def __init__(
        self,
        handles: list[Handle],
        rows: TreeRows,
        summaries: Sequence[HostSummary],
        masked: bool,
        checkpoint: CheckpointPlace | None = None,
    ) -> None:
        self.handles = handles
        self._summaries, self._masked = tuple(summaries), masked
        self._checkpoint = checkpoint
        self.division: Division = divide(
            rows, [summary.buses for summary in summaries], len(handles)
        )

    def start(self, some: Sequence[int]) -> list[Any]:
        """Let some of them begin the clearing; what to wait for."""
        division, rest = self.division, (self._masked, self._checkpoint)
        return [
            self.handles[f].start.remote(
                f, division, [self._summaries[k] for k in division.hosts[f]], *rest
            )
            for f in some
        ]

    def redo(
        self, operator: Handle, opening: RoundOutcome, sums: Sequence[Any], tightening: float
    ) -> list[Any]:
        """Let everybody do a known round once more, for what it leaves behind; what to wait for.

        Parameters
        ----------
        operator : actor handle
            The network operator.
        opening : RoundOutcome
            What opened the round.
        sums : sequence of object references
            Of all hosts.
        tightening : float
            Product of the factors by which tolerances were tightened.
        """
        rho = opening.messages[0].rho
        gathered = [
            feeder.gather.remote(rho, *[sums[k] for k in own])
            for feeder, own in zip(self.handles, self.division.hosts, strict=True)
        ]
        prices = operator.redo_feeders.remote(opening, tightening, *gathered)
        return [feeder.settle.remote(prices) for feeder in self.handles]


def lost_round(
    hosts: Sequence[dict[int, PriceMessage] | None],
    feeders: Sequence[dict[int, dict[int, PriceMessage]]],
    opening: RoundOutcome,
) -> RoundOutcome:
    """What opens the round to be done after somebody was lost.

    Where all hosts are there, it is the last one that all of them have begun: those that are
    ahead give its answers again. Where one is not, it is the first that nobody has gone beyond; a
    host for which nobody knows that round's message gets the last known one, which costs rounds.

    Parameters
    ----------
    hosts : sequence of dict or None
        By round, what opened the last two rounds of each host; None of those that are lost.
    feeders : sequence of dict
        What the feeder operators that are there have sent, by host and round.
    opening : RoundOutcome
        The last round that the driver has messages of.
    """
    known: list[dict[int, PriceMessage]] = [
        {message.iteration: message} for message in opening.messages
    ]
    for sent in feeders:
        for host, messages in sent.items():
            known[host] |= messages
    for messages, own in zip(known, hosts, strict=True):
        messages |= own or {}
    if all(hosts):
        iteration = min(max(own) for own in hosts if own)
        if all(iteration in messages for messages in known):
            chosen = tuple(messages[iteration] for messages in known)
            return replace(opening, decision=RoundDecision.CONTINUE, record=None, messages=chosen)
    iteration = max(max(messages) for messages in known)
    leading = next(messages[iteration] for messages in known if iteration in messages)
    chosen = tuple(replace(leading, pi_kw=messages[max(messages)].pi_kw) for messages in known)
    return replace(opening, decision=RoundDecision.CONTINUE, record=None, messages=chosen)
