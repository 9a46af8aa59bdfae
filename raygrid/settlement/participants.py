"""Who takes part in settlement: prosumers and the grid connection, their owners and meters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from raygrid.arrays import IntArray
from raygrid.prosumer.population import GRID_ID
from raygrid.schemas import ROLE_GRID, ROLE_PROSUMER
from raygrid.settlement.chain.keys import public_key_address
from raygrid.settlement.meters import simulated_secrets

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Participants:
    """M participants as they are registered, by ascending id.

    Attributes
    ----------
    prosumer_id : (M,) int64
        Ids; 0 is the grid connection.
    group : (M,) int64
        The group of each, for good; a group's ids are consecutive.
    funded_micro : (M,) int64
        What was paid into the escrow until the last batch settled [1e-6 currency].
    owner_address, meter_address : list of bytes
        Who withdraws, and the meter's account, 20 bytes each.
    meter_key : list of bytes
        Compressed public key of the meter, 33 bytes.
    """

    prosumer_id: IntArray
    group: IntArray
    funded_micro: IntArray
    owner_address: list[bytes]
    meter_address: list[bytes]
    meter_key: list[bytes]

    def __len__(self) -> int:
        return len(self.prosumer_id)

    def members(self, group: int) -> slice:
        """Where a group's members stand; they are next to each other."""
        rows = np.flatnonzero(self.group == group)
        return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)

    def table(self) -> pa.Table:
        """Rows of `participants.parquet`."""
        import pyarrow as pa

        from raygrid.schemas import conform

        grid = (self.prosumer_id == GRID_ID).tolist()
        columns = {
            "prosumer_id": self.prosumer_id,
            "group": self.group,
            "funded_micro": self.funded_micro,
            "role": pa.array([ROLE_GRID if is_grid else ROLE_PROSUMER for is_grid in grid]),
            "owner_address": pa.array(["0x" + a.hex() for a in self.owner_address], pa.string()),
            "meter_address": pa.array(["0x" + a.hex() for a in self.meter_address], pa.string()),
            "meter_key": pa.array([key.hex() for key in self.meter_key], pa.string()),
        }
        return conform("participants", pa.table(columns))

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        """The inverse of `table`."""
        rows = table.sort_by("prosumer_id")

        def unhex(name: str) -> list[bytes]:
            return [bytes.fromhex(text.removeprefix("0x")) for text in rows[name].to_pylist()]

        return cls(
            rows["prosumer_id"].to_numpy(),
            rows["group"].to_numpy(),
            rows["funded_micro"].to_numpy(),
            unhex("owner_address"),
            unhex("meter_address"),
            unhex("meter_key"),
        )


def simulated_participants(
    seed: int,
    prosumer_id: IntArray,
    group: IntArray,
    funded_micro: IntArray,
    meter_key: Sequence[bytes],
) -> Participants:
    """Participants whose owners have simulated keys, see `simulated_secrets`.

    Parameters
    ----------
    seed : int
        The scenario's seed.
    prosumer_id, group, funded_micro : (M,) int64
        As in `Participants`.
    meter_key : sequence of bytes
        Public keys of the meters, `MeterPark.public_keys` by ascending id.
    """
    from coincurve import PrivateKey, PublicKey

    owners = [
        public_key_address(PrivateKey(secret).public_key.format(compressed=False))
        for secret in simulated_secrets(seed, "owner", prosumer_id)
    ]
    meters = [public_key_address(PublicKey(key).format(compressed=False)) for key in meter_key]
    return Participants(prosumer_id, group, funded_micro, owners, meters, list(meter_key))
