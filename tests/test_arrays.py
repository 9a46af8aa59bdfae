"""Exact sums: rounding to quanta and back, and no sum that wraps around unseen."""

from dataclasses import replace

import numpy as np
import pytest

from raygrid.arrays import LARGEST, dequantise, quantise
from raygrid.errors import EndedShortError
from raygrid.market.clearing import ClearingOptions
from raygrid.market.session import clear, local_exchange
from raygrid.scenario.build import load_case


def test_there_and_back():
    values = np.array([0.0, -1.25, 1e-9, 3e9])
    assert quantise(values).dtype == np.int64
    np.testing.assert_allclose(dequantise(quantise(values)), values, rtol=1e-15, atol=0)
    assert quantise(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("value", [2 * LARGEST, -1e300, np.inf, np.nan])
def test_numbers_that_do_not_fit(value):
    with pytest.raises(EndedShortError, match="check units and prices"):
        quantise(np.array([1.0, value]))


def test_a_clearing_refuses_to_wrap():
    """A penalty so small that the duals, prices over rho, leave what int64 holds."""
    case = load_case("tiny")
    options = ClearingOptions(rho=1e-12)
    with pytest.raises(EndedShortError, match=r"take a larger market\.rho"):
        clear(case, options, local_exchange(case, options))


def test_hosts_that_fit_alone_but_not_together():
    case = load_case("tiny")
    options = ClearingOptions()
    exchange = local_exchange(case, options, hosts=[np.array([0, 1, 2]), np.array([3, 4, 5])])
    messages = exchange.open().messages
    sums = [b.step(m) for b, m in zip(exchange.blocks, messages, strict=True)]
    much = [replace(part, p_quanta=np.full_like(part.p_quanta, 2**61)) for part in sums]
    exchange.operator.handle(sums)
    with pytest.raises(EndedShortError, match=r"reach 6\.9"):
        exchange.operator.handle(
            [replace(part, p_quanta=part.p_quanta + part.p_quanta // 2) for part in much]
        )
