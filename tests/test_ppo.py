"""PPO: the extracted policy acts as Stable-Baselines3 does, and it leaves nothing behind."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from hypothesis import example, given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_tuner.agents import PPOAgent
from rl_tuner.agents.agent import EpisodeSummary
from rl_tuner.agents.ppo_settings import minibatch_size, rollout_settings
from rl_tuner.agents.private_rng import PrivateRNG
from rl_tuner.errors import ConfigError
from rl_tuner.policy_file import load_policy
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


def vectorized(*makers: Callable[[], gym.Env[Any, Any]], **settings: Any) -> VectorEnv[Any, Any, Any]:
    return SyncVectorEnv(makers, autoreset_mode=settings.pop("mode", AutoresetMode.SAME_STEP), **settings)


class Short(TinyTuning):
    """Episodes of a length of their own."""

    def __init__(self, length: int, crashes: bool = False) -> None:
        super().__init__("continuous")
        self.length, self.crashes = length, crashes

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, _, _, _ = super().step(action)
        return observation, reward, self._step == self.length, False, {"crashed": self.crashes}


def lengths_and_a_limit() -> list[Callable[[], gym.Env[Any, Any]]]:
    return [lambda: Short(4), lambda: Short(5), lambda: gym.wrappers.TimeLimit(Short(7), 3)]


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_a_vector_environment_teaches_what_a_dummy_vec_env_does(gamma: float) -> None:
    """Bit for bit, bootstrapping past a truncation included."""
    states, told = [], []
    for venv in (DummyVecEnv(lengths_and_a_limit()), vectorized(*lengths_and_a_limit(), copy=False)):
        seen: list[EpisodeSummary] = []
        agent = quick(venv, n_steps=20, batch_size=30, gamma=gamma).fit(180, seen.append)
        states.append(agent.get_state())
        told.append([(s.env, s.length, s.return_, s.steps) for s in seen])
    assert told[0] == told[1]
    weights = [state["policy"] for state in states]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert torch.equal(states[0]["rng"]["torch"], states[1]["rng"]["torch"])


def test_agents_that_resume_on_a_vector_environment_stay_the_same() -> None:
    first = quick(vectorized(*lengths_and_a_limit()), n_steps=20, batch_size=30).fit(120)
    states = []
    for _ in range(2):
        other = quick(vectorized(*lengths_and_a_limit()), n_steps=20, batch_size=30)
        other.set_state(first.get_state())
        states.append(other.fit(240).get_state())
    assert [state["steps"] for state in states] == [240, 240]
    weights = [state["policy"] for state in states]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["action_net.weight"], first.get_state()["policy"]["action_net.weight"])


def test_what_nothing_is_tuned_in_can_be_learned_on_a_vector_environment_too() -> None:
    agent = quick(vectorized(*[ContextBandit] * 4), n_steps=50, gamma=0.0).fit(2_000)
    assert [agent.act(np.array([x, 0.3], dtype=np.float32)) for x in (-0.8, -0.4, 0.4, 0.8)] == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match=r"policy\(\) needs an environment that tunes"):
        agent.policy()


def test_many_environments_learn_the_known_optimum() -> None:
    venv = vectorized(*[lambda: TinyTuning("continuous")] * 20)
    agent = PPOAgent(venv, learning_rate=1e-2, gamma=0.0, hidden=(32, 32), seed=0)
    contract = TestContinuousPPO()
    before = contract.greedy_return(agent)
    agent.fit(4_000)
    assert agent.steps == 4_000
    assert before < 4
    assert contract.greedy_return(agent) > 6.5


def test_episodes_that_end_together_are_told_in_the_environments_order() -> None:
    seen: list[EpisodeSummary] = []
    makers = [lambda: Short(5), lambda: Short(10, crashes=True), lambda: Short(5)]
    quick(vectorized(*makers), n_steps=20, batch_size=60).fit(60, seen.append)
    assert [s.episode for s in seen] == list(range(1, 11))
    assert [s.env for s in seen] == [0, 2, 0, 1, 2] * 2
    assert [s.steps for s in seen] == [15, 15, 30, 30, 30, 45, 45, 60, 60, 60]
    assert [s.length for s in seen] == [5, 5, 5, 10, 5] * 2
    assert [s.crashed for s in seen] == [s.env == 1 for s in seen]
    assert len({s.return_ for s in seen}) == len(seen)  # each has its own seed


def test_a_stop_holds_for_episodes_that_end_in_the_same_step_too() -> None:
    seen: list[EpisodeSummary] = []

    def stop(summary: EpisodeSummary) -> bool:
        seen.append(summary)
        return summary.env != 1

    quick(vectorized(*[TinyTuning] * 4), n_steps=50).fit(400, stop)
    assert [s.env for s in seen] == [0, 1]


def test_a_vector_environment_counts_the_steps_of_all() -> None:
    agent = quick(vectorized(*[TinyTuning] * 4), n_steps=25, batch_size=50)
    assert agent.fit(150).steps == 200  # whole rollouts
    assert agent.fit(200).steps == 200


def test_a_vector_environments_policy_says_what_it_tunes(tmp_path: Path) -> None:
    env = TinyTuning("continuous")
    policy = load_policy(
        quick(vectorized(*[lambda: TinyTuning("continuous")] * 2)).save(tmp_path / "p.safetensors")
    )
    assert (policy.space, policy.config, policy.feature_names) == (env.space, env.config, env.feature_names)
    assert policy.actions.kind == "continuous"


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda: vectorized(lambda: gym.wrappers.NormalizeObservation(TinyTuning())),
        lambda: gym.wrappers.vector.RescaleAction(vectorized(lambda: TinyTuning("continuous")), -2, 2),
    ],
)
def test_a_vector_environment_seen_through_a_changing_wrapper_has_no_policy_file(
    wrapped: Callable[[], VectorEnv[Any, Any, Any]],
) -> None:
    with pytest.raises(ConfigError, match="no wrapper that changes"):
        quick(wrapped()).policy()


def test_a_vector_environment_that_resets_a_step_later_is_refused() -> None:
    with pytest.raises(ConfigError, match="SAME_STEP, got NEXT_STEP"):
        quick(vectorized(TinyTuning, mode=AutoresetMode.NEXT_STEP))


def test_one_environment_has_the_settings_it_always_had() -> None:
    model = PPOAgent(TinyTuning()).model
    assert (model.n_steps, model.batch_size, model.n_epochs) == (400, 100, 10)


@given(num_envs=st.integers(1, 5_000), decisions=st.just(20) | st.integers(2, 200))
def test_the_settings_suit_any_number_of_environments(num_envs: int, decisions: int) -> None:
    n_steps, minibatches, n_epochs = rollout_settings(num_envs, decisions)
    collected = n_steps * num_envs
    assert n_steps % decisions == 0  # whole episodes
    assert collected - decisions * num_envs < 400  # and no more of them than it takes
    assert collected >= 400
    assert n_epochs >= 1
    if decisions == 20:  # all divides
        assert minibatch_size(None, n_steps, num_envs, minibatches) * minibatches == collected


@given(n_steps=st.integers(2, 200), num_envs=st.integers(1, 300), minibatches=st.integers(1, 20))
@example(n_steps=11, num_envs=2, minibatches=10)  # 11 parts of 2 would be one too many
def test_a_minibatch_size_that_was_not_given_divides(n_steps: int, num_envs: int, minibatches: int) -> None:
    size = minibatch_size(None, n_steps, num_envs, minibatches)
    collected = n_steps * num_envs
    assert collected % size == 0
    assert size >= 2
    assert collected // size <= minibatches
    fitting = [n for n in range(1, minibatches + 1) if collected % n == 0 and collected // n >= 2]
    assert collected // size == max(fitting)


def test_given_settings_win() -> None:
    model = PPOAgent(vectorized(*[TinyTuning] * 4), n_steps=30, n_epochs=3).model
    assert (model.n_steps, model.batch_size, model.n_epochs) == (30, 30, 3)  # 120 in 4 parts, as by default


def test_no_environment_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_envs must be >= 1, got 0"):
        rollout_settings(0)


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
