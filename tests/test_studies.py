"""A search as a run: a stop loses nothing, workers share one budget, and what lies in the folder."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib import pyplot
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_tuner import ConfigError, JobError
from rl_tuner.envs import JobSpec
from rl_tuner.search_studies import new_study
from rl_tuner.searches import SearchConfig, SearchTrial
from rl_tuner.searching import run_search
from rl_tuner.settings import Setting
from rl_tuner.studies import Searched, StudyConfig, StudyRun
from rl_tuner.study_figures import history_png, importance_png
from rl_tuner.study_results import TrialBoard, trials_csv, write_outcome
from rl_tuner.user_jobs import ApplyConfig

JOB = JobSpec("iris", "mlp-4", "adam", 200, 0, 1e-2, 16, 0.0, 0.9, 0.1)
TPE = SearchConfig("tpe", 10)
PNG = b"\x89PNG\r\n\x1a\n"


class Stop:
    """Listens to trials, and stops the run, as Ctrl-C does, at one of them."""

    def __init__(self, after: int = 10**6) -> None:
        self.after = after
        self.trials: list[SearchTrial] = []

    def __call__(self, trial: SearchTrial) -> None:
        self.trials.append(trial)
        if len(self.trials) == self.after:
            raise KeyboardInterrupt


def study_run(
    path: str, search: SearchConfig = TPE, *, resume: bool = False, workers: int = 1, seed: int = 0
) -> StudyRun:
    return StudyRun(StudyConfig(JOB, search, seed, workers), path, resume=resume)


def searched(path: str = "x", search: SearchConfig = TPE, **changes: Any) -> Searched:
    return study_run(path, search, **changes).search()


# Nothing is lost, nothing is done twice.


@pytest.mark.parametrize("sampler", ["tpe", "random", "genetic", "halving", "grid"])
def test_a_search_is_the_one_that_needs_no_folder(sampler: str) -> None:
    config = SearchConfig(sampler, 6)
    assert searched(search=config).result == run_search(config, JOB, 0)


@pytest.mark.parametrize("after", [1, 6, 10])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_stopped_search_goes_on_and_ends_as_if_it_had_not_been_stopped(sampler: str, after: int) -> None:
    search = SearchConfig(sampler, 10)
    whole = run_search(search, JOB, 0)
    with pytest.raises(KeyboardInterrupt):
        study_run("x", search).search(Stop(after))
    rest = Stop()
    result = study_run("x", search, resume=True).search(rest).result
    assert result.trials == whole.trials
    assert result == whole
    assert sorted(rest.trials, key=repr) == sorted(whole.trials, key=repr)  # each is told of, once


@pytest.mark.parametrize("sampler", ["genetic", "hyperband"])
def test_no_trial_of_a_stopped_search_is_lost_and_the_budget_stays_the_same(sampler: str) -> None:
    """Of what depends on the order of the ends: a stopped one may end with other trials."""
    search, before, after = SearchConfig(sampler, 8), Stop(5), Stop()
    with pytest.raises(KeyboardInterrupt):
        study_run("x", search).search(before)
    result = study_run("x", search, resume=True).search(after).result
    assert {repr(trial) for trial in before.trials} <= {repr(trial) for trial in result.trials}
    assert sorted(after.trials, key=repr) == sorted(result.trials, key=repr)
    assert result.samples == 8 * JOB.budget


def test_a_search_that_has_ended_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = searched().result
    monkeypatch.setattr("rl_tuner.trials.TrialRunner.advance", lambda runner: pytest.fail("it trains"))
    told = Stop()
    assert study_run("x", resume=True).search(told).result == whole
    assert tuple(told.trials) == whole.trials


def test_a_population_begins_anew_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    search = SearchConfig("pbt", 5)
    whole = searched("whole", search).result
    assert whole == run_search(search, JOB, 0)
    with pytest.raises(KeyboardInterrupt):
        study_run("x", search).search(Stop(2))
    assert searched("x", search, resume=True).result == whole
    monkeypatch.setattr("rl_tuner.trials.TrialRunner.advance", lambda runner: pytest.fail("it trains"))
    assert searched("x", search, resume=True).result == whole


def test_a_population_that_was_stopped_while_it_was_written_is_written_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import optuna

    search, add = SearchConfig("pbt", 4), optuna.Study.add_trial
    added: list[int] = []

    def add_two(study: optuna.Study, trial: Any) -> None:
        if len(added) == 2:
            raise KeyboardInterrupt
        added.append(1)
        add(study, trial)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "add_trial", add_two)
        with pytest.raises(KeyboardInterrupt):
            searched("x", search)
    assert searched("x", search, resume=True).result == run_search(search, JOB, 0)


def test_a_run_is_resumed_as_it_was_or_refused() -> None:
    searched()
    with pytest.raises(ConfigError, match="has trials = 10, not 12"):
        study_run("x", SearchConfig("tpe", 12), resume=True)
    with pytest.raises(ConfigError, match="exists: give --resume"):
        study_run("x")
    with pytest.raises(ConfigError, match="no run to resume"):
        study_run("y", resume=True)


def test_what_cannot_be_searched_leaves_no_folder() -> None:
    with pytest.raises(ConfigError, match="no hyperparameter 'l1'"):
        study_run("x", replace(TPE, hyperparameters=("l1",)))
    with pytest.raises(ConfigError, match="unknown schedule 'cosin'"):
        study_run("x", replace(TPE, schedules=("cosin",)))
    assert not Path("x").exists()


def test_a_damaged_database_is_named() -> None:
    searched()
    Path("x/study.db").write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match=r"x/study\.db is no study that can be continued"):
        searched(resume=True)


@pytest.mark.parametrize("folder", ["with space", "50%", "a#b", "a[1]+b=c", "ü"])
def test_a_folder_may_have_any_name(folder: str) -> None:
    whole = searched(folder, SearchConfig("random", 2)).result
    assert Path(folder, "study.db").is_file()
    assert searched(folder, SearchConfig("random", 2), resume=True).result == whole


def test_the_database_is_sqlite_and_its_connections_are_closed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        searched(search=SearchConfig("random", 3))
    connection = sqlite3.connect("x/study.db")
    states = [row[0] for row in connection.execute("SELECT state FROM trials")]
    connection.close()
    assert states == ["COMPLETE"] * 3


def test_the_study_for_figures_numbers_its_trials_as_the_table_does() -> None:
    with pytest.raises(KeyboardInterrupt):
        study_run("x", TPE).search(Stop(1))
    again = study_run("x", TPE, resume=True).search()
    shown = [trial.user_attrs["outcome"]["trial"] for trial in again.study.get_trials()]
    assert [trial.number for trial in again.study.get_trials()] == list(range(len(again.result.trials)))
    assert [trial["setting"] for trial in shown] == [trial.setting for trial in again.result.trials]


# Several workers.


def test_workers_share_the_budget_and_each_trial_is_told_of_once() -> None:
    told = Stop()
    search = SearchConfig("random", 6)
    result = study_run("x", search, workers=2).search(told).result
    assert result.samples == 6 * JOB.budget
    assert sorted(told.trials, key=repr) == sorted(result.trials, key=repr)
    # Random search does not depend on who is faster: the same trials as one worker's.
    alone = run_search(search, JOB, 0)
    settings = [trial.setting for trial in alone.trials]
    assert all(trial.setting in settings for trial in result.trials)


FAILS = """
import multiprocessing, torch
from rl_tuner.envs import TrainingJob

