"""DQN bidders: every prosumer its own network, all of them trained at once (AI-TEM III.E, V.C).

As in the paper: discrete actions, epsilon-greedy exploration, replay of 20,000 transitions,
discount 0.95, target networks. Where the paper is silent: two hidden layers, Adam, Huber loss,
double DQN, actions masked in choice and target alike, and a day's end that truncates. Episodes
run `copies` at a time; each of the paper's 2,000 episodes is one day all the same. Networks are
arrays with the prosumer as first axis, so one batched product serves them all; no network sees
another prosumer's samples, loss or gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raygrid.errors import InputError
from raygrid.learning.environment import Float32Array, Scales
from raygrid.learning.policy import Policy
from raygrid.learning.replay import Batch
from raygrid.learning.training import choose_device, require_torch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class DqnOptions:
    """Settings of the training.

    Attributes
    ----------
    episodes : int
        Days to learn from; rounded up to whole batches of `copies`.
    copies : int
        Days that run side by side.
    hidden : int
        Width of both hidden layers.
    replay, batch : int
        Transitions kept, and drawn for an update, of each prosumer.
    discount : float
        Of the next period's value.
    learning_rate : float
        Of Adam.
    epsilon_start, epsilon_end, exploration : float
        Share of random actions at first and at last, and the share of the episodes over which
        it falls.
    target_every : int
        Updates after which the target networks become the learned ones.
    update_every : int
        Steps of all copies from one update to the next.
    warm_up : int
        Transitions before the first update.
    margin : float
        By how much an action's value must lead that of the stated action to be taken instead; 0
        is the paper's choice of the greatest value.
    double : bool
        Whether the learned network chooses the action that the target network values.
    clip : float
        Greatest norm of a network's gradient.
    shared : bool
        Whether one network serves all prosumers.
    device : str
        'auto' takes a GPU where torch finds one; 'cpu' or 'cuda'.
    seed : int
        Of weights, days, exploration and samples.
    """

    episodes: int = 2000
    copies: int = 16
    hidden: int = 64
    replay: int = 20_000
    batch: int = 64
    discount: float = 0.95
    learning_rate: float = 1e-3
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    exploration: float = 0.5
    target_every: int = 250
    update_every: int = 1
    warm_up: int = 1000
    margin: float = 0.0
    double: bool = True
    clip: float = 10.0
    shared: bool = False
    device: str = "auto"
    seed: int = 1

    def __post_init__(self) -> None:
        counts = ("episodes", "copies", "hidden", "replay", "batch", "target_every", "update_every")
        for name in counts:
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}", "dqn", "give 1 or more")
        if not (0 <= self.discount < 1 and 0 <= self.epsilon_end <= self.epsilon_start <= 1):
            raise InputError(
                f"discount {self.discount:g} or epsilon {self.epsilon_start:g} to "
                f"{self.epsilon_end:g} is out of range",
                "dqn",
                "give a discount below 1 and an epsilon that falls within 0 and 1",
            )

    def epsilon(self, episode: int) -> float:
        """Share of random actions in an episode."""
        part = min(1.0, episode / max(1.0, self.exploration * self.episodes))
        return self.epsilon_start + part * (self.epsilon_end - self.epsilon_start)


def td_target(
    reward: torch.Tensor,
    mask: torch.Tensor,
    of_target: torch.Tensor,
    of_online: torch.Tensor | None,
    discount: float,
    stated: torch.Tensor,
    margin: float,
) -> torch.Tensor:
    """``r + discount * q_target(s', a*)``, where a* is what will be done in s'.

    That is the best action that s' allows, where it leads the stated one by more than the margin.

    Parameters
    ----------
    reward : (N, B) tensor
        Rewards.
    mask : (N, B, A) tensor of bool
        Actions that the next state allows; one at least.
    of_target : (N, B, A) tensor
        Values of the next state by the target networks.
    of_online : (N, B, A) tensor or None
        By the learned ones, which then choose a* (double DQN); None: the target networks do.
    discount : float
        Of the next state's value.
    stated : (N, B) tensor of int64
        What the plan or the rule would do in the next state.
    margin : float
        As `raygrid.learning.policy.leading_action`.
    """
    chooser = of_target if of_online is None else of_online
    most, best = chooser.masked_fill(~mask, -float("inf")).max(dim=-1, keepdim=True)
    stated = stated.unsqueeze(-1)
    leads = most - chooser.gather(-1, stated) > margin
    return reward + discount * of_target.gather(-1, best.where(leads, stated)).squeeze(-1)


class Learner:
    """Learned and target networks of N prosumers, or one for all, with their optimiser.

    Parameters
    ----------
    n_agents, n_features, n_actions : int
        Sizes N, S and A.
    options : DqnOptions
        Settings.
    """

    def __init__(self, n_agents: int, n_features: int, n_actions: int, options: DqnOptions) -> None:
        require_torch()
        import torch

        self.options, self.updates = options, 0
        self.device = torch.device(choose_device(options.device))
        self.n_agents = n_agents
        networks = 1 if options.shared else n_agents
        generator = torch.Generator().manual_seed(options.seed)
        sizes = (n_features, options.hidden, options.hidden, n_actions)
        self.online: list[torch.Tensor] = []
        for depth, (wide, narrow) in enumerate(pairwise(sizes)):
            bound = wide**-0.5
            for shape in ((networks, wide, narrow), (networks, narrow)):
                start = (2 * torch.rand(shape, generator=generator) - 1) * bound
                if depth == len(sizes) - 2:
                    # All actions begin equal, so that plan or rule stands until one leads.
                    start = torch.zeros(shape)
                self.online.append(start.to(self.device).requires_grad_())
        self.target = [p.detach().clone() for p in self.online]
        self.optimiser = torch.optim.Adam(self.online, lr=options.learning_rate, fused=True)

    def _values(self, parameters: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """(M, B, A) values of observations (M, B, S) by M networks."""
        import torch

        last = len(parameters) - 2
        for at in range(0, len(parameters), 2):
            x = torch.baddbmm(parameters[at + 1].unsqueeze(1), x, parameters[at])
            if at < last:
                x = torch.relu(x)
        return x

    def _of_networks(self, part: NDArray[Any]) -> torch.Tensor:
        """(B, N, ...) as (M, B', ...): each network's own samples, or all of them."""
        import torch

        x = torch.from_numpy(part).to(self.device)
        if self.options.shared:
            return x.flatten(0, 1).unsqueeze(0)
        return x.transpose(0, 1).contiguous()

    def values(self, observation: Float32Array) -> Float32Array:
        """(E, N, A) values of observations (E, N, S)."""
        import torch

        with torch.no_grad():
            found = self._values(self.online, self._of_networks(observation))
            if self.options.shared:
                return np.asarray(found.view(*observation.shape[:2], -1).cpu().numpy())
            return np.asarray(found.transpose(0, 1).cpu().numpy())

    def update(self, batch: Batch) -> Float32Array:
        """One step of Adam on samples (B, N, ...); each network's mean loss (M,).

        Nothing is changed where a loss or a gradient is not a finite number.
        """
        import torch
        from torch.nn.functional import smooth_l1_loss

        options = self.options
        observation, action, reward, following, mask, stated = (
            self._of_networks(part) for part in batch
        )
        with torch.no_grad():
            goal = td_target(
                reward,
                mask,
                self._values(self.target, following),
                self._values(self.online, following) if options.double else None,
                options.discount,
                stated,
                options.margin,
            )
        taken = self._values(self.online, observation).gather(-1, action.unsqueeze(-1)).squeeze(-1)
        loss = smooth_l1_loss(taken, goal, reduction="none").mean(dim=1)
        self.optimiser.zero_grad(set_to_none=True)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            gradients = [p.grad for p in self.online if p.grad is not None]
            norm = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
            norm = torch.linalg.vector_norm(norm, dim=0)
            if not bool(torch.isfinite(norm.sum() + loss.sum())):
                return np.full(len(loss), np.nan, dtype=np.float32)
            if bool((norm > options.clip).any()):
                shrink = (options.clip / norm.clamp(min=options.clip)).view(-1, 1)
                for g in gradients:
                    g.mul_(shrink if g.dim() == 2 else shrink.unsqueeze(-1))
            self.optimiser.step()
            self.updates += 1
            if self.updates % options.target_every == 0:
                for copy, p in zip(self.target, self.online, strict=True):
                    copy.copy_(p)
        return np.asarray(loss.detach().cpu().numpy())

    def policy(self, scales: Scales) -> Policy:
        """The learned networks for inference in numpy; a copy."""
        arrays = [p.detach().cpu().numpy().copy() for p in self.online]
        layers = tuple(zip(arrays[::2], arrays[1::2], strict=True))
        return Policy(layers, scales, self.options.margin)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that the next update depends on, for a checkpoint."""
        arrays: dict[str, NDArray[Any]] = {"updates": np.array(self.updates)}
        for k, (p, copy) in enumerate(zip(self.online, self.target, strict=True)):
            arrays[f"online{k}"], arrays[f"target{k}"] = (
                x.detach().cpu().numpy() for x in (p, copy)
            )
            state = self.optimiser.state.get(p, {})
            for name in ("exp_avg", "exp_avg_sq", "step"):
                if name in state:
                    arrays[f"{name}{k}"] = state[name].cpu().numpy()
        return arrays

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """The inverse of `arrays`."""
        import torch

        self.updates = int(arrays["updates"])
        with torch.no_grad():
            for k, (p, copy) in enumerate(zip(self.online, self.target, strict=True)):
                p.copy_(torch.from_numpy(arrays[f"online{k}"]))
                copy.copy_(torch.from_numpy(arrays[f"target{k}"]))
                names = [n for n in ("exp_avg", "exp_avg_sq", "step") if f"{n}{k}" in arrays]
                if names:
                    self.optimiser.state[p] = {
                        n: torch.from_numpy(np.array(arrays[f"{n}{k}"])).to(self.device)
                        for n in names
                    }
