"""A job in phases that takes milliseconds: an autoencoder of a table's columns, then the classes from it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from rl_tuner.envs.jobs import Phase, TrainingJob
from rl_tuner.envs.models import mlp

COLUMNS, CLASSES = 6, 3
FIRST, SECOND = 301, 402


def network(outputs: int, dropout: float | None = None, dtype: torch.dtype = torch.float64) -> nn.Module:
    return mlp(COLUMNS, (8,), outputs, dropout).to(dtype)


def data(
    seed: int, samples: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs of two hidden causes, their columns to predict, and classes."""
    generator = torch.Generator().manual_seed(seed)
    causes = torch.randn(samples, 2, generator=generator, dtype=dtype)
    mixing = torch.randn(2, COLUMNS, generator=torch.Generator().manual_seed(9), dtype=dtype)
    inputs = causes @ mixing
    return inputs, inputs.clone(), (causes[:, 0] > 0.5).long() + (causes[:, 1] > 0).long()


TRAIN, VALIDATION, TEST = data(0, 64), data(1, 30), data(2, 30)


def second(trained: nn.Module, **changes: Any) -> TrainingJob:
    """The classes, on the trained body."""
    body = {name: t for name, t in trained.state_dict().items() if name.startswith("0.")}
    options: dict[str, Any] = {
        "model": partial(network, CLASSES),
        "train": (TRAIN[0], TRAIN[2]),
        "validation": (VALIDATION[0], VALIDATION[2]),
        "test": (TEST[0], TEST[2]),
        "optimizer": "sgd",
        "start": {"lr": 0.05, "batch_size": 8.0, "momentum": 0.8},
        "weights": body,
        "name": "classes",
    }
    return TrainingJob(**{**options, **changes})


def phased_job(*, budget: int = SECOND, then: dict[str, Any] | None = None, **changes: Any) -> TrainingJob:
    """Both phases; what is given changes the first one, `then` the second."""
    options: dict[str, Any] = {
        "model": partial(network, COLUMNS),
        "train": TRAIN[:2],
        "validation": VALIDATION[:2],
        "optimizer": "adam",
        "start": {"lr": 0.01, "batch_size": 16.0, "momentum": 0.9},
        "task": "regression",
        "budget": FIRST,
        "then": (Phase(partial(second, **(then or {})), budget),),
        "name": "phased",
    }
    return TrainingJob(**{**options, **changes})
