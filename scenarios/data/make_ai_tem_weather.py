"""Make ../ai_tem/weather.parquet: weather and the output of 30 roofs, quarter hours, by pvlib.

    pip install 'raygrid[data]'
    python scenarios/data/make_ai_tem_weather.py [--cloud-amplitude A]

Weather is the typical year of Greensboro (36.1 N, 79.95 W), the TMY3 file of NREL that pvlib's
wheel carries: hourly GHI, temperature and humidity, here dated 2016 by month, day and hour of
local standard time. Interpolated irradiance has no clouds shorter than an hour, and PV would be
trivial to forecast. So the clear-sky index of each five minutes is the interpolated one plus a
cloud process: an Ornstein-Uhlenbeck process of 5 minutes' memory (a cumulus cloud of 1.5 km
passing at 5 m/s), 80 % of its variance common to
all roofs and the weather station and 20 % their own, times `CLOUD_AMPLITUDE`, times a factor that
vanishes under overcast and (nearly) clear skies. The amplitude is the one with which persistence
errs by 3.44 % of the rating over the 30 roofs, as AI-TEM's Table III prints for its data; the
script prints what it gets.

From the clear-sky index: GHI; DNI and DHI after Erbs; each roof's plane after Hay and Davies;
cells after Faiman; PVWatts with -0.4 %/K and 14 % losses, per kWp. Roofs have their own tilts
(20 to 45 degrees) and azimuths (90 to 270 degrees, most of them near south). All is averaged over
quarter hours. The seed is fixed: the table is the data, as a weather station's would be.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SITE = {"latitude": 36.1, "longitude": -79.95, "altitude": 273, "tz": "Etc/GMT+5"}
TYPICAL_YEAR = "723170TYA.CSV"
START, DAYS = "2016-03-01", 214
ROOFS = 30
SEED = 2016
STEPS_PER_HOUR = 12
MEMORY_HOURS = 1 / 12
COMMON_SHARE = 0.8
CLOUD_AMPLITUDE = 0.106
AT_NIGHT_W = 20.0
"""Clear-sky irradiance below which a clear-sky index says nothing [W/m2]."""


def hourly_year():
    """The typical year's 8,760 hours: GHI [W/m2], temperature [deg C], humidity [%]."""
    import pvlib

    path = Path(pvlib.__file__).parent / "data" / TYPICAL_YEAR
    year, _ = pvlib.iotools.read_tmy3(path, map_variables=True)
    return year[["ghi", "temp_air", "relative_humidity"]].to_numpy(float)


def at_steps(hours, hour_of_step):
    """Hourly means, interpolated between the middles of their hours."""
    known = np.isfinite(hours)
    return np.interp(hour_of_step, np.flatnonzero(known) + 0.5, hours[known])


def ornstein_uhlenbeck(random, rows, steps):
    """Processes (rows, steps) of mean 0 and variance 1."""
    keep = np.exp(-1.0 / (STEPS_PER_HOUR * MEMORY_HOURS))
    shocks = random.standard_normal((rows, steps))
    state = np.empty((rows, steps))
    state[:, 0] = shocks[:, 0]
    for k in range(1, steps):
        state[:, k] = keep * state[:, k - 1] + np.sqrt(1 - keep**2) * shocks[:, k]
    return state


def quarter_hours(values):
    """Means of three five-minute steps."""
    return values.reshape(-1, 3).mean(axis=1)


