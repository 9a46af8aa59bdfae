"""What the devices of a population do: the result of local problems."""

from __future__ import annotations

from dataclasses import dataclass

from raygrid.arrays import FloatArray


@dataclass(frozen=True)
class Dispatch:
    """Device powers of n prosumers over T periods; all arrays are (n, T).

    ``p = generation - demand - fixed load + discharge - charge`` holds row by row
    (thesis 3-2 to 3-4, devices in any combination).

    Attributes
    ----------
    p_kw : (n, T) float64
        Net injection [kW].
    generation_kw, demand_kw, charge_kw, discharge_kw : (n, T) float64
        Generation, elastic demand, battery charge and discharge [kW], none negative.
    soc_kwh : (n, T) float64
        State of charge at each period's end [kWh].
    stored_value_per_kwh : (n, T) float64
        Value mu of a stored kWh, the multiplier of (3-11) [currency/kWh]; 0 without battery.
    """

    p_kw: FloatArray
    generation_kw: FloatArray
    demand_kw: FloatArray
    charge_kw: FloatArray
    discharge_kw: FloatArray
    soc_kwh: FloatArray
    stored_value_per_kwh: FloatArray
