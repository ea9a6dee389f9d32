"""Metrics of a trained model, by scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from rl_tuner.errors import JobError

TASKS = ("classification", "regression")


def metrics(task: str, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """The task's metrics.

    Args:
        task: "classification" or "regression".
        outputs: Class scores (n, classes), or predictions (n,) or (n, 1).
        targets: Class numbers (n,), or values like the predictions.

    Returns:
        accuracy, f1, precision, recall (the last three as means over classes), or mse and r2. NaN where
        the outputs are not finite.

    Raises:
        JobError: Outputs and targets do not fit the task.
    """
    from sklearn.metrics import mean_squared_error, precision_recall_fscore_support, r2_score

    truth, scores = targets.detach().cpu().numpy(), outputs.detach().float().cpu().numpy()
    finite = bool(np.isfinite(scores).all())
    if task == "classification":
        if scores.ndim != 2 or truth.ndim != 1:
            raise JobError(
                f"metrics of a classification need outputs (n, classes) and targets (n,), got {scores.shape} "
                f"and {truth.shape}"
            )
        if not finite:
            return dict.fromkeys(("accuracy", "f1", "precision", "recall"), float("nan"))
        guess = scores.argmax(1)
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, guess, average="macro", zero_division=0.0
        )
        return {
            "accuracy": float((guess == truth).mean()),
            "f1": float(f1),
            "precision": float(precision),
            "recall": float(recall),
        }
    if scores.size != truth.size:
        raise JobError(f"predictions of shape {scores.shape} do not fit targets of shape {truth.shape}")
    if not finite:
        return dict.fromkeys(("mse", "r2"), float("nan"))
    truth, scores = truth.reshape(len(truth), -1), scores.reshape(len(truth), -1)
    return {
        "mse": float(mean_squared_error(truth, scores)),
        "r2": float(r2_score(truth, scores)) if len(truth) > 1 else float("nan"),
    }
