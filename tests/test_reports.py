from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_tuner.reports import write_csv, write_tensorboard
from tests.comparing import failed, make_row, small

INF, NAN = float("inf"), float("nan")


def read(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(name).read_text())))


def test_the_csv_tables_hold_every_row_and_every_summary() -> None:
    comparison = small()
    write_csv(comparison, Path())
    rows, summary = read("rows.csv"), read("summary.csv")
    got = [(r["method"], int(r["job"]), int(r["seed"]), float(r["test_loss"])) for r in rows]
    assert got == [(*row.key, row.test_loss) for row in comparison.rows]
    assert rows[0]["start_lr"] == "0.1"
    assert float(rows[0]["accuracy"]) == 0.75
    for line, s in zip(summary, comparison.summaries, strict=True):
        assert float(line["test_loss"]) == s.test_loss.mean
        assert float(line["log_ratio_high"]) == s.log_ratio.high
        assert line["verdict"] == s.verdict


def test_what_is_not_finite_is_an_empty_cell() -> None:
    write_csv(failed(), Path())
    assert {row["test_loss"] for row in read("rows.csv")} == {""}
    assert [line["not_finite"] for line in read("summary.csv")] == ["2", "2"]


def events(path: Path) -> Any:
    found = EventAccumulator(str(path))
    found.Reload()
    return found


def test_a_row_becomes_a_tensorboard_run_with_its_curves_and_final_metrics() -> None:
    row = make_row("x", 2, 1, test_loss=0.25, rescues=3)
    write_tensorboard(row, Path("tb"))
    found = events(Path("tb/x/2-toy-2-seed1"))
    tags = set(found.Tags()["scalars"])
    assert {"loss/train", "loss/validation", "hyperparameters/lr", "reward", "decision/number"} < tags
    assert [(e.step, e.value) for e in found.Scalars("hyperparameters/lr")] == [
        (30, pytest.approx(0.1)),
        (100, pytest.approx(0.01)),
    ]
    finals = {tag: found.Scalars(tag)[0].value for tag in tags if tag.startswith("hparam/")}
    assert finals["hparam/test_loss"] == 0.25
    assert finals["hparam/rescues"] == 3
    assert finals["hparam/test_accuracy"] == 0.75
    assert "hparams" in found.summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name


def test_a_run_written_again_is_not_shown_twice() -> None:
    write_tensorboard(make_row(), Path("tb"))
    write_tensorboard(make_row(), Path("tb"))
    found = events(Path("tb/a/0-toy-0-seed0"))
    assert [e.step for e in found.Scalars("loss/validation")] == [30, 100]
    assert len(found.Scalars("hparam/test_loss")) == 1
