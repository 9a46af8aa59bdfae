"""A reserve within the feeder's limits, so that a market of linear rows keeps them in AC.

Linear rows know neither losses nor what reactive power adds to a line's current: schedules that
fill them are a little beyond the limits in the AC load flow. Markets that keep limits are given
narrower ones, and checked against the true.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from raygrid.grid.powerflow import AcCheck
from raygrid.learning.market_days import LearningScenario, reactive_share, voltage_limits
from raygrid.market.feeder_limits import feeder_limits
from raygrid.market.intraday import IntradayMarket
from raygrid.scenario.config import Voltage


@dataclass(frozen=True)
class Reserve:
    """How much narrower than they are limits are taken.

    Attributes
    ----------
    line_share : float
        Of each line's limit.
    voltage_pu : float
        At either end of the voltage band [p.u.].
    """

    line_share: float = 0.05
    voltage_pu: float = 0.003

    def within(self, found: LearningScenario) -> LearningScenario:
        """The scenario with narrower limits, day ahead and intraday."""
        low, high, slack = voltage_limits(found.scenario)
        low, high, radial = low + self.voltage_pu, high - self.voltage_pu, found.network.is_radial
        voltage = Voltage(v_min_pu=low, v_max_pu=high, v_slack_pu=slack)
        changes = {"voltage": voltage} if radial else {}
        scenario = found.scenario.model_copy(update=changes)
        network = replace(found.network, limit_kw=found.network.limit_kw * (1 - self.line_share))
        old = found.days.market
        limits = feeder_limits(
            network,
            old.units.bus,
            v_min_pu=low if radial else None,
            v_max_pu=high if radial else None,
            v_slack_pu=slack,
            reactive_share=reactive_share(scenario),
        )
        market = IntradayMarket(
            old.units, old.feed, limits, old.rules, old.pricing, peers=old.peers
        )
        draft = replace(found.draft, scenario=found.draft.scenario.model_copy(update=changes))
        return replace(
            found,
            scenario=scenario,
            network=network,
            days=replace(found.days, market=market),
            draft=draft,
        )

    def judged(self, check: AcCheck, found: LearningScenario) -> AcCheck:
        """A check of narrower limits held against the true ones of `found`."""
        low, high, _ = voltage_limits(found.scenario)
        loading = check.loading * (1 - self.line_share)
        return replace(check, loading=loading, v_min_pu=low, v_max_pu=high)
