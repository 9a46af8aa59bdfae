"""Both views pass their library's own checks and show what the environment does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raygrid.learning.dqn_training import TrainingDays
from raygrid.market.intraday import IntradayMarket
from tests.synthetic import community

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra 'gym'")
pytest.importorskip("pettingzoo", reason="needs the extra 'gym'")
pytestmark = pytest.mark.optional


def days() -> TrainingDays:
    people = community(6, 4, day_periods=24)
    market = IntradayMarket(people.units, people.feed, people.limits)
    return TrainingDays(market, np.arange(2), np.array([2]), np.array([3]))


def test_pettingzoo_accepts_all_agents() -> None:
    from pettingzoo.test import parallel_api_test, parallel_seed_test

    from raygrid.learning.gym_views import MarketParallelEnv

    parallel_api_test(MarketParallelEnv(days()), num_cycles=60)
    parallel_seed_test(lambda: MarketParallelEnv(days()))


def test_gymnasium_accepts_one_agent() -> None:
    from gymnasium.utils.env_checker import check_env

    from raygrid.learning.gym_views import ProsumerEnv

    check_env(ProsumerEnv(days(), row=1), skip_render_check=True)


def test_a_day_of_all_agents_is_that_of_the_environment() -> None:
    from raygrid.learning.environment import MarketEnvironment, training_scales
    from raygrid.learning.gym_views import MarketParallelEnv

    split = days()
    view = MarketParallelEnv(split)
    seen, infos = view.reset(seed=4)
    own = days()
    env = MarketEnvironment(own.market, training_scales(own.market.feed, own.train), own.worth)
    rng = np.random.default_rng(4)
    first, mask = env.reset(rng.choice(own.train, 1), rng)
    np.testing.assert_array_equal(seen["prosumer_3"], first[0, 2])
    np.testing.assert_array_equal(infos["prosumer_3"]["action_mask"], mask[0, 2])
    for t in range(24):
        actions = rng.integers(0, 8, 6)
        named = dict(zip(view.possible_agents, actions.tolist(), strict=True))
        seen, rewards, ended, truncated, _ = view.step(named)
        step = env.step(actions[None])
        assert list(rewards.values()) == pytest.approx(step.reward[0].tolist())
        assert not any(ended.values())
        assert all(truncated.values()) == (t == 23)
    assert view.agents == []


def test_one_agent_earns_what_it_would_among_all() -> None:
    from raygrid.learning.gym_views import ProsumerEnv

    env = ProsumerEnv(days(), row=2)
    seen, info = env.reset(seed=1)
    assert seen in env.observation_space
    total, truncated = 0.0, False
    while not truncated:
        action = int(np.flatnonzero(info["action_mask"])[-1])
        seen, reward, ended, truncated, info = env.step(np.int64(action))
        assert not ended
        assert seen in env.observation_space
        total += reward
    assert np.isfinite(total)


@pytest.mark.slow
def test_the_example_with_stable_baselines3_runs() -> None:
    """As its user runs it, on fewer days."""
    pytest.importorskip("stable_baselines3", reason="needs the extra 'examples'")
    root = Path(__file__).resolve().parents[2]
    settings = ("history.train_days=2", "history.validation_days=1", "history.test_days=1")
    done = subprocess.run(
        [
            sys.executable, str(root / "docs" / "examples" / "stable_baselines3_dqn.py"),
            "--days", "3", *(word for text in settings for word in ("--set", text)),
        ],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("waiting: ")
