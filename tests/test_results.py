from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.errors import ConfigError
from rl_tuner.results import Place, Row
from rl_tuner.rollout import Beginning, Episode
from rl_tuner.searches import SearchResult, SearchTrial
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
    place = Place("m", 3, 4, 9, Beginning("toy", {"lr": 0.1}, 100, 0, 2.0, 2.5))
    return Row.of(episode(**changes), place, seconds=0.5)


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


def trial(val_loss: float, **changes: Any) -> SearchTrial:
    values: dict[str, Any] = {
        "setting": {"start": {"lr": 0.1}, "schedule": "constant", "options": {}},
        "test_loss": 2 * val_loss,
        "samples": 100,
        "val_samples": 30,
        "crashed": False,
        "pruned": False,
        "start_val_loss": 2.0,
    }
    return SearchTrial(val_loss=val_loss, **{**values, **changes})


def found(*trials: SearchTrial, best: int = 0) -> Row:
    test = {"loss": trials[best].test_loss, "accuracy": 0.9}
    result = SearchResult(trials, best, test, (make_record(0, 100, 0.5),), 200, 60)
    return Row.of_search(
        result, Place("m", 3, 4, 9, Beginning("toy", {"lr": 0.1}, 100, 0, 2.0, 2.5)), budget=200
    )


def test_a_search_becomes_the_row_of_its_chosen_trial_at_the_cost_of_all() -> None:
    row = found(trial(0.5), trial(0.3), best=1)
    assert (row.val_loss, row.test_loss, row.metrics) == (0.3, 0.6, {"accuracy": 0.9})
    assert (row.job_budget, row.budget, row.samples, row.val_samples) == (100, 200, 200, 60)
    assert not row.crashed
    assert found(trial(INF, crashed=True), trial(INF, crashed=True)).crashed
    assert not found(trial(INF, crashed=True), trial(1.0), best=1).crashed


def test_a_searchs_row_survives_json_with_its_infinite_losses() -> None:
    row = found(trial(0.5), trial(INF, test_loss=INF, crashed=True))
    assert Row.from_dict(json.loads(json.dumps(row.to_dict(), allow_nan=False))) == row


def test_what_a_job_crashed_at_before_its_last_phase_is_no_loss_of_the_job() -> None:
    place = Place("m", 3, 4, 9, Beginning("toy", {}, 100, 60, 2.0, 2.5))
    records = (make_record(0, 30, 0.1), make_record(1, 60, 0.05))
    early = Row.of(episode(val_loss=0.05, records=records, crashed=True), place)
    assert (early.val_loss, early.start_val_loss) == (2.0, 2.0)
    late = Row.of(episode(val_loss=0.7, records=(*records, make_record(2, 80, 0.7))), place)
    assert late.val_loss == 0.7


def test_rows_are_equal_whatever_time_they_took() -> None:
    assert of() == dataclasses.replace(of(), seconds=9.0)


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
    assert set(row.to_dict()) - set(row.to_dict(records=False)) == {"records", "trials", "curve"}


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_row().test_loss = 0.0  # type: ignore[misc]
