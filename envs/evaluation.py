"""A model's outputs, loss and metrics over a whole pool."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from rl_tuner.envs.data import Pool
from rl_tuner.envs.jobs import Loss
from rl_tuner.envs.metrics import metrics

EVALUATION_BATCH = 1024


@torch.no_grad()
def outputs_of(model: nn.Module, pool: Pool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Outputs and targets, batch by batch, in evaluation mode (the model is left in it)."""
    model.eval()
    pairs = [(model(inputs), targets) for inputs, targets in pool.in_order(EVALUATION_BATCH)]
    return [outputs for outputs, _ in pairs], [targets for _, targets in pairs]


def mean_loss(loss: Loss, outputs: list[torch.Tensor], targets: list[torch.Tensor]) -> float:
    """The mean over samples of a loss that is a mean over a batch."""
    if len(outputs) == 1:
        return float(loss(outputs[0], targets[0]))
    losses = [float(loss(o, t)) for o, t in zip(outputs, targets, strict=True)]
    return float(np.average(losses, weights=[len(t) for t in targets]))


def scores(
    loss: Loss, task: str, outputs: list[torch.Tensor], targets: list[torch.Tensor]
) -> dict[str, float]:
    """Loss and the task's metrics.

    Raises:
        JobError: Outputs and targets do not fit the task.
    """
    return {
        "loss": mean_loss(loss, outputs, targets),
        **metrics(task, torch.cat(outputs), torch.cat(targets)),
    }
