"""Metrics by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, mean_squared_error, r2_score

from rl_tuner import JobError
from rl_tuner.envs.metrics import metrics


def scores(guesses: list[int], classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(guesses), classes).float()


def test_classification_metrics_match_a_confusion_matrix_counted_by_hand() -> None:
    # class 0: 2 of 3 found, 1 false alarm; class 1: 1 of 2 found, 1 false alarm; class 2: 1 of 1, none.
    found = metrics("classification", scores([0, 0, 1, 1, 0, 2], 3), torch.tensor([0, 0, 0, 1, 1, 2]))
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["precision"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["recall"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_a_class_never_guessed_counts_zero_without_a_warning() -> None:
    truth = [0, 1, 2, 2]
    found = metrics("classification", scores([0, 0, 0, 2], 3), torch.tensor(truth))
    assert found["f1"] == pytest.approx(f1_score(truth, [0, 0, 0, 2], average="macro", zero_division=0.0))


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3)])
def test_regression_metrics_match_scikit_learn(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.normal(size=shape), rng.normal(size=shape)
    found = metrics("regression", torch.tensor(guess), torch.tensor(truth))
    assert found["mse"] == pytest.approx(mean_squared_error(truth, guess), rel=1e-6)
    assert found["r2"] == pytest.approx(r2_score(truth, guess), rel=1e-6)


def test_predictions_of_one_column_fit_flat_targets() -> None:
    found = metrics("regression", torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0]))
    assert found["mse"] == pytest.approx(2.0)


def test_every_position_of_a_sequence_counts_as_a_sample() -> None:
    rng = np.random.default_rng(0)
    outputs, truth = rng.normal(size=(6, 4, 5)), rng.integers(4, size=(6, 5))
    found = metrics("classification", torch.tensor(outputs), torch.tensor(truth))
    flat = torch.tensor(outputs).movedim(1, 2).reshape(30, 4)
    assert found == metrics("classification", flat, torch.tensor(truth).reshape(30))
    guess = [[max(range(4), key=lambda c: outputs[i, c, t]) for t in range(5)] for i in range(6)]
    assert found["accuracy"] == pytest.approx((np.array(guess) == truth).mean())


@pytest.mark.parametrize("kind", [torch.int64, torch.float32])
def test_logits_above_zero_say_class_one(kind: torch.dtype) -> None:
    outputs, truth = torch.tensor([2.0, -1.0, 0.5, -3.0, 0.1]), torch.tensor([1, 0, 0, 0, 1], dtype=kind)
    found = metrics("classification", outputs, truth, binary=True)
    assert found["accuracy"] == pytest.approx(4 / 5)
    assert found["precision"] == pytest.approx((2 / 2 + 2 / 3) / 2)
    assert found["recall"] == pytest.approx((2 / 3 + 2 / 2) / 2)
    with pytest.raises(JobError, match=r"logits shaped like the targets, got \(5, 1\) and \(5,\)"):
        metrics("classification", outputs[:, None], truth, binary=True)


def test_values_that_nobody_asks_for_do_not_count() -> None:
    guess, truth = (
        torch.tensor([[1.0, 9.0], [3.0, 4.0], [9.0, 9.0]]),
        [[2.0, np.nan], [3.0, 7.0], [np.nan] * 2],
    )
    found = metrics("regression", guess, torch.tensor(truth))
    assert found["mse"] == pytest.approx((1 + 0 + 9) / 3)
    assert found["r2"] == pytest.approx(1 - 10 / (4 + 1 + 9))
    nothing = metrics("regression", guess, torch.full((3, 2), torch.nan))
    assert np.isnan(list(nothing.values())).all()


def test_r2_of_a_single_sample_is_not_a_number() -> None:
    assert np.isnan(metrics("regression", torch.tensor([1.0]), torch.tensor([2.0]))["r2"])


@pytest.mark.parametrize(("task", "target"), [("classification", 0), ("regression", 0.0)])
def test_outputs_that_are_not_finite_give_nan_for_every_metric(task: str, target: float) -> None:
    outputs = torch.full((2, 2), torch.nan) if task == "classification" else torch.full((2,), torch.inf)
    found = metrics(task, outputs, torch.tensor([target, target]))
    assert found
    assert all(np.isnan(v) for v in found.values())


def test_shapes_that_do_not_fit_the_task_are_refused_with_both_shapes() -> None:
    with pytest.raises(JobError, match=r"\(3,\).*\(3,\)"):
        metrics("classification", torch.zeros(3), torch.zeros(3))
    with pytest.raises(JobError, match=r"\(3, 2, 5\).*\(3, 4\)"):
        metrics("classification", torch.zeros(3, 2, 5), torch.zeros(3, 4))
    with pytest.raises(JobError, match=r"\(4,\).*\(3,\)"):
        metrics("regression", torch.zeros(4), torch.zeros(3))
