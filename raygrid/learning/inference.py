"""Forecasts from stored weights, in numpy: what `raygrid simulate` runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset
from raygrid.learning.features import (
    FIRST_STEP,
    STEPS_BEHIND,
    Scaling,
    Series,
    Windows,
    day_ahead,
    fit_scaling,
    make_series,
    one_step,
)
from raygrid.learning.network import (
    ARCHITECTURES,
    LEVELS,
    MEDIAN,
    TARGETS,
    NetworkSpec,
    NumpyOps,
    Scales,
    forecasts,
    raw_outputs,
)
from raygrid.learning.weights import Weights, load_weights, save_weights

KIND = "forecaster"
LEARNT_UNTIL = "learnt_until"
"""Fact of the midnight that training days end with."""
SUN_SHARES = (0.02, 0.1, 0.3, 0.6)
"""PV envelopes, over the rating, between which intervals are calibrated apart: the loss counts kW,
and low sun counts for little in it."""
ROWS_AT_ONCE = 4096
"""Rows that run through a network at once, so that memory stays small."""
UNITS_AT_ONCE = 32
"""The same, where each prosumer runs apart: what fits into a processor's cache."""


@dataclass(frozen=True)
class Forecast:
    """Forecasts of N prosumers at B times, H steps ahead [kW].

    Attributes
    ----------
    expected : (N, B, H, 3) float64
        Load, PV and net surplus (PV less load).
    quantiles : (N, B, H, 3, Q) float64
        Their quantiles at `raygrid.learning.network.LEVELS`.
    """

    expected: FloatArray
    quantiles: FloatArray


