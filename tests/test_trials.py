"""Trials: jobs at their start values, as an environment without rails would train them; many side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rl_tuner import ConfigError, JobError
from rl_tuner.envs import JobSpec, TrainingJob, TuningEnv
from rl_tuner.history import Record
from rl_tuner.policy_file import load_policy
from rl_tuner.schedules import Cosine, Plateau
from rl_tuner.trials import Trial, TrialRunner, run_trials

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
    assert trial.samples == env.course.used
    assert trial.val_samples == env.phase.val_samples + env.engine.val_samples


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


def own_optimizer(job: JobSpec) -> TrainingJob:
    """The same job, trained by itself on a reference engine."""
    return replace(job.build(), optimizer=lambda p: torch.optim.Adam(p, amsgrad=True))


def test_a_schedule_moves_its_own_trial_and_no_other() -> None:
    under, alone = run_trials([BASE, BASE], [1, 1], [Cosine(), None], decisions=5, intervals="uniform")
    rates = [record.values["lr"] / BASE.lr for record in under.records]
    assert rates == pytest.approx([(1 + np.cos(np.pi * (i + 0.5) / 5)) / 2 for i in range(5)], rel=0.1)
    assert {record.values["lr"] for record in alone.records} == {BASE.lr}
    (lonely,) = run_trials([BASE], [1], decisions=5, intervals="uniform")
    assert_same(alone, lonely.records)


def test_a_schedule_with_a_memory_forgets_the_trial_before() -> None:
    hopeless, policy = replace(BASE, lr=1e-6), Plateau(patience=0.2)
    one, again = (
        run_trials([hopeless], [1], [policy], decisions=10, intervals="uniform")[0] for _ in range(2)
    )
    rates = [record.values["lr"] for record in one.records]
    assert rates[-1] < rates[0] == hopeless.lr  # the loss hardly falls
    assert [record.values["lr"] for record in again.records] == rates


@pytest.mark.filterwarnings("ignore:.*runs by itself on the reference engine")
@pytest.mark.parametrize("job", [BASE, own_optimizer(BASE)], ids=["batched", "reference"])
def test_a_copy_goes_on_from_the_others_weights_with_its_own_hyperparameters(
    job: JobSpec | TrainingJob,
) -> None:
    runner = TrialRunner(2, decisions=4)
    runner.start(0, job, 3)
    runner.start(1, job, 3)
    lr = runner.space.names.index("lr")
    slower = np.zeros(len(runner.space))
    slower[lr] = -np.log(100)
    runner.move(1, slower)
    runner.advance()
    assert runner.val_losses()[0] < runner.val_losses()[1]
    runner.copy(0, 1)
    assert runner.val_losses()[0] == runner.val_losses()[1]
    runner.move(1, np.zeros(len(runner.space)))
    runner.advance()
    # The same weights, optimizer state, batches and learning rate: the same losses.
    assert runner.val_losses()[0] == pytest.approx(runner.val_losses()[1], rel=1e-5)
    first, second = (runner.records(slot) for slot in (0, 1))
    assert second[0].values["lr"] == pytest.approx(BASE.lr / 100)
    assert second[1].values["lr"] == BASE.lr
    assert second[1].best == pytest.approx(first[1].best, rel=1e-5)


def test_a_copied_best_is_what_is_scored_in_the_end() -> None:
    runner = TrialRunner(2, decisions=2)
    ruinous = replace(BASE, lr=1e4)
    runner.start(0, BASE, 3)
    runner.start(1, ruinous, 3)
    runner.advance()
    runner.copy(0, 1)
    best = runner.val_losses()[0]
    runner.advance()
    trial = runner.stop(1, test=True)
    assert trial.val_loss <= best
    assert trial.test["loss"] < 2 * best + 0.5  # of the copied weights, not of the ruined ones


def test_a_trial_can_be_stopped_midway_and_its_slot_used_again() -> None:
    runner = TrialRunner(1, decisions=4)
    runner.start(0, BASE, 0)
    runner.advance()
    trial = runner.stop(0, test=True)
    assert (len(trial.records), trial.samples, trial.crashed) == (1, trial.records[0].used, False)
    assert trial.val_samples > 0
    assert trial.start_val_loss > 0
    assert trial.test["loss"] > 0
    assert runner.free == [0]
    runner.start(0, BASE, 0)
    ended = [slot for _ in range(4) for slot in runner.advance()]
    assert ended == [0]
    assert runner.stop(0).samples == BASE.budget


def test_a_trial_stopped_as_its_last_phase_begins_has_that_phases_loss_not_the_one_before() -> None:
    runner = TrialRunner(1, decisions=6)
    runner.start(0, replace(BASE, dataset="digits", pretraining=0.5, samples=100), 0)
    while runner.phase(0) == 0:
        runner.advance()
    begun = runner.val_losses()[0]
    trial = runner.stop(0, test=True)
    assert trial.complete
    assert trial.val_loss == trial.start_val_loss == begun
    assert trial.val_loss != trial.records[-1].best  # of reconstruction
    assert trial.curve == ()


def test_what_a_runner_cannot_do_is_refused() -> None:
    runner = TrialRunner(2, decisions=4)
    runner.start(0, BASE, 0, Cosine())
    with pytest.raises(ConfigError, match="a trial runs in slot 0"):
        runner.start(0, BASE, 0)
    with pytest.raises(ConfigError, match="moved by a policy, or there is none"):
        runner.move(0, np.zeros(5))
    with pytest.raises(ConfigError, match="no trial runs in slot 1"):
        runner.copy(0, 1)
    with pytest.raises(ConfigError, match="there is no trial in slot 1"):
        runner.stop(1)
    runner.start(1, JOBS[1], 0)
    with pytest.raises(JobError, match="different jobs"):
        runner.copy(0, 1)
    learned = load_policy("default")
    with pytest.raises(ConfigError, match="must act anchored"):
        TrialRunner(1).start(0, BASE, 0, learned)
    with pytest.raises(ConfigError, match="2 jobs need as many policies, got 1"):
        run_trials([BASE, BASE], [0, 1], [None])


def test_a_trials_curve_is_its_new_bests_in_its_last_phase() -> None:
    records = tuple(
        Record(i, used, 1.0, best, best, 0.0, "good", {})
        for i, (used, best) in enumerate([(10, 0.1), (20, 0.05), (30, 2.0), (40, 2.0), (50, 1.0)])
    )
    assert Trial(records, False, last_phase=20).curve == ((30, 2.0), (50, 1.0))
    assert Trial(records[:2], True, complete=False).curve == ()
    (phased,) = run_trials([JOBS[4]], [0], decisions=6)
    assert 0 < phased.last_phase < phased.curve[0][0] <= phased.samples
    assert phased.curve[-1][1] == phased.val_loss
