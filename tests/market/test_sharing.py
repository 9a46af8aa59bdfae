"""Batteries that take and give for others beyond their plan."""

from __future__ import annotations

import numpy as np

from raygrid.market.actions import Action, Range, action_mask, action_quantity
from raygrid.market.intraday import Outlook
from raygrid.market.rule import plan_action, sharing_action


def outlook(surplus: list[float], *, v2g_kw: float = 0.0) -> Outlook:
    """Three homes: without a battery, with one, and with one that is full and has an EV."""
    b = np.array([surplus])
    least = np.array([[[0.0, 0.0, 0.0], [-2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    most = np.array([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.5, v2g_kw, 0.0]]])
    stores = Range(least, most, np.zeros_like(least))
    quantity = action_quantity(b, stores)
    return Outlook(np.array([0]), b, stores, quantity, action_mask(quantity))


YES, NO = np.ones((1, 3), dtype=np.bool_), np.zeros((1, 3), dtype=np.bool_)


def test_room_is_lent_to_what_is_left_over() -> None:
    """The first home sells 1 kW; the second has room for it, the third is full."""
    view = outlook([1.0, 0.0, 0.0])
    assert sharing_action(view, YES, YES).tolist() == [[Action.SELL, Action.CHARGE, Action.WAIT]]
    assert sharing_action(view, NO, YES).tolist() == plan_action(view).tolist()


def test_stock_is_lent_to_what_lacks() -> None:
    view = outlook([-1.0, 0.0, 0.0])
    found = sharing_action(view, YES, YES)
    assert found.tolist() == [[Action.BUY, Action.DISCHARGE, Action.DISCHARGE]]
    assert sharing_action(view, YES, NO).tolist() == plan_action(view).tolist()


def test_an_ev_is_not_drained_for_others() -> None:
    found = sharing_action(outlook([-1.0, 0.0, 0.0], v2g_kw=3.0), YES, YES)
    assert found.tolist() == [[Action.BUY, Action.DISCHARGE, Action.WAIT]]


def test_who_must_trade_for_itself_does_that() -> None:
    """The second home sells its own surplus; in want it buys, and does not offer its battery."""
    assert sharing_action(outlook([1.0, 0.5, 0.0]), YES, YES)[0, 1] == Action.SELL
    assert sharing_action(outlook([-1.0, -0.5, 0.0]), YES, YES)[0, 1] == Action.BUY


def test_where_all_is_even_everybody_follows_the_plan() -> None:
    view = outlook([0.4, 0.0, -0.4])
    assert sharing_action(view, YES, YES).tolist() == plan_action(view).tolist()
