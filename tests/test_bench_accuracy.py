"""Known data sets at their best constant setting: chosen by validation, scored on test, and good enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from rl_tuner import ConfigError, bench_accuracy
from rl_tuner.bench_accuracy import CASES, DROPOUTS, LRS, AccuracyFigure, misses, trials_of
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.history import Record
from rl_tuner.trials import Trial


def trial(val_loss: float, accuracy: float) -> Trial:
    record = Record(0, 10, 1.0, val_loss, val_loss, 0.0, "good", {})
    return Trial((record,), crashed=False, test={"accuracy": accuracy})


def test_the_setting_is_chosen_by_validation_for_each_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[JobSpec] = []

    def run(jobs: Sequence[JobSpec], seeds: Sequence[int], **options: Any) -> list[Trial]:
        assert options["test"] is True
        assert set(seeds) == {3}
        asked.extend(jobs)
        # The best one by validation is another place of the grid in each split; test scores say otherwise.
        order = [i % (len(LRS) * len(DROPOUTS)) - job.data_seed for i, job in enumerate(jobs)]
        return [trial(1 + abs(o), 0.9 if o == 0 else 0.99) for o in order]

    monkeypatch.setattr(bench_accuracy, "run_trials", run)
    figures = bench_accuracy.bench_accuracy(splits=2, seed=3)
    assert {f.case for f in figures} == set(CASES)
    assert all(f.accuracy == f.lowest == 0.9 for f in figures)
    assert {job.data_seed for job in asked} == {3, 4}
    assert {(job.lr, job.dropout) for job in asked} == {(lr, rate) for lr in LRS for rate in DROPOUTS}
    assert len(asked) == trials_of(2)


def test_what_is_below_its_bar_is_told() -> None:
    figures = [AccuracyFigure("good", 5, 0.98, 0.9, 0.97), AccuracyFigure("bad", 5, 0.96, 0.9, 0.97)]
    (line,) = misses(figures)
    assert line.startswith("bad: test accuracy 96.0%")


def test_no_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="splits"):
        bench_accuracy.bench_accuracy(splits=0)


@pytest.mark.slow
def test_digits_and_breast_cancer_are_learned() -> None:
    assert misses(bench_accuracy.bench_accuracy(splits=2)) == []
