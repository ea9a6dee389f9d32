"""PPO by groups, and its schedules: what is compared, what starts together, where a line stands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import VectorWrapper
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_tuner.agents import PPOAgent
from rl_tuner.agents.agent import EpisodeSummary
from rl_tuner.envs import VectorTuningEnv
from rl_tuner.envs.suites import SUITES
from rl_tuner.errors import ConfigError
from tests.contracts_agents import LENGTH, TinyTuning, vectorized
from tests.grouped_tuning import GroupedTuning
from tests.tiny import TINY


def quick(env: Any, **settings: Any) -> PPOAgent:
    chosen = {"learning_rate": 1e-2, "hidden": (16,), "log_std_init": -0.5, "n_epochs": 4, "batch_size": 40}
    return PPOAgent(env, **{**chosen, **settings})


def grouped(env: Any, **settings: Any) -> PPOAgent:
    return quick(env, **{"advantages": "group", "n_steps": LENGTH, **settings})


def same_weights(*agents: PPOAgent) -> bool:
    weights = [agent.get_state()["policy"] for agent in agents]
    return all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def greedy_return(agent: PPOAgent) -> float:
    """Mean return, without luck or crashes."""
    env = GroupedTuning(20, 1)
    observations, _ = env.reset(seed=77)
    total = 0.0
    for _ in range(LENGTH):
        observations, rewards, _, _, _ = env.step(np.stack([agent.act(o) for o in observations]))
        total += float(rewards.mean())
    return total


@pytest.mark.parametrize("advantages", [{}, {"advantages": "group_gae", "gae_lambda": 0.5}])
def test_groups_learn_through_the_luck_of_their_jobs_and_through_crashes(advantages: dict[str, Any]) -> None:
    agent = grouped(GroupedTuning(16, 4, luck=30.0, crashes=0.03), **advantages)
    before = greedy_return(agent)
    agent.fit(6_400)
    assert before < 4
    assert greedy_return(agent) > 7


def test_there_is_no_value_function_and_it_is_not_learned() -> None:
    seen: list[EpisodeSummary] = []
    agent = grouped(GroupedTuning(8, 4)).fit(400, seen.append)
    policy = agent.model.policy
    assert not list(policy.mlp_extractor.value_net.parameters())
    assert not policy.value_net.weight.any()
    assert not policy.value_net.bias.any()
    assert {"train/value_loss", "train/explained_variance"}.isdisjoint(seen[-1].scalars)
    assert seen[-1].scalars["train/compared"] == 1.0


def test_a_group_that_fell_apart_starts_its_next_job_together() -> None:
    env = GroupedTuning(8, 4, crashes=0.1, crashing=2)
    grouped(env).fit(800)
    for job, decision in env.log[::LENGTH]:  # each rollout's first step
        assert not decision.any()
        assert (job.reshape(2, 4) == job.reshape(2, 4)[:, :1]).all()
    assert len(env.log) == 100


def test_a_group_that_ended_together_loses_no_job() -> None:
    env = GroupedTuning(8, 4, crashes=0.1, crashing=2)
    grouped(env).fit(800)
    first, again = env.resets[0], np.stack(env.resets[1:])
    assert first.all()
    assert again[:, :4].all()
    assert not again[:, 4:].any()
    assert [job[4] for job, _ in env.log[::LENGTH]] == list(range(1, 11))  # each its next


def test_a_group_that_starts_together_remembers_nothing_of_what_was_dropped() -> None:
    env = GroupedTuning(8, 4, crashes=0.4, crashing=2)
    model = grouped(env, memory=3).fit(160).model
    assert [reset.sum() for reset in env.resets] == [8, 4]  # the second rollout began with one
    stacked = model.rollout_buffer.observations.reshape(8, LENGTH, 3, -1)
    assert not stacked[:, 0, :2].any()
    assert (np.abs(stacked[:, 0, 2, 0]) == 1).all()  # what is seen now: the job's sign
    assert (stacked[4:, 1, 1] == stacked[4:, 0, 2]).all()


def test_what_was_dropped_to_start_together_is_in_no_episodes_sum() -> None:
    env, seen = GroupedTuning(8, 4, crashes=0.15, crashing=3), []
    grouped(env).fit(800, seen.append)
    assert {s.length for s in seen} <= set(range(1, LENGTH + 1))
    lengths = [s.length for s in seen if not s.crashed]
    assert len(lengths) > 20
    assert set(lengths) == {LENGTH}  # a dropped episode's steps would have been added to one's


def test_the_critic_of_groups_tells_how_much_it_explains() -> None:
    seen: list[EpisodeSummary] = []
    grouped(GroupedTuning(8, 4), advantages="group_gae").fit(800, seen.append)
    explained = [s.scalars.get("train/explained_variance", math.nan) for s in seen]
    assert math.isnan(explained[0])
    assert -1 < explained[-1] < 1


@pytest.mark.parametrize("advantages", ["group", "group_gae"])
def test_agents_that_resume_by_groups_stay_the_same(advantages: str) -> None:
    def make() -> PPOAgent:
        return grouped(GroupedTuning(8, 4, crashes=0.1), advantages=advantages, gae_lambda_end=0.5)

    first = make().fit(400)
    other = make()
    other.set_state(first.get_state())
    assert same_weights(first.fit(800), other.fit(800))


def test_a_state_without_a_critic_is_refused_where_there_is_one() -> None:
    with pytest.raises(ConfigError, match="the state has no critic"):
        grouped(GroupedTuning(8, 4), advantages="group_gae").set_state(
            grouped(GroupedTuning(8, 4)).get_state()
        )


def test_a_refused_state_of_another_network_leaves_weights_and_critic() -> None:
    agent = grouped(GroupedTuning(8, 4), advantages="group_gae").fit(800)
    before = agent.get_state()
    foreign = grouped(GroupedTuning(8, 4), advantages="group_gae", hidden=(16, 8), seed=1).fit(400)
    with pytest.raises(ConfigError, match="another network"):
        agent.set_state(foreign.get_state())
    resumed = grouped(GroupedTuning(8, 4), advantages="group_gae")
    resumed.set_state(before)
    assert same_weights(agent.fit(1200), resumed.fit(1200))


def test_environments_of_stable_baselines3_all_start_together() -> None:
    """Nobody resets a few of those; all are reset where a group fell apart."""

    class Crashing(TinyTuning):
        def reset(self, **arguments: Any) -> tuple[np.ndarray, dict[str, Any]]:
            self.began = self.began + 1 if hasattr(self, "began") else 1
            return super().reset(**arguments)

        def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
            observation, reward, over, cut, info = super().step(action)
            return observation, reward, over or (self._step == 3 and self.began == 1), cut, info

    venv = DummyVecEnv([lambda: Crashing("continuous"), lambda: TinyTuning("continuous")])
    agent = grouped(venv, group_size=2, batch_size=20)
    seen: list[EpisodeSummary] = []
    agent.fit(60, seen.append)
    assert [(s.env, s.length) for s in seen] == [(0, 3), (1, 10), (0, 10), (1, 10), (0, 10), (1, 10)]


class JobsSeen(VectorWrapper):
    """Notes which job runs in each slot before each step."""

    def __init__(self, env: VectorTuningEnv) -> None:
        super().__init__(env)
        self.now = np.zeros(env.num_envs, np.int64)
        self.seen: list[np.ndarray] = []

    def _note(self, infos: dict[str, Any]) -> None:
        self.now = np.where(infos["_job_seed"], infos["job_seed"], self.now)

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        observations, infos = super().reset(**arguments)
        self._note(infos)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.seen.append(self.now.copy())
        result = super().step(actions)
        self._note(result[-1])
        return result


@pytest.mark.filterwarnings("ignore:.*warm-up was not over")
def test_a_vector_tuning_environments_groups_begin_each_rollout_in_one_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)
    options = {"suite": "tiny", "decisions": 4, "intervals": "uniform", "early_stopping": 1}
    env = JobsSeen(VectorTuningEnv(6, group_size=3, **options))
    agent = PPOAgent(env, advantages="group", hidden=(8,), n_steps=4, log_std_init=1.0)
    seen: list[EpisodeSummary] = []
    agent.fit(6 * 4 * 6, seen.append)
    starts = np.array(env.seen[::4]).reshape(6, 2, 3)
    assert (starts == starts[:, :, :1]).all()
    assert len(np.unique(starts)) == 12  # each in a new one
    assert len({s.length for s in seen}) > 1  # though they end at different times
    compared = [s.scalars["train/compared"] for s in seen if "train/compared" in s.scalars]
    assert 0.3 < min(compared) < 1
    assert agent.model.rollout_buffer.group_size == 3  # type: ignore[attr-defined]
    assert agent.save(tmp_path / "p.safetensors").is_file()


def test_a_rollout_is_whole_episodes_of_the_environments_length() -> None:
    model = PPOAgent(GroupedTuning(16, 4), advantages="group").model
    assert model.n_steps == 30  # 400 steps in all, and 10 decisions an episode
    assert PPOAgent(GroupedTuning(40, 4), advantages="group").model.n_steps == LENGTH


@pytest.mark.parametrize(
    ("num_envs", "own", "settings", "message"),
    [
        (4, 1, {}, "needs a group_size >= 2"),
        (4, 2, {"group_size": 1}, "needs a group_size >= 2"),
        (4, 2, {"group_size": 4}, "in groups of 2, not of 4"),
        (6, 6, {"group_size": 4}, "group_size must divide the 6 environments, got 4"),
        (4, 2, {"n_steps": 8}, "n_steps must be >= 10, the decisions of an episode, got 8"),
        (4, 2, {"advantage_clip": 0.0}, "advantage_clip must be > 0"),
        (4, 2, {"privileged": True}, "privileged=True is for the value network"),
        (4, 2, {"advantages": "gae", "group_size": 2}, "group_size=2 is for advantages='group'"),
        (4, 2, {"advantages": "groups"}, "did you mean 'group'"),
    ],
)
def test_a_group_that_cannot_be_is_refused(
    num_envs: int, own: int, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        PPOAgent(GroupedTuning(num_envs, own), **{"advantages": "group", **settings})


def test_what_says_nothing_of_groups_is_believed_to_be_one_where_that_is_said() -> None:
    with pytest.raises(ConfigError, match="needs a group_size >= 2"):
        grouped(vectorized(*[lambda: TinyTuning("continuous")] * 4))
    agent = grouped(vectorized(*[lambda: TinyTuning("continuous")] * 4), group_size=2)
    assert agent.model.rollout_buffer.group_size == 2  # type: ignore[attr-defined]


def rates(agent: PPOAgent, steps: int, stop_at: int | None = None) -> list[tuple[int, float]]:
    """(steps learned from, learning rate of the last update) at each rollout of a fit, the last one's too."""
    told: dict[int, float] = {}

    def note(summary: EpisodeSummary) -> bool:
        state = agent.get_state()
        told[state["steps"]] = state["optimizer"]["param_groups"][0]["lr"]
        return stop_at is None or summary.steps <= stop_at

    agent.fit(steps, note)
    told[agent.steps] = agent.get_state()["optimizer"]["param_groups"][0]["lr"]
    return sorted(told.items())


