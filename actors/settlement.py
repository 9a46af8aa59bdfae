"""The settlement actor: a desk in a process of its own, which settles beside the market."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

from actors.errors import LostStateError
from raygrid.errors import EndedShortError, InputError, RaygridError
from raygrid.settlement.intake import Intake, IntakePolicy

if TYPE_CHECKING:
    import pyarrow as pa

    from raygrid.settlement.delivery import Delivery
    from raygrid.settlement.desk import SettledRun, SettlementDesk, SettlementOrder


class SettlementActor:
    """Settles days as they are offered; plain Python, which Ray carries.

    Days wait in a bounded queue; a thread takes them out by size and age, so that one settles
    while the next is cleared. Whatever the process knows is in the run's folder: a successor
    opens the same order, is offered the same days, and completes what is left.

    Parameters
    ----------
    policy : IntakePolicy, optional
        When days are settled, and how many may wait.
    """

    def __init__(self, policy: IntakePolicy | None = None) -> None:
        self.incarnation = uuid4().hex
        self._intake: Intake[Delivery] = Intake(policy or IntakePolicy())
        self._changed = Condition()
        self._desk: SettlementDesk | None = None
        self._thread: Thread | None = None
        self._offered: set[int] = set()
        self._is_busy = False
        self._closing = False
        self._error: BaseException | None = None

    def pulse(self) -> tuple[str, int]:
        """Which life of the actor this is, and its process id."""
        return self.incarnation, os.getpid()

    def open(self, order: SettlementOrder) -> None:
        """Open the chain, recover, deploy and register: all that can be done before any day.

        Parameters
        ----------
        order : SettlementOrder
            The run.

        Raises
        ------
        InputError, EndedShortError
            As `SettlementDesk` and its `prepare`.
        """
        from raygrid.settlement.desk import SettlementDesk

        if self._desk is not None:
            return
        with _plain_errors():
            desk = SettlementDesk(order)
            try:
                desk.prepare()
            except BaseException:
                desk.close()
                raise
        self._desk = desk
        self._thread = Thread(target=self._work, name="settlement", daemon=True)
        self._thread.start()

    def offer(self, delivery: Delivery) -> bool:
        """Take a day in, unless too much waits; offering it again does no harm.

        Parameters
        ----------
        delivery : Delivery
            The day.

        Returns
        -------
        bool
            False where it has to be offered again later.

        Raises
        ------
        LostStateError
            The actor was restarted and not opened.
        """
        self._require_open()
        with self._changed:
            if delivery.first_period in self._offered:
                return True
            taken = self._intake.offer(delivery, len(delivery.trades), monotonic())
            if taken:
                self._offered.add(delivery.first_period)
                self._changed.notify_all()
            return taken

    def finish(self, trades: pa.Table) -> SettledRun:
        """Settle what waits, and give the run's tables and figures.

        Parameters
        ----------
        trades : pyarrow.Table
            Rows of `trades.parquet`.

        Returns
        -------
        SettledRun
            With the chain saved and closed.

        Raises
        ------
        LostStateError
            The actor was restarted and not opened.
        EndedShortError
            What ended the settlement of a day.
        """
        desk = self._require_open()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        assert self._thread is not None
        self._thread.join()
        try:
            with _plain_errors():
                if self._error is not None:
                    raise self._error
                return desk.finish(trades)
        finally:
            desk.close()
            self._desk = None

    def _require_open(self) -> SettlementDesk:
        if self._desk is None:
            raise LostStateError("the settlement actor knows no run")
        return self._desk

    def _work(self) -> None:
        assert self._desk is not None
        desk = self._desk
        while True:
            with self._changed:
                days = self._intake.take(monotonic(), everything=self._closing)
                while not days:
                    if self._closing:
                        return
                    self._changed.wait(self._intake.due_in_s(monotonic()))
                    days = self._intake.take(monotonic(), everything=self._closing)
            try:
                desk.settle(days)
            except BaseException as error:
                self._error = error
                return


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Let errors travel: those that carry more than words may not survive the way to the driver."""
    try:
        yield
    except InputError:
        raise
    except RaygridError as error:
        raise EndedShortError(str(error)) from None
