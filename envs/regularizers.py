"""Regularizers that come between the loss and the optimizer: penalties, label smoothing, gradient clipping.

One update is: the gradient of the (smoothed) loss, plus l1 · sign(θ) + l2 · θ, its norm clipped, then the
optimizer, whose own weight decay comes after. What is *recorded* as training loss is the plain loss without
smoothing and penalties: were they part of it, an observation would move because a policy moved a
regularizer, not because the model learned.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

REGULARIZERS = ("l1", "l2", "label_smoothing", "max_grad_norm")
"""Hyperparameters that are neither the optimizer's nor the model's: a job has those that its start names."""
CLIP_EPS = 1e-6
"""What `torch.nn.utils.clip_grad_norm_` adds to the norm that it divides by."""


class Regularizers:
    """The regularizers of one model.

    Args:
        parameters: What the optimizer updates.
        values: Present values by name, those of `REGULARIZERS` that the job has; read at each update, so
            that whoever tunes them writes into this very mapping.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], values: Mapping[str, float]) -> None:
        self._parameters, self._values = list(parameters), values

    def backward(self, loss: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Stands in for ``loss.backward()``: leaves the gradients that the optimizer is to get.

        Args:
            loss: The plain loss; cross-entropy where labels are smoothed.
            outputs: What it was computed of.
            targets: Likewise.
        """
        smoothing = self._values.get("label_smoothing", 0.0)
        if smoothing:
            loss = functional.cross_entropy(outputs, targets, label_smoothing=smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        l1, l2 = self._values.get("l1", 0.0), self._values.get("l2", 0.0)
        if l1 or l2:
            add_penalties(self._parameters, l1, l2)
        if "max_grad_norm" in self._values:
            clip_grad_norm_(self._parameters, self._values["max_grad_norm"])


@torch.no_grad()
def add_penalties(parameters: Sequence[torch.Tensor], l1: float, l2: float) -> None:
    """Adds the gradient of l1 · Σ|θ| + l2 / 2 · Σθ² to the parameters' gradients.

    Args:
        parameters: All θ; one without a gradient gets the penalty's.
        l1: Weight of the absolute values, >= 0; their gradient at 0 is 0, as autograd has it.
        l2: Weight of the squares, >= 0.
    """
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        elif p.grad.is_sparse:
            p.grad = p.grad.to_dense()  # a penalty moves every entry
    values = [p.detach() for p in parameters]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if l1:
        torch._foreach_add_(gradients, torch._foreach_sign(values), alpha=l1)
    if l2:
        torch._foreach_add_(gradients, values, alpha=l2)


@dataclass(frozen=True, slots=True)
class RowRegularizers:
    """The regularizers of many jobs, a row each; None for one that no row uses.

    Attributes:
        l1: Weights of the absolute values, shape (rows, 1), the parameters' dtype.
        l2: Weights of the squares, likewise.
        label_smoothing: Shape (rows,).
        max_grad_norm: Largest norms, shape (rows, 1); 0 where a row's gradient is not clipped.
    """

    l1: torch.Tensor | None = None
    l2: torch.Tensor | None = None
    label_smoothing: torch.Tensor | None = None
    max_grad_norm: torch.Tensor | None = None

    @classmethod
    def of(cls, columns: torch.Tensor, used: Collection[str]) -> RowRegularizers:
        """Those in use.

        Args:
            columns: Values in the order of `REGULARIZERS`, shape (4, rows, 1).
            used: Names of those that some row may use.
        """
        l1, l2, smoothing, norm = (
            column if name in used else None for name, column in zip(REGULARIZERS, columns, strict=True)
        )
        return cls(l1, l2, None if smoothing is None else smoothing[:, 0], norm)

    @property
    def act(self) -> bool:
        """Whether `apply` does anything."""
        return not (self.l1 is None and self.l2 is None and self.max_grad_norm is None)

    def apply(self, gradient: torch.Tensor, theta: torch.Tensor, scratch: torch.Tensor) -> None:
        """Makes gradients of the loss what the optimizers are to get, in place.

        It branches on the host's None alone, as `rl_tuner.envs.update_rules.UpdateRule.apply` does.

        Args:
            gradient: Shape (rows, P).
            theta: Parameters that it was taken at, alike.
            scratch: To overwrite, alike.
        """
        if self.l1 is not None:
            gradient.addcmul_(torch.sign(theta, out=scratch), self.l1)
        if self.l2 is not None:
            gradient.addcmul_(theta, self.l2)
        if self.max_grad_norm is not None:
            # Summed up by a product: inductor (torch 2.13) would fuse a reduction over rows with the update
            # that follows, and fails at it with a KeyError.
            squares = torch.mul(gradient, gradient, out=scratch)
            norm = torch.mm(squares, squares.new_ones((squares.shape[1], 1))).sqrt_()
            factor = (self.max_grad_norm / (norm + CLIP_EPS)).clamp(max=1.0)
            # Chosen: a norm that is no number must not reach a row that is not clipped.
            gradient.mul_(torch.where(self.max_grad_norm > 0, factor, 1.0))


def used_in(settings: Mapping[str, NDArray[np.float64]]) -> frozenset[str]:
    """Names of the hyperparameters, dropout and `REGULARIZERS`, that are not 0 in some row.

    Args:
        settings: A value a row by name, as `rl_tuner.envs.rows.Rows.settings`.
    """
    return frozenset(name for name in ("dropout", *REGULARIZERS) if settings[name].any())


def stacked_columns(settings: Mapping[str, NDArray[np.float64]], like: torch.Tensor) -> torch.Tensor:
    """The columns that `RowRegularizers.of` takes, of the type and on the device of a tensor."""
    return torch.from_numpy(np.stack([settings[name] for name in REGULARIZERS])).to(like).unsqueeze(-1)
