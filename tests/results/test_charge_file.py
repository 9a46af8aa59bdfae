"""The charge between two days: the same for any placement, and one line where it is not usable."""

from pathlib import Path

import numpy as np
import pytest

from raygrid.errors import InputError
from raygrid.prosumer.carried import Charge
from raygrid.results.charge_file import StoredCharge, write_charge

RNG = np.random.default_rng(3)


def charge(n: int, m: int) -> Charge:
    return Charge(RNG.random(n) * 10, np.sort(RNG.integers(0, n, m)), RNG.random(m) * 50)


def test_any_range_of_prosumers_is_read_as_it_was(tmp_path: Path) -> None:
    """Those without a store, with several, and across the hosts that wrote them."""
    parts = [charge(7, 0), charge(1, 3), charge(2_000, 900), charge(5, 5)]
    path = tmp_path / "charge.parquet"
    write_charge(path, iter(parts))
    whole = Charge.joined(parts)
    for start, stop in ((0, 2013), (0, 7), (7, 8), (5, 9), (8, 2008), (2007, 2013), (4, 4)):
        mine, theirs = whole.rows(start, stop), StoredCharge(path).rows(start, stop)
        for name in ("soc_kwh", "owner", "store_kwh"):
            one, other = getattr(mine, name), getattr(theirs, name)
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
            assert other.flags.writeable


def test_what_is_no_charge_of_these_prosumers_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "charge.parquet"
    with pytest.raises(InputError, match="no charge to begin the day with"):
        StoredCharge(path).rows(0, 1)
    write_charge(path, [charge(4, 2)])
    with pytest.raises(InputError, match="it has not the prosumers of the run"):
        StoredCharge(path).rows(0, 5)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="no charge") as refused:
        StoredCharge(path).rows(0, 4)
    assert "\n" not in str(refused.value)
