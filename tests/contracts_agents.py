"""What every agent promises: a test class to inherit from."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from rl_tuner.actions import ActionMap
from rl_tuner.agents.agent import Agent, EpisodeSummary
from rl_tuner.course_config import CourseConfig
from rl_tuner.errors import ConfigError, PolicyError
from rl_tuner.features import FeatureSet
from rl_tuner.policy_file import load_policy
from rl_tuner.space import search_space

LENGTH = 10
NOISY = 31
"""Features that are noise."""


class TinyTuning(gym.Env[np.ndarray, np.ndarray]):
    """Has a tuning environment's spaces and attributes, but no training: quick, and its optimum is known.

    The first features are noise, the others 0: however many features an observation has, learning is as hard.
    The reward is high for raising the first hyperparameter where feature 0 is positive, lowering it where it
    is negative, and leaving the second.
    """

    def __init__(self, kind: str = "discrete") -> None:
        self.space = search_space(["lr", "dropout"])
        self.actions = ActionMap(self.space, kind)
        self.config = CourseConfig(decisions=LENGTH)
        self.feature_names = FeatureSet(self.space).names
        self.observation_space = FeatureSet(self.space).gym_space
        self.action_space = self.actions.gym_space

    def _observe(self) -> np.ndarray:
        self._observation = np.zeros(len(self.feature_names), np.float32)
        self._observation[:NOISY] = self.np_random.uniform(-1, 1, NOISY)
        return self._observation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        lr, dropout = self.actions.fraction(action)
        reward = 1 - (lr - np.sign(self._observation[0])) ** 2 - dropout**2
        self._step += 1
        return self._observe(), float(reward), self._step == LENGTH, False, {"crashed": False}


class ContextBandit(gym.Env[np.ndarray, Any]):
    """Not a tuning environment: Box observations, Discrete actions, reward for telling the sign."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        self._observation = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self._observation

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = float(int(action) == int(self._observation[0] > 0))
        self._step += 1
        return self._observe(), reward, self._step == LENGTH, False, {}


class Short(TinyTuning):
    """Episodes of a length of their own."""

    def __init__(self, length: int, crashes: bool = False, kind: str = "discrete") -> None:
        super().__init__(kind)
        self.length, self.crashes = length, crashes

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, _, _, _ = super().step(action)
        return observation, reward, self._step == self.length, False, {"crashed": self.crashes}


def vectorized(*makers: Callable[[], gym.Env[Any, Any]], **settings: Any) -> VectorEnv[Any, Any, Any]:
    """They step one after the other, and reset in the step that ends an episode unless told otherwise."""
    return SyncVectorEnv(makers, **{"autoreset_mode": AutoresetMode.SAME_STEP, **settings})


