"""What environments share: settings checked once, jobs drawn by seed, snapshots of like settings only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rl_tuner import ConfigError
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs import TrainingJob, TuningEnv, VectorTuningEnv, load_suite
from rl_tuner.envs.datasets import load_split
from rl_tuner.envs.tuning_setup import Setup, options_for, require_job, require_same
from rl_tuner.schedules import Constant
from rl_tuner.seeding import Streams
from rl_tuner.space import search_space


def make_setup(**changes: Any) -> Setup:
    options: dict[str, Any] = {
        "job": None,
        "suite": "quick",
        "split": "train",
        "actions": "continuous",
        "reward": "log_improvement",
        "hyperparameters": None,
        "decisions": 20,
        "intervals": "geometric",
        "rails": True,
        "early_stopping": None,
    }
    return Setup(**{**options, **changes})


def make_job() -> TrainingJob:
    split = load_split("wine", 0)
    return TrainingJob(lambda: None, split.train, name="mine")  # type: ignore[arg-type,return-value]


def test_an_episodes_job_and_streams_follow_from_one_number_drawn() -> None:
    rng, twin = np.random.default_rng(4), np.random.default_rng(4)
    source, streams = make_setup().draw(rng)
    assert streams == Streams(int(twin.integers(2**62)))
    assert source == load_suite("quick").family("train").sample(streams.numpy("data"))
    assert rng.bit_generator.state == twin.bit_generator.state


def test_jobs_come_from_the_split_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    names = {make_setup(split="validation").draw(rng)[0].name.split("-")[0] for _ in range(5)}
    assert names == {"wine"}


def test_a_given_job_goes_before_ones_own_and_that_before_the_suites() -> None:
    own, given = make_job(), make_job()
    rng = np.random.default_rng(0)
    assert make_setup(job=own).draw(rng)[0] is own
    assert make_setup(job=own).draw(rng, given)[0] is given
    assert make_setup().draw(rng, given)[0] is given


def test_what_is_no_job_is_refused_before_anything_is_drawn() -> None:
    rng, twin = np.random.default_rng(0), np.random.default_rng(0)
    with pytest.raises(ConfigError, match="must be a TrainingJob or a JobSpec, got str"):
        make_setup().draw(rng, "wine")
    assert rng.random() == twin.random()


def test_no_job_is_no_error() -> None:
    assert require_job(None) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"job": "wine"}, "job must be a TrainingJob, got str"),
        ({"suite": "quik"}, "did you mean 'quick'"),
        ({"split": "tests"}, "did you mean 'test'"),
        ({"actions": "x"}, "unknown actions 'x'"),
        ({"reward": "x"}, "unknown reward 'x'"),
        ({"hyperparameters": ["lrr"]}, "did you mean 'lr'"),
        ({"decisions": 0}, "decisions must be >= 1"),
        ({"intervals": "x"}, "unknown intervals 'x'"),
        ({"early_stopping": 0}, "must be >= 1"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_by_its_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_setup(**changes)


def test_a_search_space_may_stand_for_its_names() -> None:
    space = search_space(["lr", "momentum"])
    assert make_setup(hyperparameters=space).space is space
    assert make_setup(hyperparameters=["lr", "momentum"]).space == space


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hyperparameters": ["lr"]}, "search space"),
        ({"actions": "discrete"}, "kind of action"),
        ({"decisions": 7}, "config"),
        ({"rails": False}, "config"),
    ],
)
def test_other_settings_are_refused_by_their_name(change: dict[str, Any], named: str) -> None:
    require_same(make_setup().settings(), make_setup().settings())
    with pytest.raises(ConfigError, match=f"another {named}: "):
        require_same(make_setup(**change).settings(), make_setup().settings())


def test_a_setting_that_a_state_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="another num_envs: None, here 2"):
        require_same({}, {"num_envs": 2})


def test_an_environment_for_a_policy_is_set_up_as_the_policy_wants() -> None:
    policy = Constant()
    policy.config = CourseConfig(7, "uniform", "best_improvement", rails=False, patience=3)
    for made in (TuningEnv.for_policy(policy), VectorTuningEnv.for_policy(policy, 2)):
        assert made.space == policy.space
        assert made.config == policy.config
        assert made.actions.kind == policy.actions.kind
    assert set(options_for(policy)) < set(TuningEnv.__init__.__annotations__)
