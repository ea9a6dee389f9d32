"""Many small networks of one shape, with weights of their own, that act in one batched pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from rl_tuner.errors import ConfigError

Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]


class FlatMLP:
    """A feed-forward tanh network whose weights lie in one vector, layer by layer.

    Args:
        widths: Inputs, units of each hidden layer, outputs.

    Attributes:
        size: Number of weights and biases, n.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        self.shapes = [(out, into) for into, out in pairwise(widths)]
        self.size = sum(out * (into + 1) for out, into in self.shapes)

    def layers(self, weights: torch.Tensor) -> Layers:
        """(weight (…, out, in), bias (…, out)) of each layer: views of weights of shape (…, n)."""
        counts = [count for out, into in self.shapes for count in (out * into, out)]
        parts = torch.split_with_sizes(weights, counts, dim=-1)
        batch = weights.shape[:-1]
        matrices = [part.view(*batch, *shape) for part, shape in zip(parts[::2], self.shapes, strict=True)]
        return list(zip(matrices, parts[1::2], strict=True))

    def initial(self, seed: int) -> torch.Tensor:
        """Weights to start from, shape (n,): as an actor of Stable-Baselines3, near-zero outputs.

        Orthogonal, of gain √2 and in the last layer 0.01; biases are 0.
        """
        generator = torch.Generator().manual_seed(seed)
        weights = torch.zeros(self.size)
        layers = self.layers(weights)
        for number, (weight, _) in enumerate(layers, 1):
            gain = 0.01 if number == len(layers) else np.sqrt(2)
            torch.nn.init.orthogonal_(weight, gain, generator)
        return weights


def forward(layers: Layers, inputs: torch.Tensor) -> torch.Tensor:
    """Each network's outputs for an input of its own.

    Args:
        layers: (weight (N, out, in), bias (N, out)) of each layer, from first to last.
        inputs: Shape (N, in).

    Returns:
        Shape (N, out of the last layer).
    """
    x = inputs.unsqueeze(1)
    for number, (weight, bias) in enumerate(layers, 1):
        x = torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
        if number < len(layers):
            x = x.tanh()
    return x.squeeze(1)


class ActionHead:
    """A network's outputs as actions: a Box's values, clipped to it, or the likeliest choices.

    Args:
        space: Box, Discrete or MultiDiscrete.

    Attributes:
        outputs: How many a network needs.

    Raises:
        ConfigError: The space is of another kind.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        if isinstance(space, spaces.Discrete):
            self._counts, self._start = np.array([space.n]), np.array([space.start])
        elif isinstance(space, spaces.MultiDiscrete):
            self._counts, self._start = space.nvec.reshape(-1), space.start.reshape(-1)
        elif isinstance(space, spaces.Box):
            self._counts = np.ones(int(np.prod(space.shape)), np.int64)
        else:
            raise ConfigError(f"actions must be Box, Discrete or MultiDiscrete, got {space}")
        self._space = space
        self.outputs = int(self._counts.sum())

    def actions(self, outputs: torch.Tensor) -> NDArray[Any]:
        """Actions, shape (N, *action shape), for outputs of shape (N, outputs)."""
        values, space = outputs.numpy(), self._space
        actions: NDArray[Any]
        if isinstance(space, spaces.Box):
            actions = np.clip(values.reshape(-1, *space.shape), space.low, space.high).astype(space.dtype)
            return actions
        logits = np.split(values, np.cumsum(self._counts)[:-1], axis=-1)
        actions = np.stack([each.argmax(-1) for each in logits], axis=-1) + self._start
        return actions.astype(np.int64).reshape(-1, *(space.shape or ()))
