"""The tasks' losses for many jobs at once, with their gradients written out.

Each is a weighted sum over a row's samples; weights of 1/n make it the mean that `rl_tuner.envs.jobs.LOSSES`
computes, a weight of 0 makes a sample filling. Gradients by hand save autograd's small steps: they are a
third of a small network's update.
"""

from __future__ import annotations

from typing import Protocol

import torch

from rl_tuner.errors import JobError


class RowLoss(Protocol):
    """A task's loss over stacked outputs."""

    def __call__(
        self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of each row, shape (R,), and its gradient with respect to the outputs.

        Args:
            outputs: Shape (R, m, ...), without history.
            targets: Shape (R, m, ...).
            weights: Of the samples, shape (R, m).

        Raises:
            JobError: Outputs and targets do not fit each other.
        """
        ...


def cross_entropy_rows(
    outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of class scores (R, m, C, ...) and class numbers (R, m, ...): see `RowLoss`.

    The gradient of log-sum-exp minus the target's score is softmax minus one-hot.
    """
    places = targets.shape[2:]
    if outputs.ndim != targets.ndim + 1 or outputs.shape[:2] + outputs.shape[3:] != targets.shape:
        raise JobError(
            f"cross-entropy needs scores (n, classes, ...) for targets (n, ...), got "
            f"{tuple(outputs.shape[1:])} and {tuple(targets.shape[1:])}"
        )
    weights = (weights / places.numel()).view(*weights.shape, *([1] * len(places))).expand(targets.shape)
    # Classes before samples: reductions over a short last dimension are several times slower.
    scores = outputs.movedim(2, 1).contiguous()
    scores = scores - scores.amax(1, keepdim=True)
    powers = scores.exp()
    total = powers.sum(1)
    index = targets.long().unsqueeze(1)
    losses = (total.log() - scores.gather(1, index).squeeze(1)) * weights
    gradient = powers.mul_((weights / total).unsqueeze(1))
    gradient.scatter_add_(1, index, -weights.unsqueeze(1))
    return losses.flatten(1).sum(1), gradient.movedim(1, 2)


def squared_error_rows(
    outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error of predictions shaped like the targets, (R, m, ...): see `RowLoss`."""
    if outputs.shape != targets.shape:
        raise JobError(
            f"the model's outputs have shape {tuple(outputs.shape[1:])}, the targets "
            f"{tuple(targets.shape[1:])}: make them alike (nn.Flatten(0) turns (n, 1) into (n,))"
        )
    entries = outputs.shape[2:].numel()
    weights = (weights / entries).view(*weights.shape, *([1] * (outputs.ndim - 2)))
    difference = outputs - targets
    weighted = difference * weights
    return (weighted * difference).flatten(1).sum(1), (2 * weighted).to(outputs.dtype)


ROW_LOSSES: dict[str, RowLoss] = {"classification": cross_entropy_rows, "regression": squared_error_rows}
"""By the name of the task, as `rl_tuner.envs.jobs.LOSSES`."""
