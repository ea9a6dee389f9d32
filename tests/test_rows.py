from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from rl_tuner.envs.rows import SETTINGS, STATE, Rows
from rl_tuner.errors import ConfigError, JobError

WIDTH = 5
START = {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.9, "dropout": 0.2, "batch_size": 32.0}


def make(dropouts: int = 2) -> Rows:
    return Rows(WIDTH, dropouts, torch.float32, torch.device("cpu"))


def theta(value: float) -> torch.Tensor:
    return torch.full((WIDTH,), value)


def train(rows: Rows, row: int, value: float) -> None:
    """Something that changes everything training changes."""
    for i, name in enumerate(STATE):
        rows.tensors[name][row] = value + i
    rows.drawn[row] += 1


def live(rows: Rows, row: int) -> dict[str, list[float]]:
    return {name: rows.tensors[name][row].tolist() for name in STATE}


def test_a_row_starts_with_its_weights_as_live_good_and_best_and_a_fresh_optimizer() -> None:
    rows = make()
    row = rows.take(theta(3.0), START, kind=2, second=0.5, ratios=[1.0, 0.5], seed=2**63 + 1)
    for name, tensor in rows.tensors.items():
        wanted = 3.0 if "theta" in name else 0.5 if "second" in name else 0.0
        assert set(tensor[row].tolist()) == {wanted}, name
    assert {name: rows.settings[name][row] for name in SETTINGS} == {n: START.get(n, 0.0) for n in SETTINGS}
    assert (rows.kinds[row], rows.seeds[row], rows.drawn[row]) == (2, 2**63 + 1, 0)
    assert rows.rates([row]).tolist() == [[0.2, 0.1]]


def test_a_released_row_leaves_nothing_behind() -> None:
    rows, fresh = make(), make()
    row = rows.take(theta(1.0), START, kind=3, second=0.7, ratios=[0.1, 1.0], seed=9)
    train(rows, row, 8.0)
    rows.copy(np.array([row]), "", "good_")
    rows.keep_best(np.array([row]))
    rows.release(row)
    assert rows.take(theta(2.0), {"lr": 0.3}) == row
    other = fresh.take(theta(2.0), {"lr": 0.3})
    for name, tensor in rows.tensors.items():
        assert torch.equal(tensor[row], fresh.tensors[name][other]), name
    for name in SETTINGS:
        assert rows.settings[name][row] == fresh.settings[name][other]
        assert rows.tunable[name][row] == fresh.tunable[name][other]
    assert rows.ratios[row].tolist() == fresh.ratios[other].tolist()
    for array in ("kinds", "seeds", "drawn"):
        assert getattr(rows, array)[row] == getattr(fresh, array)[other], array


def test_growing_keeps_what_the_rows_hold_and_gives_no_row_twice() -> None:
    rows = make()
    taken = [rows.take(theta(float(i)), {"lr": float(i)}, kind=i, seed=i) for i in range(23)]
    assert len(set(taken)) == rows.used == 23
    assert rows.capacity < 2 * 23
    for i, row in enumerate(taken):
        assert rows.tensors["best_theta"][row].tolist() == [i] * WIDTH
        assert (rows.settings["lr"][row], rows.kinds[row], rows.seeds[row]) == (i, i, i)


def test_rows_are_used_again_before_there_are_more() -> None:
    rows = make()
    for i in range(500):
        rows.release(rows.take(theta(float(i)), START))
    assert (rows.used, rows.capacity) == (0, 4)


def test_copies_go_to_the_rows_named_and_to_no_other() -> None:
    rows = make()
    a, b, c = (rows.take(theta(float(i)), START) for i in range(3))
    before = {row: rows.get_row(row)["tensors"] for row in (a, b, c)}
    for row in (a, b, c):
        train(rows, row, 10.0 + row)
    kept = {row: live(rows, row) for row in (a, c)}
    rows.copy(np.array([c, a]), "", "good_")
    for row in (a, b, c):
        train(rows, row, 50.0)
    rows.copy(np.array([a, b, c]), "good_", "")
    assert {row: live(rows, row) for row in (a, c)} == kept
    assert torch.equal(rows.tensors["theta"][b], before[b]["theta"])
    assert rows.drawn[[a, b, c]].tolist() == [2, 2, 2]  # dropout masks are not drawn again


def test_the_best_weights_come_back_alone() -> None:
    rows = make()
    row, other = rows.take(theta(1.0), START), rows.take(theta(2.0), START)
    train(rows, row, 5.0)
    rows.keep_best(np.array([row]))
    train(rows, row, 7.0)
    rows.restore_best(row)
    assert live(rows, row) == {**live(rows, row), "theta": [5.0] * WIDTH, "first": [8.0] * WIDTH}
    assert rows.tensors["theta"][other].tolist() == [2.0] * WIDTH


def test_a_rows_state_goes_through_pickle_into_a_row_of_other_rows() -> None:
    rows, others = make(), make()
    row = rows.take(theta(1.0), START)
    train(rows, row, 5.0)
    rows.write("lr", np.array([row]), np.array([0.7]))
    state = rows.get_row(row)
    train(rows, row, 6.0)  # the state is a copy
    others.take(theta(0.0), START)
    there = others.take(theta(0.0), START)
    others.set_row(there, pickle.loads(pickle.dumps(state)))
    assert live(others, there) == {n: [5.0 + i] * (1 if n == "steps" else WIDTH) for i, n in enumerate(STATE)}
    assert (others.settings["lr"][there], others.drawn[there]) == (0.7, 1)
    assert others.tensors["good_theta"][there].tolist() == [1.0] * WIDTH


def test_a_state_of_another_width_is_refused_with_both() -> None:
    rows, others = make(), Rows(3, 0, torch.float32, torch.device("cpu"))
    state = others.get_row(others.take(torch.zeros(3), START))
    with pytest.raises(JobError, match="job with 3 parameters, this one has 5"):
        rows.set_row(rows.take(theta(0.0), START), state)


def test_a_hyperparameter_is_written_only_where_there_is_one() -> None:
    rows = make()
    both = np.array([rows.take(theta(0.0), START), rows.take(theta(0.0), {"lr": 0.1, "weight_decay": 0.0})])
    rows.write("lr", both, np.array([0.2, 0.3]))
    assert rows.settings["lr"][both].tolist() == [0.2, 0.3]
    with pytest.raises(
        ConfigError, match="no hyperparameter 'momentum'; it has lr, weight_decay, batch_size"
    ):
        rows.write("momentum", both, np.array([0.5, 0.5]))
    with pytest.raises(ConfigError, match="no hyperparameter 'learning_rate'"):
        rows.write("learning_rate", both[:1], np.array([0.5]))


def test_bytes_a_row_are_those_of_the_tensors() -> None:
    assert (
        make().bytes_per_row == 7 * WIDTH * 4 + 2 * 8
    )  # 2 × (weights, two buffers), best weights; steps twice