def tiny(**settings: Any) -> PPOAgent:
    return quick(TinyTuning("continuous"), n_steps=100, batch_size=50, n_epochs=1, **settings)


def test_the_learning_rate_falls_on_a_line_over_the_fit() -> None:
    told = rates(tiny(learning_rate=1e-2, learning_rate_end=2e-3), 400)
    assert told[1:] == [(s, pytest.approx(1e-2 - 8e-3 * s / 400)) for s in (100, 200, 300, 400)]


def test_a_resumed_fit_goes_on_where_the_line_was() -> None:
    first = tiny(learning_rate=1e-2, learning_rate_end=2e-3)
    assert [steps for steps, _ in rates(first, 400, stop_at=200)] == [0, 100, 200]
    other = tiny(learning_rate=1e-2, learning_rate_end=2e-3)
    other.set_state(first.get_state())
    told = rates(other, 400)
    assert told == [(s, pytest.approx(1e-2 - 8e-3 * s / 400)) for s in (200, 300, 400)]


def test_what_a_last_rollout_does_too_much_is_learned_at_the_end_value() -> None:
    told = rates(tiny(learning_rate=1e-2, learning_rate_end=2e-3), 250)
    assert told[-1] == (300, 2e-3)


def test_without_an_end_the_learning_rate_stays() -> None:
    assert {rate for _, rate in rates(tiny(learning_rate=1e-2), 300)[1:]} == {1e-2}