def job():
    if multiprocessing.parent_process() is not None:
        {action}
    data = (torch.linspace(-1, 1, 64)[:, None], (torch.linspace(-1, 1, 64) > 0).long())
    return TrainingJob(torch.nn.Linear(1, 2), data, data, epochs=5)
"""


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("raise ValueError('the disk is gone')", "the disk is gone"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended without a word"),
    ],
)
def test_a_worker_that_fails_fails_the_run_with_its_message(action: str, message: str) -> None:
    module = f"failing_{len(action)}"
    Path(f"{module}.py").write_text(FAILS.format(action=action))
    run = StudyRun(StudyConfig(ApplyConfig(f"{module}:job"), SearchConfig("random", 4), 0, 2), "x")
    with pytest.raises(JobError, match=message):
        run.search()


def test_populations_have_one_worker() -> None:
    with pytest.raises(ConfigError, match="--workers must be 1, got 2"):
        StudyConfig(JOB, SearchConfig("pbt", 4), workers=2)
    with pytest.raises(ConfigError, match="workers must be >= 1, got 0"):
        StudyConfig(JOB, TPE, workers=0)


# What lies in the folder.


def test_results_say_what_came_of_it() -> None:
    run = searched()
    results = write_outcome(run)
    assert results == json.loads(Path("x/results.json").read_text())
    best, trials = results["best"], results["trials"]
    assert best["val_loss"] == min(trial["val_loss"] for trial in trials)
    assert best["setting"] == trials[best["trial"]]["setting"] == json.loads(Path("x/best.json").read_text())
    assert best["test"]["loss"] == trials[best["trial"]]["test_loss"]
    assert results["samples"] == results["budget"] == 10 * JOB.budget
    assert results["val_samples"] == sum(trial["val_samples"] for trial in trials)
    assert len(results["records"]) > 0
    config = json.loads(Path("x/config.json").read_text())
    assert (config["sampler"], config["dataset"], config["workers"]) == ("tpe", "iris", 1)
    Setting.from_dict(best["setting"]).apply(JOB).build()


def test_the_table_has_a_line_for_each_trial_with_numbers_in_full() -> None:
    result = searched(search=replace(TPE, schedule_options=True)).result
    rows = list(csv.DictReader(trials_csv(result.trials).splitlines()))
    assert [int(row["trial"]) for row in rows] == list(range(len(result.trials)))
    for row, trial in zip(rows, result.trials, strict=True):
        assert float(row["lr"]) == trial.setting["start"]["lr"]
        assert row["schedule"] == trial.setting["schedule"]
        assert float(row["val_loss"]) == trial.val_loss
        for name, value in trial.setting["options"].items():
            assert float(row[f"{trial.setting['schedule']}.{name}"]) == value
        others = [n for n in row if "." in n and not n.startswith(f"{trial.setting['schedule']}.")]
        assert all(row[name] == "" for name in others)


def test_figures_leave_pyplot_as_it_was() -> None:
    run = searched()
    before = dict(matplotlib.rcParams), matplotlib.get_backend()
    mine = pyplot.figure()
    history, importance = history_png(run.study), importance_png(run.study)
    assert pyplot.get_fignums() == [mine.number]
    pyplot.close(mine)
    assert (dict(matplotlib.rcParams), matplotlib.get_backend()) == before
    assert importance is not None
    assert history[:8] == importance[:8] == PNG
    assert history != importance


def test_importances_are_told_only_where_there_is_something_to_tell() -> None:
    one = SearchConfig("random", 5, hyperparameters=("lr",), schedules=("constant",))
    results = write_outcome(searched("one", one))
    assert results["figures"] == ["history.png"]
    assert not Path("one/importance.png").exists()
    assert write_outcome(searched("few", replace(TPE, trials=3)))["figures"] == ["history.png"]
    assert write_outcome(searched("more"))["figures"] == ["history.png", "importance.png"]
    # CMA-ES draws a second parameter that stands for nothing where there is only one.
    alone = SearchConfig("cma-es", 6, hyperparameters=("lr",), schedules=("constant",))
    assert write_outcome(searched("alone", alone))["figures"] == ["history.png"]
    assert importance_png(new_study()) is None


def events(path: str) -> EventAccumulator:
    found = EventAccumulator(path)
    found.Reload()
    return found


def scalars(path: str, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(path).Scalars(tag)]


def trial(val_loss: float, crashed: bool = False, options: dict[str, float] | None = None) -> SearchTrial:
    setting = Setting({"lr": 0.1}, "cosine", options or {}).to_dict()
    return SearchTrial(setting, val_loss, 2 * val_loss, 100, 50, crashed, False, 9.0)


def test_tensorboard_shows_each_trial() -> None:
    with TrialBoard(Path("x")) as board:
        for value in (3.0, math.inf, 2.0):
            board.add(trial(value, crashed=value == math.inf))
    assert scalars("x", "trial/val_loss") == [(0, 3.0), (2, 2.0)]
    assert scalars("x", "trial/best_val_loss") == [(0, 3.0), (1, 3.0), (2, 2.0)]
    assert scalars("x", "trial/crashed") == [(0, 0.0), (1, 1.0), (2, 0.0)]
    assert scalars("x/trials/002", "hparam/test_loss") == [(0, 4.0)]
    assert events("x/trials/001").Tags()["scalars"] == []


def test_a_resumed_run_tells_tensorboard_of_no_trial_twice() -> None:
    def tell(trials: Sequence[SearchTrial]) -> None:
        with TrialBoard(Path("x")) as board:
            for each in trials:
                board.add(each)

    tell([trial(3.0), trial(2.5)])
    tell([trial(3.0), trial(2.5), trial(2.0)])
    assert scalars("x", "trial/val_loss") == [(0, 3.0), (1, 2.5), (2, 2.0)]
