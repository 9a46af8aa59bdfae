"""Make pv_shapes.parquet: clear-sky PV output per kWp in quarter hours of 2016, by pvlib.

    pip install 'raygrid[data]'
    python scenarios/data/make_pv_shapes.py

Site: 53.65 N, 11.41 E, 60 m (the village's). Clear sky after Ineichen and Perez with pvlib's
turbidity climatology; isotropic sky on modules tilted by 35 degrees; cells after Faiman at an air
temperature that swings between 1 and 18 degrees C over the year; PVWatts with -0.4 %/K and 14 %
losses. Five-minute values, averaged. Times are local standard time (UTC+1).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SITE = {"latitude": 53.65, "longitude": 11.41, "altitude": 60, "tz": "Etc/GMT-1"}
TILT_DEG = 35
AZIMUTH_DEG = {"east": 90, "southeast": 135, "south": 180, "southwest": 225, "west": 270}


def main() -> None:
    """Compute the shapes and write the table."""
    import pandas as pd
    import pvlib

    steps = pd.date_range("2016-01-01 00:02:30", periods=366 * 288, freq="5min", tz=SITE["tz"])
    location = pvlib.location.Location(**SITE)
    sun = location.get_solarposition(steps)
    sky = location.get_clearsky(steps, model="ineichen", solar_position=sun)
    # Coldest in mid January, warmest in mid July.
    air_c = 9.5 - 8.5 * np.cos(2 * np.pi * (steps.dayofyear - 15) / 366)
    columns = {}
    for name, azimuth in AZIMUTH_DEG.items():
        plane = pvlib.irradiance.get_total_irradiance(
            TILT_DEG, azimuth, sun["apparent_zenith"], sun["azimuth"],
            sky["dni"], sky["ghi"], sky["dhi"],
        )["poa_global"].fillna(0.0)  # fmt: skip
        cell_c = pvlib.temperature.faiman(plane, air_c)
        dc = pvlib.pvsystem.pvwatts_dc(plane, cell_c, pdc0=1.0, gamma_pdc=-0.004)
        power = np.clip(dc.to_numpy() * (1 - 0.14), 0.0, 1.0)
        columns[name] = power.reshape(-1, 3).mean(axis=1).round(4).astype("float32")
    table = pa.table(columns).replace_schema_metadata(
        {
            "start": "2016-01-01T00:00:00",
            "period_hours": "0.25",
            "source": f"pvlib {pvlib.__version__}, clear sky at 53.65 N 11.41 E, tilt {TILT_DEG}",
        }
    )
    path = Path(__file__).with_name("pv_shapes.parquet")
    pq.write_table(table, path, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
