"""PPO with a memory: what it learns with it, and that the policy remembers the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from rl_tuner.agents import PPOAgent
from rl_tuner.errors import ConfigError
from rl_tuner.policy_file import load_policy
from tests.contracts_agents import LENGTH, TinyTuning, vectorized

FEATURES = len(TinyTuning().feature_names)


class Delayed(TinyTuning):
    """The learning rate is to follow what the first feature was a decision before; and nothing at first."""

    def reset(self, **arguments: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self._before = 0.0
        return super().reset(**arguments)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        lr, dropout = self.actions.fraction(action)
        reward = 1 - (lr - np.sign(self._before)) ** 2 - dropout**2
        self._before = float(self._observation[0])
        observation, _, over, cut, info = super().step(action)
        return observation, float(reward), over, cut, info


def quick(env: Any, memory: int, **settings: Any) -> PPOAgent:
    chosen = {"learning_rate": 1e-2, "hidden": (32,), "gamma": 0.0, "n_steps": 20, "batch_size": 40}
    return PPOAgent(env, memory=memory, **{**chosen, "log_std_init": -0.5, **settings})


def many(kind: str = "continuous") -> Any:
    return vectorized(*[lambda: Delayed(kind)] * 10)


def stacked(seen: list[np.ndarray], memory: int) -> np.ndarray:
    before = [np.zeros(FEATURES, np.float32)] * memory
    return np.concatenate([*before, *seen][-memory:])


def greedy_return(agent: PPOAgent, memory: int) -> float:
    env, total = Delayed("continuous"), 0.0
    for seed in range(10):
        seen, over = [env.reset(seed=900 + seed)[0]], False
        while not over:
            observation, reward, over, _, _ = env.step(agent.act(stacked(seen, memory)))
            seen.append(observation)
            total += reward
    return total / 10


def test_what_was_seen_a_decision_before_is_learned_with_a_memory_alone() -> None:
    with_memory, without = (greedy_return(quick(many(), m).fit(6_000), m) for m in (2, 1))
    assert without < 3
    assert with_memory > 5


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_the_saved_policy_remembers_what_the_agent_is_shown(kind: str, tmp_path: Any) -> None:
    agent = quick(many(kind), 3).fit(400)
    with torch.no_grad():  # far from the start, so that choices differ
        for parameter in agent.model.policy.parameters():
            parameter.mul_(3)
    policy, env = load_policy(agent.save(tmp_path / "p.safetensors")), Delayed(kind)
    for seed in range(3):
        policy.reset()
        seen, over = [env.reset(seed=seed)[0]], False
        while not over:
            action = policy.act(seen[-1])
            np.testing.assert_allclose(action, agent.act(stacked(seen, 3)), rtol=0, atol=1e-6)
            observation, _, over, _, _ = env.step(action)
            seen.append(observation)
        assert len(seen) == LENGTH + 1


def test_a_memory_of_one_changes_nothing_bit_for_bit() -> None:
    states = [quick(many(), 1).fit(400).get_state(), quick(many(), 1, privileged=False).fit(400).get_state()]
    plain = PPOAgent(
        many(), learning_rate=1e-2, hidden=(32,), gamma=0.0, n_steps=20, batch_size=40, log_std_init=-0.5
    ).fit(400)
    states.append(plain.get_state())
    for state in states[1:]:
        assert all(torch.equal(states[0]["policy"][name], state["policy"][name]) for name in state["policy"])


def test_agents_that_resume_with_a_memory_stay_the_same() -> None:
    first = quick(many(), 2).fit(400)
    other = quick(many(), 2)
    other.set_state(first.get_state())
    weights = [agent.fit(800).get_state()["policy"] for agent in (first, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_act_wants_all_that_it_remembers() -> None:
    agent = quick(many(), 3)
    message = rf"act\(\) reads 3 observations in one, shape \({3 * FEATURES},\), got \({FEATURES},\)"
    with pytest.raises(ConfigError, match=message):
        agent.act(np.zeros(FEATURES, np.float32))


def test_a_state_of_another_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="of another network"):
        quick(many(), 2).set_state(quick(many(), 3).get_state())


def test_a_stack_given_from_outside_still_has_no_policy_file() -> None:
    venv = VecFrameStack(DummyVecEnv([lambda: TinyTuning("continuous")]), 2)
    with pytest.raises(ConfigError, match=r"policy\(\) needs an environment that tunes"):
        quick(venv, 1, batch_size=20).policy()


@pytest.mark.parametrize("memory", [0, 1.5, True])
def test_a_memory_must_be_a_whole_number(memory: Any) -> None:
    with pytest.raises(ConfigError, match="memory must be"):
        quick(many(), memory)
