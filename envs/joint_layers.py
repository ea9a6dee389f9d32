"""Layers that join branches, and the layers of rating models.

All index dimensions from the last one on, so that the same code runs one network, on inputs (n, ...), and
stacked ones, on inputs (R, n, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rl_tuner.errors import JobError


class Joint(nn.Module):
    """Branches, and what joins them. A stack runs `join` as it is, on stacked branches.

    Args:
        *branches: What is joined.
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """The joined outputs."""
        return self.join(x, list(self.branches))

    def join(self, x: Tensor, branches: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        """Runs branches and joins what they give; for one sample dimension or two in front."""
        raise NotImplementedError


class Residual(Joint):
    """Adds what its layers make of the input to the input (He et al. 2016).

    Args:
        *layers: One after another.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(nn.Sequential(*layers))

    def join(self, x: Tensor, branches: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        """Outputs of the inputs' shape."""
        return x + branches[0](x)


class Sum(Joint):
    """The sum of what its branches make of the same input."""

    def join(self, x: Tensor, branches: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        """Outputs of a branch's shape."""
        return sum((branch(x) for branch in branches[1:]), branches[0](x))


class ForEach(Joint):
    """A branch for each column of the input: (n, columns) → (n, columns, width)."""

    def join(self, x: Tensor, branches: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        """The branches' outputs, (n, width) each, side by side.

        Raises:
            JobError: There are not as many columns as branches.
        """
        if x.shape[-1] != len(branches):
            raise JobError(f"inputs must have {len(branches)} columns, got {x.shape[-1]}")
        return torch.stack([branch(x[..., i]) for i, branch in enumerate(branches)], -2)


class Dot(nn.Module):
    """The dot product of two vectors: (n, 2, width) → (n,)."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        first, second = x.unbind(-2)
        return (first * second).sum(-1)


class Total(nn.Module):
    """The sum of a sample's numbers: (n, columns, width) → (n,)."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x.sum((-2, -1))


class Offset(nn.Module):
    """Adds one learned number, 0 at first, to all outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the inputs' shape."""
        return x + self.bias
