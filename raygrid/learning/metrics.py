"""How good forecasts are: errors as in AI-TEM's Table III, and scores of their intervals."""

from __future__ import annotations

import numpy as np

from raygrid.arrays import FloatArray


def rmse_percent(
    forecast: FloatArray, actual: FloatArray, scale: FloatArray, axis: int = -1
) -> FloatArray:
    """Root mean square error in percent of a scale (training peak, PV rating).

    Parameters
    ----------
    forecast, actual : (N, ..., P) float64
        Powers [kW].
    scale : (N,) float64
        What is 100 % [kW].
    axis : int
        What the mean goes over.

    Returns
    -------
    (N, ...) float64
        Errors [%].
    """
    error = np.sqrt(((forecast - actual) ** 2).mean(axis=axis))
    return np.asarray(100.0 * error / scale.reshape(-1, *[1] * (error.ndim - 1)))


def pinball(quantiles: FloatArray, actual: FloatArray, levels: FloatArray) -> FloatArray:
    """Quantile loss: level * (y - q) where y is above q, else (1 - level) * (q - y).

    Parameters
    ----------
    quantiles : (..., Q) float64
        Forecast quantiles.
    actual : (...) float64
        What happened.
    levels : (Q,) float64
        Levels of the quantiles.

    Returns
    -------
    (..., Q) float64
        Losses.
    """
    over = actual[..., None] - quantiles
    return np.asarray(np.maximum(levels * over, (levels - 1.0) * over))


def crps(quantiles: FloatArray, actual: FloatArray, levels: FloatArray) -> FloatArray:
    """Continuous ranked probability score, twice the quantile loss integrated over the levels.

    Between levels the loss is taken as linear, beyond the outermost ones as falling to zero, as it
    does at levels 0 and 1.

    Parameters
    ----------
    quantiles, actual, levels
        As in `pinball`.

    Returns
    -------
    (...) float64
        Scores, in the unit of the forecast.

    References
    ----------
    T. Gneiting, R. Ranjan, "Comparing density forecasts using threshold- and quantile-weighted
    scoring rules", Journal of Business & Economic Statistics 29 (2011), equation (15).
    """
    loss = pinball(quantiles, actual, levels)
    edges = np.concatenate([[0.0], levels, [1.0]])
    weight = (edges[2:] - edges[:-2]) / 2.0
    return np.asarray(2.0 * (loss * weight).sum(axis=-1))


def coverage(low: FloatArray, high: FloatArray, actual: FloatArray) -> float:
    """Share of what happened that lies in its interval, bounds included."""
    return float(((low <= actual) & (actual <= high)).mean())


def skill(error: FloatArray, reference: FloatArray) -> FloatArray:
    """Share of a reference's error that a forecast avoids: 1 - error / reference."""
    return np.asarray(1.0 - error / reference)
