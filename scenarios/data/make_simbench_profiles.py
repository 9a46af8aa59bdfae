"""Make simbench_profiles.parquet: the load and PV shapes of SimBench 1-LV-rural3--2-no_sw.

    pip install 'raygrid[data]'
    python scenarios/data/make_simbench_profiles.py

The result is data of the SimBench database (ODbL, see README.md beside this file): active power of
the whole of 2016 in quarter hours, as shares of the rated power, rounded to four digits.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

GRID = "1-LV-rural3--2-no_sw"


def main() -> None:
    """Read the grid's profiles from the simbench package and write the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import simbench

        profiles = simbench.get_simbench_net(GRID).profiles
    loads, renewables = profiles["load"], profiles["renewables"]
    columns = {
        name.removesuffix("_pload"): loads[name]
        for name in sorted(loads.columns)
        if name.endswith("_pload")
    }
    columns |= {name: renewables[name] for name in renewables.columns if name != "time"}
    table = pa.table({k: v.round(4).to_numpy("float32") for k, v in columns.items()})
    table = table.replace_schema_metadata(
        {
            "start": "2016-01-01T00:00:00",
            "period_hours": "0.25",
            "source": f"SimBench, {GRID}, https://simbench.de",
            "license": "Open Database License (ODbL) 1.0",
        }
    )
    path = Path(__file__).with_name("simbench_profiles.parquet")
    pq.write_table(table, path, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
