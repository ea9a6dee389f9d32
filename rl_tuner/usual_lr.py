"""The learning rate that is usual for an optimizer: where to begin where nothing is known of a job."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from types import MappingProxyType

import torch

USUAL_LR: Mapping[type[torch.optim.Optimizer], float] = MappingProxyType(
    {
        torch.optim.SGD: 1e-1,
        torch.optim.Adagrad: 1e-2,
        torch.optim.Adadelta: 1.0,
        torch.optim.RMSprop: 1e-3,
        torch.optim.Adam: 1e-3,
        torch.optim.AdamW: 1e-3,
        torch.optim.NAdam: 1e-3,
        torch.optim.RAdam: 1e-3,
        torch.optim.Adamax: 1e-3,
    }
)
"""A default that trains most small networks, by class."""
WITH_MOMENTUM = 3e-2
"""Of `torch.optim.SGD` with momentum, which multiplies its steps."""


def usual_lr(optimizer: type[torch.optim.Optimizer], momentum: float = 0.0) -> float:
    """The usual learning rate of an optimizer; NaN of one that is not known.

    Args:
        optimizer: Its class; a subclass has the learning rate of the class that it was made from.
        momentum: What it starts with, in [0, 1).
    """
    for cls in optimizer.__mro__:
        if cls in USUAL_LR:
            return WITH_MOMENTUM if cls is torch.optim.SGD and momentum > 0 else USUAL_LR[cls]
    return nan
