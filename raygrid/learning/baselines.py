"""Forecasts to compare with: persistence, seasonal naive, random forest and boosted trees.

The recurrent networks and the plain transformer of AI-TEM's Table III are architectures of
`raygrid.learning.network`, trained like the hybrid. Trees see the windows that the networks see (of
the day ahead each quarter hour with its lags and forecasts, and the means over the day); they
forecast the normalised load and the PV index, the latter weighted by its envelope squared, so that
their squared error is that of the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset
from raygrid.learning.features import INDEX_LIMIT, OWN, PUBLIC, Scaling, Series, Windows
from raygrid.learning.inference import windows_of
from raygrid.learning.network import NetworkSpec

TREES = ("random_forest", "boosted_trees")
TRAIN_STRIDE = {"step": 3, "day": 5}
"""Trees are fitted to every so many training steps (of every prosumer); of days to every so many
quarter hours, in turn."""
STEPS_AT_ONCE = 96
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
    """One row a prosumer and step ahead.

    One step ahead: its steps behind, the last weather, what is known ahead. The day ahead: lags and
    what is known of the step, and their means over the day.

    Parameters
    ----------
    windows : Windows
        Of either task.
    prosumers : (N, F) float64
        What tells prosumers apart.

    Returns
    -------
    (N * B * H, ...) float32
        Features.
    """
    n, times, horizon = windows.known.shape[:3]
    if horizon > 1:
        of_day = np.broadcast_to(windows.steps.mean(axis=2, keepdims=True), windows.steps.shape)
        both = np.concatenate([windows.steps, of_day], axis=3).reshape(n * times * horizon, -1)
        who = np.repeat(prosumers.astype(np.float32), times * horizon, axis=0)
        return np.concatenate([both, who], axis=1)
    own = windows.steps[..., (0, 2)].reshape(n * times, -1)
    weather = slice(len(OWN), len(OWN) + len(PUBLIC))
    public = windows.steps[:, :, -PUBLIC_STEPS:, weather].reshape(n * times, -1)
    known = windows.known.reshape(n * times, -1)
    who = np.repeat(prosumers.astype(np.float32), times, axis=0)
    return np.concatenate([own, public, known, who], axis=1)


@dataclass(frozen=True)
class TreeForecaster:
    """Two fitted regressors of scikit-learn.

    Attributes
    ----------
    task : str
        'step' or 'day'.
    load, pv : object
        Of the normalised load, and of the PV index.
    scaling : Scaling
        Of the training days.
    """

    task: str
    load: Any
    pv: Any
    scaling: Scaling

    def forecast(self, series: Series, at: IntArray) -> FloatArray:
        """Load and PV [kW] (N, P, 2) of single steps, or of the steps of days in a row."""
        cut, _ = windows_of(NetworkSpec(task=self.task))
        each = STEPS_AT_ONCE if self.task == "step" else 1
        mean, std = self.scaling.load_mean_kw[:, None], self.scaling.load_std_kw[:, None]
        parts = []
        for k in range(0, len(at), each):
            windows = cut(series, self.scaling, at[k : k + each])
            features = table_of(windows, _who(self.scaling))
            envelope = windows.envelope_kw.reshape(len(mean), -1)
            load = mean + std * self.load.predict(features).reshape(envelope.shape)
            pv = envelope * self.pv.predict(features).reshape(envelope.shape)
            parts.append(np.maximum(np.stack([load, pv], axis=2), 0.0))
        return np.concatenate(parts, axis=1)


def _who(scaling: Scaling) -> FloatArray:
    n = len(scaling.load_mean_kw)
    shape = scaling.load_std_kw / scaling.load_mean_kw
    peak = scaling.load_peak_kw / scaling.load_mean_kw
    return np.stack([np.arange(n), shape, peak], axis=1)


def fit_trees(
    name: str, task: str, series: Series, scaling: Scaling, train: IntArray, seed: int
) -> TreeForecaster:
    """Fit a random forest or boosted trees, for all prosumers together.

    Parameters
    ----------
    name : str
        One of `TREES`.
    task : str
        'step' or 'day'.
    series, scaling
        Channels and scales.
    train : (n,) int64
        Training steps, or days.
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
    cut, _ = windows_of(NetworkSpec(task=task))
    stride = TRAIN_STRIDE[task]
    windows = cut(series, scaling, train[::stride] if task == "step" else train)
    rows = slice(None, None, 1 if task == "step" else stride)
    features = table_of(windows, _who(scaling))[rows]
    load = windows.load_kw - scaling.load_mean_kw[:, None, None]
    load = (load / scaling.load_std_kw[:, None, None]).reshape(-1)[rows]
    rating = np.maximum(scaling.pv_rating_kw, 1e-9)[:, None, None]
    index = windows.pv_kw / np.maximum(windows.envelope_kw, 0.02 * rating)
    index = np.clip(index.reshape(-1)[rows], 0.0, INDEX_LIMIT)
    weight = (windows.envelope_kw / rating).reshape(-1)[rows] ** 2
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
        task=task,
        load=regressor().fit(features, load),
        pv=regressor().fit(features[sunny], index[sunny], weight[sunny]),
        scaling=scaling,
    )
