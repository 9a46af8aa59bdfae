"""A settlement that kills its own process: `python -m tests.settlement.killed RUN POINT CALL`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from raygrid.settlement.chain.opening import open_chain
from raygrid.settlement.desk import SettlementDesk
from raygrid.settlement.plan import Registry
from tests.settlement.market import delivery, order, trades_table

REGISTRY = Registry.of(range(7))
PERIODS = 3
TRADES = trades_table(REGISTRY, PERIODS, seed=11, locational=True)
POINTS = ("before_send", "after_send", "before_receipt", "after_receipt")


class Breaking:
    """A chain that breaks off at one point of its `call`-th `send_raw` or `receipts`."""

    def __init__(self, chain: Any, point: str, call: int, end: Callable[[], None]) -> None:
        self.chain = chain
        self._point, self._left, self._end = point, call, end

    def __getattr__(self, name: str) -> Any:
        return getattr(self.chain, name)

    def _around(self, moment: str, act: Callable[[], Any]) -> Any:
        due = self._point.endswith(moment) and self._left == 1
        self._left -= self._point.endswith(moment)
        if due and self._point.startswith("before"):
            self._end()
        answer = act()
        if due:
            self._end()
        return answer

    def send_raw(self, transactions: Sequence[bytes]) -> Any:
        return self._around("send", lambda: self.chain.send_raw(transactions))

    def receipts(self, tx_hashes: Sequence[bytes]) -> Any:
        return self._around("receipt", lambda: self.chain.receipts(tx_hashes))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run, point, call = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

    def opened(spec: str, folder: Path) -> Any:
        return Breaking(open_chain(spec, folder), point, call, kill)

    with SettlementDesk(order(run, REGISTRY), open_it=opened) as desk:
        desk.prepare()
        desk.settle([delivery(REGISTRY, TRADES, PERIODS)])
