"""Schemas of a run folder's tables."""

import re

import pyarrow as pa
import pytest

from raygrid import schemas


def test_conform_orders_and_casts():
    table = pa.table(
        {"y": pa.array([1.0], pa.float32()), "bus": pa.array([3], pa.int32()), "x": [2.0]}
    )
    out = schemas.conform("buses", table)
    assert out.schema == schemas.BUSES
    assert out.to_pylist() == [{"bus": 3, "x": 2.0, "y": 1.0}]


def test_conform_refuses_missing_and_unknown_columns():
    with pytest.raises(ValueError, match=re.escape("missing columns ['y'], unknown columns ['z']")):
        schemas.conform("buses", pa.table({"bus": [1], "x": [0.0], "z": [0.0]}))


def test_conform_refuses_empty_cells():
    with pytest.raises(ValueError, match="column x has empty cells"):
        schemas.conform(
            "buses", pa.table({"bus": [1], "x": pa.array([None], pa.float64()), "y": [0.0]})
        )


def test_conform_refuses_lossy_casts():
    with pytest.raises(ValueError, match="truncated"):
        schemas.conform("buses", pa.table({"bus": [1.5], "x": [0.0], "y": [0.0]}))


def test_devices_may_add_columns_to_prosumers():
    row = {name: [0] for name in schemas.PROSUMERS.names} | {"role": ["grid"], "ev_max_kw": [7.4]}
    out = schemas.conform("prosumers", pa.table(row))
    assert out.column_names == [*schemas.PROSUMERS.names, "ev_max_kw"]
