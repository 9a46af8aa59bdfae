"""Networks: numpy's forecasts are torch's, training is repeatable, and weights must fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raygrid.arrays import FloatArray
from raygrid.errors import InputError
from raygrid.learning import calibration
from raygrid.learning.calibration import calibrate, forecast_in_turn, temper
from raygrid.learning.dataset import Dataset
from raygrid.learning.features import SCALE_DAYS, fit_scaling, make_series, one_step
from raygrid.learning.inference import (
    Forecaster,
    by_model,
    load_forecaster,
    run_windows,
    save_forecaster,
    scales_of,
    windows_of,
)
from raygrid.learning.lines import direct_inputs, load_inputs, pv_inputs
from raygrid.learning.network import (
    ARCHITECTURES,
    DIRECT_B,
    DIRECT_W,
    HIGH,
    LEVELS,
    LOW,
    NetworkSpec,
    NumpyOps,
    Scales,
    forecasts,
    initial_weights,
    raw_outputs,
)
from raygrid.learning.renewal import LEAN_DAYS, leaning, line_shares, renewed

pytestmark = pytest.mark.optional
torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'raygrid[learn]'")

torch.set_num_threads(1)

SMALL_NET = {"width": 8, "heads": 2, "embedding": 2}


def options(**changes: Any) -> Any:
    from raygrid.learning.train_options import TrainOptions

    few = {"epochs": 2, "batches_per_epoch": 5, "times_per_batch": 4, "validation_stride": 48}
    return TrainOptions(**(few | changes))


def random_forecaster(data: Dataset, spec: NetworkSpec, models: int) -> Forecaster:
    """Weights that are far from where training starts."""
    n = len(data.prosumer_id)
    weights = initial_weights(spec, models, n // models, 3)
    random = np.random.default_rng(4)
    weights = {
        k: v + 0.2 * random.standard_normal(v.shape).astype("f4") for k, v in weights.items()
    }
    if spec.apart:
        weights[DIRECT_W] *= np.stack([load_inputs(spec), pv_inputs(spec)], axis=1)
    facts = {"scenario": data.name, "data": data.digest(), "levels": list(LEVELS)}
    return Forecaster(spec, weights, fit_scaling(data), data.prosumer_id, facts)


@pytest.mark.parametrize("task", ["step", "day"])
@pytest.mark.parametrize("models", [1, 10])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_numpy_forecasts_what_torch_does(
    small_data: Dataset, architecture: str, models: int, task: str
) -> None:
    same_weights_on_torch(NetworkSpec(architecture, task, **SMALL_NET), small_data, models)


def test_numpy_forecasts_load_and_pv_apart_as_torch_does(small_data: Dataset) -> None:
    same_weights_on_torch(NetworkSpec(task="day", apart=True, **SMALL_NET), small_data, 1)


def same_weights_on_torch(spec: NetworkSpec, small_data: Dataset, models: int) -> None:
    from raygrid.learning.training import _torch_ops

    forecaster = random_forecaster(small_data, spec, models)
    cut, earliest = windows_of(spec)
    windows = cut(forecaster.series(small_data), forecaster.scaling, np.array([earliest, 20]))
    ours = run_windows(forecaster, windows)
    rows = by_model(windows, models)
    weights = {k: torch.tensor(v) for k, v in forecaster.weights.items()}
    ops = _torch_ops()
    arrays = [torch.tensor(a) for a in (rows.steps, rows.known, rows.anchor)]
    raw = raw_outputs(weights, spec, arrays[0], arrays[1], ops)
    scales = scales_of(forecaster.scaling, rows, models)
    on_torch = Scales(*(torch.tensor(np.ascontiguousarray(v)) for v in vars(scales).values()))
    expected, quantiles = forecasts(raw, arrays[2], on_torch, ops)
    expected = expected.numpy().reshape(ours.expected.shape)
    quantiles = quantiles.numpy().reshape(ours.quantiles.shape)
    np.testing.assert_allclose(ours.expected[..., 2], expected[..., 2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        ours.quantiles[..., :2, :], np.maximum(quantiles[..., :2, :], 0), rtol=1e-5, atol=1e-5
    )


def test_shared_weights_and_their_copies_forecast_the_same(small_data: Dataset) -> None:
    """N models of one prosumer each, all alike, are one model of N prosumers."""
    spec = NetworkSpec(**SMALL_NET)
    one = random_forecaster(small_data, spec, 1)
    copies = {k: np.repeat(v, 10, axis=0) for k, v in one.weights.items()}
    copies["embedding"] = one.weights["embedding"].reshape(10, 1, -1)
    many = replace(one, weights=copies)
    series = one.series(small_data)
    at = np.array([100, 700, 1234])
    for name in ("expected", "quantiles"):
        ours, theirs = (getattr(f.forecast(series, at), name) for f in (one, many))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_forecasts_are_possible_powers(small_data: Dataset) -> None:
    forecaster = random_forecaster(small_data, NetworkSpec(**SMALL_NET), 1)
    found = forecaster.forecast(forecaster.series(small_data), np.arange(500, 700))
    assert (np.diff(found.quantiles, axis=-1) >= 0).all()
    assert (found.expected[..., :2] >= 0).all()
    without = small_data.pv_rating_kw == 0
    assert (found.quantiles[without][..., 1, :] == 0).all()
    night = small_data.weather.clear_ghi_w_per_m2[500:700] == 0
    assert (found.expected[:, night][..., 1] == 0).all()


def test_quantile_loss_by_hand(small_data: Dataset) -> None:
    """A forecast at its anchor: the loss of load is that of persistence, worked out here."""
    from raygrid.learning.training import Trainer

    spec = NetworkSpec(**SMALL_NET)
    data = small_data.rows(np.flatnonzero(small_data.pv_rating_kw == 0)[:1])
    scaling = fit_scaling(data)
    series = make_series(data, scaling)
    weights = {k: v * 0 for k, v in initial_weights(spec, 1, 1, 1).items()}
    weights["head2.b"].reshape(-1, 1 + len(LEVELS))[:, 1:] = -40.0  # all quantiles alike
    weights["head2.b"].reshape(-1, 1 + len(LEVELS))[:, 1 + LEVELS.index(0.5)] = 0.0
    steps = np.array([200, 201, 333])
    trainer = Trainer(spec, series, scaling, steps, steps, options(), data.prosumer_id)
    tensors = {k: torch.tensor(v) for k, v in weights.items()}
    loss = float(trainer.loss(tensors, one_step(series, scaling, steps))[0])
    change = (series.own[0, steps, 0] - series.own[0, steps - 1, 0]) * scaling.load_std_kw[0]
    load, net = change / scaling.load_std_kw[0], -change / scaling.net_std_kw[0]
    levels = np.array(LEVELS)
    by_hand = 0.0
    for error in (load, net):
        pinball = np.maximum(levels * error[:, None], (levels - 1) * error[:, None]).mean(axis=1)
        by_hand += (np.abs(error) + pinball + 0.5 * error**2).mean() / 3
    assert loss == pytest.approx(by_hand, rel=1e-4)


def test_the_regression_is_the_best_line(
    small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against scikit-learn: load by plain least squares, PV weighted by its envelope squared."""
    from sklearn.linear_model import LinearRegression

    from raygrid.learning import direct
    from raygrid.learning.direct import products, solve

    monkeypatch.setattr(direct, "RIDGE", 1e-12)
    spec = NetworkSpec(**SMALL_NET)
    scaling = fit_scaling(small_data)
    series = make_series(small_data, scaling)
    steps = np.arange(700, 1500)
    found = solve(products(spec, series, scaling, steps, 1))
    windows = one_step(series, scaling, steps)
    inputs = direct_inputs(spec, windows.steps, windows.known, NumpyOps())
    inputs = inputs.reshape(-1, spec.direct_inputs).astype(float)
    ours = inputs @ found[DIRECT_W][0] + found[DIRECT_B][0]
    load = (windows.load_kw[..., 0] - scaling.load_mean_kw[:, None]) / scaling.load_std_kw[:, None]
    load = (load - windows.anchor[..., 0, 0]).reshape(-1)
    seen = inputs[:, load_inputs(spec)]
    line = LinearRegression().fit(seen, load).predict(seen)
    np.testing.assert_allclose(ours[:, 0], line, atol=1e-3)
    rating = np.maximum(scaling.pv_rating_kw, 1e-9)[:, None]
    share = windows.envelope_kw[..., 0] / rating
    lit = ((share > 0.02) & (scaling.pv_rating_kw > 0)[:, None]).reshape(-1)
    index = windows.pv_kw[..., 0] / np.maximum(windows.envelope_kw[..., 0], 0.02 * rating)
    index = (np.clip(index, 0, 1.5) - windows.anchor[..., 0, 1]).reshape(-1)[lit]
    line = LinearRegression().fit(inputs[lit], index, share.reshape(-1)[lit] ** 2)
    np.testing.assert_allclose(ours[lit, 1], line.predict(inputs[lit]), atol=1e-3)


