"""A model's outputs, loss and metrics over a whole pool, of which one batch is held in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from rl_tuner.envs.data import Pool
from rl_tuner.envs.losses import Loss, binary_cross_entropy
from rl_tuner.envs.metrics import guesses, metrics_of

EVALUATION_BATCH = 1024

Pairs: TypeAlias = Iterable[tuple[torch.Tensor, torch.Tensor]]
"""Outputs and targets, batch by batch."""


@torch.no_grad()
def outputs_of(model: nn.Module, pool: Pool) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Outputs and targets, batch by batch, in evaluation mode (the model is left in it).

    Each batch is computed when it is asked for: scores of all of a text's symbols at every position take a
    hundred times the memory of the text.
    """
    model.eval()
    for inputs, targets in pool.in_order(EVALUATION_BATCH):
        yield model(inputs), targets


def mean_loss(loss: Loss, pairs: Pairs) -> float:
    """The mean over samples of a loss that is a mean over a batch."""
    return _average([(float(loss(outputs, targets)), len(targets)) for outputs, targets in pairs])


def scores(loss: Loss, task: str, pairs: Pairs) -> dict[str, float]:
    """Loss and the task's metrics.

    Raises:
        JobError: Outputs and targets do not fit the task.
    """
    losses, guessed, binary = [], [], loss is binary_cross_entropy
    for outputs, targets in pairs:
        losses.append((float(loss(outputs, targets)), len(targets)))
        guessed.append(guesses(task, outputs, targets, binary=binary))
    truth, guess = (np.concatenate(parts) for parts in zip(*guessed, strict=True))
    return {"loss": _average(losses), **metrics_of(task, truth, guess)}


def _average(losses: list[tuple[float, int]]) -> float:
    """The mean of batches' losses, by their numbers of samples; of one batch its loss, bit for bit."""
    if len(losses) == 1:
        return losses[0][0]
    values, counts = zip(*losses, strict=True)
    return float(np.average(values, weights=counts))
