"""The batches that hold the contract and its Python counterpart together are up to date.

The contract's own tests (contracts/test/Vectors.t.sol) settle them on an EVM.
"""

from __future__ import annotations

import json

import numpy as np

from raygrid.settlement import contract
from raygrid.settlement.rules import BUYER, VoidReason
from scripts.contract_vectors import PATH, cases, text


def test_vectors_are_fresh() -> None:
    assert PATH.read_text(encoding="utf-8") == text(), "run python -m scripts.contract_vectors"


def test_vectors_decode_to_what_made_them() -> None:
    vectors = json.loads(PATH.read_text(encoding="utf-8"))["vectors"]
    for vector, case in zip(vectors, cases(), strict=True):
        assert vector["name"] == case.name
        payload = bytes.fromhex(vector["batch"][2:])
        decoded = contract.decode_batch(payload, case.batch.first_id)
        for name in decoded.__dataclass_fields__:
            expected = getattr(case.batch, name)
            np.testing.assert_array_equal(getattr(decoded, name), expected, err_msg=name)


def test_vectors_have_every_reason_on_either_side() -> None:
    vectors = json.loads(PATH.read_text(encoding="utf-8"))["vectors"]
    found = {
        int(reason)
        for vector in vectors
        for reason in contract.decode_voids(bytes.fromhex(vector["voids"][2:]))[1]
    }
    of_participants = set(VoidReason) - {VoidReason.NONE, VoidReason.NETWORK_FUNDS}
    either = of_participants | {reason | BUYER for reason in of_participants}
    assert found == either | {VoidReason.NETWORK_FUNDS}
