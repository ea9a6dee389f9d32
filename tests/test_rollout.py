from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from rl_tuner.course_config import CourseConfig
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.errors import ConfigError
from rl_tuner.history import Record
from rl_tuner.policy import Policy
from rl_tuner.rollout import Episode, run_episode
from rl_tuner.schedules import Constant, Cosine
from rl_tuner.space import search_space
from tests.learned_policies import network
from tests.tiny import TINY


class Climber(Policy):
    """Raises everything a little at each decision; counts its resets."""

    name = "climber"

    def __init__(self, fraction: float = 0.3, **config: Any) -> None:
        super().__init__(search_space(), "continuous", CourseConfig(**{"decisions": 4, **config}))
        self.fraction = fraction
        self.seeds: list[int | None] = []

    def act(self, observation: np.ndarray) -> np.ndarray:
        return np.full(5, self.fraction)

    def reset(self, seed: int | None = None) -> None:
        self.seeds.append(seed)


def spec(**changes: Any) -> Any:
    drawn = TINY.family("test").sample(np.random.default_rng(0))
    return dataclasses.replace(drawn, **changes)


def run(policy: Policy, seed: int = 3, job: Any = None) -> Episode:
    return run_episode(TuningEnv.for_policy(policy), policy, seed, job or spec())


def test_an_episode_is_what_stepping_the_environment_by_hand_gives() -> None:
    policy, job = Climber(), spec()
    env = TuningEnv.for_policy(policy)
    observation, first = env.reset(seed=3, options={"job": job})
    total, ended = 0.0, False
    while not ended:
        observation, reward, ended, _, info = env.step(policy.act(observation))
        total += reward
    episode = run(policy, job=job)
    assert episode.return_ == pytest.approx(total)
    assert episode.records == env.records
    assert episode.test == env.evaluate("test")
    assert episode.start_val_loss == first["val_loss"]
    assert (episode.val_loss, episode.samples) == (info["best_val_loss"], job.budget)
    assert episode.val_samples == info["val_samples"]


def test_the_return_telescopes_from_the_loss_before_training_to_the_last_one() -> None:
    episode = run(Climber())
    last = episode.records[-1].val_loss
    assert episode.return_ == pytest.approx(np.log(episode.start_val_loss / last))


def test_the_same_seed_gives_the_same_episode_and_another_seed_another() -> None:
    assert run(Climber(), seed=1) == run(Climber(), seed=1)
    assert run(Climber(), seed=1).start_val_loss != run(Climber(), seed=2).start_val_loss


def test_two_policies_with_one_seed_start_from_the_same_weights() -> None:
    assert run(Constant()).start_val_loss == run(Climber()).start_val_loss == run(Cosine()).start_val_loss


def test_the_policy_is_reset_with_the_seed_before_it_acts() -> None:
    policy = Climber()
    run(policy, seed=8)
    assert policy.seeds == [8]


def test_a_policys_memory_of_one_episode_is_gone_in_the_next() -> None:
    def run_one(policy: Policy, seed: int) -> Episode:
        return run_episode(TuningEnv.for_policy(policy, suite="quick"), policy, seed)

    policy = network(memory=3, seed=3)
    first = run_one(policy, 1)
    run_one(policy, 2)
    assert run_one(policy, 1) == first == run_one(network(memory=3, seed=3), 1)


def test_every_decision_is_told_as_soon_as_it_is_settled() -> None:
    policy = Climber()
    env = TuningEnv.for_policy(policy)
    told: list[tuple[Record, int]] = []
    episode = run_episode(env, policy, 3, spec(), lambda record: told.append((record, len(env.records))))
    assert told == [(record, i) for i, record in enumerate(episode.records, start=1)]
    assert len(told) >= 3


def test_a_crash_ends_the_episode_with_the_weights_before_it() -> None:
    episode = run(Constant(), job=spec(optimizer="sgd", lr=1e20))
    assert episode.crashed
    assert episode.samples < spec().budget
    assert episode.val_loss == episode.start_val_loss
    assert np.isfinite(episode.test["loss"])


def test_a_job_without_a_test_split_gives_no_test_figures() -> None:
    job = dataclasses.replace(spec().build(), test=None)
    assert run(Climber(), job=job).test == {}


def test_without_a_job_the_environment_draws_one_from_its_suite() -> None:
    policy = Climber()
    env = TuningEnv.for_policy(policy, suite="quick", split="validation")
    names = {run_episode(env, policy, seed).job for seed in (0,)}
    assert all(name.startswith("wine-") for name in names)


@pytest.mark.parametrize("options", [{"hyperparameters": ["lr"]}, {"actions": "discrete"}])
def test_a_policy_is_refused_by_an_environment_made_for_another(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the policy 'climber' acts continuous on lr, batch_size"):
        run_episode(TuningEnv(**options), Climber(), 0)
