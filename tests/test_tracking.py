from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.summary.writer import event_file_writer

from rl_tuner.tracking import Tracker
from tests.comparing import make_record

INF, NAN = float("inf"), float("nan")


def read(path: str = "run") -> Any:
    found = EventAccumulator(path)
    found.Reload()
    return found


def series(found: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in found.Scalars(tag)]


def test_a_record_becomes_one_point_of_each_curve_at_the_budget_used() -> None:
    with Tracker(Path("run")) as tracker:
        tracker.record(make_record(0, 30, 1.0, train_loss=1.5, val_loss=1.25, lr=0.5))
        tracker.record(make_record(1, 90, 0.5, verdict="diverged", reward=-0.75, lr=0.25))
    found = read()
    assert series(found, "loss/train") == [(30, 1.5), (90, 0.5)]
    assert series(found, "loss/validation") == [(30, 1.25), (90, 0.5)]
    assert series(found, "loss/best") == [(30, 1.0), (90, 0.5)]
    assert series(found, "hyperparameters/lr") == [(30, 0.5), (90, 0.25)]
    assert series(found, "reward") == [(30, 0.25), (90, -0.75)]
    assert series(found, "decision/number") == [(30, 0), (90, 1)]
    assert series(found, "decision/rescued") == [(30, 0), (90, 1)]


def test_every_hyperparameter_has_a_curve() -> None:
    with Tracker(Path("run")) as tracker:
        tracker.record(make_record(0, 30, 1.0, values={"lr": 0.5, "batch_size": 64.0, "dropout": 0.25}))
    assert series(read(), "hyperparameters/batch_size") == [(30, 64)]
    assert series(read(), "hyperparameters/dropout") == [(30, 0.25)]


@pytest.mark.parametrize("value", [INF, -INF, NAN])
def test_what_is_not_finite_leaves_a_gap_and_nothing_else_is_lost(value: float) -> None:
    with Tracker(Path("run")) as tracker:
        tracker.scalars({"a": 1.0, "b": value}, 1)
        tracker.scalars({"a": value, "b": 2.0}, 2)
    assert series(read(), "a") == [(1, 1)]
    assert series(read(), "b") == [(2, 2)]


def test_settings_and_final_metrics_are_on_the_hparams_page_of_the_same_run() -> None:
    with Tracker(Path("run")) as tracker:
        tracker.hparams({"method": "cosine", "seed": 3}, {"test_loss": 0.25, "val_loss": NAN})
    assert [path.parent for path in Path().rglob("events*")] == [Path("run")]
    found = read()
    content = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["method"].string_value == "cosine"
    assert values["seed"].number_value == 3
    assert series(found, "hparam/test_loss") == [(0, 0.25)]
    assert "hparam/val_loss" not in found.Tags()["scalars"]


def test_a_continued_run_forgets_the_steps_it_writes_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    # Files of one second are read in the order of their numbers as text: 10 would come before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    with Tracker(Path("run")) as tracker:
        for step in (1, 2, 3):
            tracker.scalars({"a": step}, step)
    with Tracker(Path("run"), purge_step=3) as tracker:
        tracker.scalars({"a": 30.0}, 3)
    assert series(read(), "a") == [(1, 1), (2, 2), (3, 30)]


def test_the_file_is_closed_when_the_block_fails() -> None:
    def fail() -> None:
        with Tracker(Path("run")) as tracker:
            tracker.scalars({"a": 1.0}, 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert series(read(), "a") == [(1, 1)]
