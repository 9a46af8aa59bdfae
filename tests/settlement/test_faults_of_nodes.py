"""Anvil killed, reorganised and asked in the middle; each settlement ends with everything once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from raygrid.errors import InputError
from raygrid.settlement.chain.nodes import find_anvil
from raygrid.settlement.chain.opening import open_chain
from raygrid.settlement.chain.transport import Request
from raygrid.settlement.desk import SettlementDesk
from tests.settlement.killed import REGISTRY, Breaking
from tests.settlement.market import order
from tests.settlement.test_faults import check, settle

pytestmark = pytest.mark.optional


@pytest.fixture(autouse=True)
def needs_anvil() -> None:
    try:
        find_anvil()
    except InputError as error:
        pytest.skip(f"SKIPPED LOUDLY: {error}")


def anvil_order(run: Path) -> Any:
    return order(run, REGISTRY, chain="anvil")


def test_a_run_settles_on_anvil_and_goes_on_later(tmp_path: Path) -> None:
    for _ in range(2):
        with SettlementDesk(anvil_order(tmp_path)) as desk:
            check(desk, settle(desk))


@pytest.mark.parametrize("call", [3, 6, 7])
@pytest.mark.parametrize("point", ["before_send", "after_send"])
@pytest.mark.parametrize("saved", [True, False])
def test_anvil_killed_in_the_middle(tmp_path: Path, point: str, call: int, saved: bool) -> None:
    """Started anew with the state it saved last, or with none, and given what it lost."""
    opened: list[Any] = []

    def kill() -> None:
        if saved:
            time.sleep(1.3)
        os.kill(opened[0].node.pid, signal.SIGKILL)
        while opened[0].node.is_running():
            time.sleep(0.01)

    def open_it(spec: str, folder: Path) -> Any:
        opened.append(open_chain(spec, folder))
        return Breaking(opened[0], point, call, kill)

    with SettlementDesk(anvil_order(tmp_path), open_it=open_it) as desk:
        check(desk, settle(desk))
    with SettlementDesk(anvil_order(tmp_path)) as desk:
        check(desk, settle(desk))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_reorganisation_that_drops_blocks(tmp_path: Path, depth: int) -> None:
    """The last blocks are taken back after their receipts were seen."""
    opened: list[Any] = []

    def reorganise() -> None:
        opened[0].transport.batch([Request("anvil_reorg", (depth, []))])

    def open_it(spec: str, folder: Path) -> Any:
        opened.append(open_chain(spec, folder))
        return Breaking(opened[0], "after_receipt", 7, reorganise)

    with SettlementDesk(anvil_order(tmp_path), open_it=open_it) as desk:
        check(desk, settle(desk))


def test_more_confirmations_than_one(tmp_path: Path) -> None:
    waiting = order(tmp_path, REGISTRY, "settlement.confirmations=4", chain="anvil")
    with SettlementDesk(waiting) as desk:
        check(desk, settle(desk))
