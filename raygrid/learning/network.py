"""Forecasting networks, written once: torch trains them, numpy runs them.

Every weight has a leading axis of M models, which run as one batch of matrix products: M is 1 for
weights that all prosumers share, N where each has its own. Rows are G prosumers of a model at B
times. Each model also has an embedding of each of its prosumers.

The hybrid is AI-TEM's III.C: a convolution over three steps finds local patterns, patches of steps
become tokens, a transformer encoder relates them, and heads give load, PV and net surplus, each as
an expected value and as quantiles. The last steps also reach the heads past the encoder, whose
normalisation would hide by how much load and sky have just changed, and the network forecasts what
a linear regression on them leaves (`raygrid.learning.direct` fits it in closed form): a residual
connection around the whole of it, from which training starts near its end.

Where load and PV are forecast apart, the network sees load alone and says nothing of PV, and either
line sees its own: all households of a load shape then have one forecast whatever their roofs, and
all roofs of an orientation one whatever is consumed below them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import numpy as np

from raygrid.learning.dataset import STEPS_PER_DAY
from raygrid.learning.features import (
    DARK,
    DAY_CHANNELS,
    KNOWN_CHANNELS,
    STEP_CHANNELS,
    STEPS_BEHIND,
)
from raygrid.learning.lines import (
    LAST_CHANNELS,
    LAST_STEPS,
    LOAD_SEEN,
    LOAD_STEPS,
    SKY_TERMS,
    direct_inputs,
)

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""Levels of the quantiles; 0.1 and 0.9 bound the 80 % interval."""
MEDIAN = LEVELS.index(0.5)
LOW, HIGH = LEVELS.index(0.1), LEVELS.index(0.9)
TARGETS = ("load", "pv", "net")
ARCHITECTURES = ("cnn_transformer", "transformer", "lstm", "cnn_lstm")
TASKS = ("step", "day")
DIRECT_W, DIRECT_B = "direct.w", "direct.b"
"""The linear regression's weights: fitted in closed form, not by gradients."""
DARK_APART = 0.001
"""Share of the rating without an index where a line may be yesterday's alone, even at dusk."""

Arrays = Mapping[str, Any]
"""Weights by name, of numpy or of torch."""


class Ops(Protocol):
    """The few functions that numpy and torch name differently."""

    def concatenate(self, parts: list[Any]) -> Any:
        """Join along the last axis."""
        ...

    def exp(self, x: Any) -> Any:
        """Exponential."""
        ...

    def tanh(self, x: Any) -> Any:
        """Hyperbolic tangent."""
        ...

    def relu(self, x: Any) -> Any:
        """The positive part."""
        ...

    def softplus(self, x: Any) -> Any:
        """log(1 + exp x)."""
        ...

    def stack(self, parts: list[Any], axis: int) -> Any:
        """Join along a new axis."""
        ...

    def expand(self, x: Any, shape: tuple[int, ...]) -> Any:
        """Repeat along axes of length 1."""
        ...


class NumpyOps:
    """`Ops` of numpy."""

    @staticmethod
    def concatenate(parts: list[Any]) -> Any:
        """Join along the last axis."""
        return np.concatenate(parts, axis=-1)

    exp = staticmethod(np.exp)
    tanh = staticmethod(np.tanh)

    @staticmethod
    def relu(x: Any) -> Any:
        """The positive part."""
        return np.maximum(x, 0)

    @staticmethod
    def softplus(x: Any) -> Any:
        """log(1 + exp x)."""
        return np.logaddexp(np.zeros((), dtype=x.dtype), x)

    @staticmethod
    def stack(parts: list[Any], axis: int) -> Any:
        """Join along a new axis."""
        return np.stack(parts, axis=axis)

    expand = staticmethod(np.broadcast_to)


