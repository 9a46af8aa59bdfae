"""The driver's side of settlement: hires the actor, offers days, brings it back after a death."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from actors.failure import is_mendable
from actors.settlement import SettlementActor
from raygrid.errors import EndedShortError, RaygridError
from raygrid.market.marketplace import MAX_MATCHED_PROSUMERS
from raygrid.prosumer.population import GRID_ID
from raygrid.scenario.case import Case
from raygrid.scenario.config import Scenario
from raygrid.scenario.settlement import NONE, Settlement, check_chain, public_name

if TYPE_CHECKING:
    import pyarrow as pa

    from raygrid.results.day_tables import DayTables
    from raygrid.settlement.delivery import Delivery
    from raygrid.settlement.desk import SettledRun, SettlementOrder
    from raygrid.settlement.intake import IntakePolicy
    from raygrid.settlement.plan import Registry

MAX_RESTARTS = 4
"""How often a dead settlement actor is brought back."""
FULL_POLL_S = 0.02
"""Wait before a day is offered again to an actor whose queue is full."""
RETURN_POLL_S = 0.1
REVIVE_TIMEOUT_S = 30.0
"""Longest wait for a dead actor's successor [s]."""


@dataclass(frozen=True)
class RestartPolicy:
    """How often a settlement is taken up again after its actor died.

    Attributes
    ----------
    restarts : int
        Deaths after which it is given up.
    """

    restarts: int = MAX_RESTARTS

    def goes_on(self, error: Exception, deaths: int) -> bool:
        """Whether to go on after the `deaths`-th death; never where the program itself raised."""
        return is_mendable(error) and deaths <= self.restarts


def chain_of_run(
    asked: str | None, section: Settlement, n_prosumers: int
) -> tuple[str | None, str]:
    """Where a run's trades settle.

    Parameters
    ----------
    asked : str or None
        What the user asked for; None leaves it to the scenario.
    section : Settlement
        The scenario's.
    n_prosumers : int
        Size of the community.

    Returns
    -------
    chain : str or None
        The chain; None where nothing settles.
    note : str
        What a reader must know; empty where there is nothing.

    Raises
    ------
    InputError
        What was asked for names no chain, or it cannot be used.
    """
    from raygrid.settlement.readiness import check_ready

    if asked is not None:
        check_chain(asked)
        section = section.model_copy(update={"chain": asked})
    chain = section.chain_for(n_prosumers)
    if chain == NONE:
        if section.chain == NONE:
            return None, ""
        limit = section.embedded_up_to_prosumers
        return None, (
            f"not settled: {n_prosumers} prosumers are more than {limit}; "
            "'raygrid settle RUN --chain ...' settles the run"
        )
    if n_prosumers > MAX_MATCHED_PROSUMERS:
        return None, f"not settled: more than {MAX_MATCHED_PROSUMERS} prosumers"
    check_ready(chain, section.token)
    return chain, ""


def participants_of(case: Case) -> Registry:
    """Who takes part in the settlement of a case."""
    from raygrid.settlement.plan import Registry

    ids = case.population.prosumer_id.tolist()
    return Registry.of(ids if case.grid is None else [GRID_ID, *ids])


def settlement_order(run: Path, chain: str, scenario: Scenario, case: Case) -> SettlementOrder:
    """What the settlement of a run needs to know before any day is cleared."""
    from raygrid.settlement.desk import SettlementOrder

    return SettlementOrder(run, chain, scenario, participants_of(case), case.period_hours)


def go_on_settling(earlier: Path, order: SettlementOrder, earlier_chain: str) -> str:
    """Let a run that goes on with an earlier one take over what that has settled.

    A node that raygrid does not start outlives a run: its contract is gone on with, so that
    nothing settles twice. The chains that a run starts for itself end with it: on the new run's
    own, all of its days settle anew.

    Parameters
    ----------
    earlier : Path
        Folder of the earlier run.
    order : SettlementOrder
        Of the new one.
    earlier_chain : str
        Where that was to settle, as its scenario says it.

    Returns
    -------
    str
        What a reader must know.

    Raises
    ------
    EndedShortError
        Another process settles that run.
    """
    from raygrid.settlement.chain.base import ChainKind
    from raygrid.settlement.deployment import CHAIN_FOLDER, take_over

    if order.chain in set(ChainKind) or public_name(order.chain) != earlier_chain:
        return ""
    folders = earlier / CHAIN_FOLDER, order.run / CHAIN_FOLDER
    if not take_over(*folders, patience_s=REVIVE_TIMEOUT_S):
        return ""
    return "settlement goes on with the contract of an earlier run"


