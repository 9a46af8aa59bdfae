"""What the thesis prints: Tables 3.2, 3.3, 6.1, 6.2, 6.3 and the figures that the fit aims at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raygrid.grid.network import Network

# Table 3.2: line, from, to, r, x [p.u.], thermal limit.
LINES_14 = """
1 1 2 0.01938 0.05917 15
2 1 5 0.05403 0.22304 5
3 2 3 0.04699 0.19797 2
4 2 4 0.05811 0.17632 2
5 2 5 0.05695 0.17388 8
6 3 4 0.06701 0.17103 9
7 4 5 0.01335 0.04211 6
8 4 7 0 0.20912 1.2
9 4 9 0 0.55618 0.76
10 5 6 0 0.25202 1.5
11 6 11 0.09498 0.19890 5
12 6 12 0.12291 0.25581 2
13 6 13 0.06615 0.13027 2
14 7 8 0 0.17615 20
15 7 9 0 0.11001 7
16 9 10 0.03181 0.08450 5
17 9 14 0.12711 0.27038 5
18 10 11 0.08205 0.19207 5
19 12 13 0.22092 0.19988 19
20 13 14 0.17093 0.34802 14
"""

# Table 3.3, the same columns.
LINES_33 = """
1 1 2 0.005753 0.002932 3.5
2 2 3 0.03076 0.015667 3.5
3 3 4 0.022836 0.01163 3.5
4 4 5 0.023778 0.01211 3.5
5 5 6 0.051099 0.044112 3.5
6 6 7 0.01168 0.038608 3.5
7 7 8 0.044386 0.014668 2.5
8 8 9 0.064264 0.04617 2.5
9 9 10 0.065138 0.04617 2.5
10 10 11 0.012266 0.004056 2.5
11 11 12 0.02336 0.007724 2.5
12 12 13 0.091592 0.072063 2.5
13 13 14 0.033792 0.04448 2.5
14 14 15 0.036874 0.032818 2.5
15 15 16 0.046564 0.034004 2.5
16 16 17 0.080424 0.107378 2.5
17 17 18 0.045671 0.035813 2.5
18 2 19 0.010232 0.009764 1.8
19 19 20 0.093851 0.084567 1.8
20 20 21 0.02555 0.029849 1.8
21 21 22 0.04423 0.058481 1.8
22 3 23 0.028152 0.019236 1.8
23 23 24 0.056028 0.044243 1.8
24 24 25 0.055904 0.043743 1.8
25 6 26 0.012666 0.006451 1.8
26 26 27 0.017732 0.009028 1.8
27 27 28 0.066074 0.058256 1.8
28 28 29 0.050176 0.043712 1.8
29 29 30 0.031664 0.016128 1.8
30 30 31 0.060795 0.060084 1.8
31 31 32 0.019373 0.02258 1.8
32 32 33 0.021276 0.033081 1.8
"""

# Table 6.1: agent, bus, p_max, E_max, charge and discharge limit, efficiencies.
SELLER_ROWS = (
    (1, 2, 3.0, 8.0, 2.0, 2.0, 0.95, 0.95),
    (2, 6, 3.0, 6.0, 1.5, 1.5, 0.95, 0.95),
    (3, 4, 3.0, 0.0, 0.0, 0.0, 1.00, 1.00),
    (4, 9, 3.0, 0.0, 0.0, 0.0, 1.00, 1.00),
    (5, 11, 3.0, 0.0, 0.0, 0.0, 1.00, 1.00),
)
# Table 6.2: agent, bus, average demand, omega, delta as printed.
BUYER_ROWS = (
    (6, 3, 1.36, 0.22, 0.50),
    (7, 5, 1.26, 0.23, 0.55),
    (8, 21, 1.18, 0.215, 0.50),
    (9, 25, 1.36, 0.24, 0.60),
    (10, 11, 1.29, 0.225, 0.55),
)
DELTA_SCALE = 0.1
"""The printed delta makes every marginal utility negative; a tenth gives the printed price."""


@dataclass(frozen=True)
class Setup:
    """One column of Table 6.3 and the figures of Tables 6.5 to 6.8 that belong to it.

    Attributes
    ----------
    name : str
        Scenario name.
    lines : str
        Its line table.
    sellers, buyers : int
        Number of agents of each kind.
    batteries : (S, 2) tuple
        Capacity [kWh] and power [kW] of each storage seller; the printed rows and the ends of
        the printed ranges, the others spread evenly between.
    eta : float
        Efficiency of one way.
    fixed_buses : tuple of int
        Agents whose printed bus holds here.
    targets : dict
        Figure name to printed value.
    """

    name: str
    lines: str
    sellers: int
    buyers: int
    batteries: tuple[tuple[float, float], ...]
    eta: float
    fixed_buses: tuple[int, ...]
    targets: dict[str, float]

    @property
    def seller_ids(self) -> list[int]:
        """Ids of the sellers: the printed 1 to 5, the rest from 11 on."""
        return [*range(1, 6), *range(11, 6 + self.sellers)]

    @property
    def buyer_ids(self) -> list[int]:
        """Ids of the buyers: the printed 6 to 10, the rest after the sellers."""
        return [*range(6, 11), *range(6 + self.sellers, self.sellers + self.buyers + 1)]


IEEE14 = Setup(
    name="ieee14",
    lines=LINES_14,
    sellers=12,
    buyers=13,
    batteries=((8.0, 2.0), (6.0, 1.5), (9.0, 2.0), (8.25, 1.875), (6.75, 1.625)),
    eta=0.95,
    fixed_buses=(1, 2, 3, 4, 5, 6, 7, 10),
    targets={
        "welfare_free": 14.11,
        "welfare_limited": 13.97,
        "energy_free_kwh": 280.66,
        "energy_limited_kwh": 276.05,
        "value_limited": 16.56,
        "utilisation_free": 2.11,
        "lines_above_80_free": 3,
        "lines_above_80_limited": 1,
        "pairs_free": 156,
        "pairs_limited": 143,
    },
)
IEEE33 = Setup(
    name="ieee33",
    lines=LINES_33,
    sellers=20,
    buyers=25,
    batteries=tuple(
        (float(e), float(p))
        for e, p in zip(
            np.linspace(3.13, 4.77, 6).round(3), np.linspace(0.82, 1.70, 6).round(3), strict=True
        )
    ),
    eta=float(np.sqrt(0.95)),
    fixed_buses=tuple(range(1, 11)),
    targets={"welfare_free": 49.25, "welfare_limited": 45.32, "utilisation_free": 6.46},
)
SETUPS = {setup.name: setup for setup in (IEEE14, IEEE33)}


def network_of(setup: Setup) -> Network:
    """The network of a line table; bus 1 is the slack, limits are taken as kW."""
    rows = np.array([line.split() for line in setup.lines.strip().splitlines()], dtype=np.float64)
    n_buses = int(rows[:, 1:3].max())
    return Network(
        name=setup.name,
        bus_id=np.arange(1, n_buses + 1),
        slack=0,
        line_id=rows[:, 0].astype(np.int64),
        from_bus=rows[:, 1].astype(np.int64) - 1,
        to_bus=rows[:, 2].astype(np.int64) - 1,
        r_pu=rows[:, 3],
        x_pu=rows[:, 4],
        limit_kw=rows[:, 5],
        flow_offset_kw=np.zeros(len(rows)),
    )
