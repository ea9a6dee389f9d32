"""Averages of weights along training: what a network is judged by beside the weights themselves.

Weights that still move at a high learning rate circle around a better point than any they stop at; their mean
is nearer to it (Polyak and Juditsky, 1992; Izmailov et al., 2018, for neural networks). So the model with the
lowest validation loss may be either of the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

DECAY = 8.0
"""Of polynomial-decay averaging: about the last ``1 / (1 + DECAY)`` of all updates count."""


def newest_share(update: Any) -> Any:
    """How much the newest weights count in the average, in (0, 1].

    ``(DECAY + 1) / (t + DECAY)`` at update t: polynomial-decay averaging (Shamir and Zhang, 2013, section
    4). It needs to know no budget: at any time the average is over the same share of the training so far.

    Args:
        update: t, counted from 1; a number, or a tensor.
    """
    return (DECAY + 1) / (update + DECAY)


class WeightAverage:
    """The average of a live model's tensors, buffers of numbers included; others are taken as they are.

    Args:
        tensors: The live tensors. They must stay the same objects.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        # Themselves, not views: whoever replaces a parameter's data is followed.
        self._live = list(tensors)
        self._updates = 0
        self._take(self._live)

    @torch.no_grad()
    def update(self) -> None:
        """Takes the weights in after one more update of theirs."""
        self._updates += 1
        torch._foreach_lerp_(self._moving, self._sources, newest_share(self._updates))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The live tensors hold the average inside of the block, and afterwards what they held before."""
        with torch.no_grad():
            live = [t.detach().clone() for t in self._live]
            _copy(self._live, self.tensors())
        try:
            yield
        finally:
            with torch.no_grad():
                _copy(self._live, live)

    def tensors(self) -> list[torch.Tensor]:
        """The average, in the order of the tensors given; to be read only, until the next update."""
        return [live if mean is None else mean for live, mean in zip(self._live, self._means, strict=True)]

    def get_state(self) -> tuple[int, list[torch.Tensor]]:
        """The number of updates and the averages, copied; `set_state` continues from them."""
        return self._updates, [t.detach().clone() for t in self.tensors()]

    def set_state(self, state: tuple[int, Sequence[torch.Tensor]]) -> None:
        """Continues from what `get_state` gave."""
        self._updates = state[0]
        self._take(state[1])

    def _take(self, means: Sequence[torch.Tensor]) -> None:
        """Begins with a copy of these averages; None stands for a tensor that has none."""
        averaged = [m.is_floating_point() or m.is_complex() for m in means]
        self._means = [m.detach().clone() if has else None for m, has in zip(means, averaged, strict=True)]
        self._moving = [m for m in self._means if m is not None]
        self._sources = [t for t, m in zip(self._live, self._means, strict=True) if m is not None]


def _copy(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        if target is not source:
            target.copy_(source)
