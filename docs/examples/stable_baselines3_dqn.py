"""Train one prosumer of `ai_tem` with Stable-Baselines3; everybody else follows the rule.

    pip install 'raygrid[examples,gym,learn]'
    python docs/examples/stable_baselines3_dqn.py --row 4 --days 20

Stable-Baselines3 knows no action masks: an action that has nothing to move waits instead.
"""

from __future__ import annotations

import argparse

import numpy as np
from stable_baselines3 import DQN

from raygrid.learning.gym_views import ProsumerEnv
from raygrid.learning.market_days import learning_scenario


def mean_reward(env: ProsumerEnv, model: DQN | None, days: int) -> float:
    """Mean reward of a period over some training days: of the model, or of waiting."""
    rewards = []
    for seed in range(days):
        seen, _ = env.reset(seed=seed)
        truncated = False
        while not truncated:
            action = 0 if model is None else model.predict(seen, deterministic=True)[0]
            seen, reward, _, truncated, _ = env.step(np.int64(action))
            rewards.append(reward)
    return float(np.mean(rewards))


def main() -> None:
    """Train and compare with waiting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="ai_tem")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--row", type=int, default=0, help="the learner's row")
    parser.add_argument("--days", type=int, default=20, help="days to learn from")
    given = parser.parse_args()

    found = learning_scenario(given.scenario, settings=given.settings)
    env = ProsumerEnv(found.days, row=given.row, weights=found.reward)
    periods = given.days * found.days.market.feed.day_periods
    model = DQN(
        "MlpPolicy", env, gamma=0.95, buffer_size=20_000, learning_starts=100,
        exploration_fraction=0.5, seed=1, device="cpu",
    )  # fmt: skip
    model.learn(periods)
    print(f"waiting: {mean_reward(env, None, 2):.3f} a period")
    print(f"learned: {mean_reward(env, model, 2):.3f} a period")


if __name__ == "__main__":
    main()
