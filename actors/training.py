"""Training on Ray: hosts train their prosumers, and weights alone travel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import numpy as np

from actors.cluster import ClusterOptions, ClusterResources, connect
from actors.crew import REVIVE_TIMEOUT_S, SCHEDULE_TIMEOUT_S
from actors.errors import LostStateError, own_errors
from actors.failure import FailureDecision, FailurePolicy
from actors.hiring import MAX_RESTARTS, SPREAD
from actors.placement import Placement, PlacementKind, PlacementPolicy, plan_placement
from actors.prosumer import Pulse, node_id, take_pulse
from actors.roll import call_roll
from raygrid.errors import EndedShortError, InputError

if TYPE_CHECKING:
    from raygrid.learning.dataset import Dataset
    from raygrid.learning.hosted import DatasetRecipe, HostedTraining, TrainingOrder
    from raygrid.learning.network import NetworkSpec
    from raygrid.learning.train_options import TrainOptions
    from raygrid.learning.training import TrainResult
    from raygrid.scenario.config import Scenario

SERIES_BYTES = 100
"""Memory that a prosumer's channels take for each quarter hour, while they are made [B]."""
WAYS = ("own", "federated")
"""Ways of training that hosts can share; weights that all share are one batch in one process."""


class TrainingActor:
    """Carries a `HostedTraining`; a plain class, `ray.remote` is applied where it is hired.

    Parameters
    ----------
    threads : int
        Threads that torch may use.
    """

    def __init__(self, threads: int = 1) -> None:
        self._incarnation = uuid4().hex
        self._threads = threads
        self._host: HostedTraining | None = None

    def ping(self) -> Pulse:
        """Show that the process lives, and which incarnation it is."""
        return replace(take_pulse(self._incarnation), node_id=node_id())

    def load(self, order: TrainingOrder, device: str) -> None:
        """Build the series of its prosumers."""
        from raygrid.learning.hosted import HostedTraining
        from raygrid.learning.training import choose_device, require_torch

        require_torch().set_num_threads(self._threads)
        self._host = HostedTraining(order, choose_device(device))

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Call a method of the `HostedTraining`."""
        if self._host is None:
            raise LostStateError("no prosumers loaded")
        return getattr(self._host, method)(*arguments)


class RayGroup:
    """`raygrid.learning.hosted.HostGroup` of Ray actors; a context manager that ends them.

    A call changes nothing in a host, so that one that died is given its order again and asked
    again, and training goes on as if nothing had been.

    Parameters
    ----------
    orders : sequence of TrainingOrder
        One a host.
    placement : Placement
        Threads and CPUs of the hosts.
    resources : ClusterResources
        The cluster's numbers, for the message where it is full.
    device : str
        'auto', 'cpu' or 'cuda'.
    tell : callable
        Is told of hosts that were started anew.
    """

    def __init__(
        self,
        orders: Sequence[TrainingOrder],
        placement: Placement,
        resources: ClusterResources,
        device: str,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        import ray

        self._device, self._tell = device, tell
        actor: Any = ray.remote(TrainingActor)
        gpus = 0.0
        if device != "cpu":
            total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
            gpus = min(1.0, total.get("GPU", 0.0) / len(orders))
        options = {
            "num_cpus": placement.num_cpus,
            "num_gpus": gpus,
            "scheduling_strategy": SPREAD,
            "max_restarts": MAX_RESTARTS,
        }
        self.hosts = [actor.options(**options).remote(placement.threads) for _ in orders]
        try:
            self._orders = [ray.put(order) for order in orders]
            self._await_ready(resources)
            with own_errors():
                ray.get([self._load(k) for k in range(len(orders))])
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self.hosts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the hosts."""
        import ray

        for host in self.hosts:
            ray.kill(host)

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of every host, all at once; those that died are asked again.

        Raises
        ------
        EndedShortError
            Hosts died too often, or did not come back.
        """
        import ray

        asked = dict(enumerate(arguments))
        answers: dict[int, Any] = {}
        policy, failures = FailurePolicy(), 0
        while asked:
            calls = {k: self.hosts[k].call.remote(method, own) for k, own in asked.items()}
            died = []
            for k, call in calls.items():
                try:
                    with own_errors():
                        answers[k] = ray.get(call)
                    del asked[k]
                except Exception as error:
                    failures += 1
                    if policy.decide(error, failures) is FailureDecision.GIVE_UP:
                        if isinstance(error, ray.exceptions.RayActorError):
                            raise EndedShortError(
                                f"training hosts died {failures} times"
                            ) from error
                        raise
                    died.append(k)
            if died:
                self._revive(died)
        return [answers[k] for k in range(len(arguments))]

    def _load(self, k: int) -> Any:
        return self.hosts[k].load.remote(self._orders[k], self._device)

    def _revive(self, died: Sequence[int]) -> None:
        """Wait for the successors of hosts, and give them their orders."""
        import ray

        pulses = call_roll([self.hosts[k] for k in died], lambda _: [REVIVE_TIMEOUT_S] * len(died))
        if None in pulses:
            raise EndedShortError(
                f"a training host did not come back within {REVIVE_TIMEOUT_S:.0f} s"
            )
        self._tell(f"{len(died)} training host{'s' * (len(died) != 1)} started anew")
        ray.get([self._load(k) for k in died])

    def _await_ready(self, resources: ClusterResources) -> None:
        import ray

        waiting: list[Any] = [host.ping.remote() for host in self.hosts]
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=SCHEDULE_TIMEOUT_S)
            ray.get(ready)
            if not ready:
                raise EndedShortError(
                    f"{len(waiting)} of {len(self.hosts)} training hosts were not scheduled within "
                    f"{SCHEDULE_TIMEOUT_S:.0f} s; the cluster has {resources.cpus} CPUs on "
                    f"{len(resources.nodes)} node(s); wait, or ask for fewer --actors"
                )


@dataclass(frozen=True)
class HostedOptions:
    """Where a training on Ray runs.

    Attributes
    ----------
    actors : PlacementPolicy
        How many hosts; 'auto' is one for each CPU.
    cluster : ClusterOptions
        Which Ray to use.
    device : str
        'auto', 'cpu' or 'cuda'.
    """

    actors: PlacementPolicy = field(default_factory=PlacementPolicy)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    device: str = "auto"


def train_on_hosts(
    scenario: Scenario,
    base_dir: Path,
    data: Dataset,
    spec: NetworkSpec,
    options: TrainOptions,
    hosted: HostedOptions,
    *,
    own_series: bool = False,
    folder: Path | None = None,
    resume: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> TrainResult:
    """Train a forecaster on Ray; see `raygrid.learning.training.train`.

    Parameters
    ----------
    scenario, base_dir
        What the hosts build the series of their prosumers from.
    data : Dataset
        The same series, which here name the data in the manifest and calibrate the intervals.
    spec, options
        The network, and how it is trained: way 'own' or 'federated'.
    hosted : HostedOptions
        Where.
    own_series : bool
        Whether the series are readings, which hosts get from here.
    folder, resume, tell
        As in `train`.

    Raises
    ------
    InputError
        If the way of training is none that hosts can share.
    """
    from raygrid.learning.dataset import dataset_parts
    from raygrid.learning.hosted import GivenDataset, HostedLearner, TrainingOrder
    from raygrid.learning.training import train

    if options.way not in WAYS:
        raise InputError(
            f"weights of way {options.way!r} are trained in one process",
            "--actors",
            f"choose --way {' or '.join(WAYS)}, or leave --actors away",
        )
    n = len(data.prosumer_id)
    hosted.actors.check(n)
    with connect(hosted.cluster) as cluster:
        resources = cluster.resources().at_most(hosted.cluster.num_cpus)
        policy = hosted.actors
        if policy.kind is PlacementKind.AUTO:
            policy = PlacementPolicy(PlacementKind.COUNT, min(n, resources.cpus))
        placement = plan_placement(policy, n, SERIES_BYTES * data.n_periods, resources)
        tell(placement.describe())
        bounds = [(seat.start, seat.stop) for seat in placement.seats]
        recipes: Sequence[DatasetRecipe] = (
            [GivenDataset(data.rows(np.arange(*own))) for own in bounds]
            if own_series
            else dataset_parts(scenario, base_dir, data, bounds)
        )
        orders = [TrainingOrder(recipe, spec, options) for recipe in recipes]
        with RayGroup(orders, placement, resources, hosted.device, tell) as group:
            learner = HostedLearner(group, data.prosumer_id, options)
            return train(
                data, spec, options, folder=folder, resume=resume, tell=tell, learner=learner
            )
