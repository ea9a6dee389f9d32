"""The losses for many jobs at once, with their gradients written out.

Each is a weighted sum over a row's samples; weights of 1/n make it the mean that
`rl_tuner.envs.losses.LOSSES` computes, a weight of 0 makes a sample filling. Gradients by hand save
autograd's small steps: they are a third of a small network's update.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch

from rl_tuner.envs.losses import masked_difference, require_alike
from rl_tuner.errors import JobError


class RowLoss(Protocol):
    """A loss over stacked outputs."""

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
    outputs: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    smoothing: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of class scores (R, m, C, ...) and class numbers (R, m, ...): see `RowLoss`.

    The gradient of log-sum-exp minus the target's score is softmax minus one-hot. With labels smoothed by ε
    (Szegedy et al., 2016, section 7) it is softmax minus (1 - ε) one-hot minus ε / C; the loss told stays
    the plain one.

    Args:
        outputs: See `RowLoss`.
        targets: See `RowLoss`.
        weights: See `RowLoss`.
        smoothing: ε of each row, shape (R,); None smooths nothing.

    Raises:
        JobError: Outputs and targets do not fit each other.
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
    if smoothing is not None:
        spread = smoothing.view(-1, *([1] * (weights.ndim - 1))) * weights
        gradient.sub_((spread / scores.shape[1]).unsqueeze(1))
        weights = weights - spread
    gradient.scatter_add_(1, index, -weights.unsqueeze(1))
    return losses.flatten(1).sum(1), gradient.movedim(1, 2)


def smoothed(smoothing: torch.Tensor) -> RowLoss:
    """Cross-entropy whose labels are smoothed, row by row: see `cross_entropy_rows`."""
    return partial(cross_entropy_rows, smoothing=smoothing)


def squared_error_rows(
    outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error of predictions shaped like the targets, (R, m, ...): see `RowLoss`."""
    require_alike(outputs.shape[1:], targets.shape[1:])
    weights = _by_entry(weights, outputs)
    difference = outputs - targets
    weighted = difference * weights
    return (weighted * difference).flatten(1).sum(1), (2 * weighted).to(outputs.dtype)


def masked_squared_error_rows(
    outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error where a target is not NaN, the mean over a sample's entries that count: see `RowLoss`."""
    require_alike(outputs.shape[1:], targets.shape[1:])
    difference, share = masked_difference(outputs, targets, 2)
    weighted = difference * share * weights.view(*weights.shape, *([1] * (outputs.ndim - 2)))
    return (weighted * difference).flatten(1).sum(1), (2 * weighted).to(outputs.dtype)


Pointwise = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""(outputs, targets) → loss of each entry, and its derivative."""


def pointwise_rows(
    outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, *, function: Pointwise
) -> tuple[torch.Tensor, torch.Tensor]:
    """A loss of each entry by itself, outputs shaped like the targets, (R, m, ...): see `RowLoss`."""
    require_alike(outputs.shape[1:], targets.shape[1:])
    weights = _by_entry(weights, outputs)
    losses, slopes = function(outputs, targets)
    return (losses * weights).flatten(1).sum(1), (slopes * weights).to(outputs.dtype)


def _by_entry(weights: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """The samples' weights (R, m) shared out over a sample's entries, to be broadcast."""
    return (weights / outputs.shape[2:].numel()).view(*weights.shape, *([1] * (outputs.ndim - 2)))


def _absolute(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    difference = outputs - targets
    return difference.abs(), difference.sign()


def _huber(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """With the slope s = clamp(d, -1, 1) the loss s (d - s / 2) is d² / 2 up to 1, and |d| - 1/2 beyond."""
    difference = outputs - targets
    slope = difference.clamp(-1, 1)
    return slope * (difference - slope / 2), slope


def _binary(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log(1 + exp(x)) - x y, in the form that cannot overflow; its derivative is sigmoid(x) - y."""
    targets = targets.to(outputs.dtype)
    rest = torch.log1p(torch.exp(-outputs.abs()))
    return outputs.clamp(min=0) - outputs * targets + rest, outputs.sigmoid() - targets


ROW_LOSSES: dict[str, RowLoss] = {
    "cross_entropy": cross_entropy_rows,
    "bce": partial(pointwise_rows, function=_binary),
    "mse": squared_error_rows,
    "l1": partial(pointwise_rows, function=_absolute),
    "huber": partial(pointwise_rows, function=_huber),
    "masked_mse": masked_squared_error_rows,
}
"""By name, as `rl_tuner.envs.losses.LOSSES`."""
