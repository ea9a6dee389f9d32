"""Policies that read some of the features: they learn from these alone, and read them by name ever after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_tuner.agents import EvolutionStrategy, PPOAgent
from rl_tuner.agents.agent import Agent, TuningSpaces
from rl_tuner.agents.feature_selection import FeatureSelection
from rl_tuner.agents.ppo_envs import SelectedColumns
from rl_tuner.agents.vec_adapter import VecAdapter
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs import TuningEnv
from rl_tuner.errors import ConfigError
from rl_tuner.features import FEATURE_GROUPS, features_without
from rl_tuner.policies import MLPPolicy
from rl_tuner.policy import LearnedPolicy
from rl_tuner.policy_file import load_policy
from rl_tuner.rollout import run_episode
from rl_tuner.space import SearchSpace, search_space
from tests.contracts_agents import LENGTH, ContextBandit, TinyTuning, vectorized
from tests.grouped_tuning import GroupedTuning
from tests.quadratic import quadratic_job

SPACE = TinyTuning().space
NAMES = TinyTuning().feature_names
ALL_BUT_CLOCK = features_without(SPACE, ["clock"])
CLOCK = features_without(SPACE, [group for group in FEATURE_GROUPS if group != "clock"])
SOME = ("progress", "val_vs_best", "lr_vs_start", "dropout_last_action")
COLUMNS = [NAMES.index(name) for name in SOME]


def ppo(env: Any, **settings: Any) -> PPOAgent:
    quick = {"n_steps": 50, "learning_rate": 3e-3, "hidden": (32,), "log_std_init": -0.5, "gamma": 0.0}
    return PPOAgent(env, **{**quick, **settings})


def es(env: Any, **settings: Any) -> EvolutionStrategy:
    return EvolutionStrategy(
        env, **{"population": 4, "hidden": (8,), "sigma": 0.3, "learning_rate": 0.1, **settings}
    )


AGENTS: dict[str, Callable[..., Agent]] = {"ppo": ppo, "es": es}


class Cut(TinyTuning):
    """Shows those columns only."""

    def __init__(self, columns: Sequence[int] = COLUMNS) -> None:
        super().__init__("continuous")
        self._columns, whole = list(columns), self.observation_space
        assert isinstance(whole, spaces.Box)
        self.observation_space = spaces.Box(whole.low[self._columns], whole.high[self._columns])

    def _observe(self) -> np.ndarray:
        return super()._observe()[self._columns]


def many(make: Callable[[], gym.Env[Any, Any]] = lambda: TinyTuning("continuous"), n: int = 4) -> Any:
    return vectorized(*[make] * n)


def cut_short(make: Callable[[], gym.Env[Any, Any]]) -> Callable[[], gym.Env[Any, Any]]:
    """Episodes that are truncated, so that what would have come is bootstrapped."""
    return lambda: gym.wrappers.TimeLimit(make(), 3)


def greedy_return(policy: LearnedPolicy) -> float:
    env, total = TinyTuning("continuous"), 0.0
    for seed in range(10):
        policy.reset()
        observation, over = env.reset(seed=900 + seed)[0], False
        while not over:
            observation, reward, over, _, _ = env.step(policy.act(observation))
            total += reward
    return total / 10


@pytest.mark.parametrize(("agent", "steps"), [("ppo", 3_000), ("es", 12_000)])
def test_what_a_group_shows_is_learned_with_it_and_not_without(agent: str, steps: int) -> None:
    with_it, without = (
        AGENTS[agent](many(), features=features).fit(steps).policy() for features in (CLOCK, ALL_BUT_CLOCK)
    )
    assert with_it.feature_names == CLOCK
    assert without.feature_names == ALL_BUT_CLOCK
    assert greedy_return(with_it) > 0.65 * LENGTH
    assert greedy_return(without) < 0.2 * LENGTH


@pytest.mark.parametrize("memory", [1, 3])
def test_ppo_learns_what_it_would_if_there_were_no_other_features(memory: int) -> None:
    """Bit for bit, bootstrapping past a truncation included."""
    settings = {"memory": memory, "gamma": 0.9}
    selected = ppo(many(cut_short(lambda: TinyTuning("continuous"))), features=SOME, **settings).fit(800)
    alone = ppo(many(cut_short(Cut)), **settings).fit(800)
    weights, expected = (agent.get_state()["policy"] for agent in (selected, alone))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("memory", [1, 3])
def test_an_evolution_strategy_learns_what_it_would_if_there_were_no_other_features(memory: int) -> None:
    selected = es(many(), features=SOME, memory=memory).fit(800)
    alone = es(many(Cut), memory=memory).fit(800)
    assert torch.equal(selected.get_state()["weights"], alone.get_state()["weights"])


@pytest.mark.parametrize("memory", [1, 3])
@pytest.mark.parametrize("agent", AGENTS)
def test_the_saved_policy_acts_on_whole_observations_as_the_agent_does(
    agent: str, memory: int, tmp_path: Path
) -> None:
    trained = AGENTS[agent](many(), features=SOME, memory=memory, learning_rate=0.05).fit(800)
    policy = load_policy(trained.save(tmp_path / "p.safetensors"))
    assert policy.feature_names == SOME
    env = TinyTuning("continuous")
    observation, _ = env.reset(seed=1)
    seen, acted = [np.zeros_like(observation)] * (memory - 1), []
    policy.reset()
    for _ in range(LENGTH):
        seen.append(observation)
        acted.append(policy.act(observation))
        expected = trained.act(np.concatenate(seen[-memory:] if memory > 1 else [observation]))
        np.testing.assert_allclose(acted[-1], expected, rtol=0, atol=1e-6)
        observation, *_ = env.step(expected)
    assert np.ptp(np.stack(acted), axis=0).max() > 0.01


@pytest.mark.parametrize("agent", AGENTS)
def test_the_order_in_which_features_are_given_does_not_matter_and_all_are_none(agent: str) -> None:
    states = [
        AGENTS[agent](many(), features=features).fit(400).policy().layers  # type: ignore[attr-defined]
        for features in (SOME, SOME[::-1], NAMES, None)
    ]
    for one, other in (states[:2], states[2:]):
        assert all(torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))
    assert states[0][0][0].shape[1] == 4


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    "features", [None, ("progress", "val_vs_last", "lr_vs_start", "dropout_last_action")]
)
def test_a_state_of_other_features_is_refused_though_its_weights_may_fit(agent: str, features: Any) -> None:
    state = AGENTS[agent](many(), features=SOME).get_state()
    with pytest.raises(ConfigError, match=r"reads the features progress, val_vs_best, .* this one reads"):
        AGENTS[agent](many(), features=features).set_state(state)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_state_of_before_there_was_a_choice_is_of_all_features(agent: str) -> None:
    state = AGENTS[agent](many()).get_state()
    del state["features"]
    AGENTS[agent](many()).set_state(state)
    with pytest.raises(ConfigError, match="reads all features, this one reads the features progress, "):
        AGENTS[agent](many(), features=SOME).set_state(state)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    ("features", "words"),
    [
        (("progress", "val_vs_bset"), "unknown feature 'val_vs_bset'.*'val_vs_best'"),
        (("progress", "batch_size_vs_start"), "unknown feature 'batch_size_vs_start'"),
        (("progress", "rescued", "progress"), "got 'progress' more than once"),
        ((), r"at least one, got \(\)"),
        ("progress", "must be names of features"),
    ],
)
def test_names_that_do_not_fit_are_refused(agent: str, features: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AGENTS[agent](many(), features=features)


@pytest.mark.parametrize("agent", AGENTS)
def test_an_environment_that_names_no_features_is_refused(agent: str) -> None:
    normalized = many(lambda: gym.wrappers.NormalizeObservation(TinyTuning("continuous")))
    for env in (many(ContextBandit), normalized):
        with pytest.raises(ConfigError, match="needs an environment that names its features"):
            AGENTS[agent](env, features=["progress"])


def test_act_takes_the_whole_observation() -> None:
    for make in AGENTS.values():
        with pytest.raises(ConfigError, match=rf"shape \({len(NAMES)},\), got \(4,\)"):
            make(many(), features=SOME).act(np.zeros(4, np.float32))


def test_columns_are_the_same_in_the_space_in_observations_and_in_the_last_one() -> None:
    selection = FeatureSelection(TuningSpaces.of(TinyTuning("continuous")), SOME, len(NAMES))
    plain, selected = (VecAdapter(many(n=2)) for _ in range(2))
    wrapped = SelectedColumns(selected, selection)
    assert wrapped.observation_space == spaces.Box(-10.0, 10.0, (4,), np.float32)
    for venv in (plain, wrapped):
        venv.seed(3)
    np.testing.assert_array_equal(wrapped.reset(), np.asarray(plain.reset())[:, COLUMNS])
    for _ in range(LENGTH):
        (now, _, dones, infos), (whole, *_, all_infos) = (
            venv.step(np.zeros((2, 2), np.float32)) for venv in (wrapped, plain)
        )
        np.testing.assert_array_equal(now, np.asarray(whole)[:, COLUMNS])
    assert dones.all()
    for info, every in zip(infos, all_infos, strict=True):
        np.testing.assert_array_equal(info["terminal_observation"], every["terminal_observation"][COLUMNS])


def test_a_critic_reads_the_privileged_facts_and_the_same_features(tmp_path: Path) -> None:
    agent = ppo(GroupedTuning(8, 1, luck=3.0), features=SOME, privileged=True, memory=2, n_steps=10).fit(160)
    networks: Any = agent.model.policy.mlp_extractor
    assert networks.policy_net[0].in_features == 2 * len(SOME)
    assert networks.value_net[0].in_features == 2 * len(SOME) + 1
    assert load_policy(agent.save(tmp_path / "p.safetensors")).feature_names == SOME


def test_groups_are_compared_on_selected_features_too() -> None:
    agent = ppo(GroupedTuning(8, 4, luck=3.0), features=CLOCK, advantages="group", n_steps=10)
    assert greedy_return_of_job(agent.fit(3_000).policy()) > 0.9


def greedy_return_of_job(policy: LearnedPolicy) -> float:
    """Mean reward of a decision in jobs without luck, whose sign it is to follow."""
    env = GroupedTuning(8, 1)
    observations, _ = env.reset(seed=5)
    rewards = []
    for _ in range(LENGTH):
        observations, reward, *_ = env.step(policy.act(observations))
        rewards.append(reward)
    return float(np.mean(rewards))


def blind_to_validation(space: SearchSpace, memory: int, without: Sequence[str]) -> MLPPolicy:
    """A policy with random weights, untrained."""
    names = features_without(space, without)
    generator = torch.Generator().manual_seed(2)
    sizes = (memory * len(names), 8, len(space))
    layers = [
        (torch.randn(into, out, generator=generator).T.contiguous() / into**0.5, torch.zeros(out))
        for into, out in pairwise(sizes)
    ]
    return MLPPolicy(
        space, "continuous", CourseConfig(decisions=10, rails=False), names, {}, layers, memory=memory
    )


@pytest.mark.parametrize("memory", [1, 3])
def test_without_validation_and_best_a_policy_does_the_same_with_validation_data_and_without(
    memory: int,
) -> None:
    space = search_space(["lr", "weight_decay"])
    rows = torch.randn(64, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = {"start": {"lr": 1e-3, "weight_decay": 1e-3, "batch_size": 4.0}, "budget": 400}
    jobs = [quadratic_job(**given, validation=data) for data in (None, (rows, rows[:, :1]))]

    def run(without: Sequence[str]) -> list[list[tuple[float, dict[str, float]]]]:
        policy = blind_to_validation(space, memory, without)
        episodes = [run_episode(TuningEnv.for_policy(policy, job=job), policy, seed=4) for job in jobs]
        assert all(len(e.records) == 10 for e in episodes)
        assert all(np.isnan(r.val_loss) == (i == 0) for i, e in enumerate(episodes) for r in e.records)
        return [[(r.train_loss, r.values) for r in e.records] for e in episodes]

    unvalidated, validated = run(["validation", "best"])
    assert unvalidated == validated
    assert len({values["lr"] for _, values in validated}) > 5
    unvalidated, validated = run([])
    assert unvalidated != validated