class Settling:
    """A settlement that runs beside the market; a context manager.

    Parameters
    ----------
    order : SettlementOrder
        The run. Opening its chain begins at once.
    intake : IntakePolicy, optional
        When days are settled, and how many may wait.
    policy : RestartPolicy, optional
        What to do when the actor dies.

    Attributes
    ----------
    chain : str
        Where it settles.
    """

    def __init__(
        self,
        order: SettlementOrder,
        intake: IntakePolicy | None = None,
        policy: RestartPolicy | None = None,
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.chain = order.chain
        self._order = order
        self._policy = policy or RestartPolicy()
        self._days: list[Delivery] = []
        self._due: list[Delivery] = []
        self._deaths = 0
        actor_class: Any = ray.remote(SettlementActor)
        # The chain's state lies in the run's folder, which this machine has for sure.
        here = NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(),
            soft=True,
        )
        self._actor = actor_class.options(
            num_cpus=0, max_restarts=self._policy.restarts, scheduling_strategy=here
        ).remote(intake)
        self._opened = self._actor.open.remote(order)

    def __enter__(self) -> Settling:
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.kill(self._actor)

    def pulse(self) -> tuple[str, int]:
        """Which life of the actor this is, and its process id."""
        pulse: tuple[str, int] = self._ask(lambda: self._actor.pulse.remote())
        return pulse

    def offer(self, delivery: Delivery) -> None:
        """Hand a day over; waits while too much is in the queue.

        Parameters
        ----------
        delivery : Delivery
            The day.

        Raises
        ------
        InputError, EndedShortError
            What ended the settlement.
        """
        self._days.append(delivery)
        self._due.append(delivery)
        self._ask(lambda: self._actor.pulse.remote())

    def finish(self, trades: pa.Table) -> SettledRun:
        """Wait for the end of the settlement.

        Parameters
        ----------
        trades : pyarrow.Table
            Rows of `trades.parquet`.

        Raises
        ------
        InputError, EndedShortError
            What ended the settlement.
        """
        settled: SettledRun = self._ask(lambda: self._actor.finish.remote(trades))
        return settled

    def _ask(self, call: Callable[[], Any]) -> Any:
        """Call the actor, and bring it back as often as the policy says."""
        import ray

        while True:
            try:
                if self._opened is not None:
                    ray.get(self._opened)
                    self._opened = None
                while self._due:
                    while not ray.get(self._actor.offer.remote(self._due[0])):
                        sleep(FULL_POLL_S)
                    self._due.pop(0)
                return ray.get(call())
            except Exception as error:
                said = _own_error(error)
                if said is not None:
                    raise said from error
                self._deaths += 1
                if not self._policy.goes_on(error, self._deaths):
                    raise _for_good(error) from error
                self._revive()

    def _revive(self) -> None:
        """Wait for the successor, open the run there, and have all days offered again: what the
        chain has of them is only read back."""
        import ray
        from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError

        deadline = monotonic() + REVIVE_TIMEOUT_S
        while True:
            try:
                ray.get(self._actor.pulse.remote(), timeout=max(deadline - monotonic(), 0.1))
                break
            except ActorUnavailableError as error:
                if monotonic() > deadline:
                    raise _for_good(error) from error
                sleep(RETURN_POLL_S)
            except (GetTimeoutError, RayActorError) as error:
                raise _for_good(error) from error
        self._opened = self._actor.open.remote(self._order)
        self._due = list(self._days)


class SettledDays:
    """What a run hands to its settlement day by day; the cleared market stands in any case.

    Parameters
    ----------
    settling : Settling
        Settles a day while the next one is cleared.
    registry : Registry
        Who takes part.
    tables : DayTables
        Where each day's schedule and trades are stored.
    """

    def __init__(self, settling: Settling, registry: Registry, tables: DayTables) -> None:
        self._settling = settling
        self._registry = registry
        self._tables = tables
        self._offered = 0
        self._trouble = ""

    def offer(self, day: int) -> None:
        """Hand over the trades of a day, as they are stored."""
        from raygrid.settlement.delivery import DELIVERED, delivered_by, delivery_of

        self._offered += 1
        if self._trouble:
            return
        name = delivered_by(self._tables.has("intraday"))
        delivered = self._tables.read(name, day, DELIVERED)
        delivery = delivery_of(delivered, self._tables.read("trades", day), self._registry)
        try:
            self._settling.offer(delivery)
        except EndedShortError as error:
            self._trouble = str(error)

    def finish(self) -> SettledRun | None:
        """Wait for the end; None where nothing was handed over."""
        from raygrid.settlement.desk import unsettled_run

        if not self._offered:
            return None
        trades = self._tables.read("trades")
        if not self._trouble:
            try:
                return self._settling.finish(trades)
            except EndedShortError as error:
                self._trouble = str(error)
        return unsettled_run(self._settling.chain, trades, self._trouble)


def _for_good(error: Exception) -> EndedShortError:
    first = str(error).splitlines()[0]
    return EndedShortError(f"the settlement actor died for good: {first}")


def _own_error(error: Exception) -> RaygridError | None:
    """Our own error that a task's error carries; None where Ray failed."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, RaygridError) else None
