"""PPO: the extracted policy acts as Stable-Baselines3 does, and it leaves nothing behind."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_tuner.agents import PPOAgent
from rl_tuner.agents.agent import EpisodeSummary
from rl_tuner.agents.private_rng import PrivateRNG
from rl_tuner.errors import ConfigError
from tests.contracts_agents import AgentContract, ContextBandit, TinyTuning


def quick(env: Any, seed: int = 0, **settings: Any) -> PPOAgent:
    chosen = {
        "n_steps": 200,
        "batch_size": 50,
        "learning_rate": 3e-3,
        "hidden": (32, 32),
        "log_std_init": -0.5,
    }
    return PPOAgent(env, seed=seed, **{**chosen, **settings})


class TestDiscretePPO(AgentContract):
    kind = "discrete"
    enough = 2_000

    def make(self, env: gym.Env[Any, Any], seed: int = 0) -> PPOAgent:
        return quick(env, seed, gamma=0.0)  # each step stands alone there


class TestContinuousPPO(AgentContract):
    kind = "continuous"
    enough = 2_000

    def make(self, env: gym.Env[Any, Any], seed: int = 0) -> PPOAgent:
        return quick(env, seed, gamma=0.0)  # each step stands alone there


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_the_policy_acts_as_the_model_predicts(kind: str) -> None:
    agent = quick(TinyTuning(kind)).fit(400)
    with torch.no_grad():  # far from the start, so that actions clip and choices differ
        for parameter in agent.model.policy.parameters():
            parameter.mul_(4)
    policy = agent.policy()
    observations = np.random.default_rng(0).normal(0, 3, (500, len(policy.feature_names)))
    observations = observations.clip(-10, 10).astype(np.float32)
    predicted = np.stack([agent.model.predict(o, deterministic=True)[0] for o in observations])
    acted = np.stack([policy.act(o) for o in observations])
    np.testing.assert_allclose(acted, predicted, rtol=0, atol=1e-6)
    assert len(np.unique(acted.round(3), axis=0)) > 5
    if kind == "continuous":
        assert (np.abs(acted) == 1).any()


def test_the_policy_keeps_its_own_weights() -> None:
    agent = quick(TinyTuning()).fit(200)
    policy = agent.policy()
    before = policy.layers[0][0].clone()  # type: ignore[attr-defined]
    agent.fit(600)
    torch.testing.assert_close(policy.layers[0][0], before, rtol=0, atol=0)  # type: ignore[attr-defined]


def test_several_environments_learn_together() -> None:
    agent = quick(DummyVecEnv([TinyTuning for _ in range(4)]), n_steps=50)
    seen: list[EpisodeSummary] = []
    agent.fit(400, seen.append)
    assert len(seen) == 40
    assert agent.policy().space == TinyTuning().space
    assert len({s.return_ for s in seen[:4]}) == 4  # each environment has its own seed


def test_the_last_updates_figures_reach_the_callback() -> None:
    seen: list[EpisodeSummary] = []
    quick(TinyTuning()).fit(600, seen.append)
    assert "train/approx_kl" not in seen[0].scalars
    assert {"train/approx_kl", "train/value_loss", "train/clip_fraction"} <= set(seen[-1].scalars)
    assert seen[-1].scalars["train/value_loss"] > 0


def test_a_state_taken_in_a_callback_is_that_of_the_last_update() -> None:
    agent = quick(TinyTuning())
    states: list[dict[str, Any]] = []
    agent.fit(400, lambda s: states.append(agent.get_state()))
    assert [state["steps"] for state in states] == [0] * 20 + [200] * 20


def test_a_stopped_fit_is_as_after_its_last_update() -> None:
    whole = quick(TinyTuning()).fit(200)
    stopped = quick(TinyTuning()).fit(2000, lambda s: s.steps < 250)
    assert stopped.steps == 200
    weights = [agent.get_state()["policy"] for agent in (whole, stopped)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert stopped.fit(400).steps == 400


def test_an_interrupted_fit_is_as_after_its_last_update() -> None:
    agent = quick(TinyTuning())

    def interrupt(summary: EpisodeSummary) -> None:
        if summary.steps > 250:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent.fit(2000, interrupt)
    assert (agent.steps, agent.episodes) == (200, 20)
    assert agent.fit(400).steps == 400


def test_a_resumed_agent_goes_on_with_new_episodes() -> None:
    first_seen: list[float] = []

    class Spy(TinyTuning):
        def reset(self, **arguments: Any) -> tuple[np.ndarray, dict[str, Any]]:
            observation, info = super().reset(**arguments)
            first_seen.append(float(observation[0]))
            return observation, info

    agent = quick(Spy()).fit(200)
    agent.fit(400)
    assert len(first_seen) > 40
    assert len(set(first_seen)) == len(first_seen)


def test_the_optimizers_moments_are_resumed() -> None:
    agent = quick(TinyTuning()).fit(400)
    other = quick(TinyTuning())
    other.set_state(agent.get_state())
    moments = [a.model.policy.optimizer.state_dict()["state"][0]["exp_avg"] for a in (agent, other)]
    assert moments[0].abs().sum() > 0
    torch.testing.assert_close(moments[1], moments[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be > 0"),
        ({"n_steps": 1}, "n_steps must be >= 2"),
        ({"batch_size": 1}, "batch_size must be >= 2"),
        ({"batch_size": 150}, "batch_size must divide the 200 steps"),
        ({"n_epochs": 0}, "n_epochs must be >= 1"),
        ({"gamma": 1.5}, "gamma must be >= 0 and <= 1"),
        ({"gae_lambda": -0.1}, "gae_lambda must be >= 0"),
        ({"clip_range": 0.0}, "clip_range must be > 0"),
        ({"ent_coef": -1.0}, "ent_coef must be >= 0"),
    ],
)
def test_a_setting_out_of_range_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quick(TinyTuning(), **settings)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (spaces.Discrete(3), spaces.Discrete(2), "Box observations"),
        (spaces.Box(0, 1, (2, 2)), spaces.Discrete(2), "Box observations"),
        (spaces.Box(0, 1, (2,)), spaces.MultiBinary(2), "got MultiBinary"),
    ],
)
def test_an_unfit_space_is_named(observation_space: Any, action_space: Any, message: str) -> None:
    env = ContextBandit()
    env.observation_space, env.action_space = observation_space, action_space
    with pytest.raises(ConfigError, match=message):
        quick(env)


def test_a_private_rng_neither_sees_nor_moves_the_callers() -> None:
    def draw() -> tuple[float, float, float]:
        return torch.rand(1).item(), float(np.random.rand()), random.random()  # noqa: NPY002

    rngs = [PrivateRNG(3), PrivateRNG(3)]
    with rngs[0]:
        alone = [draw() for _ in range(4)]
    with PrivateRNG(7):
        expected = [draw() for _ in range(2)]
    mixed = []
    with PrivateRNG(7):  # the caller, for this test
        outer = [draw()]
        for _ in range(4):
            with rngs[1]:
                mixed.append(draw())
        outer.append(draw())
    assert mixed == alone
    assert outer == expected


def test_importing_the_agents_imports_neither_torch_nor_stable_baselines3() -> None:
    code = (
        "import sys, rl_tuner.agents; "
        "print([m for m in ('torch', 'stable_baselines3', 'gymnasium') if m in sys.modules]); "
        "rl_tuner.agents.QLearning; print('stable_baselines3' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split("\n")[:2] == ["[]", "False"]


def test_an_unknown_agent_is_an_attribute_error() -> None:
    import rl_tuner.agents

    with pytest.raises(AttributeError, match="'Reinforce'"):
        _ = rl_tuner.agents.Reinforce