class AgentContract(ABC):
    """Inherit, and say how to make the agent on an environment."""

    kind = "discrete"
    enough = 2_000
    tiny: type[TinyTuning] = TinyTuning
    """What `enough` steps of suffice to learn the optimum."""

    @abstractmethod
    def make(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], seed: int = 0) -> Agent:
        """An agent that learns quickly."""

    def many(self, n: int = 4) -> VectorEnv[Any, Any, Any]:
        return vectorized(*[lambda: self.tiny(self.kind)] * n)

    def observations(self, n: int = 200) -> np.ndarray:
        shape = (n, len(TinyTuning().feature_names))
        return np.random.default_rng(3).normal(0, 1, shape).astype(np.float32)

    def actions(self, agent: Agent) -> np.ndarray:
        policy = agent.policy()
        return np.stack([policy.act(o) for o in self.observations()])

    def greedy_return(self, agent: Agent) -> float:
        env = self.tiny(self.kind)
        total = 0.0
        for seed in range(10):
            observation, _ = env.reset(seed=900 + seed)
            over = False
            while not over:
                observation, reward, over, _, _ = env.step(agent.act(observation))
                total += reward
        return total / 10

    def test_an_untrained_policys_actions_are_valid(self) -> None:
        policy = self.make(TinyTuning(self.kind)).policy()
        for observation in self.observations(20):
            assert np.abs(policy.actions.fraction(policy.act(observation))).max() <= 1

    def test_it_learns_the_known_optimum(self) -> None:
        agent = self.make(self.tiny(self.kind))
        before = self.greedy_return(agent)
        agent.fit(self.enough)
        assert before < 0.4 * LENGTH
        assert self.greedy_return(agent) > 0.65 * LENGTH

    def test_it_works_where_nothing_is_tuned_but_then_has_no_policy_file(self) -> None:
        agent = self.make(ContextBandit()).fit(self.enough)
        right = [agent.act(np.array([x, 0.3], dtype=np.float32)) == (x > 0) for x in (-0.8, -0.4, 0.4, 0.8)]
        assert all(right)
        with pytest.raises(ConfigError, match=r"policy\(\) needs an environment that tunes"):
            agent.policy()

    def test_act_agrees_with_the_policy(self) -> None:
        agent = self.make(TinyTuning(self.kind)).fit(600)
        acted = np.stack([agent.act(o) for o in self.observations()])
        np.testing.assert_allclose(acted, self.actions(agent), rtol=0, atol=1e-6)

    def test_a_saved_policy_acts_the_same_when_loaded(self, tmp_path: Path) -> None:
        agent = self.make(TinyTuning(self.kind)).fit(600)
        loaded = load_policy(agent.save(tmp_path / "policy.safetensors"))
        np.testing.assert_array_equal(
            np.stack([loaded.act(o) for o in self.observations()]), self.actions(agent)
        )
        assert loaded.config == CourseConfig(decisions=LENGTH)

    def test_the_provenance_is_kept_and_filled_in(self, tmp_path: Path) -> None:
        agent = self.make(TinyTuning(self.kind), seed=7).fit(400)
        given = {"suite": "tiny", "scores": {"mean": 0.5}, "seeds": [1, 2]}
        loaded = load_policy(agent.save(tmp_path / "policy.safetensors", given))
        provenance = loaded.provenance  # type: ignore[attr-defined]
        assert {key: provenance[key] for key in given} == given
        assert (provenance["agent"], provenance["seed"]) == (agent.name, 7)
        assert (provenance["steps"], provenance["episodes"]) == (agent.steps, agent.episodes)

    def test_an_unwritable_place_is_a_policy_error(self, tmp_path: Path) -> None:
        agent = self.make(TinyTuning(self.kind))
        with pytest.raises(PolicyError, match="nowhere"):
            agent.save(tmp_path / "nowhere" / "policy.safetensors")

    def test_learning_twice_gives_the_same(self) -> None:
        first, second = (self.make(TinyTuning(self.kind), seed=3).fit(600) for _ in range(2))
        np.testing.assert_array_equal(self.actions(first), self.actions(second))

    def test_another_seed_gives_another_agent(self) -> None:
        histories = []
        for seed in (3, 4):
            returns: list[float] = []
            agent = self.make(TinyTuning(self.kind), seed=seed)
            agent.fit(100, lambda s, returns=returns: returns.append(s.return_))
            histories.append(returns)
        assert histories[0] != histories[1]

    def test_global_random_state_is_left_alone(self, untouched_rng: None) -> None:
        agent = self.make(TinyTuning(self.kind)).fit(400)
        agent.act(self.observations(1)[0])
        agent.set_state(agent.get_state())

    def test_the_state_survives_a_file_that_holds_no_code(self) -> None:
        agent = self.make(TinyTuning(self.kind)).fit(600)
        buffer = io.BytesIO()
        torch.save(agent.get_state(), buffer)
        buffer.seek(0)
        other = self.make(TinyTuning(self.kind))
        other.set_state(torch.load(buffer, weights_only=True))
        assert (other.steps, other.episodes) == (agent.steps, agent.episodes)
        np.testing.assert_array_equal(self.actions(other), self.actions(agent))

    def test_a_state_is_not_changed_by_what_is_learned_later(self) -> None:
        agent = self.make(TinyTuning(self.kind)).fit(400)
        state, actions = agent.get_state(), self.actions(agent)
        agent.fit(1200)
        other = self.make(TinyTuning(self.kind))
        other.set_state(state)
        other.fit(800)
        agent.set_state(state)
        np.testing.assert_array_equal(self.actions(agent), actions)

    def test_two_that_resume_from_one_state_stay_the_same(self) -> None:
        agent = self.make(TinyTuning(self.kind)).fit(600)
        others = [self.make(TinyTuning(self.kind)) for _ in range(2)]
        for other in others:
            other.set_state(agent.get_state())
            other.fit(1200)
        np.testing.assert_array_equal(self.actions(others[0]), self.actions(others[1]))

    def test_a_foreign_state_is_refused(self) -> None:
        agent = self.make(TinyTuning(self.kind))
        with pytest.raises(ConfigError, match="'somebody'"):
            agent.set_state({**agent.get_state(), "agent": "somebody"})

    def test_a_state_of_another_environment_is_refused_and_nothing_is_lost(self) -> None:
        state = self.make(ContextBandit()).fit(200).get_state()
        agent = self.make(TinyTuning(self.kind)).fit(400)
        actions = self.actions(agent)
        with pytest.raises(ConfigError, match="state"):
            agent.set_state(state)
        np.testing.assert_array_equal(self.actions(agent), actions)

    def test_fit_goes_up_to_the_steps_in_all(self) -> None:
        agent = self.make(TinyTuning(self.kind)).fit(400)
        done = agent.steps
        assert done == 400
        assert agent.fit(400).steps == 400
        assert agent.fit(800).steps == 800

    def test_each_episode_is_reported_once(self) -> None:
        seen: list[EpisodeSummary] = []
        self.make(TinyTuning(self.kind)).fit(400, seen.append)
        assert [s.episode for s in seen] == list(range(1, 400 // LENGTH + 1))
        assert [s.steps for s in seen] == list(range(LENGTH, 401, LENGTH))
        assert {s.length for s in seen} == {LENGTH}
        assert all(-4 * LENGTH <= s.return_ <= LENGTH for s in seen)
        json.dumps(dict(seen[-1].scalars))

    def test_returning_false_stops(self) -> None:
        seen: list[EpisodeSummary] = []

        def stop_at_third(summary: EpisodeSummary) -> bool:
            seen.append(summary)
            return len(seen) < 3

        self.make(TinyTuning(self.kind)).fit(400, stop_at_third)
        assert len(seen) == 3

    def test_returning_nothing_goes_on(self) -> None:
        assert self.make(TinyTuning(self.kind)).fit(400, lambda s: None).steps == 400

    @pytest.mark.parametrize("seed", [-1, 1.5, True, "0"])
    def test_a_seed_must_be_a_whole_number(self, seed: Any) -> None:
        with pytest.raises(ConfigError, match="seed must be an integer >= 0"):
            self.make(TinyTuning(self.kind), seed=seed)

    def test_many_environments_teach_the_known_optimum(self) -> None:
        agent = self.make(self.many()).fit(self.enough)
        assert agent.steps >= self.enough
        assert self.greedy_return(agent) > 0.65 * LENGTH

    def test_what_nothing_is_tuned_in_can_be_learned_in_many_environments_too(self) -> None:
        agent = self.make(vectorized(*[ContextBandit] * 4)).fit(self.enough)
        right = [agent.act(np.array([x, 0.3], dtype=np.float32)) == (x > 0) for x in (-0.8, -0.4, 0.4, 0.8)]
        assert all(right)
        with pytest.raises(ConfigError, match=r"policy\(\) needs an environment that tunes"):
            agent.policy()

    def test_the_policy_learned_in_many_environments_says_what_it_tunes(self) -> None:
        env = TinyTuning(self.kind)
        policy = self.make(self.many(2)).policy()
        assert (policy.space, policy.config) == (env.space, env.config)
        assert policy.actions.kind == self.kind

    def test_a_wrapper_that_changes_what_many_show_leaves_no_policy_file(self) -> None:
        inside = vectorized(lambda: gym.wrappers.NormalizeObservation(TinyTuning(self.kind)))
        outside = gym.wrappers.vector.TransformAction(self.many(2), lambda action: action)
        for venv in (inside, outside):
            with pytest.raises(ConfigError, match="no wrapper that changes"):
                self.make(venv).policy()

    def test_a_wrapper_that_only_watches_many_changes_nothing(self) -> None:
        watched = gym.wrappers.vector.RecordEpisodeStatistics(self.many(2))
        agents = [self.make(venv, seed=3).fit(600) for venv in (watched, self.many(2))]
        np.testing.assert_array_equal(*(self.actions(agent) for agent in agents))

    @pytest.mark.filterwarnings("ignore:.*warm-up was not over")
    def test_episodes_that_end_together_are_told_in_the_environments_order(self) -> None:
        seen: list[EpisodeSummary] = []
        lengths = ((5, False), (10, True), (5, False))
        makers = [lambda n=n, c=c: Short(n, c, self.kind) for n, c in lengths]
        self.make(vectorized(*makers)).fit(60, seen.append)
        seen = [s for s in seen if s.steps <= 60]  # a rollout may be longer
        assert [s.episode for s in seen] == list(range(1, 11))
        assert [s.env for s in seen] == [0, 2, 0, 1, 2] * 2
        assert [s.steps for s in seen] == [15, 15, 30, 30, 30, 45, 45, 60, 60, 60]
        assert [s.length for s in seen] == [5, 5, 5, 10, 5] * 2
        assert [s.crashed for s in seen] == [s.env == 1 for s in seen]

    def test_a_stop_holds_for_episodes_that_end_in_the_same_step_too(self) -> None:
        seen: list[EpisodeSummary] = []

        def stop(summary: EpisodeSummary) -> bool:
            seen.append(summary)
            return summary.env != 1

        self.make(self.many()).fit(400, stop)
        assert [s.env for s in seen] == [0, 1]

    def test_two_that_resume_in_many_environments_stay_the_same(self) -> None:
        agent = self.make(self.many()).fit(800)
        others = [self.make(self.many()) for _ in range(2)]
        for other in others:
            other.set_state(agent.get_state())
            other.fit(1600)
        np.testing.assert_array_equal(self.actions(others[0]), self.actions(others[1]))

    def test_many_environments_get_seeds_of_their_own_and_new_ones_when_continued(self) -> None:
        seeds: list[int] = []

        class Seeded(TinyTuning):
            def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
                if seed is not None:
                    seeds.append(seed)
                return super().reset(seed=seed, options=options)

        agent = self.make(vectorized(*[lambda: Seeded(self.kind)] * 4))
        agent.fit(800).fit(1600)
        assert len(seeds) == len(set(seeds)) == 8
        other = self.make(vectorized(*[lambda: Seeded(self.kind)] * 4), seed=1).fit(800)
        assert other.seed == 1
        assert len(seeds) == len(set(seeds)) == 12

    def test_many_environments_that_reset_a_step_later_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="SAME_STEP, got NEXT_STEP"):
            self.make(vectorized(lambda: TinyTuning(self.kind), autoreset_mode=AutoresetMode.NEXT_STEP))
