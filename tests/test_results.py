from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.errors import ConfigError
from rl_tuner.results import Row, RowFile
from rl_tuner.rollout import Episode
from tests.comparing import make_record, make_row

INF, NAN = float("inf"), float("nan")
losses = st.floats(0, allow_nan=False, allow_infinity=True)


def episode(**changes: Any) -> Episode:
    values: dict[str, Any] = {
        "job": "toy",
        "seed": 9,
        "policy": "p",
        "return_": 1.0,
        "start_val_loss": 2.0,
        "val_loss": 0.5,
        "test": {"loss": 0.7, "accuracy": 0.9},
        "samples": 100,
        "val_samples": 30,
        "crashed": False,
        "rescues": 1,
        "records": (make_record(0, 100, 0.5),),
    }
    return Episode(**{**values, **changes})


def of(**changes: Any) -> Row:
    return Row.of(episode(**changes), method="m", job=3, seed=4, start={"lr": 0.1}, budget=100)


@given(losses, losses, losses, st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_a_row_survives_json_unchanged(test: float, val: float, train: float, ret: float, bad: bool) -> None:
    record = make_record(0, 10, val, train_loss=train, verdict="diverged" if bad else "good")
    row = make_row(test_loss=test, val_loss=val, return_=ret, crashed=bad, records=(record,))
    assert Row.from_dict(json.loads(json.dumps(row.to_dict(), allow_nan=False))) == row


def test_a_metric_that_is_not_finite_comes_back_as_nan() -> None:
    row = make_row(metrics={"accuracy": NAN, "f1": 0.5})
    back = Row.from_dict(row.to_dict())
    assert math.isnan(back.metrics["accuracy"])
    assert back.metrics["f1"] == 0.5


def test_an_episode_becomes_a_row_that_says_where_it_came_from() -> None:
    row = of()
    assert row.key == ("m", 3, 4)
    assert (row.job_name, row.episode_seed, row.start) == ("toy", 9, {"lr": 0.1})
    assert (row.test_loss, row.metrics, row.val_loss) == (0.7, {"accuracy": 0.9}, 0.5)
    assert (row.samples, row.budget, row.val_samples, row.rescues) == (100, 100, 30, 1)


@pytest.mark.parametrize("loss", [INF, NAN])
def test_a_test_loss_that_is_no_number_counts_as_infinite_not_as_missing(loss: float) -> None:
    row = of(test={"loss": loss, "accuracy": NAN}, records=(make_record(0, 5, 0.5, train_loss=NAN),))
    assert row.test_loss == INF
    assert not row.finite
    assert row.records[0].train_loss == INF
    assert row.to_dict()["test_loss"] is None


def test_a_job_without_a_test_split_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match="the job 'toy' has no test samples"):
        of(test={})


def test_a_row_can_leave_its_decisions_out() -> None:
    row = make_row()
    assert set(row.to_dict()) - set(row.to_dict(records=False)) == {"records"}


def test_rows_are_read_back_in_the_order_they_were_written() -> None:
    rows = [make_row(job=i, test_loss=INF if i == 1 else i) for i in range(3)]
    file = RowFile(Path("rows.jsonl"))
    for row in rows:
        file.append(row)
    assert RowFile(Path("rows.jsonl")).rows == tuple(rows)


@pytest.mark.parametrize("cut", [1, 2, 40, 300])
def test_a_line_cut_off_by_a_kill_is_dropped_and_the_next_one_stands_on_its_own(cut: int) -> None:
    path = Path("rows.jsonl")
    file = RowFile(path)
    file.append(make_row(job=0))
    file.append(make_row(job=1))
    path.write_bytes(path.read_bytes()[:-cut])
    again = RowFile(path)
    assert again.rows == (make_row(job=0),)
    again.append(make_row(job=2))
    assert [row.job for row in RowFile(path).rows] == [0, 2]


@pytest.mark.parametrize("line", [b"{", b"[]", b"3", b"{}", b'{"colour": 1}', b"\xff"])
def test_a_damaged_line_is_an_error_that_names_its_number(line: bytes) -> None:
    path = Path("rows.jsonl")
    file = RowFile(path)
    file.append(make_row())
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ConfigError, match=r"line 2 of rows\.jsonl is no row"):
        RowFile(path)


def test_a_file_that_is_not_there_holds_no_rows_and_is_not_made() -> None:
    assert RowFile(Path("rows.jsonl")).rows == ()
    assert not Path("rows.jsonl").exists()


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_row().test_loss = 0.0  # type: ignore[misc]
