"""Training of forecasters with torch: one batch for all prosumers, whether weights are shared.

Loss: absolute error of the median and quantile loss (AI-TEM III.C), plus squared error of the
expected value, because Table III scores the root mean square, whose best forecast is the mean. All
three are of load, PV and net, each over its own scale. Adam with a rate that warms up and falls by
a cosine; per model, gradients are limited. What is validated, kept and used is the running mean of
the weights, whose noise is far below that of the last batch's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from raygrid.arrays import FloatArray, IntArray
from raygrid.errors import InputError
from raygrid.learning.calibration import CALIBRATION_STRIDE, calibrate, temper
from raygrid.learning.checkpoint import TrainState, load_checkpoint, new_state, save_checkpoint
from raygrid.learning.code import code_digest
from raygrid.learning.dataset import STEPS_PER_DAY, Dataset
from raygrid.learning.direct import products, solve
from raygrid.learning.features import Scaling, Series, Windows, fit_scaling, make_series
from raygrid.learning.inference import Forecaster, by_model, scales_of, windows_of
from raygrid.learning.network import (
    DIRECT_B,
    DIRECT_W,
    LEVELS,
    MEDIAN,
    NetworkSpec,
    Scales,
    forecasts,
    initial_weights,
    raw_outputs,
)
from raygrid.learning.renewal import training_end
from raygrid.learning.train_options import TrainOptions

CLOSED_FORM = (DIRECT_W, DIRECT_B)
PV_UNIT = 0.04
"""Share of its rating that PV errors are counted in by the loss."""
DROPOUT = 0.2
"""Share of what heads read of a transformer's tokens that a batch leaves out; recurrent networks
are better without, by their validation loss."""
GRADIENT_LIMIT = 1.0
ADAM = (0.9, 0.999, 1e-8)
WARM_UP = 0.04
"""Share of all batches over which the learning rate rises."""
GOLDEN = 0.6180339887498949
"""Multiples of it, less their whole part, lie evenly between 0 and 1."""
MEAN_KEEP = 0.995
"""What the running mean of the weights keeps of itself at a batch (less at the start)."""


class Learner(Protocol):
    """Who trains: a `Trainer` of all prosumers, or hosts of some each."""

    def direct(self) -> dict[str, Any]:
        """The weights that are fitted in closed form (M, ...)."""
        ...

    def epoch(self, state: TrainState, total_epochs: int) -> float:
        """Run one epoch in place; returns the mean training loss, NaN if it broke off."""
        ...

    def validate(self, weights: dict[str, Any]) -> FloatArray:
        """Mean validation loss of each model (M,)."""
        ...


@dataclass(frozen=True)
class TrainResult:
    """A trained forecaster, and how training ended.

    Attributes
    ----------
    forecaster : Forecaster
        With each model's best weights.
    status : str
        'stopped early', 'all epochs' or 'diverged' (a loss was not a number; weights are the last
        good ones).
    log : list of dict
        One row an epoch: epoch, seconds, cpu_seconds, train_loss, validation_loss.
    """

    forecaster: Forecaster
    status: str
    log: list[dict[str, float]]


class Trainer:
    """Trains M models on the series of the prosumers it is given, and nothing else.

    Parameters
    ----------
    spec : NetworkSpec
        The network.
    series : Series
        Channels of N prosumers, N a multiple of M.
    scaling : Scaling
        Their scales.
    train, validation : (n,) int64
        Steps or days of either part.
    options : TrainOptions
        How to train.
    prosumer_id : (N,) int64
        Their ids, which tell the times that each is trained on.
    device : str
        Torch's name of where to compute.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        series: Series,
        scaling: Scaling,
        train: IntArray,
        validation: IntArray,
        options: TrainOptions,
        prosumer_id: IntArray,
        device: str = "cpu",
    ) -> None:
        import torch

        self.torch = torch
        self.device = torch.device(device)
        self.spec, self.series, self.scaling, self.options = spec, series, scaling, options
        self.train, self.validation = train, validation
        self.cut, _ = windows_of(spec)
        self.ops = _torch_ops()
        self._begin = (prosumer_id * GOLDEN % 1.0 * len(train)).astype(np.int64)

    def loss(
        self, weights: dict[str, Any], windows: Windows, random: np.random.Generator | None = None
    ) -> Any:
        """Mean loss of each model (M,) over some windows (N, B, ...); with `random` in training."""
        torch, ops = self.torch, self.ops
        models = len(weights["embedding"])
        rows = by_model(windows, models)
        scales = scales_of(self.scaling, rows, models)
        rating = np.repeat(self.scaling.pv_rating_kw, windows.steps.shape[1])
        rating = np.maximum(rating.reshape(models, -1, 1), 1e-3).astype(np.float32)
        actual = np.stack([rows.load_kw, rows.pv_kw, rows.pv_kw - rows.load_kw], axis=-1)
        width = np.stack(
            np.broadcast_arrays(scales.load_std_kw, PV_UNIT * rating, scales.net_std_kw), axis=-1
        )
        to = self._tensor
        kept = None if random is None else self._kept(random, rows.steps.shape[1])
        raw = raw_outputs(weights, self.spec, to(rows.steps), to(rows.known), ops, kept)
        on_device = Scales(*(to(value) for value in vars(scales).values()))
        expected, quantiles = forecasts(raw, to(rows.anchor), on_device, ops)
        y, unit = to(actual), to(width)
        over = (y[..., None] - quantiles) / unit[..., None]
        level = to(np.array(LEVELS, dtype=np.float32))
        pinball = torch.maximum(level * over, (level - 1) * over).mean(dim=-1)
        each = over[..., MEDIAN].abs() + pinball + 0.5 * ((y - expected) / unit) ** 2
        return each.mean(dim=(1, 2, 3))

    def direct(self) -> dict[str, Any]:
        """The weights that are fitted in closed form; see `raygrid.learning.direct`."""
        models = len(self.series.own) if self.options.way == "own" else 1
        return solve(products(self.spec, self.series, self.scaling, self.train, models))

    def epoch(self, state: TrainState, total_epochs: int) -> float:
        """Run one epoch in place; returns the mean training loss, NaN if it broke off."""
        torch, options = self.torch, self.options
        random = np.random.default_rng([options.seed, 2, state.epoch])
        fixed = {k: self._tensor(state.weights[k]) for k in state.weights if k in CLOSED_FORM}
        names = [k for k in state.weights if k not in fixed]
        weights = {k: self._tensor(state.weights[k]).requires_grad_(True) for k in names}
        first = {k: self._tensor(state.first[k]) for k in names}
        second = {k: self._tensor(state.second[k]) for k in names}
        mean = {k: self._tensor(state.mean[k]) for k in names}
        keep1, keep2, small = ADAM
        losses = []
        for batch in range(options.batches_per_epoch):
            windows = self.cut(self.series, self.scaling, self.times(random))
            loss = self.loss(weights | fixed, windows, random)
            if not bool(torch.isfinite(loss).all()):
                return float("nan")
            # The sum: each model's gradient is that of its own loss.
            slopes = torch.autograd.grad(loss.sum(), [weights[k] for k in names])
            with torch.no_grad():
                squares = sum((g.reshape(len(g), -1) ** 2).sum(dim=1) for g in slopes)
                limit = (GRADIENT_LIMIT / (squares.sqrt() + 1e-9)).clamp(max=1.0)
                done = state.epoch * options.batches_per_epoch + batch + 1
                share = done / (total_epochs * options.batches_per_epoch)
                rate = options.learning_rate * learning_rate_share(share)
                keep = min(MEAN_KEEP, done / (done + 10.0))
                for k, slope in zip(names, slopes, strict=True):
                    slope = slope * limit.reshape(-1, *[1] * (slope.dim() - 1))
                    first[k].mul_(keep1).add_(slope, alpha=1 - keep1)
                    second[k].mul_(keep2).addcmul_(slope, slope, value=1 - keep2)
                    size = (second[k] / (1 - keep2**done)).sqrt() + small
                    weights[k].sub_(rate / (1 - keep1**done) * first[k] / size)
                    mean[k].mul_(keep).add_(weights[k], alpha=1 - keep)
            losses.append(float(loss.mean().detach()))
        state.weights |= {k: weights[k].detach().cpu().numpy() for k in names}
        state.first |= {k: first[k].cpu().numpy() for k in names}
        state.second |= {k: second[k].cpu().numpy() for k in names}
        state.mean |= {k: mean[k].cpu().numpy() for k in names}
        state.epoch += 1
        return float(np.mean(losses))

    def times(self, random: np.random.Generator) -> IntArray:
        """Steps, or days, of a batch (N, B), of each prosumer its own.

        At one time all see the same sky and the same hour, so that a batch of few times would say
        little. They depend on a prosumer's id alone, not on who is trained beside it.
        """
        drawn = random.choice(len(self.train), self.batch_size, replace=False)
        return np.asarray(self.train[(drawn + self._begin[:, None]) % len(self.train)])

    def _kept(self, random: np.random.Generator, rows: int) -> Any:
        """What transformers keep of their tokens in a batch, the same for all models; else None."""
        if not self.spec.architecture.endswith("transformer"):
            return None
        drawn = random.random((1, rows, self.spec.tokens, self.spec.width), dtype=np.float32)
        return self._tensor((drawn >= DROPOUT).astype(np.float32) / (1 - DROPOUT))

    @property
    def batch_size(self) -> int:
        """Times, or days, of every prosumer in a batch."""
        wanted = self.options.times_per_batch
        if self.spec.task == "day":
            wanted = max(1, wanted // 2)
        return min(wanted, len(self.train))

    def validate(self, weights: dict[str, Any]) -> FloatArray:
        """Mean validation loss of each model (M,)."""
        torch = self.torch
        stride = self.options.validation_stride if self.spec.task == "step" else 1
        at = self.validation[::stride]
        held = {k: self._tensor(v) for k, v in weights.items()}
        total, count = np.zeros(len(weights["embedding"])), 0
        size = 4 * self.batch_size
        with torch.no_grad():
            for k in range(0, len(at), size):
                some = at[k : k + size]
                loss = self.loss(held, self.cut(self.series, self.scaling, some))
                total += loss.cpu().numpy() * len(some)
                count += len(some)
        return total / count

    def _tensor(self, array: Any) -> Any:
        return self.torch.tensor(np.ascontiguousarray(array), device=self.device)


def learning_rate_share(done: float) -> float:
    """Learning rate over the greatest one, after a share of all batches: a ramp, then a cosine."""
    if done < WARM_UP:
        return done / WARM_UP
    falling = min((done - WARM_UP) / (1 - WARM_UP), 1.0)
    return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * falling)))


