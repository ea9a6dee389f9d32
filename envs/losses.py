"""Losses by name, as plain functions of torch; `rl_tuner.envs.row_losses` has them for many jobs at once.

Each is a mean over the samples of a batch, so that a batch can be cut into parts and added up again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch.nn import functional

from rl_tuner.errors import JobError

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(outputs, targets) → mean loss over the batch."""


def mean_squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean squared error of predictions shaped like the targets.

    Raises:
        JobError: They are shaped otherwise; torch would broadcast (n, 1) on (n,) to a wrong (n, n).
    """
    require_alike(outputs.shape, targets.shape)
    return functional.mse_loss(outputs, targets)


def mean_absolute_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of predictions shaped like the targets.

    Raises:
        JobError: They are shaped otherwise.
    """
    require_alike(outputs.shape, targets.shape)
    return functional.l1_loss(outputs, targets)


def huber(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Huber's loss (1964) with δ = 1: half the squared error up to an error of 1, linear beyond.

    Raises:
        JobError: Outputs and targets are shaped unlike.
    """
    require_alike(outputs.shape, targets.shape)
    return functional.huber_loss(outputs, targets)


def binary_cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of logits of class 1, shape (n,) or (n, k), and targets 0 or 1 alike.

    Raises:
        JobError: Outputs and targets are shaped unlike.
    """
    require_alike(outputs.shape, targets.shape)
    return functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))


def masked_squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Squared error where there is something to predict: a target of NaN asks for nothing.

    The mean over a sample's entries that count, then over all samples. A sample without any adds 0: so the
    loss stays a mean over samples however they are spread over batches.

    Raises:
        JobError: Outputs and targets, (n, ...), are shaped unlike.
    """
    require_alike(outputs.shape, targets.shape)
    difference, share = masked_difference(outputs, targets, 1)
    return (difference.square() * share).sum() / len(outputs)


def masked_difference(
    outputs: torch.Tensor, targets: torch.Tensor, leading: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Differences, 0 where the target is NaN, and each entry's share in its sample's mean.

    Args:
        outputs: Of any shape.
        targets: Shaped alike.
        leading: Dimensions that count samples; the others are a sample's entries.
    """
    counted = ~targets.isnan()
    # The difference is chosen, not multiplied by 0: NaN · 0 is NaN, in the gradient too.
    difference = torch.where(counted, outputs - torch.where(counted, targets, 0.0), 0.0)
    entries = counted.view(*counted.shape[:leading], -1).sum(-1)
    many = entries.clamp(min=1).view(*entries.shape, *([1] * (counted.ndim - leading)))
    return difference, counted.to(outputs.dtype) / many


def require_alike(outputs: torch.Size, targets: torch.Size) -> None:
    """Checks that predictions have the targets' shape.

    Raises:
        JobError: They do not.
    """
    if outputs != targets:
        raise JobError(
            f"the model's outputs have shape {tuple(outputs)}, the targets {tuple(targets)}: "
            "make them alike (nn.Flatten(0) turns (n, 1) into (n,))"
        )


LOSSES: dict[str, Loss] = {
    "cross_entropy": functional.cross_entropy,
    "bce": binary_cross_entropy,
    "mse": mean_squared_error,
    "l1": mean_absolute_error,
    "huber": huber,
    "masked_mse": masked_squared_error,
}
"""By name: what `rl_tuner.envs.TrainingJob.loss` may be."""
TASK_LOSSES: dict[str, tuple[str, ...]] = {
    "classification": ("cross_entropy", "bce"),
    "regression": ("mse", "l1", "huber", "masked_mse"),
}
"""Losses that fit a task; the first one is the task's own."""


def name_of(loss: Loss) -> str | None:
    """The name of one of `LOSSES`; None for any other function."""
    return next((name for name, known in LOSSES.items() if known is loss), None)


def require_probabilities(least: float, greatest: float) -> None:
    """Checks that targets of "bce" lie in [0, 1]: beyond, its loss has no lower bound.

    Args:
        least: The least target.
        greatest: The greatest.

    Raises:
        JobError: They do not.
    """
    if not (least >= 0 and greatest <= 1):
        raise JobError(f"the loss 'bce' needs targets of 0 and 1, they go from {least:g} to {greatest:g}")
