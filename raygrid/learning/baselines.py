"""Forecasts to compare with: persistence, seasonal naive, random forest and boosted trees.

The recurrent networks and the plain transformer of AI-TEM's Table III are architectures of
`raygrid.learning.network`, trained like the hybrid. Trees see the windows that the networks see;
they forecast the normalised load and the PV index, the latter weighted by its envelope squared, so
that their squared error is that of the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset
from raygrid.learning.features import Scaling, Series, Windows, one_step

TREES = ("random_forest", "boosted_trees")
TRAIN_STRIDE = 3
"""Trees are fitted to every so many training steps (of every prosumer)."""
AT_ONCE = 96
PUBLIC_STEPS = 4
"""Last steps whose weather trees see; of load and PV they see all."""


def persistence(data: Dataset, at: IntArray, lag: int = 1) -> FloatArray:
    """Load and PV of `lag` steps before; a lag of 96 is the seasonal naive forecast.

    Parameters
    ----------
    data : Dataset
        The series.
    at : (B,) int64
        Steps that are forecast.
    lag : int
        How far back.

    Returns
    -------
    (N, B, 2) float64
        Load and PV [kW].
    """
    before = at - lag
    return np.stack([data.load_kw[:, before], data.pv_kw[:, before]], axis=2).astype(np.float64)


SEASON = STEPS_PER_DAY
"""Lag of the seasonal naive forecast."""


def table_of(windows: Windows, prosumers: FloatArray) -> FloatArray:
    """One row a prosumer and time: its steps behind, the last weather, what is known ahead.

    Parameters
    ----------
    windows : Windows
        Of one step ahead.
    prosumers : (N, F) float64
        What tells prosumers apart.

    Returns
    -------
    (N * B, ...) float32
        Features.
    """
    n, times = windows.steps.shape[:2]
    own = windows.steps[..., (0, 2)].reshape(n * times, -1)
    public = windows.steps[:, :, -PUBLIC_STEPS:, 4:9].reshape(n * times, -1)
    known = windows.known.reshape(n * times, -1)
    who = np.repeat(prosumers.astype(np.float32), times, axis=0)
    return np.concatenate([own, public, known, who], axis=1)


@dataclass(frozen=True)
class TreeForecaster:
    """Two fitted regressors of scikit-learn.

    Attributes
    ----------
    load, pv : object
        Of the normalised load, and of the PV index.
    scaling : Scaling
        Of the training days.
    """

    load: Any
    pv: Any
    scaling: Scaling

    def forecast(self, series: Series, at: IntArray) -> FloatArray:
        """Load and PV [kW] (N, B, 2) of single steps."""
        parts = []
        for k in range(0, len(at), AT_ONCE):
            windows = one_step(series, self.scaling, at[k : k + AT_ONCE])
            features = table_of(windows, _who(self.scaling))
            shape = windows.steps.shape[:2]
            load = self.load.predict(features).reshape(shape)
            load = self.scaling.load_mean_kw[:, None] + self.scaling.load_std_kw[:, None] * load
            index = self.pv.predict(features).reshape(shape)
            pv = index * windows.envelope_kw[..., 0]
            parts.append(np.maximum(np.stack([load, pv], axis=2), 0.0))
        return np.concatenate(parts, axis=1)


def _who(scaling: Scaling) -> FloatArray:
    n = len(scaling.load_mean_kw)
    shape = scaling.load_std_kw / scaling.load_mean_kw
    peak = scaling.load_peak_kw / scaling.load_mean_kw
    return np.stack([np.arange(n), shape, peak], axis=1)


def fit_trees(
    name: str, series: Series, scaling: Scaling, train: IntArray, seed: int
) -> TreeForecaster:
    """Fit a random forest or boosted trees, for all prosumers together.

    Parameters
    ----------
    name : str
        One of `TREES`.
    series, scaling
        Channels and scales.
    train : (n,) int64
        Training steps.
    seed : int
        Seed of the fit.

    Raises
    ------
    InputError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    except ImportError:
        raise InputError(
            "scikit-learn is not installed", "raygrid train", "pip install 'raygrid[learn]'"
        ) from None
    windows = one_step(series, scaling, train[::TRAIN_STRIDE])
    features = table_of(windows, _who(scaling))
    load = (windows.load_kw[..., 0] - scaling.load_mean_kw[:, None]) / scaling.load_std_kw[:, None]
    envelope = windows.envelope_kw[..., 0]
    rating = np.maximum(scaling.pv_rating_kw, 1e-9)[:, None]
    index = windows.pv_kw[..., 0] / np.maximum(envelope, 0.02 * rating)
    weight = (envelope / rating).reshape(-1) ** 2
    sunny = weight > 1e-4

    def regressor() -> Any:
        if name == "random_forest":
            return RandomForestRegressor(
                40, max_features=0.33, min_samples_leaf=10, max_samples=0.15, random_state=seed
            )
        return HistGradientBoostingRegressor(
            max_iter=200, learning_rate=0.06, max_leaf_nodes=31, random_state=seed
        )

    return TreeForecaster(
        load=regressor().fit(features, load.reshape(-1)),
        pv=regressor().fit(
            features[sunny], np.clip(index.reshape(-1)[sunny], 0.0, 1.5), weight[sunny]
        ),
        scaling=scaling,
    )
