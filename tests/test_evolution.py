"""Evolution strategies: they learn what they should, compare within a job only, and resume bit for bit."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rl_tuner.agents import EvolutionStrategy
from rl_tuner.agents.agent import EpisodeSummary
from rl_tuner.envs import VectorTuningEnv
from rl_tuner.errors import ConfigError
from tests.contracts_agents import LENGTH, AgentContract, Short, TinyTuning, vectorized


class Quiet(TinyTuning):
    """Shows the feature that counts and no noise: whole episodes' returns do not say which step was good."""

    def _observe(self) -> np.ndarray:
        super()._observe()[1:] = 0
        return self._observation


class EvolutionContract(AgentContract):
    enough = 8_000
    tiny = Quiet
    settings: ClassVar[dict[str, Any]]

    def make(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], seed: int = 0) -> EvolutionStrategy:
        return EvolutionStrategy(env, hidden=(8,), seed=seed, **self.settings)

    def test_episodes_that_end_together_are_told_in_the_environments_order(self) -> None:
        """And of each slot only the first of a turn; each job is played by one member after the other."""
        seen: list[EpisodeSummary] = []
        lengths = ((5, False), (10, True), (5, False))
        makers = [lambda n=n, c=c: Short(n, c, self.kind) for n, c in lengths]
        agent = self.make(vectorized(*makers)).fit(60, seen.append)
        turns = agent.population
        assert agent.steps == turns * 20
        assert [s.episode for s in seen] == list(range(1, 3 * turns + 1))
        assert [s.env for s in seen] == [0, 2, 1] * turns
        assert [s.steps for s in seen] == [turn * 20 + n for turn in range(turns) for n in (15, 15, 20)]
        assert [s.length for s in seen] == [5, 5, 10] * turns
        assert [s.crashed for s in seen] == [s.env == 1 for s in seen]

    def test_many_environments_get_seeds_of_their_own_and_new_ones_when_continued(self) -> None:
        """Seeds of their own for each job; slots that play the same one share its seed."""
        seeds: list[int] = []

        class Seeded(TinyTuning):
            def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
                if seed is not None:
                    seeds.append(seed)
                return super().reset(seed=seed, options=options)

        agent = self.make(vectorized(*[lambda: Seeded(self.kind)] * 8))
        generation = 2 * agent.population * LENGTH
        agent.fit(2 * generation).fit(3 * generation)
        assert len(seeds) == 3 * 2 * agent.population
        assert all(len(set(seeds[i : i + 4])) == 1 for i in range(0, len(seeds), 4))
        assert len(set(seeds)) == 3 * 2
        self.make(vectorized(*[lambda: Seeded(self.kind)] * 8), seed=1).fit(generation)
        assert len(set(seeds)) == 4 * 2


class TestDiscreteEvolution(EvolutionContract):
    kind = "discrete"
    settings: ClassVar = {"population": 20, "sigma": 0.1, "learning_rate": 0.02}


class TestContinuousEvolution(EvolutionContract):
    kind = "continuous"
    settings: ClassVar = {"population": 4, "sigma": 0.3, "learning_rate": 0.1}


class Targets(VectorEnv[np.ndarray, np.ndarray, Any]):
    """Actions are to hit a function of the observation; jobs differ far more in what they give to all.

    The reward is ``−|a − t|²`` with t = (x₀, −x₁) of the present observation x, or with `late` of the one
    before it (0 at first), plus a constant of the job's own. Ends after 5 steps; slots of `crashing` after 2.
    """

    def __init__(self, num_envs: int, late: bool = False, crashing: tuple[int, ...] = ()) -> None:
        self.num_envs, self.late = num_envs, late
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.single_action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._length = np.where(np.isin(np.arange(num_envs), crashing), 2, 5)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        self._rngs = [np.random.default_rng(each) for each in seed]
        self._time = np.zeros(self.num_envs, np.int64)
        self._offset = np.array([rng.normal(0, 30) for rng in self._rngs])
        self._target = np.zeros((self.num_envs, 2))
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        self._seen = np.stack([rng.uniform(-1, 1, 2) for rng in self._rngs]).astype(np.float32)
        return self._seen

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        wanted = self._seen * [1, -1]
        target, self._target = (self._target, wanted) if self.late else (wanted, wanted)
        rewards = self._offset - ((actions - target) ** 2).sum(axis=1)
        self._time += 1
        ended = self._time == self._length
        self._time[ended] = 0
        self._target[ended] = 0
        crashed = {"crashed": ended & (self._length == 2)}
        return self._observe(), rewards, ended, np.zeros_like(ended), {"final_info": crashed}


def learner(env: Targets, seed: int = 0, **settings: Any) -> EvolutionStrategy:
    quick: dict[str, Any] = {"hidden": (16,), "sigma": 0.1, "learning_rate": 0.05, "learning_rate_end": 0.005}
    return EvolutionStrategy(env, seed=seed, **{**quick, **settings})


