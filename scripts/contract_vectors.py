"""Write contracts/vectors/batches.json: batches with what they do, for both sides to agree on.

The Python rules and encoder make them; the contract's own tests settle the same bytes and must
come to the same balances, void trades and record.

    python -m scripts.contract_vectors
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raygrid.arrays import IntArray
from raygrid.settlement import contract
from raygrid.settlement.rules import BatchInput, Tolerance, settle_batch

PATH = Path(__file__).resolve().parent.parent / "contracts" / "vectors" / "batches.json"
TOLERANCE = Tolerance(wh=10, ppm=20_000)
"""As in contracts/test/Base.sol."""
PLENTY = 10**9

Row = tuple[int, int, int, int, int]
"""Positions of seller and buyer, Wh, and the two prices [1e-6 currency/kWh]."""


@dataclass(frozen=True)
class Case:
    """A batch and the balances that it finds."""

    name: str
    batch: BatchInput
    balances: IntArray
    network: int = 0


def case(
    name: str,
    rows: list[Row],
    readings: list[int | None],
    *,
    balances: list[int] | None = None,
    network: int = 0,
    first_id: int = 0,
) -> Case:
    """A case from rows of trades and readings, None where there is none."""
    seller, buyer, energy, seller_price, buyer_price = np.array(rows, np.int64).reshape(-1, 5).T
    batch = BatchInput(
        group=5,
        period=1_000_000,
        first_id=first_id,
        seller=first_id + seller,
        buyer=first_id + buyer,
        energy_wh=energy,
        seller_price_micro_per_kwh=seller_price,
        buyer_price_micro_per_kwh=buyer_price,
        readings_wh=np.array([r or 0 for r in readings], dtype=np.int64),
        reading_valid=np.array([r is not None for r in readings], dtype=bool),
    )
    held = [PLENTY] * len(readings) if balances is None else balances
    return Case(name, batch, np.array(held, dtype=np.int64), network)


def cases() -> Iterator[Case]:
    """Each rule of its own, then all together."""
    half = 500_000
    yield case("no trades", [], [0, None])
    yield case("one price", [(0, 1, 1000, 213_456, 213_456)] * 2, [2000, -2000])
    yield case(
        "halves of a micro-unit are rounded upwards",
        [(0, 1, 1, 500, 500), (0, 1, 1, 499, 499), (0, 1, 1, -500, -500), (0, 1, 1, -501, -501)],
        [4, -4],
    )
    yield case("halves at one price", [(0, 1, 1, 500, 500), (0, 1, 3, 500, 500)], [4, -4])
    yield case(
        "halves at two prices", [(0, 1, 1, 500, 1500), (0, 1, 1, 1499, 499)], [2, -2], network=9
    )
    yield case("a negative price", [(0, 1, 1500, -3333, -3333)], [1500, -1500])
    yield case("prices of either sign", [(0, 2, 700, 9, 9), (1, 2, 800, -7, -7)], [700, 800, -1500])
    yield case("a surplus of the network", [(0, 1, 1000, 100, 250)], [1000, -1000])
    yield case("paid for by the network", [(0, 1, 1000, 250, 100)], [1000, -1000], network=150)
    yield case(
        "what the network cannot pay is void",
        [(0, 1, 1000, 250, 100), (0, 2, 1000, 100, 120), (0, 2, 0, 7, 5)],
        [2000, -1000, -1000],
        network=129,
    )
    yield case("at the tolerance", [(0, 1, 1000, half, half)], [1030, -990])
    yield case("at the tolerance from above", [(0, 1, 1000, half, half)], [971, -1030])
    yield case("past it from above", [(0, 1, 1000, half, half)], [970, -1000])
    yield case("past it from above, bought", [(0, 1, 1000, half, half)], [1000, -970])
    yield case(
        "past the tolerance", [(0, 1, 1000, half, half), (2, 3, 5, 1, 1)], [1031, -990, 5, -5]
    )
    yield case("the wrong way round", [(0, 1, 6, half, half)], [6, 6])
    yield case("no reading", [(0, 1, 3, half, half), (2, 1, 4, half, half)], [None, -7, 4])
    yield case("no reading of a buyer", [(0, 1, 3, half, half), (0, 2, 4, 9, 9)], [7, None, -4])
    yield case("on both sides", [(0, 1, 900, half, half), (1, 2, 900, half, half)], [900, 0, -900])
    yield case("with itself", [(0, 0, 900, 1, half), (1, 2, 3, 5, 9)], [0, 3, -3])
    yield case(
        "without funds, though credited as much",
        [(0, 1, 2000, half, half), (2, 1, 2000, half, half), (2, 3, 1000, -half, -half)],
        [2000, -4000, 3000, -1000],
        balances=[0, 1_999_999, 499_999, 0],
    )
    yield case(
        "funds suffice once a void trade is left out",
        [(0, 1, 2000, half, half), (2, 1, 2000, half, half)],
        [None, -4000, 2000],
        balances=[0, 1_000_000, 0],
    )
    most, price = 2**40 - 1, 2**31 - 1
    yield case(
        "the largest energy",
        [(0, 1, most, 1, 1), (1, 0, 0, price, -price - 1)],
        [most, -most],
        balances=[0, 2**31],
    )
    for seed, first_id in ((1, 0), (2, 3), (3, 6)):
        yield random_case(np.random.default_rng(seed), first_id)


def random_case(rng: np.random.Generator, first_id: int) -> Case:
    """Many trades, some of them void for each reason."""
    members, count = 30, 120
    seller, buyer = rng.integers(0, 12, count), rng.integers(12, members, count)
    buyer[0], seller[1] = 0, 13
    energy, price = rng.integers(0, 3000, count), rng.integers(-50_000, 400_000, count)
    other = price + rng.integers(-2000, 3000, count)
    net = np.zeros(members, dtype=np.int64)
    np.add.at(net, seller, energy)
    np.add.at(net, buyer, -energy)
    noisy = net + rng.integers(-9, 10, members)
    readings: list[int | None] = [int(r) for r in noisy]
    readings[4], readings[20] = None, int(net[20]) - 2_000
    balances = [PLENTY] * members
    balances[25] = 1_000
    rows = list(zip(*(x.tolist() for x in (seller, buyer, energy, price, other)), strict=True))
    return case(
        f"all at once from id {first_id}",
        rows,
        readings,
        balances=balances,
        network=3_000,
        first_id=first_id,
    )


def vector(of: Case) -> dict[str, Any]:
    """A case with its bytes and its outcome."""
    batch = of.batch
    outcome = settle_batch(batch, of.balances, TOLERANCE, of.network)
    payload, voids = contract.encode_batch(batch), contract.encode_voids(outcome.void_reason)
    return {
        "name": of.name,
        "group": batch.group,
        "period": batch.period,
        "firstId": batch.first_id,
        "balances": of.balances.tolist(),
        "network": of.network,
        "batch": f"0x{payload.hex()}",
        "readingsHash": f"0x{contract.readings_hash(contract.readings_of(payload)).hex()}",
        "voids": f"0x{voids.hex()}",
        "settled": int(outcome.settled.sum()),
        "energyWh": outcome.energy_wh,
        "balancesAfter": (of.balances + outcome.delta_micro).tolist(),
        "networkAfter": of.network + outcome.network_micro,
        "record": f"0x{contract.batch_record(payload, 0, voids).hex()}",
    }


def text() -> str:
    """The file's content."""
    vectors = [vector(of) for of in cases()]
    content = {
        "toleranceWh": TOLERANCE.wh,
        "tolerancePpm": TOLERANCE.ppm,
        "count": len(vectors),
        "vectors": vectors,
    }
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
