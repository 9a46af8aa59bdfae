"""A Ray to run markets on, and how a scenario's market section reads to them."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from math import inf
from threading import Thread, current_thread, main_thread
from time import perf_counter
from traceback import clear_frames
from types import TracebackType
from typing import Self

from actors.cluster import Cluster, ClusterOptions, ClusterResources, check_address, connect
from actors.driver import RayMarket, place
from actors.placement import Placement, PlacementPolicy
from actors.warm import WarmUp, load_matching
from raygrid.market.channel import Channel, NoisyLink, Staleness
from raygrid.market.clearing import ClearingOptions
from raygrid.market.patience import Patience
from raygrid.scenario.build import CaseDraft
from raygrid.scenario.case import Case
from raygrid.scenario.config import Scenario


class Session:
    """A Ray to run markets on, with the kernels compiled meanwhile; a context manager.

    Parameters
    ----------
    options : ClusterOptions
        Which Ray to use.
    libraries : tuple of str
        What this process imports later, and can load while Ray starts. Where there is any,
        it loads the kernel that matches trades as well.
    """

    def __init__(self, options: ClusterOptions, libraries: tuple[str, ...] = ()) -> None:
        # A wrong address costs nothing but this check: what is begun below is waited for.
        check_address(options.address)
        self._warm_up = WarmUp()
        if libraries:
            Thread(target=self._load_ahead, args=(libraries,), name="load-ahead").start()
        started = perf_counter()
        try:
            self._cluster: Cluster = connect(options)
        except BaseException:
            self._warm_up.close()
            raise
        self.resources: ClusterResources = self._cluster.resources()
        self.resources = self.resources.at_most(options.num_cpus)
        self.ray_start_s = perf_counter() - started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _uninterrupted():
            if trace is not None:
                # The frames of an interrupted round hold channels of the compiled graph. Freed
                # after Ray's shutdown, they crash the interpreter.
                clear_frames(trace)
                gc.collect()
            self._warm_up.close()
            self._cluster.close()

    def _load_ahead(self, libraries: tuple[str, ...]) -> None:
        """Load what can be; what fails fails again, and is reported, where it is needed."""
        for name in libraries:
            with suppress(Exception):
                import_module(name)
        self._warm_up.wait()
        with suppress(Exception):
            load_matching()

    def release(self) -> None:
        """End Ray beside what the caller has left to do without it."""
        self._cluster.close_beside()

    def plan(
        self,
        case: Case | CaseDraft,
        policy: PlacementPolicy,
        tell: Callable[[str], None] | None = None,
        feeders: int | None = None,
        match_up_to: int = 0,
    ) -> Placement:
        """Plan who sits where, and say so in one line; see `actors.driver.place`."""
        placement = place(case, policy, self.resources, feeders, match_up_to)
        if tell is not None:
            tell(placement.describe())
        return placement

    def market(
        self,
        case: Case | CaseDraft,
        placement: PlacementPolicy | Placement,
        tell: Callable[[str], None] | None = None,
    ) -> RayMarket:
        """Hire the actors of a case.

        Parameters
        ----------
        case : Case
            The market.
        placement : PlacementPolicy or Placement
            How prosumers are spread over actors: a rule, or the plan made of it.
        tell : callable, optional
            Gets the plan that is made of a rule in one line before any actor starts.
        """
        if isinstance(placement, PlacementPolicy):
            placement = self.plan(case, placement, tell)
        return RayMarket(case, placement, self.resources, before_load=self._warm_up.wait)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep another Ctrl-C from breaking off Ray's shutdown, which takes some seconds and then ends
    the process by itself."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def clearing_options(scenario: Scenario) -> ClearingOptions:
    """The solver's settings of a scenario."""
    market = scenario.market
    return ClearingOptions(
        rho=market.rho,
        relaxation=market.relaxation,
        absolute_tolerance=market.absolute_tolerance,
        relative_tolerance=market.relative_tolerance,
        max_iterations=market.max_iterations,
        network_constrained=market.network_constrained,
        residual_balancing=market.residual_balancing,
        initial_price_per_kwh=market.initial_price_per_kwh,
        masked_sums=market.masked_sums,
        staleness=_staleness(scenario),
        patience=_patience(scenario),
    )


def _patience(scenario: Scenario) -> Patience | None:
    bounds = scenario.stragglers
    if bounds is None:
        return None
    return Patience(bounds.patience_s, bounds.max_staleness, bounds.lost_after_s)


def _staleness(scenario: Scenario) -> Staleness | None:
    links = scenario.communication
    if links is None:
        return None
    rate, costly = inf if links.rate_bits_per_s is None else links.rate_bits_per_s, None
    if (noisy := links.noisy) is not None:
        price = {} if noisy.cloudlet is None else noisy.cloudlet.model_dump()
        link = NoisyLink(**noisy.model_dump(exclude={"cloudlet"}), **price)
        rate, costly = link.rate_bits_per_s, link if price else None
    channel = Channel(links.latency_s, links.jitter_s, links.loss, rate, scenario.seed)
    return Staleness(channel, links.patience_s, links.max_staleness, costly)
