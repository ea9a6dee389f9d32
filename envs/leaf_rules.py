"""Forward rules of single layers for stacked rows: each row of the stack has weights of its own.

A rule turns a layer into a function of inputs (R, m, ...), m samples a row, and of its weight and bias,
stacked: (R, *shape) each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from rl_tuner.envs.joint_layers import Dot, Offset, Total
from rl_tuner.envs.sequence_layers import ClassesFirst, Last, Mean, Positions, require_positions

Leaf: TypeAlias = Callable[[torch.Tensor, Any, Any], torch.Tensor]
"""(inputs (R, m, ...), stacked weight or None, stacked bias or None) → outputs (R, m, ...)."""
Rule: TypeAlias = Callable[[Any], Leaf | None]
"""Layer → its function, or None if the rule does not cover the layer's settings."""


def leaf_rule(module: nn.Module) -> Leaf | None:
    """A layer's function; None if there is no rule for its class and settings."""
    rule = _RULES.get(type(module))
    return None if rule is None else rule(module)


def _elementwise(module: nn.Module) -> Leaf:
    """Of a layer to which it is all the same how many dimensions stand in front."""

    def leaf(x: torch.Tensor, _weight: None, _bias: None) -> torch.Tensor:
        out: torch.Tensor = module(x)
        return out

    return leaf


def _linear(_module: nn.Linear) -> Leaf:
    """W xᵀ rather than x Wᵀ: the weights' gradient then comes out in the weights' own layout."""

    def leaf(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        columns = (x if x.ndim == 3 else x.flatten(1, -2)).mT
        if bias is None:
            out = torch.bmm(weight, columns).mT
        else:
            out = torch.baddbmm(bias.unsqueeze(2), weight, columns).mT
        return out if x.ndim == 3 else torch.unflatten(out, 1, x.shape[1:-1])

    return leaf


def _channels_joined(x: torch.Tensor) -> torch.Tensor:
    """(R, m, C, ...) as (m, R C, ...): the rows' channels side by side.

    Images' channels also become neighbours in memory (channels_last): on a CPU convolutions and pooling of
    many narrow images are then twice as fast.
    """
    joined = x.transpose(0, 1).flatten(1, 2)
    return joined.contiguous(memory_format=torch.channels_last) if x.ndim == 5 else joined


def _channels_split(x: torch.Tensor, rows: int) -> torch.Tensor:
    """The inverse of `_channels_joined`."""
    return torch.unflatten(x, 1, (rows, -1)).transpose(0, 1)


def _pooling(dims: int) -> Rule:
    """The rule of layers that pool over the last one or two dimensions."""

    def rule(module: nn.Module) -> Leaf | None:
        if getattr(module, "return_indices", False):
            return None

        def leaf(x: torch.Tensor, _weight: None, _bias: None) -> torch.Tensor:
            if x.ndim == dims + 3:
                return _channels_split(module(_channels_joined(x)), len(x))
            return torch.unflatten(module(x.flatten(0, 1)), 0, x.shape[:2])  # samples without channels

        return leaf

    return rule


def _conv(convolve: Callable[..., torch.Tensor]) -> Rule:
    """The rule of convolutions: a single one in which each row is a group of channels."""

    def rule(module: nn.Conv1d | nn.Conv2d) -> Leaf | None:
        if module.padding_mode != "zeros":
            return None
        stride, padding, dilation, groups = module.stride, module.padding, module.dilation, module.groups

        def leaf(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            rows, w, b = len(x), weight.flatten(0, 1), None if bias is None else bias.flatten()
            out = convolve(_channels_joined(x), w, b, stride, padding, dilation, rows * groups)
            return _channels_split(out, rows)

        return leaf

    return rule


def _group_norm(module: nn.GroupNorm) -> Leaf:
    """One norm in which each row has groups of its own."""

    def leaf(x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        rows, w, b = len(x), *(None if p is None else p.flatten() for p in (weight, bias))
        joined = _channels_joined(x)
        if torch.is_grad_enabled() and not x.requires_grad:
            joined = joined.contiguous()  # torch's backward pass crashes on channels_last data (seen in 2.13)
        out = functional.group_norm(joined, rows * module.num_groups, w, b, module.eps)
        return _channels_split(out, rows)

    return leaf


def _layer_norm(module: nn.LayerNorm) -> Leaf:
    shape, eps = module.normalized_shape, module.eps

    def leaf(x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        out = functional.layer_norm(x, shape, eps=eps)
        own = (len(x), *([1] * (x.ndim - 1 - len(shape))), *shape)
        if weight is not None:
            out = out * weight.view(own)
        return out if bias is None else out + bias.view(own)

    return leaf


def _embedding(module: nn.Embedding) -> Leaf | None:
    """One table in which each row has a range of its own."""
    if module.padding_idx is not None or module.max_norm is not None:
        return None
    if module.scale_grad_by_freq or module.sparse:
        return None
    size = module.num_embeddings

    def leaf(x: torch.Tensor, weight: torch.Tensor, _bias: None) -> torch.Tensor:
        first = torch.arange(0, len(x) * size, size, device=x.device).view(-1, *([1] * (x.ndim - 1)))
        # A number out of range must not reach into the next row's table: -1 is an error, as it is alone.
        index = torch.where((x >= 0) & (x < size), x + first, -1)
        return functional.embedding(index, weight.flatten(0, 1))

    return leaf


def _positions(_module: Positions) -> Leaf:
    def leaf(x: torch.Tensor, weight: torch.Tensor, _bias: None) -> torch.Tensor:
        require_positions(x, weight)
        return x + weight[:, None, : x.shape[-2]]

    return leaf


def _offset(_module: Offset) -> Leaf:
    return lambda x, _weight, bias: x + bias.view(-1, *([1] * (x.ndim - 1)))


def _flatten(module: nn.Flatten) -> Leaf:
    start, end = (d + 1 if d >= 0 else d for d in (module.start_dim, module.end_dim))
    return lambda x, _weight, _bias: x.flatten(start, end)


def _unflatten(module: nn.Unflatten) -> Leaf | None:
    given: object = module.dim
    if not isinstance(given, int):
        return None
    dim, sizes = given + 1 if given >= 0 else given, module.unflattened_size
    return lambda x, _weight, _bias: torch.unflatten(x, dim, sizes)


_RULES: dict[type[nn.Module], Rule] = {
    nn.Identity: _elementwise,
    nn.ReLU: _elementwise,
    nn.LeakyReLU: _elementwise,
    nn.ELU: _elementwise,
    nn.GELU: _elementwise,
    nn.SiLU: _elementwise,
    nn.Tanh: _elementwise,
    nn.Sigmoid: _elementwise,
    nn.Softplus: _elementwise,
    nn.Hardtanh: _elementwise,
    nn.MaxPool1d: _pooling(1),
    nn.AvgPool1d: _pooling(1),
    nn.AdaptiveAvgPool1d: _pooling(1),
    nn.MaxPool2d: _pooling(2),
    nn.AvgPool2d: _pooling(2),
    nn.AdaptiveAvgPool2d: _pooling(2),
    nn.Linear: _linear,
    nn.Conv1d: _conv(functional.conv1d),
    nn.Conv2d: _conv(functional.conv2d),
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
    nn.Flatten: _flatten,
    nn.Unflatten: _unflatten,
    Positions: _positions,
    Last: _elementwise,
    Mean: _elementwise,
    ClassesFirst: _elementwise,
    Dot: _elementwise,
    Total: _elementwise,
    Offset: _offset,
}