def error(agent: EvolutionStrategy, late: bool = False) -> float:
    """Mean squared distance of its actions to the targets; that of holding still is 2/3."""
    seen = np.random.default_rng(9).uniform(-1, 1, (500, 2, 2)).astype(np.float32)
    actions = [agent.act(x.reshape(-1) if agent.memory == 2 else x[1]) for x in seen]
    targets = seen[:, 0 if late else 1] * [1, -1]
    return float(((np.stack(actions) - targets) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_learns_nearly_the_optimum_though_jobs_differ_more_than_actions(seed: int) -> None:
    agent = learner(Targets(64), seed)
    assert error(agent) > 0.6
    assert error(agent.fit(64 * 5 * 150)) < 0.03


def test_with_a_memory_it_learns_what_only_the_observation_before_shows() -> None:
    forgetful, remembering = (learner(Targets(64, late=True), memory=n).fit(48_000) for n in (1, 2))
    assert error(forgetful, late=True) > 0.6
    assert error(remembering, late=True) < 0.1


def test_slots_side_by_side_learn_what_one_alone_does_step_by_step() -> None:
    side_by_side = EvolutionStrategy(vectorized(*[Quiet] * 4), population=4, seed=5).fit(200)
    alone = EvolutionStrategy(Quiet(), population=4, seed=5).fit(200)
    assert alone.steps == side_by_side.steps == 200
    torch.testing.assert_close(
        alone.get_state()["weights"], side_by_side.get_state()["weights"], rtol=0, atol=1e-5
    )


def test_a_population_larger_than_the_group_plays_each_job_in_turns() -> None:
    once, turns = (learner(Targets(n), population=8, group_size=g) for n, g in ((16, 8), (4, 2)))
    told: list[list[float]] = [[], []]
    for agent, returns in zip((once, turns), told, strict=True):
        agent.fit(1, lambda s, returns=returns: returns.append(s.return_))
    # In turn t the two slots of a job play its members 2t and 2t + 1.
    first = np.array(told[0]).reshape(2, 4, 2).swapaxes(0, 1)
    np.testing.assert_allclose(told[1], first.reshape(-1), rtol=1e-5)
    torch.testing.assert_close(turns.get_state()["weights"], once.get_state()["weights"])


def test_slots_of_a_group_play_the_same_job() -> None:
    played: list[list[int]] = []

    class Watched(gym.vector.VectorWrapper):
        def reset(self, **options: Any) -> Any:
            observations, infos = super().reset(**options)
            played.append(infos["job_seed"].tolist())
            return observations, infos

    env = VectorTuningEnv(6, suite="quick", hyperparameters=["lr"], decisions=2)
    EvolutionStrategy(Watched(env), population=2).fit(13)
    first, second = played
    assert first[::2] == first[1::2]
    assert len({*first, *second}) == 6


def test_an_early_end_counts_as_it_is_and_what_the_slot_does_next_does_not() -> None:
    seen: list[EpisodeSummary] = []
    agent = learner(Targets(4, crashing=(1, 2)), population=4)
    agent.fit(1, seen.append)
    assert [(s.env, s.length, s.crashed) for s in seen] == [
        (1, 2, True), (2, 2, True), (0, 5, False), (3, 5, False)
    ]  # fmt: skip
    assert [s.steps for s in seen] == [8, 8, 14, 14]
    assert (agent.steps, agent.episodes) == (14, 4)


def test_members_whose_episodes_end_early_and_lose_by_it_are_moved_away_from() -> None:
    class Rewarding(Targets):
        def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
            observations, _, ended, truncated, infos = super().step(actions)
            return observations, np.ones(self.num_envs), ended, truncated, infos

    agent = learner(Rewarding(4, crashing=(0,)), population=4)
    before = agent.get_state()["weights"]
    agent.fit(1)
    noise = np.random.default_rng([0, 0, 1]).standard_normal((2, len(before)), dtype=np.float32)
    moved = (agent.get_state()["weights"] - before).numpy()
    assert np.dot(moved, noise[0]) < 0  # member 0, on the + side of the first pair, got 2 of 5
    assert np.dot(moved, noise[0]) < np.dot(moved, noise[1])


def test_equal_returns_teach_nothing() -> None:
    class Indifferent(Targets):
        def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
            observations, rewards, *rest = super().step(actions)
            return observations, np.round(rewards * 0), *rest

    agent = learner(Indifferent(8), population=4)
    before = agent.get_state()["weights"]
    assert torch.equal(agent.fit(200).get_state()["weights"], before)


@pytest.mark.parametrize("stop", [33, 47, 48])
def test_a_resumed_fit_goes_on_bit_for_bit(stop: int) -> None:
    told: list[EpisodeSummary] = []
    whole = learner(Targets(8), population=4).fit(400, told.append).get_state()
    stopped = learner(Targets(8), population=4)
    stopped.fit(400, lambda s: s.episode != stop)
    assert stopped.episodes == (stop - 1) // 8 * 8  # the generation under way was dropped
    resumed = learner(Targets(8), population=4)
    resumed.set_state(stopped.get_state())
    again: list[EpisodeSummary] = []
    state = resumed.fit(400, again.append).get_state()
    assert again == told[stopped.episodes :]
    assert torch.equal(state["weights"], whole["weights"])
    moments, same = (s["optimizer"]["state"][0] for s in (state, whole))
    assert all(torch.equal(moments[name], same[name]) for name in same)


def test_the_state_in_mid_generation_is_that_of_the_last_one() -> None:
    weights: list[torch.Tensor] = []
    agent = learner(Targets(4), population=4)
    agent.fit(40, lambda s: weights.append(agent.get_state()["weights"]))
    assert all(torch.equal(weights[0], w) for w in weights[:4])
    assert all(torch.equal(weights[4], w) for w in weights[4:])
    assert not torch.equal(weights[0], weights[4])


def test_a_member_plays_every_job_of_a_generation() -> None:
    """Where all jobs are one, the members of both groups get equal returns."""

    class OneJob(Targets):
        def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
            return super().reset(seed=[1] * len(seed))

    returns: list[float] = []
    learner(OneJob(8), population=4).fit(1, lambda s: returns.append(s.return_))
    assert returns[:4] == pytest.approx(returns[4:], rel=1e-6)
    assert len(set(returns[:4])) == 4


def test_sigma_and_learning_rate_fall_on_a_line_over_the_fit() -> None:
    seen: list[EpisodeSummary] = []
    agent = learner(Targets(4), population=4, sigma=0.4, sigma_end=0.2, learning_rate=0.1)
    agent.fit(100, seen.append)
    scalars = [s.scalars for s in seen[::4]]
    np.testing.assert_allclose([s["sigma"] for s in scalars], [0.4, 0.36, 0.32, 0.28, 0.24])
    np.testing.assert_allclose([s["learning_rate"] for s in scalars], [0.1, 0.081, 0.062, 0.043, 0.024])
    assert "gradient_norm" not in scalars[0]
    assert all(s["gradient_norm"] > 0 for s in scalars[1:])


@pytest.mark.parametrize("kind", ["discrete", "continuous", "anchored"])
def test_a_policy_with_a_memory_acts_on_an_episode_as_the_agent_does(kind: str) -> None:
    agent = EvolutionStrategy(TinyTuning(kind), population=4, memory=3, learning_rate=0.3).fit(400)
    policy = agent.policy()
    env = TinyTuning(kind)
    observation, _ = env.reset(seed=1)
    seen = [np.zeros_like(observation)] * 2
    policy.reset()
    for _ in range(LENGTH):
        seen.append(observation.copy())
        expected = agent.act(np.concatenate(seen[-3:]))
        np.testing.assert_allclose(policy.act(observation), expected, rtol=0, atol=1e-6)
        observation, *_ = env.step(expected)


def test_members_remember_as_the_policy_does() -> None:
    """With hardly any noise a member's episode is the policy's."""
    two = vectorized(*[lambda: TinyTuning("continuous")] * 2)
    agent = EvolutionStrategy(two, population=2, memory=2, learning_rate=0.3).fit(400)
    quiet = EvolutionStrategy(two, population=2, memory=2, sigma=1e-9, sigma_end=1e-9)
    quiet.set_state(agent.get_state())
    told: list[float] = []
    quiet.fit(agent.steps + 1, lambda s: told.append(s.return_))
    env, policy, total = TinyTuning("continuous"), agent.policy(), 0.0
    observation, _ = env.reset(seed=agent._episode_seed(1 + agent.steps))
    over = False
    while not over:
        observation, reward, over, *_ = env.step(policy.act(observation))
        total += reward
    assert told == pytest.approx([total, total])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 1}, "population must be even, for its members are mirrored in pairs, got 1"),
        ({"population": 5}, "must be even"),
        ({"population": 0}, "population must be >= 1"),
        ({"group_size": 3}, "group_size must divide the number of slots, 8, got 3"),
        ({"population": 6, "group_size": 8}, "group_size must divide the population, 6, got 8"),
        ({"sigma": 0.0}, "sigma must be > 0"),
        ({"sigma_end": 0.0}, "sigma_end must be > 0"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0"),
        ({"learning_rate_end": -1.0}, "learning_rate_end must be >= 0"),
        ({"memory": 0}, "memory must be >= 1"),
        ({"memory": 1.5}, "memory must be a whole number"),
        ({"hidden": (8, 0)}, r"hidden\[1\] must be >= 1"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvolutionStrategy(Targets(8), **settings)


def test_observations_and_actions_of_another_kind_are_refused() -> None:
    env = TinyTuning()
    env.observation_space = spaces.Box(-1, 1, (2, 2), np.float32)
    with pytest.raises(ConfigError, match=r"Box observations of shape \(F,\)"):
        EvolutionStrategy(env)
    env = TinyTuning()
    env.action_space = spaces.MultiBinary(2)
    with pytest.raises(ConfigError, match="Box, Discrete or MultiDiscrete"):
        EvolutionStrategy(env)


def test_an_observation_of_another_shape_is_refused() -> None:
    agent = learner(Targets(4), memory=2)
    with pytest.raises(ConfigError, match=r"reads 2 observations in one, shape \(4,\), got \(2,\)"):
        agent.act(np.zeros(2))
    with pytest.raises(ConfigError, match=r"one observation at a time, got shape \(3, 4\)"):
        agent.act(np.zeros((3, 4)))