def test_the_learning_rate_rises_and_falls() -> None:
    from raygrid.learning.training import WARM_UP, learning_rate_share

    assert learning_rate_share(WARM_UP / 2) == pytest.approx(0.5)
    assert learning_rate_share(WARM_UP) == pytest.approx(1.0)
    assert learning_rate_share((1 + WARM_UP) / 2) == pytest.approx(0.505)
    assert learning_rate_share(1.0) == pytest.approx(0.01)


def test_kept_weights_are_the_running_mean(small_data: Dataset) -> None:
    """With two batches the mean keeps 1/11 of the first weights, and so on, as worked out here."""
    from raygrid.learning.checkpoint import new_state
    from raygrid.learning.training import Trainer, part_of

    spec = NetworkSpec(**SMALL_NET)
    scaling = fit_scaling(small_data)
    parts = part_of(small_data, spec, "train"), part_of(small_data, spec, "validation")
    one_batch = options(batches_per_epoch=1)
    trainer = Trainer(
        spec, make_series(small_data, scaling), scaling, *parts, one_batch, small_data.prosumer_id
    )
    state = new_state(initial_weights(spec, 1, 10, 1))
    seen = [state.weights["head1.w"].copy()]
    for _ in range(2):
        trainer.epoch(state, 2)
        seen.append(state.weights["head1.w"].copy())
    after_one = seen[0] / 11 + seen[1] * 10 / 11
    by_hand = after_one * 2 / 12 + seen[2] * 10 / 12
    np.testing.assert_allclose(state.mean["head1.w"], by_hand, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("task", ["step", "day"])
def test_a_batch_has_times_of_each_prosumers_own(small_data: Dataset, task: str) -> None:
    """All different, each as likely, and the same whoever is trained beside a prosumer."""
    from raygrid.learning.training import Trainer, part_of

    spec, scaling = NetworkSpec(task=task, **SMALL_NET), fit_scaling(small_data)
    train = part_of(small_data, spec, "train")
    series = make_series(small_data, scaling)
    few = options(times_per_batch=4)
    ids = small_data.prosumer_id
    trainer = Trainer(spec, series, scaling, train, train, few, ids)
    at = trainer.times(np.random.default_rng(3))
    assert at.shape == (10, trainer.batch_size)
    assert len({tuple(row) for row in at}) == 10
    assert np.isin(at, train).all()
    some = np.array([7, 2])
    part = Trainer(
        spec, make_series(small_data.rows(some), scaling.rows(some)), scaling.rows(some),
        train, train, few, ids[some],
    )  # fmt: skip
    np.testing.assert_array_equal(part.times(np.random.default_rng(3)), at[some])
    random = np.random.default_rng(5)
    drawn = np.concatenate([trainer.times(random) for _ in range(400)], axis=1)
    parts = 4 if task == "step" else len(train)
    for row in drawn:
        counts = np.bincount(np.searchsorted(train, row) * parts // len(train), minlength=parts)
        assert counts == pytest.approx(len(row) / parts, rel=0.5)
    # Windows at each prosumer's own times are those at the same time of all.
    cut, _ = windows_of(spec)
    own = cut(series, scaling, at)
    for k in range(10):
        alike = cut(series, scaling, at[k])
        for name, value in vars(own).items():
            np.testing.assert_array_equal(value[k], getattr(alike, name)[k])


@pytest.mark.parametrize("way", ["shared", "own", "federated"])
def test_training_learns_and_is_repeatable(small_data: Dataset, way: str) -> None:
    from raygrid.learning.training import Trainer, part_of, train

    # Without the regression, next to which a few batches show no gain.
    spec = NetworkSpec(architecture="transformer", **SMALL_NET)
    few = options(way=way, learning_rate=1e-3, batches_per_epoch=80)
    one, other = (train(small_data, spec, few) for _ in range(2))
    scaling = fit_scaling(small_data)
    fitted = part_of(small_data, spec, "train")
    trainer = Trainer(
        spec, make_series(small_data, scaling), scaling, fitted, fitted, few, small_data.prosumer_id
    )
    untrained = trainer.validate(initial_weights(spec, 1, 10, 1)).mean()
    assert trainer.validate(one.forecaster.weights).mean() < untrained
    for name, array in one.forecaster.weights.items():
        np.testing.assert_array_equal(array, other.forecaster.weights[name])
    assert len(one.forecaster.weights["norm"]) == (10 if way == "own" else 1)


def test_own_weights_are_those_of_training_alone(small_data: Dataset) -> None:
    """One batch of ten models learns what each would learn by itself."""
    from raygrid.learning.training import train

    spec = NetworkSpec(**SMALL_NET)
    together = train(small_data, spec, options(way="own")).forecaster
    alone = train(small_data.rows(np.array([0])), spec, options(way="own")).forecaster
    for name in ("head2.w", "conv.w", "layer0.qkv.w"):
        np.testing.assert_allclose(
            together.weights[name][0], alone.weights[name][0], rtol=1e-3, atol=2e-4
        )


def test_a_broken_off_training_goes_on_as_if_it_had_not(
    small_data: Dataset, tmp_path: Path
) -> None:
    from raygrid.learning.checkpoint import CHECKPOINT, LOG, load_checkpoint
    from raygrid.learning.training import train

    spec = NetworkSpec(**SMALL_NET)
    whole = train(small_data, spec, options())

    class StopError(Exception):
        pass

    def stop(_: str) -> None:
        raise StopError

    with pytest.raises(StopError):
        train(small_data, spec, options(), folder=tmp_path, tell=stop)
    resumed = train(small_data, spec, options(), folder=tmp_path, resume=True)
    for name, array in whole.forecaster.weights.items():
        np.testing.assert_array_equal(array, resumed.forecaster.weights[name])
    assert (
        (tmp_path / LOG)
        .read_text()
        .startswith("epoch,seconds,cpu_seconds,train_loss,validation_loss\n1,")
    )
    with pytest.raises(InputError, match="of another scenario, seed"):
        train(small_data, spec, options(seed=9), folder=tmp_path, resume=True)
    (tmp_path / CHECKPOINT).write_bytes(b"no zip")
    with pytest.raises(InputError, match="no checkpoint to go on from"):
        load_checkpoint(tmp_path, "")


def test_nan_stops_training_and_keeps_the_last_good_weights(
    small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raygrid.learning import training

    spec = NetworkSpec(**SMALL_NET)
    good = training.train(small_data, spec, options(epochs=1))
    plain = training.Trainer.epoch

    def epoch(self: Any, state: Any, total: int) -> float:
        if state.epoch < 1:
            return plain(self, state, 1)
        state.weights = {k: v * np.nan for k, v in state.weights.items()}
        weights = {k: torch.tensor(v) for k, v in state.weights.items()}
        return float(self.loss(weights, one_step(self.series, self.scaling, self.train[:2])).mean())

    monkeypatch.setattr(training.Trainer, "epoch", epoch)
    broken = training.train(small_data, spec, options(epochs=5))
    assert broken.status == "diverged"
    for name, array in good.forecaster.weights.items():
        np.testing.assert_array_equal(array, broken.forecaster.weights[name])


def test_calibrated_intervals_cover_four_fifths(small_data: Dataset, tmp_path: Path) -> None:
    forecaster = random_forecaster(small_data, NetworkSpec(**SMALL_NET), 1)
    at = np.arange(1000, 1500)
    found = calibrate(forecaster, small_data, at)
    q = found.forecast(found.series(small_data), at).quantiles[:, :, 0]
    load = small_data.load_kw[:, at]
    net = small_data.pv_kw[:, at] - load
    for k, actual in ((0, load), (2, net)):
        low, high = q[:, :, k, LEVELS.index(0.1)], q[:, :, k, LEVELS.index(0.9)]
        # Loads cannot fall below zero, which may leave an interval shorter than it was made.
        assert ((low <= actual) & (actual <= high)).mean() == pytest.approx(0.8, abs=0.01)
    again = load_forecaster(save_forecaster(tmp_path / "weights", found), small_data)
    np.testing.assert_array_equal(again.spread, found.spread)


@pytest.mark.parametrize("task", ["step", "day"])
def test_intervals_in_turn_follow_what_was_known_before(
    small_data: Dataset, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "RECENT_DAYS", 4)
    forecaster = random_forecaster(small_data, NetworkSpec(task=task, **SMALL_NET), 1)
    days = range(20, 24)
    found = forecast_in_turn(forecaster, small_data, days)
    at = np.arange(20 * 96, 24 * 96) if task == "step" else np.array(days)
    plain = forecaster.forecast(forecaster.series(small_data), at)
    np.testing.assert_allclose(found.expected, plain.expected, atol=1e-5)
    load = small_data.load_kw.copy()
    load[:, 21 * 96 :] *= 3.0
    other = forecast_in_turn(forecaster, replace(small_data, load_kw=load), days)
    first = slice(0, 96) if task == "step" else slice(0, 1)
    np.testing.assert_array_equal(found.quantiles[:, first], other.quantiles[:, first])
    width, wider = (
        (f.quantiles[:, -1, 0, 0, HIGH] - f.quantiles[:, -1, 0, 0, LOW]).mean()
        for f in (found, other)
    )
    assert width < wider


@pytest.mark.parametrize(("task", "models"), [("step", 1), ("step", 10), ("day", 1)])
def test_what_networks_add_is_shrunk_to_what_pays(
    small_data: Dataset, task: str, models: int
) -> None:
    forecaster = random_forecaster(small_data, NetworkSpec(task=task, **SMALL_NET), models)
    series = forecaster.series(small_data)
    at = np.arange(1000, 1200, 5) if task == "step" else np.arange(10, 16)
    found = temper(forecaster, small_data, at)
    steps = at[:, None] if task == "step" else at[:, None] * 96 + np.arange(96)
    line = {k: np.array(v) for k, v in forecaster.weights.items()}
    for name in ("head2.w", "head2.b"):
        line[name].reshape(*line[name].shape[:2], -1, 3, 1 + len(LEVELS))[..., :2, 0] = 0.0
    before, alone, after = (
        f.forecast(series, at) for f in (forecaster, replace(forecaster, weights=line), found)
    )
    for k, actual in enumerate((series.load_kw[:, steps], series.pv_kw[:, steps])):
        scale = (forecaster.scaling.load_std_kw, np.maximum(forecaster.scaling.pv_rating_kw, 1e-9))

        def error(of: Any, k: int = k, actual: Any = actual, scale: Any = scale) -> Any:
            apart = ((of.expected[..., k] - actual) / scale[k][:, None, None]).reshape(models, -1)
            return (apart**2).sum(axis=1)

        best = np.minimum(error(before), error(alone))
        # Forecasts end at 0, which the factor in closed form does not see.
        assert (error(after) <= best * 1.02 + 1e-9).all()
    np.testing.assert_array_equal(after.quantiles[..., :2, :], before.quantiles[..., :2, :])


def test_load_and_pv_forecast_apart_do_not_look_at_each_other(small_data: Dataset) -> None:
    from raygrid.learning.training import Trainer, part_of

    spec = NetworkSpec(task="day", apart=True, **SMALL_NET)
    forecaster = random_forecaster(small_data, spec, 1)
    trainer = Trainer(
        spec, forecaster.series(small_data), forecaster.scaling,
        *(part_of(small_data, spec, part) for part in ("train", "validation")), options(),
        small_data.prosumer_id,
    )  # fmt: skip
    fitted = replace(forecaster, weights=forecaster.weights | trainer.direct())
    at = np.array([9, 17])
    load, pv = (getattr(small_data, name).copy() for name in ("load_kw", "pv_kw"))
    for by in (forecaster, fitted):
        one = by.forecast(by.series(small_data), at)
        for name, values, k in (("load_kw", load * 1.7, 1), ("pv_kw", pv * 0.6, 0)):
            other = by.forecast(by.series(replace(small_data, **{name: values})), at)
            np.testing.assert_array_equal(other.expected[..., k], one.expected[..., k])
            assert (other.expected[..., 1 - k] != one.expected[..., 1 - k]).any()
    assert not fitted.weights[DIRECT_W][0, ~load_inputs(spec), 0].any()
    assert not fitted.weights[DIRECT_W][0, ~pv_inputs(spec), 1].any()
    with pytest.raises(ValueError, match="by the hybrid for the day ahead"):
        NetworkSpec(apart=True)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_pv_leans_on_yesterday_as_far_as_the_last_days_say(
    small_data: Dataset, share: float
) -> None:
    """What happens lies between yesterday's index and the line: the share is found again."""
    spec = NetworkSpec(task="day", apart=True, width=8, heads=2, embedding=0)
    forecaster = random_forecaster(small_data, spec, 1)
    forecaster.weights[DIRECT_W] *= 0.01
    data, day = small_data, 18

    def both(data: Dataset, day: int, share: float) -> FloatArray:
        """PV of a day by the line alone and by yesterday's index alone, blended."""
        recent = data.until(day, SCALE_DAYS)
        by = leaning(forecaster.of(recent), share)
        return by.forecast(by.series(recent), np.array(recent.days("test"))).expected[:, 0, :, 1]

    for k in range(day - LEAN_DAYS, day):
        line, yesterday = both(data, k, 1.0), both(data, k, 0.0)
        assert np.abs(line - yesterday).max() > 0.3
        pv = data.pv_kw.copy()
        pv[:, k * 96 : (k + 1) * 96] = share * line + (1 - share) * yesterday
        data = replace(data, pv_kw=pv)
    days = np.array([day])
    assert line_shares(forecaster, data, days) == pytest.approx([share], abs=1e-3)
    (found,) = renewed(forecaster, data, days)
    series = found.series(recent := data.until(day, SCALE_DAYS))
    made = found.forecast(series, np.array(recent.days("test"))).expected[:, 0, :, 1]
    np.testing.assert_allclose(made, both(data, day, share), atol=2e-3)
    # Yesterday's index under today's sun is what a share of 0 says.
    scaling = fit_scaling(recent)
    at = recent.days("test")[0] * 96 + np.arange(96)
    index, envelope = series.own[:, at - 96, 2], series.envelope_kw[:, at]
    np.testing.assert_allclose(both(data, day, 0.0), index * envelope, atol=1e-5)
    np.testing.assert_array_equal(scaling.pv_ratio, found.scaling.pv_ratio)
    # Nothing of the day itself or later is looked at.
    load, pv = data.load_kw.copy(), data.pv_kw.copy()
    load[:, day * 96 :] *= 2.0
    pv[:, day * 96 :] *= 0.5
    (same,) = renewed(forecaster, replace(data, load_kw=load, pv_kw=pv), days)
    for name, value in found.weights.items():
        np.testing.assert_array_equal(value, same.weights[name])
    np.testing.assert_array_equal(found.scaling.load_std_kw, same.scaling.load_std_kw)
    # No day before has its past: the line as it was fitted.
    assert line_shares(forecaster, data, np.array([7])) == 1.0


def test_weights_come_back_and_must_fit(small_data: Dataset, tmp_path: Path) -> None:
    forecaster = random_forecaster(small_data, NetworkSpec(**SMALL_NET), 1)
    folder = save_forecaster(tmp_path / "weights", forecaster)
    found = load_forecaster(folder, small_data)
    at = np.array([700, 800])
    np.testing.assert_array_equal(
        found.forecast(found.series(small_data), at).expected,
        forecaster.forecast(forecaster.series(small_data), at).expected,
    )
    with pytest.raises(InputError, match="knows 10 prosumers"):
        load_forecaster(folder, small_data.rows(np.arange(4)))
    changed = replace(small_data, load_kw=small_data.load_kw * 2)
    with pytest.raises(InputError, match="trained on other data"):
        load_forecaster(folder, changed)
    with pytest.raises(InputError, match="of another kind of network"):
        load_forecaster(save_forecaster(tmp_path / "other", replace(found, spread=np.ones(3))))
    for wrong in ("yesterday", 7, "2016-07-14T12:00:00", "2016-07-14T00:00:00+02:00"):
        odd = replace(found, facts=found.facts | {"learnt_until": wrong})
        with pytest.raises(InputError, match="learnt_until is no midnight"):
            load_forecaster(save_forecaster(tmp_path / "odd", odd))
    with pytest.raises(InputError, match="is before the first that has its past"):
        found.forecast(found.series(small_data), np.array([3]))


def test_weights_for_anybody_go_without_those_they_were_learnt_from(
    small_data: Dataset, tmp_path: Path
) -> None:
    spec = NetworkSpec(task="day", width=8, heads=2, embedding=0, apart=True)
    forecaster = random_forecaster(small_data, spec, 1)
    folder = save_forecaster(tmp_path / "weights", forecaster)
    stored = load_forecaster(folder)
    assert len(stored.prosumer_id) == 0
    assert all(not len(v) for k, v in vars(stored.scaling).items() if k.startswith(("load", "pv")))
    found = load_forecaster(folder, small_data)
    at = np.array([9, 17])
    np.testing.assert_array_equal(
        found.forecast(found.series(small_data), at).expected,
        forecaster.forecast(forecaster.series(small_data), at).expected,
    )