def _torch_ops() -> Any:
    """`raygrid.learning.network.Ops` of torch."""
    import torch

    class TorchOps:
        exp = staticmethod(torch.exp)
        tanh = staticmethod(torch.tanh)
        relu = staticmethod(torch.relu)
        softplus = staticmethod(torch.nn.functional.softplus)

        @staticmethod
        def concatenate(parts: list[Any]) -> Any:
            return torch.cat(parts, dim=-1)

        @staticmethod
        def stack(parts: list[Any], axis: int) -> Any:
            return torch.stack(parts, dim=axis)

        @staticmethod
        def expand(x: Any, shape: tuple[int, ...]) -> Any:
            return x.expand(shape)

    return TorchOps()


def require_torch() -> Any:
    """Torch, or one line that says how to get it."""
    try:
        import torch
    except ImportError:
        raise InputError(
            "torch is not installed", "raygrid train", "pip install 'raygrid[learn]'"
        ) from None
    return torch


def choose_device(wanted: str = "auto") -> str:
    """Torch's name of where to compute.

    Parameters
    ----------
    wanted : str
        'auto' (a GPU where torch finds one), 'cpu' or 'cuda'.

    Raises
    ------
    InputError
        If torch cannot compute there, in the 32-bit numbers that weights are.
    """
    torch = require_torch()
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, dtype=torch.float32, device=wanted).add_(1).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        line = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"torch cannot compute there ({line})", f"--device {wanted}", "choose auto or cpu"
        ) from None
    return wanted


