"""Q-learning and SARSA: against tables computed by hand, and against solved MDPs."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_tuner.agents import QLearning, Sarsa
from rl_tuner.agents.agent import EpisodeSummary, TuningSpaces
from rl_tuner.agents.experience import Transition
from rl_tuner.agents.tabular import TabularAgent
from rl_tuner.envs import TuningEnv
from rl_tuner.errors import ConfigError
from tests.contracts_agents import AgentContract, ContextBandit, Short, TinyTuning, vectorized

TABULAR = (QLearning, Sarsa)


class TestQLearningContract(AgentContract):
    def make(self, env: Any, seed: int = 0) -> TabularAgent:
        return _make(QLearning, env, seed)


class TestSarsaContract(AgentContract):
    def make(self, env: Any, seed: int = 0) -> TabularAgent:
        return _make(Sarsa, env, seed)


def _make(agent: type[TabularAgent], env: Any, seed: int) -> TabularAgent:
    settings: dict[str, Any] = {"gamma": 0.0, "warmup": 100, "epsilon_start": 0.5, "seed": seed}
    if TuningSpaces.of(env) is not None:
        return agent(env, shared={"progress": 2, "next_interval": 1}, own={"in_bounds": 1}, **settings)
    return agent(env, bins=2, **settings)


class Graph(gym.Env[int, Any]):
    """A deterministic MDP: (state, action) → (next state or None for the end, reward)."""

    def __init__(
        self,
        moves: dict[tuple[int, Any], tuple[int | None, float]],
        action_space: gym.Space[Any],
        truncate_after: int | None = None,
    ) -> None:
        self.moves = moves
        states = {s for s, _ in moves} | {n for n, _ in moves.values() if n is not None}
        self.observation_space = spaces.Discrete(max(states) + 1)
        self.action_space = action_space
        self.truncate_after = truncate_after

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self.state, self.count = 0, 0
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        key = tuple(int(a) for a in action) if isinstance(action, np.ndarray) else int(action)
        following, reward = self.moves[(self.state, key)]
        self.count += 1
        if following is not None:
            self.state = following
        return self.state, reward, following is None, self.count == self.truncate_after, {}


LINE = Graph({(0, 0): (1, 1.0), (0, 1): (0, 0.0), (1, 0): (None, 4.0), (1, 1): (0, -1.0)}, spaces.Discrete(2))


def transition(s: int, a: int, r: float, following: int, ahead: int | None) -> Transition:
    def one(state: int) -> np.ndarray:
        return np.array([float(state)])

    return Transition(one(s), (a,), r, one(following), None if ahead is None else (ahead,))


UPDATES = [transition(0, 0, 1.0, 1, 1), transition(1, 0, 4.0, 1, None), transition(0, 0, 1.0, 1, 1)]


def test_q_learning_agrees_with_updates_made_by_hand() -> None:
    # α = 0.5, γ = 0.9, all values 0 at first.
    # (0, 0) → 1: δ = 1 + 0.9 · max(0, 0) − 0 = 1        Q(0, 0) = 0.5
    # (1, 0) end: δ = 4 − 0 = 4                          Q(1, 0) = 2
    # (0, 0) → 1: δ = 1 + 0.9 · max(2, 0) − 0.5 = 2.3    Q(0, 0) = 0.5 + 1.15 = 1.65
    agent = QLearning(LINE, learning_rate=0.5, averaging=False, gamma=0.9)
    assert [agent._take(t) for t in UPDATES] == pytest.approx([1.0, 4.0, 2.3])
    np.testing.assert_allclose(agent.q.tables[0], [[1.65, 0.0], [2.0, 0.0]], rtol=1e-15)


def test_sarsa_agrees_with_updates_made_by_hand() -> None:
    # As above, but it bootstraps from the choice made next, 1, whose value stays 0:
    # (0, 0) → 1, 1: δ = 1 + 0.9 · 0 − 0.5 = 0.5         Q(0, 0) = 0.75
    agent = Sarsa(LINE, learning_rate=0.5, averaging=False, gamma=0.9)
    assert [agent._take(t) for t in UPDATES] == pytest.approx([1.0, 4.0, 0.5])
    np.testing.assert_allclose(agent.q.tables[0], [[0.75, 0.0], [2.0, 0.0]], rtol=1e-15)


@pytest.mark.parametrize("agent", TABULAR)
def test_averaging_makes_an_entry_the_mean_of_its_first_targets(agent: type[TabularAgent]) -> None:
    learner = agent(LINE, learning_rate=0.25, averaging=True)
    for reward in (3.0, 5.0, 10.0, 2.0):
        learner._take(transition(1, 0, reward, 1, None))
    assert learner.q.tables[0][1, 0] == pytest.approx(5.0)
    learner._take(transition(1, 0, 9.0, 1, None))  # the fifth step is learning_rate, not 1/5
    assert learner.q.tables[0][1, 0] == pytest.approx(6.0)


def test_the_error_is_shared_evenly_by_the_parts_of_an_action() -> None:
    # α = 0.5, two parts: δ = 4 moves the sum by 2, each table by 1.
    moves = {(0, (i, j)): (None, 0.0) for i in range(2) for j in range(3)}
    agent = QLearning(Graph(moves, spaces.MultiDiscrete([2, 3])), learning_rate=0.5, averaging=False)
    here = np.array([0.0])
    assert agent._take(Transition(here, (1, 2), 4.0, here, None)) == 4.0
    np.testing.assert_array_equal(agent.q.tables[0], [[0.0, 1.0]])
    np.testing.assert_array_equal(agent.q.tables[1], [[0.0, 0.0, 1.0]])
    assert agent._take(Transition(here, (1, 0), 4.0, here, None)) == 3.0


def test_q_learning_finds_the_closed_form_values() -> None:
    # γ = 0.9: Q*(1,0) = 4; Q*(0,0) = 1 + 0.9·4 = 4.6; Q*(0,1) = 0.9·4.6 = 4.14; Q*(1,1) = −1 + 0.9·4.6 = 3.14
    agent = QLearning(
        LINE, learning_rate=0.5, averaging=False, gamma=0.9, epsilon_start=1.0, epsilon_end=1.0
    ).fit(4_000)
    np.testing.assert_allclose(agent.q.tables[0], [[4.6, 4.14], [4.0, 3.14]], rtol=1e-9)
    assert [agent.act(0), agent.act(1)] == [0, 0]


def test_sarsa_finds_the_exploring_policys_values() -> None:
    # ε = 1: next choices are even. V(1) = (4 + Q(1,1))/2, V(0) = (Q(0,0) + Q(0,1))/2; linear equations.
    gamma = 0.5
    system = np.eye(4)  # unknowns Q(0,0), Q(0,1), Q(1,0), Q(1,1)
    rewards = np.array([1.0, 0.0, 4.0, -1.0])
    for row, following in ((0, 1), (1, 0), (3, 0)):
        system[row, 2 * following : 2 * following + 2] -= gamma / 2
    exact = np.linalg.solve(system, rewards).reshape(2, 2)
    agent = Sarsa(LINE, learning_rate=0.005, gamma=gamma, epsilon_start=1.0, epsilon_end=1.0).fit(16_000)
    np.testing.assert_allclose(agent.q.tables[0], exact, atol=0.1)


def test_parts_with_additive_rewards_are_learned_apart() -> None:
    # One step, r = f(i) + g(j): the best of each part is found, and Q(s, a) is exact at the best action.
    f, g = [0.0, 3.0], [1.0, -2.0, 2.0]
    moves = {(0, (i, j)): (None, f[i] + g[j]) for i in range(2) for j in range(3)}
    agent = QLearning(
        Graph(moves, spaces.MultiDiscrete([2, 3])), learning_rate=0.02, epsilon_start=1.0, epsilon_end=1.0
    ).fit(8_000)
    np.testing.assert_array_equal(agent.act(0), [1, 2])
    values = [agent.q.value((0, 0), (i, j)) for i in range(2) for j in range(3)]
    np.testing.assert_allclose(values, [f[i] + g[j] for i in range(2) for j in range(3)], atol=0.6)
    gaps = agent.q.tables[0][0, 1] - agent.q.tables[0][0, 0]
    assert gaps == pytest.approx(3.0, abs=0.5)


def cliff() -> Graph:
    """State 0: the short way (0) along the cliff, or the long way (1) at a cost. A slip falls."""
    moves: dict[tuple[int, Any], tuple[int | None, float]] = {
        (0, 0): (1, 0.0),
        (0, 1): (None, 5.0),
    }
    for state in range(1, 4):
        moves[(state, 0)] = (state + 1, 0.0) if state < 3 else (None, 8.0)
        moves[(state, 1)] = (None, -20.0)
    return Graph(moves, spaces.Discrete(2))


def test_on_a_cliff_q_learning_dares_and_sarsa_keeps_away() -> None:
    # ε = 0.5 slips with probability 1/4 a step: the short way is worth 8 to who never slips,
    # (3/4)^3 · 8 − (1 − (3/4)^3) · 20 = −8.2 to who explores; the long way 5 to both.
    settings: dict[str, Any] = {"learning_rate": 0.02, "epsilon_start": 0.5, "epsilon_end": 0.5}
    daring, careful = (agent(cliff(), **settings).fit(8_000) for agent in TABULAR)
    assert (daring.act(0), careful.act(0)) == (0, 1)
    assert daring.q.tables[0][0, 0] == pytest.approx(8.0, abs=0.5)
    assert careful.q.tables[0][0, 0] == pytest.approx(-8.2, abs=2.5)


@pytest.mark.parametrize("agent", TABULAR)
def test_a_truncated_episode_bootstraps_a_terminated_one_does_not(agent: type[TabularAgent]) -> None:
    loop = {(0, 0): (0, 1.0)}
    endless = Graph(loop, spaces.Discrete(1), truncate_after=1)
    truncated = agent(endless, gamma=0.5, learning_rate=0.5, averaging=False).fit(200)
    assert truncated.q.tables[0][0, 0] == pytest.approx(2.0)  # 1 / (1 − γ)
    ended = Graph({(0, 0): (None, 1.0)}, spaces.Discrete(1))
    terminated = agent(ended, gamma=0.5, learning_rate=0.5, averaging=False).fit(200)
    assert terminated.q.tables[0][0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize("agent", TABULAR)
def test_numbers_of_discrete_spaces_may_start_anywhere(agent: type[TabularAgent]) -> None:
    class Shifted(ContextBandit):
        observation_space = spaces.Discrete(3, start=5)  # type: ignore[assignment]
        action_space = spaces.Discrete(2, start=-1)

        def _observe(self) -> Any:
            self._observation = int(self.np_random.integers(5, 8))  # type: ignore[assignment]
            return self._observation

        def step(self, action: Any) -> Any:
            reward = float((action == 0) == (self._observation == 6))
            self._step += 1
            return self._observe(), reward, self._step == 10, False, {}

    learner = agent(Shifted(), gamma=0.0).fit(1_000)
    assert [learner.act(s) for s in (5, 6, 7)] == [-1, 0, -1]


@pytest.mark.parametrize("agent", TABULAR)
@pytest.mark.parametrize("stop", [30, 90, 330])
def test_resuming_at_an_episodes_end_is_bit_identical(agent: type[TabularAgent], stop: int) -> None:
    # 30 and 90 stop within the warm-up of 100 steps.
    whole = _make(agent, TinyTuning(), 5).fit(600)
    first = _make(agent, TinyTuning(), 5).fit(600, lambda s: s.steps < stop)
    assert first.steps == stop
    resumed = _make(agent, TinyTuning(), 5)
    resumed.set_state(first.get_state())
    resumed.fit(600)
    for a, b in zip(whole.q.tables, resumed.q.tables, strict=True):
        assert a.tobytes() == b.tobytes()
    assert whole.get_state()["rng"] == resumed.get_state()["rng"]


class SeededOnce(gym.Wrapper[Any, Any, Any, Any]):
    """Goes on from its own random numbers after the first reset, as in a vector environment."""

    seeded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        seed, self.seeded = None if self.seeded else seed, True
        return super().reset(seed=seed, options=options)


@pytest.mark.parametrize("agent", TABULAR)
@pytest.mark.parametrize(
    "env", [TinyTuning, lambda: gym.wrappers.TimeLimit(Short(9), 7)], ids=["terminated", "truncated"]
)
def test_a_vector_of_one_environment_teaches_what_the_environment_does(agent: Any, env: Any) -> None:
    """Bit for bit, bootstrapping past a truncation included."""
    single, vector = (_make(agent, made, 5) for made in (SeededOnce(env()), vectorized(env, copy=False)))
    for learner in (single, vector):
        learner.gamma = 0.9
    told: list[list[EpisodeSummary]] = [[], []]
    for learner, seen in zip((single, vector), told, strict=True):
        learner.fit(630, seen.append)
    assert told[0] == told[1]
    for a, b in zip(single.q.tables, vector.q.tables, strict=True):
        assert a.tobytes() == b.tobytes()
    assert single.get_state()["rng"] == vector.get_state()["rng"]


@pytest.mark.parametrize("agent", TABULAR)
def test_a_vector_of_training_jobs_teaches_what_one_job_after_the_other_does(agent: Any) -> None:
    def env() -> TuningEnv:
        return TuningEnv(suite="quick", actions="discrete", decisions=4)

    single, vector = (agent(made, warmup=6) for made in (SeededOnce(env()), vectorized(env)))
    for learner in (single, vector):
        learner.fit(16)
    for a, b in zip(single.q.tables, vector.q.tables, strict=True):
        assert a.any()
        assert a.tobytes() == b.tobytes()


def test_the_bins_of_many_environments_are_fitted_to_whole_episodes() -> None:
    agent = _make(QLearning, vectorized(*[TinyTuning] * 40), 0)  # 100 steps: not three of each
    with pytest.warns(UserWarning, match="at least an episode of every slot in one fit"):
        agent.fit(360)
    assert (agent.epsilon(1_000), len(agent.get_state()["seen"])) == (1.0, 360)
    with pytest.warns(UserWarning, match="not over after 440 steps, it takes 100, and"):
        agent.fit(440)  # the steps of earlier fits count, but each fit waits for its own episodes
    assert agent.epsilon(1_000) == 1.0
    agent.fit(880)
    assert agent.epsilon(1_000) < 1.0
    assert agent.get_state()["seen"] == []


@pytest.mark.parametrize("agent", TABULAR)
def test_a_fit_that_ends_with_the_first_episodes_of_many_environments_has_learned(agent: Any) -> None:
    lengths = [5] * 31 + [7]  # the last slot alone decides when the warm-up is over
    learner = _make(agent, vectorized(*[lambda n=n: Short(n) for n in lengths]), 0)
    learner.fit(32 * 7)
    assert (learner.steps, learner.get_state()["seen"]) == (224, [])
    assert all(table.any() for table in learner.q.tables)


@pytest.mark.parametrize("agent", TABULAR)
def test_a_fit_shorter_than_the_warm_up_warns_once_that_nothing_was_learned(agent: Any) -> None:
    for env in (TinyTuning(), vectorized(*[TinyTuning] * 4)):
        learner = _make(agent, env, 0)
        with pytest.warns(UserWarning, match="not over after 80 steps, it takes 100; fit for more") as warned:
            learner.fit(80)
        assert len(warned) == 1
        assert not any(table.any() for table in learner.q.tables)
        learner.fit(400)
        assert any(table.any() for table in learner.q.tables)


class Letters(gym.Env[int, Any]):
    """Two steps long; the action of each and the reward say which environment and which step it was."""

    observation_space = spaces.Discrete(6)
    action_space = spaces.Discrete(1)

    def __init__(self, first: int, limit: int | None) -> None:
        self.first, self.limit = first, limit

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return self.first, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.count += 1
        ended = self.count == 2
        reward = 10.0 * self.first + self.count
        return self.first + self.count, reward, ended and not self.limit, self.count == self.limit, {}


def test_each_slots_transition_is_learned_from_in_slot_order_with_its_last_observation() -> None:
    agent = QLearning(vectorized(lambda: Letters(0, None), lambda: Letters(3, 2)))
    taken: list[tuple[float, float, float, bool]] = []

    def take(t: Transition) -> float:
        taken.append((t.observation[0], t.reward, t.following[0], t.next_choices is None))
        return 0.0

    agent._take = take  # type: ignore[method-assign]
    agent.fit(7)
    one = [(0.0, 1.0, 1.0, False), (3.0, 31.0, 4.0, False), (1.0, 2.0, 2.0, True), (4.0, 32.0, 5.0, False)]
    assert taken == one * 2
    assert agent.steps == 8  # the step that reaches 7 is one of both


@pytest.mark.filterwarnings("ignore:.*warm-up was not over")
@pytest.mark.parametrize("agent", TABULAR)
def test_a_fit_of_a_vector_environment_stops_in_mid_episode_and_goes_on_with_new_ones(agent: Any) -> None:
    seen: list[EpisodeSummary] = []
    learner = _make(agent, vectorized(*[TinyTuning] * 4), 0)
    assert learner.fit(50, seen.append).steps == 52
    assert (seen[-1].steps, learner.episodes) == (40, 4)
    assert learner.fit(52).steps == 52
    learner.fit(92, seen.append)
    assert [(s.steps, s.episode, s.length) for s in seen[4:]] == [(92, n, 10) for n in (5, 6, 7, 8)]


def test_what_is_asked_when_an_episode_ends_knows_the_whole_step() -> None:
    states: list[dict[str, Any]] = []
    learner = _make(QLearning, vectorized(*[TinyTuning] * 4), 0)
    learner.fit(200, lambda s: states.append(learner.get_state()))
    for first in range(0, 20, 4):
        for state in states[first : first + 4]:
            assert (state["steps"], state["episodes"]) == (10 * (first + 4), first + 4)
            assert all(
                torch.equal(a, b)
                for a, b in zip(state["q"]["tables"], states[first]["q"]["tables"], strict=True)
            )


@pytest.mark.parametrize("agent", TABULAR)
def test_before_it_learns_the_policy_holds_still(agent: type[TabularAgent]) -> None:
    policy = agent(TinyTuning()).policy()
    observations = np.random.default_rng(0).normal(size=(20, len(TinyTuning().feature_names)))
    moved = [policy.actions.fraction(policy.act(o.astype(np.float32))) for o in observations]
    assert not np.any(moved)


def test_epsilon_falls_on_a_line_after_the_warm_up() -> None:
    agent = _make(QLearning, TinyTuning(), 0)
    agent.epsilon_start, agent.epsilon_end, agent.epsilon_decay = 0.6, 0.1, 0.5
    assert agent.epsilon(1000) == 1.0
    seen: list[EpisodeSummary] = []
    agent.fit(1000, seen.append)
    by_step = {s.steps: s.scalars["epsilon"] for s in seen}
    assert by_step[50] == 1.0
    # ε of a step is set by the steps done before it.
    assert by_step[250] == pytest.approx(0.6 - 0.5 * 249 / 500)
    assert by_step[1000] == pytest.approx(0.1)


def test_each_part_explores_on_its_own() -> None:
    agent = _make(QLearning, TinyTuning(), 0).fit(200)
    for table in agent.q.tables:
        table[:, 0] = 100.0
    observation = np.zeros(len(TinyTuning().feature_names))
    chosen = np.array([agent._explore(observation, 0.3) for _ in range(4_000)])
    strayed = chosen != 0
    # Random choices stray with probability 0.3 · (1 − 1/count); the two parts independently.
    expected = [0.3 * (1 - 1 / 5), 0.3 * (1 - 1 / 3)]
    np.testing.assert_allclose(strayed.mean(axis=0), expected, atol=0.03)
    assert (strayed[:, 0] & strayed[:, 1]).mean() == pytest.approx(expected[0] * expected[1], abs=0.02)


def test_what_was_seen_in_the_warm_up_is_learned_from() -> None:
    agent = _make(QLearning, TinyTuning(), 0).fit(100)
    assert all(visits.sum() == 100 for visits in agent.q.visits)
    assert agent.get_state()["seen"] == []


def test_own_features_are_the_hyperparameters_own() -> None:
    agent = QLearning(TinyTuning(), shared={"progress": 3}, own={"in_bounds": 4, "last_action": 2})
    names = TinyTuning().feature_names
    columns = [[names[c] for c in binning.columns] for binning in agent.q.binnings]
    assert columns == [
        ["progress", "lr_in_bounds", "lr_last_action"],
        ["progress", "dropout_in_bounds", "dropout_last_action"],
    ]


def test_the_policy_names_only_the_features_it_reads() -> None:
    agent = QLearning(TinyTuning(), shared={"val_vs_last": 3}, own={"in_bounds": 4}, warmup=50).fit(200)
    policy = agent.policy()
    assert policy.feature_names == ("val_vs_last", "lr_in_bounds", "dropout_in_bounds")
    for observation in np.random.default_rng(0).normal(size=(20, len(TinyTuning().feature_names))):
        np.testing.assert_array_equal(
            policy.act(observation.astype(np.float32)), agent.act(observation.astype(np.float32))
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be > 0 and <= 1"),
        ({"gamma": 1.1}, "gamma must be"),
        ({"epsilon_start": 2.0}, "epsilon_start must be"),
        ({"epsilon_end": -0.1}, "epsilon_end must be"),
        ({"epsilon_decay": 0.0}, "epsilon_decay must be"),
        ({"warmup": 0}, "warmup must be >= 1"),
        ({"shared": {"progres": 3}}, "unknown feature 'progres' .*did you mean 'progress'"),
        ({"own": {"outside": 3}}, "unknown feature 'lr_outside'"),
        ({"shared": {"progress": 0}}, "bins of 'progress' must be >= 1"),
    ],
)
def test_a_setting_out_of_range_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        QLearning(TinyTuning(), **settings)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (spaces.MultiBinary(2), spaces.Discrete(2), "Discrete or Box observations"),
        (spaces.Discrete(2), spaces.Box(-1, 1, (1,)), "Discrete or MultiDiscrete actions"),
        (spaces.Discrete(2), spaces.MultiDiscrete([[2, 2]]), "Discrete or MultiDiscrete actions"),
    ],
)
def test_an_unfit_space_is_named(observation_space: Any, action_space: Any, message: str) -> None:
    env = ContextBandit()
    env.observation_space, env.action_space = observation_space, action_space
    with pytest.raises(ConfigError, match=message):
        QLearning(env)


def test_named_features_need_an_environment_that_names_them() -> None:
    with pytest.raises(ConfigError, match="does not name any"):
        QLearning(ContextBandit(), shared={"progress": 3})


def test_a_policy_learned_through_a_wrapper_that_changes_observations_is_not_saved() -> None:
    env = TuningEnv(suite="quick", actions="discrete")
    wrapped = gym.wrappers.TransformObservation(env, lambda seen: 2 * seen, env.observation_space)
    with pytest.raises(ConfigError, match="no wrapper that changes"):
        QLearning(wrapped).policy()
    assert QLearning(gym.wrappers.RecordEpisodeStatistics(env)).policy().name == "q-learning"
