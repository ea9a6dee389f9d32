"""Metrics of a trained model, by scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_tuner.errors import JobError

TASKS = ("classification", "regression")
UNKNOWN = -1
"""As a class guessed: the scores are not finite."""

Array = NDArray[Any]


def metrics(
    task: str, outputs: torch.Tensor, targets: torch.Tensor, *, binary: bool = False
) -> dict[str, float]:
    """The task's metrics.

    Args:
        task: "classification" or "regression".
        outputs: Class scores (n, classes), or of sequences (n, classes, T), or predictions like the targets.
        targets: Class numbers (n,), or (n, T), each position of which counts as a sample does; or values
            (n, ...), NaN where nothing is to be predicted.
        binary: Whether the outputs are logits of class 1, shaped like the targets.

    Returns:
        accuracy, f1, precision, recall (the last three as means over classes), or mse and r2. NaN where
        the outputs are not finite.

    Raises:
        JobError: Outputs and targets do not fit the task.
    """
    return metrics_of(task, *guesses(task, outputs, targets, binary=binary))


def guesses(
    task: str, outputs: torch.Tensor, targets: torch.Tensor, *, binary: bool = False
) -> tuple[Array, Array]:
    """What metrics need of a batch, in much less memory than its scores: see `metrics` for the arguments.

    Returns:
        Truth and guesses of a classification, (n,) or (n · T,), classes or `UNKNOWN`; of a regression values
        (n, d).

    Raises:
        JobError: Outputs and targets do not fit the task.
    """
    truth, scores = targets.detach().cpu().numpy(), outputs.detach().float().cpu().numpy()
    if task == "classification":
        return _guessed_classes(truth, scores, binary)
    if scores.size != truth.size:
        raise JobError(f"predictions of shape {scores.shape} do not fit targets of shape {truth.shape}")
    return truth.reshape(len(truth), -1), scores.reshape(len(truth), -1)


def metrics_of(task: str, truth: Array, guess: Array) -> dict[str, float]:
    """The task's metrics of what `guesses` returned, of one batch or of several, concatenated."""
    return _of_classes(truth, guess) if task == "classification" else _of_values(truth, guess)


def _guessed_classes(truth: Array, scores: Array, binary: bool) -> tuple[Array, Array]:
    if binary:
        fits, wanted = scores.shape == truth.shape, "logits shaped like the targets"
    else:
        fits = scores.ndim == truth.ndim + 1 and scores.shape[:1] + scores.shape[2:] == truth.shape
        wanted = "outputs (n, classes, ...) and targets (n, ...)"
    if not fits:
        raise JobError(f"metrics of a classification need {wanted}, got {scores.shape} and {truth.shape}")
    guess = (scores > 0 if binary else scores.argmax(1)).ravel().astype(np.int64)
    if not np.isfinite(scores).all():
        guess[:] = UNKNOWN
    return (truth > 0.5 if binary else truth).ravel(), guess


def _of_classes(truth: Array, guess: Array) -> dict[str, float]:
    from sklearn.metrics import precision_recall_fscore_support

    if (guess == UNKNOWN).any():
        return dict.fromkeys(("accuracy", "f1", "precision", "recall"), float("nan"))
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, guess, average="macro", zero_division=0.0
    )
    return {
        "accuracy": float((guess == truth).mean()),
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
    }


def _of_values(truth: Array, scores: Array) -> dict[str, float]:
    from sklearn.metrics import mean_squared_error, r2_score

    counted = ~np.isnan(truth)
    if not counted.all():  # entries that count may differ from sample to sample: all as one column
        truth, scores = truth[counted][:, None], scores[counted][:, None]
    if not len(truth) or not np.isfinite(scores).all():
        return dict.fromkeys(("mse", "r2"), float("nan"))
    return {
        "mse": float(mean_squared_error(truth, scores)),
        "r2": float(r2_score(truth, scores)) if len(truth) > 1 else float("nan"),
    }
