"""What an interval's training showed, for many jobs at once; the array twin of `rl_tuner.meter.Meter`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_tuner.history import Interval
from rl_tuner.meter import ALIVE

Floats = NDArray[np.float64]
UNMEASURED = ("samples", "val_loss", "averaged_loss", "test_loss", "averaged_test_loss")
"""Fields of `Interval` that are left to the caller."""
MEASURED = tuple(f.name for f in fields(Interval) if f.name not in UNMEASURED)
"""The fields that `measure` fills."""


def norms(matrix: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """L2 norm of each parameter tensor in each row.

    Args:
        matrix: Shape (rows, P).
        sizes: Elements of each tensor, P in all.

    Returns:
        Shape (rows, number of tensors).
    """
    parts = torch.split(matrix, list(sizes), dim=1)
    return torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts], 1)


def measure(
    losses: Floats, updates: NDArray[np.int64], gradients: Floats, changes: Floats, weights: Floats
) -> Interval:
    """The intervals' figures, as arrays of shape (n,); samples and validation losses are left to the caller.

    Args:
        losses: Training losses, shape (rounds, n), each job's own ones at the end; the others are not read.
        updates: How many of them are its own, at least 1, shape (n,).
        gradients: Norms of the last gradient by tensor, shape (n, K).
        changes: Norms of the last update, likewise.
        weights: Norms of the weights after it, likewise.
    """
    rounds = len(losses)
    age = np.arange(rounds)[:, None] - (rounds - updates)  # below 0: before the job joined
    half = updates // 2
    early, late = (age >= 0) & (age < np.maximum(half, 1)), age >= half
    with np.errstate(all="ignore"):
        train_late = _mean(losses, late)
        variance = _mean((losses - train_late) ** 2, late)
        gradient, change, weight = (np.sqrt((a * a).sum(1)) for a in (gradients, changes, weights))
        return Interval(
            updates=updates,
            train_early=_mean(losses, early),
            train_late=train_late,
            train_noise=np.sqrt(variance) / (np.abs(train_late) + 1e-12),
            grad_norm=gradient,
            grad_alive=(gradients > ALIVE * weights).mean(1),
            update_ratio=change / (weight + 1e-12),
            finite=np.isfinite(np.where(age >= 0, losses, 0.0).sum(0)) & np.isfinite(weight),
        )


def untrained(num: int) -> dict[str, NDArray[Any]]:
    """An interval's fields in slots that did not train: 0 or NaN, shape (num,) each."""
    figures: dict[str, NDArray[Any]] = {f.name: np.full(num, np.nan) for f in fields(Interval)}
    counts = {name: np.zeros(num, np.int64) for name in ("samples", "updates")}
    return {**figures, **counts, "finite": np.ones(num, np.bool_)}


def _mean(values: Floats, where: NDArray[np.bool_]) -> Floats:
    """Mean of each column over the places where it counts."""
    mean: Floats = np.where(where, values, 0.0).sum(0) / where.sum(0)
    return mean
