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
    with pytest.raises(JobError, match=r"\(4,\).*\(3,\)"):
        metrics("regression", torch.zeros(4), torch.zeros(3))
