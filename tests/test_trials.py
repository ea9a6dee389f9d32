"""Trials: jobs at their start values, as an environment without rails would train them; many side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rl_tuner import ConfigError
from rl_tuner.envs import JobSpec, TuningEnv
from rl_tuner.history import Record
from rl_tuner.trials import Trial, run_trials

BASE = JobSpec("iris", "mlp-8", "adam", 400, 0, 1e-2, 16, 0.0, 0.9, None)
JOBS = (
    BASE,
    replace(BASE, architecture="mlp-4x4", optimizer="momentum", lr=0.05, budget=300),
    replace(BASE, dataset="diabetes", optimizer="adagrad", momentum=None, l2=0.1, budget=500),
    replace(BASE, dataset="digits", optimizer="adamw", max_grad_norm=1.0, budget=350),
    replace(BASE, dataset="digits", pretraining=0.5, samples=100),
    replace(BASE, dataset="digit-images", architecture="mlp-64", weights="shapes", budget=250),
)
DIVERGING = replace(BASE, dataset="diabetes", optimizer="sgd", momentum=0.0, lr=1e20)


def in_an_environment(job: JobSpec, seed: int, decisions: int) -> TuningEnv:
    """An episode of actions that change nothing."""
    env = TuningEnv(decisions=decisions, rails=False)
    env.reset(seed=seed, options={"job": job})
    over = False
    while not over:
        over = env.step(np.zeros(len(env.space), np.float32))[2]
    return env


def assert_same(trial: Trial, records: tuple[Record, ...]) -> None:
    assert len(trial.records) == len(records)
    for mine, its in zip(trial.records, records, strict=True):
        assert (mine.decision, mine.used, mine.values) == (its.decision, its.used, its.values)
        assert mine.val_loss == pytest.approx(its.val_loss, rel=1e-4)
        assert mine.best == pytest.approx(its.best, rel=1e-4)


@pytest.mark.parametrize("number", range(len(JOBS)))
def test_a_trial_is_an_episode_in_which_nothing_is_changed(number: int) -> None:
    (trial,) = run_trials([JOBS[number]], [7], decisions=6)
    env = in_an_environment(JOBS[number], 7, 6)
    assert_same(trial, env.records)
    assert (trial.crashed, trial.complete) == (False, True)
    assert trial.val_loss == pytest.approx(env.course.track.best, rel=1e-4)
    assert trial.records[-1].used >= JOBS[number].budget


@pytest.mark.parametrize("slots", [1, 2, 64])
def test_trials_come_in_the_order_of_their_jobs_however_many_run_side_by_side(slots: int) -> None:
    ended: list[int] = []
    seeds = range(10, 10 + len(JOBS))
    trials = run_trials(JOBS, seeds, decisions=4, slots=slots, on_trial=lambda: ended.append(1))
    assert len(ended) == len(JOBS)
    for job, seed, trial in zip(JOBS, seeds, trials, strict=True):
        assert_same(trial, in_an_environment(job, seed, 4).records)


def test_a_seed_decides_a_trial() -> None:
    one, again, other = run_trials([BASE] * 3, [1, 1, 2], decisions=3)
    assert one.val_loss == pytest.approx(again.val_loss, rel=1e-6)
    assert one.val_loss != pytest.approx(other.val_loss, rel=1e-3)


def test_a_trial_that_diverges_ends_there_and_leaves_the_others_alone() -> None:
    crashed, fine = run_trials([DIVERGING, BASE], [0, 1], decisions=5)
    assert crashed.crashed
    assert len(crashed.records) < 5
    env = in_an_environment(DIVERGING, 0, 5)
    assert env.course.crashed
    assert_same(Trial(crashed.records[:-1], True), env.records[:-1])
    assert crashed.val_loss == pytest.approx(env.course.track.best, rel=1e-4)  # before it did
    assert_same(fine, in_an_environment(BASE, 1, 5).records)


def test_a_trial_that_diverges_in_pretraining_has_no_loss_of_the_job() -> None:
    job = replace(DIVERGING, dataset="digits", pretraining=0.5)
    (trial,) = run_trials([job], [0], decisions=6)
    assert (trial.crashed, trial.complete) == (True, False)
    assert trial.val_loss == float("inf")
    assert np.isfinite(trial.records[-1].best)  # of reconstruction


def test_asked_for_test_scores_are_those_of_the_best_weights() -> None:
    jobs = [BASE, JOBS[4], DIVERGING, replace(DIVERGING, dataset="digits", pretraining=0.5)]
    for job, trial in zip(jobs, run_trials(jobs, range(4), decisions=6, test=True), strict=True):
        env = in_an_environment(job, jobs.index(job), 6)
        assert trial.test == pytest.approx(env.evaluate("test"), rel=1e-4)
        assert trial.test["loss"] > 0
    assert run_trials([BASE], [0], decisions=3)[0].test == {}


def test_without_jobs_there_are_no_trials() -> None:
    assert run_trials([], []) == []


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 jobs need as many seeds, got 1"):
        run_trials([BASE, BASE], [0])
    with pytest.raises(ConfigError, match="a budget of 400 cannot hold 500 decisions"):
        run_trials([BASE], [0], decisions=500)
    with pytest.raises(ConfigError, match="slot 0: no weights"):
        run_trials([replace(BASE, weights="shapes")], [0])
