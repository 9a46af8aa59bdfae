"""A clearing's course as Ray metrics, for the cluster's dashboard or Prometheus."""

from __future__ import annotations

from raygrid.market.messages import RoundOutcome


class ClearingMetrics:
    """Counts rounds and shows the last one's residuals and mean price.

    Metrics leave this process through Ray's agent; where none runs they stay here.

    Parameters
    ----------
    scenario : str
        The scenario's name, the metrics' one tag.
    """

    def __init__(self, scenario: str) -> None:
        from ray.util.metrics import Counter, Gauge

        keys = ("scenario",)
        self._tags = {"scenario": scenario}
        self._rounds = Counter("raygrid_iterations", "ADMM rounds", tag_keys=keys)
        self._gauges = {
            name: Gauge(f"raygrid_{name}", text, tag_keys=keys)
            for name, text in (
                ("primal_residual", "Primal residual (4-10) [kW]"),
                ("dual_residual", "Dual residual (4-11) [kW]"),
                ("rho", "Penalty [currency/kW^2/h]"),
                ("mean_price", "Mean locational price [currency/kWh]"),
            )
        }

    def observe(self, outcome: RoundOutcome) -> None:
        """Take over a round; fits `raygrid.market.session.RoundCallback`."""
        self._rounds.inc(1.0, self._tags)
        values = {"mean_price": outcome.mean_price_per_kwh}
        if outcome.record is not None:
            values["primal_residual"] = outcome.record.primal_residual
            values["dual_residual"] = outcome.record.dual_residual
            values["rho"] = outcome.record.rho
        for name, value in values.items():
            self._gauges[name].set(value, self._tags)
