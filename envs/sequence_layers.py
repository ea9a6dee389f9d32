"""The layers of sequence models: parts of `rl_tuner.envs.models` that torch has not in a form that stacks.

Those without parameters index dimensions from the last one on: they run stacked networks as they run one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl_tuner.config import require_counts
from rl_tuner.errors import ConfigError, JobError


class GRU(nn.Module):
    """``nn.GRU(inputs, hidden, batch_first=True)``'s outputs, parameters and initial weights.

    Equations of Cho et al. 2014 as torch.nn.GRU writes them: reset gate r, update gate z, candidate
    n = tanh(W_in x + b_in + r · (W_hn h + b_hn)) and h' = (1 − z) · n + z · h, from h = 0.

    Args:
        inputs: Size of what is given at each position.
        hidden: Size of the state.

    Raises:
        ConfigError: One is below 1.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        require_counts({"inputs": inputs, "hidden": hidden})
        self.weight_ih_l0 = nn.Parameter(torch.empty(3 * hidden, inputs))
        self.weight_hh_l0 = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.bias_ih_l0 = nn.Parameter(torch.empty(3 * hidden))
        self.bias_hh_l0 = nn.Parameter(torch.empty(3 * hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))

    def forward(self, x: Tensor) -> Tensor:
        """The states after each position, (n, T, hidden), for inputs of shape (n, T, inputs)."""
        state = torch.zeros(len(x), self.weight_hh_l0.shape[1], dtype=x.dtype, device=x.device)
        states = []
        # One product for all positions; unbind, because the gradient of x[:, t] is as large as x for each t.
        for given in functional.linear(x, self.weight_ih_l0, self.bias_ih_l0).unbind(1):
            given_r, given_z, given_n = given.chunk(3, 1)
            own_r, own_z, own_n = functional.linear(state, self.weight_hh_l0, self.bias_hh_l0).chunk(3, 1)
            new = (given_n + (given_r + own_r).sigmoid() * own_n).tanh()
            state = new + (given_z + own_z).sigmoid() * (state - new)
            states.append(state)
        return torch.stack(states, 1)


class Attention(nn.Module):
    """Self-attention by heads (Vaswani et al. 2017), with ``nn.MultiheadAttention``'s parameters and init.

    The softmax is written out: torch's fused kernel has no batching rule on the CPU, and is no faster here.

    Args:
        width: Size of inputs and outputs, a multiple of `heads`.
        heads: Parts of the width that attend on their own.
        causal: Each position sees itself and those before it only.

    Raises:
        ConfigError: `width` is no multiple of `heads`, or one is below 1.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        require_counts({"width": width, "heads": heads})
        if width % heads:
            raise ConfigError(f"width must be a multiple of heads = {heads}, got {width}")
        self.heads, self.causal = heads, causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of shape (n, T, width) for inputs of that shape."""
        size = x.shape[-1] // self.heads
        projected = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        # (n, T, 3 · width) → queries, keys and values of shape (n, heads, T, size)
        query, key, value = projected.reshape(*x.shape[:2], 3, -1, size).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (query / math.sqrt(size)) @ key.transpose(-2, -1)
        if self.causal:
            barred = torch.full(scores.shape[-2:], -math.inf, dtype=x.dtype, device=x.device)
            scores = scores + barred.triu(1)
        mixed = scores.softmax(-1) @ value
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class Positions(nn.Module):
    """Adds a learned vector for each position, standard normal at first, like `nn.Embedding`'s."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(length, width))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of shape (n, T, width) for inputs of that shape.

        Raises:
            JobError: The sequence is longer than there are positions.
        """
        require_positions(x, self.weight)
        return x + self.weight[: x.shape[1]]


def require_positions(x: Tensor, weight: Tensor) -> None:
    """Checks that sequences (..., T, width) are no longer than positions (..., length, width).

    Raises:
        JobError: They are.
    """
    if x.shape[-2] > weight.shape[-2]:
        raise JobError(f"a sequence of {x.shape[-2]} tokens is longer than length = {weight.shape[-2]}")


class Last(nn.Module):
    """The last position: (n, T, width) → (n, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x[..., -1, :]


class Mean(nn.Module):
    """The mean over positions: (n, T, width) → (n, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x.mean(-2)


class ClassesFirst(nn.Module):
    """Scores of every position as `cross_entropy` wants them: (n, T, classes) → (n, classes, T)."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x.transpose(-1, -2)
