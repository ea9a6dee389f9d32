"""Privileged facts: the critic reads them, the actor and its policy file never do."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecFrameStack

from rl_tuner.agents import PPOAgent
from rl_tuner.agents.agent import EpisodeSummary
from rl_tuner.agents.privileged import PrivilegedColumns
from rl_tuner.agents.vec_adapter import VecAdapter
from rl_tuner.errors import ConfigError
from rl_tuner.policy_file import load_policy
from tests.contracts_agents import LENGTH, TinyTuning, vectorized
from tests.grouped_tuning import GroupedTuning

FEATURES = len(TinyTuning().feature_names)


def quick(env: Any, **settings: Any) -> PPOAgent:
    chosen = {"learning_rate": 1e-2, "hidden": (16,), "n_steps": 10, "batch_size": 40, "n_epochs": 4}
    return PPOAgent(env, **{**chosen, **settings})


def observations(width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 1, (50, width)).astype(np.float32))


@pytest.mark.parametrize("memory", [1, 3])
def test_the_critic_reads_the_facts_and_the_actor_does_not(memory: int) -> None:
    agent = quick(GroupedTuning(8, 1, luck=3.0), privileged=True, memory=memory).fit(400)
    policy, seen = agent.model.policy, observations(memory * FEATURES + 1)
    assert agent.model.observation_space.shape == (memory * FEATURES + 1,)
    other = seen.clone()
    other[:, -1] += 5
    with torch.no_grad():
        means = [policy.get_distribution(o).mode() for o in (seen, other)]
        values = [policy.predict_values(o) for o in (seen, other)]
    assert torch.equal(*means)
    assert (values[0] - values[1]).abs().min() > 1e-3


def test_the_policy_file_knows_nothing_of_them(tmp_path: Any) -> None:
    agent = quick(GroupedTuning(8, 1, luck=3.0), privileged=True).fit(400)
    policy = load_policy(agent.save(tmp_path / "p.safetensors"))
    assert policy.feature_names == TinyTuning().feature_names
    for seen in observations(FEATURES).numpy()[:10]:
        np.testing.assert_allclose(policy.act(seen), agent.act(seen), rtol=0, atol=1e-6)


def test_what_only_the_facts_tell_is_predicted_with_them_alone() -> None:
    def explained(privileged: bool) -> float:
        seen: list[EpisodeSummary] = []
        quick(GroupedTuning(16, 1, luck=3.0), privileged=privileged).fit(8_000, seen.append)
        return float(np.mean([s.scalars["train/explained_variance"] for s in seen[-160:]]))

    assert explained(True) > 0.7
    assert explained(False) < 0.4


def test_a_resumed_agent_with_privileged_facts_stays_the_same() -> None:
    def make() -> PPOAgent:
        return quick(GroupedTuning(8, 1, luck=3.0, crashes=0.05), privileged=True, memory=2)

    first = make().fit(160)
    other = make()
    other.set_state(first.get_state())
    states = [agent.fit(320).get_state()["policy"] for agent in (first, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_state_of_other_facts_is_refused() -> None:
    state = quick(GroupedTuning(8, 1), privileged=True).get_state()
    with pytest.raises(ConfigError, match="of another network"):
        quick(GroupedTuning(8, 1)).set_state(state)


def test_the_facts_follow_the_jobs_and_a_last_observation_has_those_of_its_own() -> None:
    inner = GroupedTuning(4, 2)
    venv = PrivilegedColumns(VecFrameStack(VecAdapter(inner), 2))
    venv.seed(5)
    start: Any = venv.reset()
    before = inner.privileged().copy()
    np.testing.assert_array_equal(start[:, 2 * FEATURES :], before)
    assert venv.observation_space.contains(start[0])
    for _ in range(LENGTH):
        now, _, dones, infos = venv.step(np.zeros((4, 2), np.float32))
    assert dones.all()
    after = inner.privileged()
    assert not (after == before).any()
    np.testing.assert_array_equal(np.asarray(now)[:, 2 * FEATURES :], after)
    last = np.stack([info["terminal_observation"] for info in infos])
    np.testing.assert_array_equal(last[:, 2 * FEATURES :], before)
    assert last.shape == np.asarray(now).shape


def test_an_environment_that_tells_none_is_refused() -> None:
    for env in (TinyTuning("continuous"), vectorized(lambda: TinyTuning("continuous"))):
        with pytest.raises(ConfigError, match=r"needs a vector environment with a method privileged\(\)"):
            quick(env, privileged=True)


def test_facts_that_are_not_of_each_slot_are_refused() -> None:
    class Odd(GroupedTuning):
        def privileged(self) -> Any:
            return np.zeros(self.num_envs, np.float32)

    with pytest.raises(ConfigError, match=r"must give an array of shape \(4, P\), got \(4,\)"):
        quick(Odd(4, 2), privileged=True)


def test_a_wrapper_that_only_watches_lets_the_facts_through() -> None:
    watched = gym.wrappers.vector.RecordEpisodeStatistics(GroupedTuning(8, 1))
    assert quick(watched, privileged=True).fit(80).steps == 80