class Sky:
    """Sun, smooth sky and clouds of every five minutes, and what roofs give under them."""

    def __init__(self, cloud_amplitude: float) -> None:
        import pandas as pd
        import pvlib

        self.pvlib, self.cloud_amplitude = pvlib, cloud_amplitude
        steps = pd.date_range(
            f"{START} 00:02:30", periods=DAYS * 24 * STEPS_PER_HOUR, freq="5min", tz=SITE["tz"]
        )
        site = pvlib.location.Location(**SITE)
        sun = site.get_solarposition(steps)
        self.zenith = sun["apparent_zenith"].to_numpy()
        self.azimuth = sun["azimuth"].to_numpy()
        clear = site.get_clearsky(steps, model="ineichen", solar_position=sun)["ghi"].to_numpy()
        self.clear = clear
        self.day_of_year = steps.dayofyear.to_numpy()
        self.extra = pvlib.irradiance.get_extra_radiation(steps).to_numpy()

        # The typical year has 365 days: from 1 March on, a leap year's dates agree with it.
        ghi_hour, air_hour, humidity_hour = hourly_year()[59 * 24 : (59 + DAYS) * 24].T
        clear_hour = clear.reshape(-1, STEPS_PER_HOUR).mean(axis=1)
        index_hour = np.where(
            clear_hour > AT_NIGHT_W, ghi_hour / np.maximum(clear_hour, 1.0), np.nan
        )
        hour = (np.arange(len(steps)) + 0.5) / STEPS_PER_HOUR
        self.index = at_steps(np.clip(index_hour, 0.0, 1.15), hour)
        self.air = at_steps(air_hour, hour)
        self.humidity = at_steps(humidity_hour, hour)
        self.broken = np.sin(np.pi * np.clip(self.index / 1.15, 0.0, 1.0))

        random = np.random.default_rng(SEED)
        self.roof_azimuth = np.clip(random.normal(180.0, 45.0, ROOFS), 90.0, 270.0)
        self.roof_tilt = random.uniform(20.0, 45.0, ROOFS)
        common = ornstein_uhlenbeck(random, 1, len(steps))
        own = ornstein_uhlenbeck(random, ROOFS + 1, len(steps))
        # Of the roofs, and of the weather station (the last row).
        self.cloud = np.sqrt(COMMON_SHARE) * common + np.sqrt(1 - COMMON_SHARE) * own

    def irradiance(self, cloud, part=slice(None)):
        """GHI, DNI and DHI [W/m2] of some steps under a cloud process."""
        disturbed = self.index[part] + self.cloud_amplitude * self.broken[part] * cloud
        ghi = np.clip(disturbed, 0.05, 1.2) * self.clear[part]
        parts = self.pvlib.irradiance.erbs(ghi, self.zenith[part], self.day_of_year[part])
        return ghi, np.nan_to_num(parts["dni"]), np.nan_to_num(parts["dhi"])

    def power(self, roof, cloud, part=slice(None)):
        """Output of a roof per kWp, means of quarter hours."""
        ghi, dni, dhi = self.irradiance(cloud, part)
        plane = self.pvlib.irradiance.get_total_irradiance(
            self.roof_tilt[roof], self.roof_azimuth[roof], self.zenith[part], self.azimuth[part],
            dni, ghi, dhi, dni_extra=self.extra[part], model="haydavies",
        )["poa_global"]  # fmt: skip
        plane = np.nan_to_num(np.asarray(plane))
        cell = self.pvlib.temperature.faiman(plane, self.air[part])
        power = self.pvlib.pvsystem.pvwatts_dc(plane, cell, 1.0, -0.004) * (1 - 0.14)
        return np.clip(quarter_hours(power), 0.0, 1.0)


def make_table(cloud_amplitude: float) -> pa.Table:
    """Compute all columns."""
    sky = Sky(cloud_amplitude)
    ghi, dni, dhi = sky.irradiance(sky.cloud[ROOFS])
    columns = {
        "ghi_w_per_m2": quarter_hours(ghi).round(0),
        "dni_w_per_m2": quarter_hours(dni).round(0),
        "dhi_w_per_m2": quarter_hours(dhi).round(0),
        "clear_ghi_w_per_m2": quarter_hours(sky.clear).round(0),
        "temperature_c": quarter_hours(sky.air).round(1),
        "humidity_percent": quarter_hours(sky.humidity).round(0),
    }
    for roof in range(ROOFS):
        columns[f"roof{roof + 1:02d}"] = sky.power(roof, sky.cloud[roof]).round(4)
    return pa.table({k: v.astype("float32") for k, v in columns.items()}).replace_schema_metadata(
        {
            "start": f"{START}T00:00:00",
            "period_hours": "0.25",
            "source": f"pvlib {sky.pvlib.__version__} on NREL TMY3 723170 (Greensboro), "
            f"seed {SEED}, cloud amplitude {cloud_amplitude:g}",
        }
    )


def persistence_percent(table: pa.Table) -> float:
    """Error of persistence over all roofs, root mean square [% of the rating]."""
    roofs = np.array([table[f"roof{k + 1:02d}"].to_numpy() for k in range(ROOFS)], dtype=float)
    return float(100 * np.sqrt((np.diff(roofs, axis=1) ** 2).mean()))


def main() -> None:
    """Compute the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cloud-amplitude", type=float, default=CLOUD_AMPLITUDE)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    table = make_table(chosen.cloud_amplitude)
    path = chosen.out or Path(__file__).parent.parent / "ai_tem" / "weather.parquet"
    pq.write_table(table, path, compression="zstd", compression_level=19)
    print(f"{path}: persistence errs by {persistence_percent(table):.2f} % of the rating")


if __name__ == "__main__":
    main()
