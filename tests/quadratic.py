"""A job whose best learning rate is known in closed form: gradient descent on a quadratic."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import nn

from rl_tuner.envs.jobs import TrainingJob

ROWS, UPDATES = 8, 20
CURVATURES: NDArray[np.float64] = np.array([1.0, 2.0, 4.0, 8.0, 20.0]) / 7


def quadratic_job(**changes: Any) -> TrainingJob:
    """½ Σ λ θ² from θ = 1, all rows in each batch: a linear model under the mean squared error.

    The rows are ``sqrt(n λ_i / 2) e_i``, and zero: the mean of ``(x · θ)²`` over n of them is the quadratic.
    """
    rows = torch.zeros(ROWS, len(CURVATURES), dtype=torch.float64)
    rows[: len(CURVATURES)] = torch.diag(torch.tensor(np.sqrt(ROWS * CURVATURES / 2)))
    model = nn.Linear(len(CURVATURES), 1, bias=False).double()
    nn.init.ones_(model.weight)
    data = (rows, torch.zeros(ROWS, 1, dtype=torch.float64))
    options: dict[str, Any] = {
        "model": model,
        "train": data,
        "validation": data,
        "test": data,
        "optimizer": "sgd",
        "start": {"lr": 0.1, "batch_size": float(ROWS)},
        "task": "regression",
        "budget": ROWS * UPDATES,
        "name": "quadratic",
    }
    return TrainingJob(**{**options, **changes})


def quadratic_loss(lr: float, updates: int = UPDATES) -> float:
    """Each update multiplies θ_i by ``1 - lr λ_i``."""
    return float(0.5 * np.sum(CURVATURES * (1 - lr * CURVATURES) ** (2 * updates)))


def best_lr() -> float:
    """The learning rate with the lowest loss after all updates."""
    limit = 2 / CURVATURES.max()  # beyond it the steepest direction diverges
    found = minimize_scalar(quadratic_loss, bounds=(0, limit), method="bounded", options={"xatol": 1e-9})
    return float(found.x)