def part_of(data: Dataset, spec: NetworkSpec, part: str) -> IntArray:
    """Steps, or days, of a part of the split that have their past in the data."""
    _, earliest = windows_of(spec)
    if spec.task == "step":
        found = data.steps(part)
    else:
        days = data.days(part)
        found = np.arange(days.start, days.stop)
    found = found[found >= earliest]
    if len(found) == 0:
        raise InputError(
            f"no {part} {'steps' if spec.task == 'step' else 'days'} with their past",
            f"{data.name}:history",
            f"give more {part} days, {earliest // STEPS_PER_DAY + 2} or more",
        )
    return found


def train(
    data: Dataset,
    spec: NetworkSpec,
    options: TrainOptions,
    *,
    folder: Path | None = None,
    resume: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    learner: Learner | None = None,
    device: str = "auto",
) -> TrainResult:
    """Train a forecaster on a data set.

    Parameters
    ----------
    data : Dataset
        Its training days are fitted to, its validation days say when to stop.
    spec : NetworkSpec
        The network.
    options : TrainOptions
        How to train.
    folder : Path, optional
        Existing folder for `checkpoint.npz` and `log.csv`, written after every epoch.
    resume : bool
        Go on from the folder's checkpoint; the end is the same as without the break.
    tell : callable
        Takes a line after every epoch.
    learner : Learner, optional
        Who trains, where it is not this process.
    device : str
        As for `choose_device`.

    Returns
    -------
    TrainResult
        The forecaster with the best weights.

    Raises
    ------
    InputError
        If torch is missing, or the checkpoint is of another training.
    """
    require_torch()
    scaling = fit_scaling(data)
    n = len(data.prosumer_id)
    parts = part_of(data, spec, "train"), part_of(data, spec, "validation")
    models = n if options.way == "own" else 1
    if learner is None:
        learner = _learner(data, spec, scaling, parts, options, choose_device(device))
    key = json.dumps([spec.facts(), asdict(options), data.digest(), code_digest()], sort_keys=True)
    if resume and folder is not None:
        state = load_checkpoint(folder, key)
    else:
        first = initial_weights(spec, models, n // models, options.seed)
        if options.way == "federated":
            first["embedding"][:] = 0.0  # nobody is told who else there is
        if spec.direct:
            first |= learner.direct()
        state = new_state(first)
    status = "all epochs"
    while state.epoch < options.epochs:
        began, began_cpu = time.perf_counter(), time.process_time()
        loss = learner.epoch(state, options.epochs)
        found = learner.validate(state.mean) if np.isfinite(loss) else np.array([np.nan])
        if not np.isfinite(found).all():
            status = "diverged"
            break
        better = found < state.best_loss
        for name, best in state.best.items():
            best[better] = state.mean[name][better]
        state.best_loss = np.where(better, found, state.best_loss)
        if better.any():
            state.best_epoch = state.epoch
        row = {
            "epoch": state.epoch,
            "seconds": round(time.perf_counter() - began, 3),
            "cpu_seconds": round(time.process_time() - began_cpu, 3),
            "train_loss": loss,
            "validation_loss": float(found.mean()),
        }
        state.log.append(row)
        if folder is not None:
            save_checkpoint(folder, state, key)
        tell(
            f"epoch {state.epoch}/{options.epochs}: training {loss:.4f}, "
            f"validation {row['validation_loss']:.4f}, {row['seconds']:.1f} s"
        )
        if state.epoch - state.best_epoch >= options.patience:
            status = "stopped early"
            break
    facts = {
        "scenario": data.name,
        "data": data.digest(),
        **training_end(data),
        "levels": list(LEVELS),
        "options": asdict(options),
        "status": status,
        "epochs": state.epoch,
        "best_validation_loss": float(np.mean(state.best_loss)),
    }
    forecaster = Forecaster(spec, state.best, scaling, data.prosumer_id, facts)
    stride = CALIBRATION_STRIDE if spec.task == "step" else 1
    forecaster = temper(forecaster, data, parts[1][::stride])
    # A month of weather is little to tell errors by: the training days before it count as well.
    known = np.concatenate([parts[0][-len(parts[1]) :], parts[1]])
    forecaster = calibrate(forecaster, data, known[::stride])
    return TrainResult(forecaster, status, state.log)


def _learner(
    data: Dataset,
    spec: NetworkSpec,
    scaling: Scaling,
    parts: tuple[IntArray, IntArray],
    options: TrainOptions,
    device: str,
) -> Learner:
    """Who trains in this process, on one thread: several wait for each other where other
    processes compute, a hundred times as long as they save."""
    require_torch().set_num_threads(1)
    if options.way != "federated":
        series = make_series(data, scaling, dark=spec.dark)
        return Trainer(spec, series, scaling, *parts, options, data.prosumer_id, device)
    from raygrid.learning.hosted import (
        GivenDataset,
        HostedLearner,
        HostedTraining,
        LocalGroup,
        TrainingOrder,
    )

    host = HostedTraining(TrainingOrder(GivenDataset(data), spec, options), device)
    return HostedLearner(LocalGroup([host]), data.prosumer_id, options)
