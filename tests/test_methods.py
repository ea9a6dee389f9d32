"""The contestants of a comparison: what a name stands for, and what each is given."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest

from rl_tuner.course import Course
from rl_tuner.courses import Courses
from rl_tuner.envs import JobSpec, TrainingJob
from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.envs.tuning_free import TUNING_FREE
from rl_tuner.method_names import make_method
from rl_tuner.methods import Experiment, StartedMethod
from rl_tuner.results import Row
from rl_tuner.rollout import beginning
from rl_tuner.samplers import SAMPLERS
from rl_tuner.schedules import SCHEDULES
from rl_tuner.settings import Setting
from rl_tuner.static_setting import StaticSetting
from rl_tuner.trials import run_trials

SPEC = JobSpec("iris", "mlp-4", "momentum", 400, 0, 1e-2, 16, 0.0, 0.9, None)
EXPERIMENT = Experiment(SPEC, job=3, seed=2, episode_seed=11)
SETTING = StaticSetting(10.0, 0.0, 0.01, "cosine")


@pytest.mark.parametrize("name", ["constant", "hypergradient", "static", "random@2"])
def test_a_row_says_where_it_stands_and_what_it_started_from(name: str) -> None:
    method = pickle.loads(pickle.dumps(make_method(name, SETTING)))
    row = method.run("mine", EXPERIMENT)
    start = beginning(SPEC, 11)
    assert (row.method, row.job, row.seed, row.episode_seed) == ("mine", 3, 2, 11)
    assert (row.job_name, row.start, row.job_budget) == (SPEC.name, SPEC.build().start, 400)
    assert row.start_test_loss == start.test_loss
    assert row.seconds > 0
    assert row == method.run("mine", EXPERIMENT)


def test_static_runs_at_its_setting_under_its_schedule() -> None:
    row = make_method("static", SETTING).run("static", EXPERIMENT)
    rates = [record.values["lr"] for record in row.records]
    assert rates[0] == pytest.approx(0.3, rel=0.01)  # ten times the usual 0.03
    assert rates[-1] < rates[0] / 100


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_a_run_can_start_at_another_learning_rate_and_the_rest_is_the_jobs(factor: float) -> None:
    method = make_method(f"constant@{factor:g}x")
    assert isinstance(method, StartedMethod)
    row, own = method.run("x", EXPERIMENT), make_method("constant").run("constant", EXPERIMENT)
    values = own.records[0].values
    assert row.records[0].values == {**values, "lr": pytest.approx(factor * SANE_LR["momentum"])}
    assert (row.start_test_loss, row.budget, row.job_name) == (own.start_test_loss, own.budget, own.job_name)
    assert row.test_loss != own.test_loss


def test_an_optimizer_takes_the_place_of_the_jobs_own_and_nobody_moves_its_lr() -> None:
    row = make_method("prodigy").run("prodigy", EXPERIMENT)
    assert "lr" not in row.records[-1].values
    assert row.val_loss < row.start_val_loss
    # It takes no notice of the start lr.
    assert row.test_loss == make_method("prodigy").run("p", other(lr=10.0)).test_loss


def other(**changes: float) -> Experiment:
    return replace(EXPERIMENT, spec=replace(SPEC, **changes))


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_schedule_can_take_part(name: str) -> None:
    row = make_method(name).run(name, EXPERIMENT)
    assert row.budget == row.job_budget
    assert row.samples == row.budget or name == "early-stopping"


CHOOSERS = ["default", "plateau", *TUNING_FREE, *(f"{name}@4" for name in SAMPLERS)]
"""Methods that act, or choose, by what they see of the training."""


@pytest.mark.parametrize("name", CHOOSERS)
def test_the_test_split_decides_nothing_but_the_scores_on_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(SPEC, budget=800, lr=0.1)
    experiment = replace(EXPERIMENT, spec=spec)
    method = make_method(name)
    row = method.run(name, experiment)
    build = JobSpec.build

    def build_with_wrong_labels(spec: JobSpec) -> TrainingJob:
        job = build(spec)
        inputs, labels = job.test  # type: ignore[misc]
        return replace(job, test=(inputs, (labels + 1) % 3))

    monkeypatch.setattr(JobSpec, "build", build_with_wrong_labels)
    wrong = method.run(name, experiment)
    assert wrong.test_loss > row.test_loss
    assert unscored(wrong) == unscored(row)


def unscored(row: Row) -> Row:
    """The row without what is said of the test split."""
    trials = tuple(replace(trial, test_loss=0.0) for trial in row.trials)
    return replace(row, test_loss=0.0, start_test_loss=0.0, metrics={}, trials=trials)


@pytest.mark.parametrize("name", ["constant", "default", "static", "hypergradient", "random@2", "pbt@2"])
def test_every_method_begins_with_the_weights_of_the_experiments_seed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []
    begin, begin_many = Course.begin, Courses.begin

    def note(course: Course[Any], *args: Any) -> None:
        begun.append(args[2])
        begin(course, *args)

    def note_many(courses: Courses, *args: Any) -> None:
        begun.extend(args[3].tolist())
        begin_many(courses, *args)

    expected = beginning(SPEC, 11).val_loss
    with monkeypatch.context() as patch:
        patch.setattr(Course, "begin", note)
        patch.setattr(Courses, "begin", note_many)
        row = make_method(name, SETTING).run(name, EXPERIMENT)
    assert len(begun) >= max(1, len(row.trials))
    assert begun == pytest.approx([expected] * len(begun), rel=1e-5)
    assert row.start_val_loss == expected


def test_a_searchs_trials_are_the_experiments_job_with_its_seed() -> None:
    row = make_method("random@3").run("random@3", EXPERIMENT)
    for trial in row.trials:
        setting = Setting.from_dict(trial.setting)
        env = TuningEnv.for_policy(setting.policy())
        (alone,) = run_trials([setting.apply(SPEC)], [11], [setting.policy()], intervals="uniform", test=True)
        assert trial.val_loss == pytest.approx(alone.val_loss, rel=1e-4)
        assert trial.test_loss == pytest.approx(alone.test["loss"], rel=1e-4)
        # And what a schedule's own run, on the other engine, would have begun with.
        _, info = env.reset(seed=11, options={"job": setting.apply(SPEC)})
        assert trial.start_val_loss == pytest.approx(info["val_loss"], rel=1e-5)


def test_a_beginning_is_that_of_the_environments_episode() -> None:
    env = TuningEnv()
    _, info = env.reset(seed=11, options={"job": SPEC})
    found = beginning(SPEC, 11)
    assert found.test_loss == env.evaluate("test")["loss"]
    assert (found.job, found.budget) == (info["job"], env.course.budget)


def test_a_job_in_phases_begins_at_its_last_ones_test_loss_untrained() -> None:
    spec = replace(SPEC, dataset="digits", architecture="mlp-8", pretraining=0.5)
    found = beginning(spec, 0)
    assert (found.budget, found.last_phase) == (400, 200)
    assert found.test_loss == pytest.approx(2.3, abs=0.5)  # ten classes: no loss of reconstruction
    assert found.val_loss == pytest.approx(2.3, abs=0.5)
    row = make_method("constant").run("constant", replace(EXPERIMENT, spec=spec))
    assert row.job_budget == row.samples == 400
    assert row.last_phase == 200
    assert min(r.used for r in row.records) < 200  # what was seen there takes no part:
    assert row.val_loss == min(r.val_loss for r in row.records if r.used > 200)
    assert row.test_loss < row.start_test_loss