def test_the_entropy_bonus_falls_on_a_line_too() -> None:
    told: dict[int, float] = {}
    agent = tiny(ent_coef=0.1, ent_coef_end=0.02)
    agent.fit(400, lambda s: told.update({(s.steps - 1) // 100: s.scalars.get("train/ent_coef", -1.0)}))
    assert [told[n] for n in (1, 2, 3)] == [pytest.approx(0.1 - 0.08 * share) for share in (0.25, 0.5, 0.75)]
    assert agent.model.ent_coef == pytest.approx(0.02)


def test_a_line_from_a_value_to_itself_is_the_constant_bit_for_bit() -> None:
    constant = tiny(ent_coef=0.01).fit(300)
    line = tiny(learning_rate_end=1e-2, ent_coef=0.01, ent_coef_end=0.01).fit(300)
    assert same_weights(constant, line)
    assert not same_weights(constant, tiny(ent_coef=0.01, ent_coef_end=1.0).fit(300))


def test_exploration_falls_on_a_line_if_told_so_and_is_learned_otherwise() -> None:
    told: list[float] = []
    agent = tiny(log_std_init=-0.5, log_std_end=-2.5)
    assert agent.model.policy.log_std.tolist() == [-0.5, -0.5]
    agent.fit(400, lambda _: told.append(agent.model.policy.log_std[0].item()))
    assert sorted(set(told), reverse=True) == pytest.approx([-0.5, -1.0, -1.5, -2.0])
    learned = tiny(log_std_init=-0.5).fit(400).model.policy.log_std[0].item()
    assert learned not in (-0.5, -2.5)


def test_exploration_and_lambda_go_on_where_their_lines_were() -> None:
    lines = {"log_std_init": -0.5, "log_std_end": -2.5, "gae_lambda": 1.0, "gae_lambda_end": 0.2}
    first, other = (tiny(**lines) for _ in range(2))
    first.fit(400, lambda s: s.steps < 200)
    other.set_state(first.get_state())
    told: list[tuple[float, float]] = []

    def note(_: EpisodeSummary) -> None:
        told.append((other.model.policy.log_std[0].item(), other.model.rollout_buffer.gae_lambda))

    other.fit(400, note)
    wanted = [(-1.0, 0.8), (-1.5, 0.6), (-2.0, 0.4)]
    assert list(dict.fromkeys(told)) == [pytest.approx(pair) for pair in wanted]


def test_a_line_of_exploration_means_nothing_where_actions_are_choices() -> None:
    settings: dict[str, Any] = {"n_steps": 100, "batch_size": 50, "n_epochs": 1}
    one = quick(TinyTuning("discrete"), **settings).fit(200)
    assert same_weights(one, quick(TinyTuning("discrete"), log_std_end=-2.0, **settings).fit(200))


@pytest.mark.parametrize("name", ["learning_rate_end", "ent_coef_end"])
def test_an_end_below_zero_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be >= 0, got -0.1"):
        tiny(**{name: -0.1})