@dataclass(frozen=True)
class Forecaster:
    """A trained network with the scales of its prosumers.

    Attributes
    ----------
    spec : NetworkSpec
        The network.
    weights : dict of str to (M, ...) float32
        M is 1 (shared) or N (each its own).
    scaling : Scaling
        From the training days.
    prosumer_id : (N,) int64
        Whose they are.
    facts : dict
        What else the manifest says.
    spread : (3, 5) float32
        What the distances of quantiles from the median are multiplied by, of load, PV and net; of
        PV by how high the sun stands (`SUN_SHARES`).
    """

    spec: NetworkSpec
    weights: dict[str, Any]
    scaling: Scaling
    prosumer_id: IntArray
    facts: dict[str, Any]
    spread: Any = field(
        default_factory=lambda: np.ones((len(TARGETS), len(SUN_SHARES) + 1), dtype=np.float32)
    )

    @property
    def fits_anybody(self) -> bool:
        """Whether shared weights know no prosumer by an embedding, and so serve any."""
        return len(self.weights["embedding"]) == 1 and self.spec.embedding == 0

    def of(self, data: Dataset) -> Forecaster:
        """The forecaster for other prosumers, with scales of their own training days.

        Weights with embeddings, or of each prosumer's own, are left as they are.
        """
        if not self.fits_anybody:
            return self
        nobody = np.zeros((1, len(data.prosumer_id), 0), dtype=np.float32)
        return replace(
            self,
            weights=self.weights | {"embedding": nobody},
            scaling=fit_scaling(data),
            prosumer_id=data.prosumer_id,
        )

    def series(self, data: Dataset) -> Series:
        """Channels of a data set, scaled as in training.

        Raises
        ------
        InputError
            If the data are of other prosumers.
        """
        if not np.array_equal(data.prosumer_id, self.prosumer_id):
            raise InputError(
                f"the forecaster knows {len(self.prosumer_id)} prosumers "
                f"({self.facts.get('scenario')}), not these {len(data.prosumer_id)}",
                f"scenario {data.name}",
                "train weights for this scenario: raygrid train forecaster",
            )
        return make_series(data, self.scaling, recent=self.spec.task == "step", dark=self.spec.dark)

    def forecast(self, series: Series, at: IntArray) -> Forecast:
        """Forecast single steps, or days.

        Parameters
        ----------
        series : Series
            Of `series`; nothing after the issue time is looked at.
        at : (B,) int64
            Periods (one step ahead), or days (day ahead).

        Returns
        -------
        Forecast
            Loads and PV are 0 or more.
        """
        cut, earliest = windows_of(self.spec)
        if len(at) and at.min() < earliest:
            raise InputError(
                f"{int(at.min())} is before the first that has its past, {earliest}",
                "forecast",
                "begin later",
            )
        each = max(1, ROWS_AT_ONCE // max(1, len(self.prosumer_id) * self.spec.horizon))
        parts = [
            run_windows(self, cut(series, self.scaling, at[k : k + each]))
            for k in range(0, len(at), each)
        ]
        return Forecast(
            np.concatenate([p.expected for p in parts], axis=1),
            np.concatenate([p.quantiles for p in parts], axis=1),
        )


def windows_of(spec: NetworkSpec) -> tuple[Any, int]:
    """The function that cuts a task's windows, and the first step or day that it can cut."""
    if spec.task == "step":
        return one_step, STEPS_BEHIND
    return day_ahead, FIRST_STEP // STEPS_PER_DAY


def by_model(windows: Windows, models: int) -> Windows:
    """Windows (N, B, ...) as rows of their models (M, G * B, ...)."""
    return replace(
        windows,
        **{
            name: value.reshape(models, -1, *value.shape[2:])
            for name, value in vars(windows).items()
        },
    )


def scales_of(scaling: Scaling, windows: Windows, models: int) -> Scales:
    """Scales of the rows of `by_model`'s windows."""
    n = len(scaling.load_mean_kw)
    times = windows.steps.shape[0] * windows.steps.shape[1] // n

    def rows(values: FloatArray) -> Any:
        return np.repeat(values.astype(np.float32), times).reshape(models, -1, 1)

    return Scales(
        load_mean_kw=rows(scaling.load_mean_kw),
        load_std_kw=rows(scaling.load_std_kw),
        net_std_kw=rows(scaling.net_std_kw),
        envelope_kw=windows.envelope_kw,
    )


def run_windows(forecaster: Forecaster, windows: Windows) -> Forecast:
    """Forecasts of some windows (N, B, ...)."""
    n, times = windows.steps.shape[:2]
    models = len(forecaster.weights["embedding"])
    rows = by_model(windows, models)
    ops = NumpyOps()
    raw = raw_outputs(forecaster.weights, forecaster.spec, rows.steps, rows.known, ops)
    scales = scales_of(forecaster.scaling, rows, models)
    expected, quantiles = forecasts(raw, rows.anchor, scales, ops)
    expected = np.asarray(expected.reshape(n, times, *expected.shape[2:]), dtype=np.float64)
    quantiles = np.asarray(quantiles.reshape(n, times, *quantiles.shape[2:]), dtype=np.float64)
    sun = sun_heights(forecaster.scaling, windows.envelope_kw)
    np.maximum(expected[..., :2], 0.0, out=expected[..., :2])
    return Forecast(expected, spread_out(quantiles, sun, forecaster.spread))


def expected_powers(
    spec: NetworkSpec, weights: dict[str, Any], scaling: Scaling, windows: Windows, embedding: Any
) -> FloatArray:
    """Expected load and PV by shared weights, each prosumer apart: quantiles are left out.

    Products of matrices have the same shapes whoever is forecast beside a prosumer, so that its
    forecast has the same bits wherever it is made.

    Parameters
    ----------
    spec : NetworkSpec
        The network.
    weights : dict of str to (1, ...) float32
        Shared by all.
    scaling : Scaling
        Of n prosumers.
    windows : Windows
        Theirs, (n, 1, ...).
    embedding : (n, E) float32
        Theirs.

    Returns
    -------
    (n, H, 2) float64
        Load and PV, 0 or more [kW].
    """
    found = np.empty((len(windows.steps), spec.horizon, 2))
    weights = _without_quantiles(weights)
    for start in range(0, len(found), UNITS_AT_ONCE):
        part = slice(start, start + UNITS_AT_ONCE)
        own = weights | {"embedding": embedding[part, None]}
        raw = raw_outputs(own, spec, windows.steps[part], windows.known[part], NumpyOps())
        relative = raw[:, 0, :, :2, 0] + windows.anchor[part, 0]
        mean, std = (
            values[part, None].astype(np.float32)
            for values in (scaling.load_mean_kw, scaling.load_std_kw)
        )
        found[part, :, 0] = mean + std * relative[..., 0]
        found[part, :, 1] = windows.envelope_kw[part, 0] * relative[..., 1]
    return np.maximum(found, 0.0)


def _without_quantiles(weights: dict[str, Any]) -> dict[str, Any]:
    """Weights (M, ...) whose outputs are expected values alone: `raw_outputs` with Q = 0."""
    found = dict(weights)
    for name in ("head2.w", "head2.b"):
        value = weights[name].reshape(*weights[name].shape[:2], -1, 1 + len(LEVELS))
        found[name] = np.ascontiguousarray(value[..., 0])
    return found


def sun_heights(scaling: Scaling, envelope_kw: Any) -> IntArray:
    """Between which of `SUN_SHARES` envelopes (N, B, H) lie over the ratings."""
    rating = np.maximum(scaling.pv_rating_kw, 1e-9).reshape(-1, 1, 1)
    return np.asarray(np.searchsorted(SUN_SHARES, envelope_kw / rating, side="right"))


def spread_out(quantiles: FloatArray, sun: IntArray, spread: Any) -> FloatArray:
    """Quantiles (N, B, H, 3, Q) at other distances from their medians; load and PV 0 or more."""
    middle = quantiles[..., MEDIAN : MEDIAN + 1]
    found = middle + spread.T[sun][..., None] * (quantiles - middle)
    np.maximum(found[..., :2, :], 0.0, out=found[..., :2, :])
    return np.asarray(found)


def save_forecaster(folder: Path, forecaster: Forecaster) -> Path:
    """Write weights, scales and manifest; see `raygrid.learning.weights.save_weights`.

    Weights for anybody go without those that they were learnt from: neither their scales nor their
    profiles by time of day are of use to others.
    """
    if forecaster.fits_anybody:
        nobody = np.arange(0)
        forecaster = replace(
            forecaster,
            weights=forecaster.weights | {"embedding": np.zeros((1, 0, 0), dtype=np.float32)},
            scaling=forecaster.scaling.rows(nobody),
            prosumer_id=forecaster.prosumer_id[nobody],
        )
    arrays = forecaster.weights | forecaster.scaling.arrays()
    arrays |= {"prosumer_id": forecaster.prosumer_id, "spread": forecaster.spread}
    facts = forecaster.facts | {"network": forecaster.spec.facts()}
    return save_weights(folder, Weights(KIND, arrays, facts))


def load_forecaster(folder: Path, data: Dataset | None = None) -> Forecaster:
    """Read a forecaster, checked against its manifest and, if given, a scenario's data.

    Raises
    ------
    InputError
        If files are missing or damaged, or the weights are of another network or scenario.
    """
    found = load_weights(folder, KIND)
    facts = dict(found.facts)
    try:
        spec = NetworkSpec.of_facts(facts.pop("network"))
        scaling = Scaling.of_arrays(found.arrays)
        ids = found.arrays["prosumer_id"]
        embedding, spread = found.arrays["embedding"], found.arrays["spread"]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"no forecaster ({error})", f"weights {folder}", "train them again"
        ) from None
    models = len(embedding)
    wanted = {name: (models, *shape) for name, shape in spec.shapes().items()}
    wanted["embedding"] = (models, len(ids) // models, spec.embedding)
    # The shapes follow from the manifest: a second look, now that it is known.
    load_weights(folder, KIND, wanted)
    known = spec.architecture in ARCHITECTURES and facts.get("levels") == list(LEVELS)
    if not known or spread.shape != (len(TARGETS), len(SUN_SHARES) + 1):
        raise InputError("of another kind of network", f"weights {folder}", "train them again")
    if not _is_midnight(facts.get(LEARNT_UNTIL)):
        raise InputError(
            f"{LEARNT_UNTIL} is no midnight: {facts[LEARNT_UNTIL]!r}",
            f"weights {folder}",
            "write it as 2016-07-14T00:00:00, or train them again",
        )
    weights = {name: found.arrays[name] for name in wanted}
    forecaster = Forecaster(spec, weights, scaling, ids, facts, spread)
    if data is not None and forecaster.fits_anybody:
        return forecaster.of(data)
    if data is not None:
        forecaster.series(data)
        if facts.get("data") != data.digest():
            raise InputError(
                f"trained on other data (scenario {facts.get('scenario')}, seed or history differ)",
                f"weights {folder}",
                f"train weights for {data.name}: raygrid train forecaster",
            )
    return forecaster


def _is_midnight(text: Any) -> bool:
    """Whether a manifest says a midnight of local time, or nothing."""
    if text is None:
        return True
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return False
    return time.tzinfo is None and (time.hour, time.minute, time.second) == (0, 0, 0)