@dataclass(frozen=True)
class NetworkSpec:
    """Shape of a network.

    Attributes
    ----------
    architecture : str
        One of `ARCHITECTURES`.
    task : str
        'step': one step ahead; 'day': the day ahead.
    width, heads, layers, embedding : int
        Width of the tokens, attention heads, encoder layers, length of a prosumer's embedding.
    apart : bool
        Whether load and PV are forecast apart, by the hybrid for the day ahead.
    """

    architecture: str = "cnn_transformer"
    task: str = "step"
    width: int = 32
    heads: int = 4
    layers: int = 1
    embedding: int = 8
    apart: bool = False

    def __post_init__(self) -> None:
        if self.apart and not (self.direct and self.task == "day"):
            raise ValueError("load and PV are forecast apart by the hybrid for the day ahead")

    @property
    def steps(self) -> int:
        """Input steps."""
        return STEPS_BEHIND if self.task == "step" else STEPS_PER_DAY

    @property
    def horizon(self) -> int:
        """Steps ahead."""
        return 1 if self.task == "step" else STEPS_PER_DAY

    @property
    def channels(self) -> int:
        """Input channels of a step."""
        if self.apart:
            return len(LOAD_STEPS)
        return STEP_CHANNELS if self.task == "step" else DAY_CHANNELS

    @property
    def patch(self) -> int:
        """Steps that make a token."""
        if self.task == "day":
            return 4
        return 2 if self.architecture.startswith("cnn") else 1

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.steps // self.patch

    @property
    def head_inputs(self) -> int:
        """Channels that the heads see of a token (and of what is known of its steps)."""
        each = self.direct_inputs if self.direct else KNOWN_CHANNELS
        if self.apart:
            each = len(LOAD_SEEN)
        if self.task == "step":
            return 2 * self.width + each + self.embedding
        return self.width + self.patch * each + self.embedding

    @property
    def direct_inputs(self) -> int:
        """Channels of a step ahead that reach the hybrid's heads past the encoder."""
        if self.task == "step":
            return LAST_STEPS * len(LAST_CHANNELS) + KNOWN_CHANNELS
        return 2 * DAY_CHANNELS + SKY_TERMS

    @property
    def direct(self) -> bool:
        """Whether inputs reach the heads past the encoder: the hybrid's do."""
        return self.architecture == "cnn_transformer"

    @property
    def dark(self) -> float:
        """Share of the rating below which an envelope has no index."""
        return DARK_APART if self.apart else DARK

    @property
    def head_steps(self) -> int:
        """Steps ahead that one token's heads forecast."""
        return 1 if self.task == "step" else self.patch

    def facts(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return asdict(self)

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self:
        """From a manifest."""
        return cls(**facts)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight without the axis of models, the embedding left out."""
        d = self.width
        found: dict[str, tuple[int, ...]] = {}
        inputs = self.channels
        if self.architecture.startswith("cnn"):
            found |= {"conv.w": (3 * inputs, d), "conv.b": (1, d)}
            inputs = d
        found |= {"token.w": (self.patch * inputs + self.embedding, d), "token.b": (1, d)}
        if self.architecture.endswith("transformer"):
            found["position"] = (self.tokens, d)
            for k in range(self.layers):
                found |= {
                    f"layer{k}.norm1": (2, d),
                    f"layer{k}.qkv.w": (d, 3 * d),
                    f"layer{k}.qkv.b": (1, 3 * d),
                    f"layer{k}.out.w": (d, d),
                    f"layer{k}.out.b": (1, d),
                    f"layer{k}.norm2": (2, d),
                    f"layer{k}.ff1.w": (d, 2 * d),
                    f"layer{k}.ff1.b": (1, 2 * d),
                    f"layer{k}.ff2.w": (2 * d, d),
                    f"layer{k}.ff2.b": (1, d),
                }
        else:
            found |= {"cell.w": (2 * d, 4 * d), "cell.b": (1, 4 * d)}
        if self.direct:
            found |= {DIRECT_W: (self.direct_inputs, 2), DIRECT_B: (1, 2)}
        outputs = self.head_steps * len(TARGETS) * (1 + len(LEVELS))
        found |= {
            "norm": (2, d),
            "head1.w": (self.head_inputs, 2 * d),
            "head1.b": (1, 2 * d),
            "head2.w": (2 * d, outputs),
            "head2.b": (1, outputs),
        }
        return found


def spec_for_anybody(task: str) -> NetworkSpec:
    """The hybrid without embeddings; of the day ahead, load and PV apart and half as wide."""
    if task == "step":
        return NetworkSpec(task=task, embedding=0)
    return NetworkSpec(task=task, embedding=0, apart=True, width=16, heads=2)


def initial_weights(
    spec: NetworkSpec, models: int, prosumers_each: int, seed: int
) -> dict[str, Any]:
    """Random weights (He's scheme), the same for every model at the start.

    Parameters
    ----------
    spec : NetworkSpec
        The network.
    models, prosumers_each : int
        Numbers M and G.
    seed : int
        Seed of the draws.

    Returns
    -------
    dict of str to (M, ...) float32
        Weights by name.
    """
    random = np.random.default_rng([seed, 1])
    weights = {}
    for name, shape in spec.shapes().items():
        if name.endswith(".b") or name == DIRECT_W:
            value = np.zeros(shape)
        elif "norm" in name:
            value = np.stack([np.ones(shape[1]), np.zeros(shape[1])])
        elif name == "position":
            value = 0.1 * random.standard_normal(shape)
        elif name == "head2.w":
            # Forecasts start at their anchor, or on the line.
            value = 0.001 * random.standard_normal(shape)
        else:
            value = random.standard_normal(shape) / np.sqrt(shape[0])
        weights[name] = value
    outputs = weights["head2.b"].reshape(-1, 1 + len(LEVELS))
    outputs[:, 1:] = -2.0  # narrow at first: softplus(-2) is 0.13
    outputs[:, 1 + MEDIAN] = 0.0
    stacked = {k: np.repeat(v[None].astype("f4"), models, axis=0) for k, v in weights.items()}
    embedding = 0.1 * random.standard_normal((models * prosumers_each, spec.embedding))
    stacked["embedding"] = embedding.reshape(models, prosumers_each, -1).astype("f4")
    return stacked


def _linear(p: Arrays, name: str, x: Any) -> Any:
    """(M, ..., C) to (M, ..., D), one product for all rows of a model."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1]) @ p[f"{name}.w"] + p[f"{name}.b"]
    return flat.reshape(*x.shape[:-1], flat.shape[-1])


def _norm(p: Arrays, name: str, x: Any) -> Any:
    """Layer normalisation with gain and bias (M, 2, D)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = ((centred * centred).mean(axis=-1, keepdims=True) + 1e-5) ** -0.5
    gain = p[name].reshape(p[name].shape[0], 1, 1, 2, -1)
    return centred * scale * gain[:, :, :, 0] + gain[:, :, :, 1]


def _neighbours(x: Any, ops: Ops) -> Any:
    """Each step with the one before and the one after: (M, R, S, C) to (M, R, S, 3C)."""
    nothing = x[:, :, :1] * 0
    before = _join_steps([nothing, x[:, :, :-1]], ops)
    after = _join_steps([x[:, :, 1:], nothing], ops)
    return ops.concatenate([before, x, after])


def _join_steps(parts: list[Any], ops: Ops) -> Any:
    turned = [part.swapaxes(2, 3) for part in parts]
    return ops.concatenate(turned).swapaxes(2, 3)


def _join_last_but_one(parts: list[Any], ops: Ops) -> Any:
    turned = [part.swapaxes(-2, -1) for part in parts]
    return ops.concatenate(turned).swapaxes(-2, -1)


def _attention(p: Arrays, name: str, x: Any, heads: int, ops: Ops) -> Any:
    models, rows, tokens, width = x.shape
    qkv = _linear(p, f"{name}.qkv", x).reshape(models, rows, tokens, 3, heads, width // heads)
    query, key, value = (qkv[:, :, :, k].swapaxes(2, 3) for k in range(3))
    score = query @ key.swapaxes(3, 4) * (width // heads) ** -0.5
    # Scores of normalised tokens are small: no need to take the greatest off before exp.
    weight = ops.exp(score)
    mixed = (weight / weight.sum(axis=-1, keepdims=True)) @ value
    mixed = mixed.swapaxes(2, 3).reshape(models, rows, tokens, width)
    return _linear(p, f"{name}.out", mixed)


def _recurrence(p: Arrays, x: Any, ops: Ops) -> Any:
    """Long short-term memory over the tokens; all its outputs (M, R, tokens, D)."""
    hidden = cell = x[:, :, 0] * 0
    outputs = []
    for k in range(x.shape[2]):
        gates = _linear(p, "cell", ops.concatenate([x[:, :, k], hidden]))
        width = hidden.shape[-1]
        forget, take, show = (
            1 / (1 + ops.exp(-gates[..., i * width : (i + 1) * width])) for i in range(3)
        )
        cell = forget * cell + take * ops.tanh(gates[..., 3 * width :])
        hidden = show * ops.tanh(cell)
        outputs.append(hidden)
    return ops.stack(outputs, 2)


def raw_outputs(
    p: Arrays, spec: NetworkSpec, steps: Any, known: Any, ops: Ops, kept: Any = None
) -> Any:
    """Run the network.

    Parameters
    ----------
    p : mapping of str to (M, ...) array
        Weights, see `NetworkSpec.shapes`, and the embedding (M, G, E).
    spec : NetworkSpec
        The network.
    steps : (M, G * B, S, C) array
        Input steps; the rows of a prosumer stand together.
    known : (M, G * B, H, D) array
        What is known of the steps ahead.
    ops : Ops
        Of numpy or torch.
    kept : (1, G * B, tokens, width) array, optional
        Factors of what the heads read of the tokens: training leaves some out.

    Returns
    -------
    (M, G * B, H, 3, 1 + Q) array
        What `forecasts` reads.
    """
    models, rows = steps.shape[:2]
    embedding = p["embedding"]
    each = embedding.shape[1]
    x = steps[..., LOAD_STEPS] if spec.apart else steps
    if spec.architecture.startswith("cnn"):
        x = ops.relu(_linear(p, "conv", _neighbours(x, ops)))
    x = x.reshape(models, rows, spec.tokens, -1)

    def who(count: int) -> Any:
        shape = (models, each, rows // each, count, spec.embedding)
        wide = ops.expand(embedding[:, :, None, None], shape)
        return wide.reshape(models, rows, count, spec.embedding)

    x = _linear(p, "token", ops.concatenate([x, who(spec.tokens)]))
    if spec.architecture.endswith("transformer"):
        x = x + p["position"][:, None]
        for k in range(spec.layers):
            name = f"layer{k}"
            x = x + _attention(p, name, _norm(p, f"{name}.norm1", x), spec.heads, ops)
            inner = ops.relu(_linear(p, f"{name}.ff1", _norm(p, f"{name}.norm2", x)))
            x = x + _linear(p, f"{name}.ff2", inner)
    else:
        x = _recurrence(p, x, ops)
    x = _norm(p, "norm", x)
    if kept is not None:
        x = x * kept
    seen = direct_inputs(spec, steps, known, ops) if spec.direct else known
    if spec.task == "step":
        x = ops.concatenate([x[:, :, -1:], x.mean(axis=2, keepdims=True), seen, who(1)])
    else:
        ahead = seen[..., LOAD_SEEN] if spec.apart else seen
        ahead = ahead.reshape(models, rows, spec.tokens, -1)
        x = ops.concatenate([x, ahead, who(spec.tokens)])
    x = _linear(p, "head2", ops.relu(_linear(p, "head1", x)))
    x = x.reshape(models, rows, spec.horizon, len(TARGETS), -1)
    if not spec.direct:
        return x
    if spec.apart:
        x = _join_last_but_one([x[..., :1, :], x[..., :1, :] * 0, x[..., 2:, :]], ops)
    line = _linear(p, "direct", seen)[..., None]
    rest = line[..., :1, :] * 0
    # Expected value and median move by the line, net's (on the other two) by nothing, gaps stay.
    line = _join_last_but_one([line, rest], ops)
    still = line * 0
    moved = [still] * x.shape[-1]
    for k in (0, 1 + MEDIAN)[: len(moved)]:
        moved[k] = line
    return x + ops.concatenate(moved)


@dataclass(frozen=True)
class Scales:
    """What turns outputs into powers, per model and row; all (M, R, 1) but the envelope.

    Attributes
    ----------
    load_mean_kw, load_std_kw, net_std_kw : (M, R, 1) array
        Of the training days.
    envelope_kw : (M, R, H) array
        PV envelope of each step ahead.
    """

    load_mean_kw: Any
    load_std_kw: Any
    net_std_kw: Any
    envelope_kw: Any


def forecasts(raw: Any, anchor: Any, scales: Scales, ops: Ops) -> tuple[Any, Any]:
    """Expected values and quantiles [kW] from a network's outputs; quantiles never cross.

    Load is its anchor plus the outputs in standard deviations, PV its envelope times an index,
    and net (PV less load, positive into the grid) stands on the other two's expected values.

    Parameters
    ----------
    raw : (M, R, H, 3, 1 + Q) array
        Outputs of `raw_outputs`.
    anchor : (M, R, H, 2) array
        Load and PV index that forecasts start from.
    scales : Scales
        What turns outputs into powers.
    ops : Ops
        Of numpy or torch.

    Returns
    -------
    expected : (M, R, H, 3) array
        Expected load, PV and net [kW].
    quantiles : (M, R, H, 3, Q) array
        Their quantiles at `LEVELS` [kW].
    """
    gaps = ops.softplus(raw[..., 1:])
    middle = raw[..., 1 + MEDIAN]
    quantiles = [middle]
    for k in range(MEDIAN - 1, -1, -1):
        quantiles.insert(0, quantiles[0] - gaps[..., k])
    for k in range(MEDIAN + 1, len(LEVELS)):
        quantiles.append(quantiles[-1] + gaps[..., k])
    relative = ops.stack([raw[..., 0], *quantiles], -1)
    load = scales.load_mean_kw[..., None] + scales.load_std_kw[..., None] * (
        anchor[..., :1] + relative[..., 0, :]
    )
    pv = scales.envelope_kw[..., None] * (anchor[..., 1:] + relative[..., 1, :])
    base = pv[..., :1] - load[..., :1]
    net = base + scales.net_std_kw[..., None] * relative[..., 2, :]
    together = ops.stack([load, pv, net], -2)
    return together[..., 0], together[..., 1:]
