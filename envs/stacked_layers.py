"""Many copies of a module as one function: rules for common layers, `torch.func.vmap` for the rest.

The rules exist because they cost a fifth of a mapped layer's time per call, which counts when networks are
small.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.func import functional_call, vmap

from rl_tuner.envs.dropout import Drop, RowDropout
from rl_tuner.envs.joint_layers import Joint
from rl_tuner.envs.leaf_rules import leaf_rule

Parameters: TypeAlias = Sequence[torch.Tensor]
"""All stacked parameters of the model, (R, *shape) each, in module order."""
Layer: TypeAlias = Callable[[Parameters, torch.Tensor, Drop | None], torch.Tensor]
"""(parameters, inputs (R, m, ...), dropout or None for none) → outputs (R, m, ...)."""

DROPOUTS: dict[type[nn.Module], int] = {nn.Dropout: 0, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}
"""Dropout layers that can be tuned row by row, and how many trailing dimensions share a mask."""


class Builder:
    """Turns a module into a `Layer`.

    Args:
        numbers: Number of each parameter in module order, by its id.
        dropouts: The model's dropout layers in module order.
    """

    def __init__(self, numbers: Mapping[int, int], dropouts: Sequence[nn.Module]) -> None:
        self._numbers, self._dropouts = numbers, list(dropouts)
        # A dropout layer may stand at several places of a model: each place has masks of its own.
        self._places = itertools.count()

    def build(self, module: nn.Module) -> Layer:
        """The layer that does for stacked rows what the module does for one."""
        if "forward" in vars(module):  # it replaces the class's own
            return self._mapped(module)
        if isinstance(module, nn.Sequential) and type(module) is nn.Sequential:
            return _chain([self.build(child) for child in module])
        if isinstance(module, Joint) and type(module).forward is Joint.forward:
            return _joint(module, [self.build(branch) for branch in module.branches])
        if type(module) in DROPOUTS:
            return _dropout(self._dropouts.index(module), next(self._places), DROPOUTS[type(module)])
        return self._ruled(module) or self._mapped(module)

    def _ruled(self, module: nn.Module) -> Layer | None:
        """By the rule of the module's class, if it has one that fits."""
        leaf = leaf_rule(module)
        own = [getattr(module, name, None) for name in ("weight", "bias")]
        if leaf is None or any(p is not None and id(p) not in self._numbers for p in own):
            return None
        weight, bias = (None if p is None else self._numbers[id(p)] for p in own)

        def layer(parameters: Parameters, x: torch.Tensor, _dropout: Drop | None) -> torch.Tensor:
            w, b = (None if number is None else parameters[number] for number in (weight, bias))
            return leaf(x, w, b)

        return layer

    def _mapped(self, module: nn.Module) -> Layer:
        """The module itself, mapped over the rows."""
        names = [name for name, _ in module.named_parameters()]
        numbers = [self._numbers[id(p)] for _, p in module.named_parameters()]
        shell = self._with_row_dropout(module)
        inside = [(name, m) for name, m in shell.named_modules() if isinstance(m, RowDropout)]
        rates = [self._dropouts.index(module.get_submodule(name)) for name, _ in inside]

        def one(weights: tuple[torch.Tensor, ...], noise: dict[str, torch.Tensor], x: torch.Tensor) -> Any:
            return functional_call(shell, (dict(zip(names, weights, strict=True)), noise), (x,))

        mapped = vmap(one)

        def layer(parameters: Parameters, x: torch.Tensor, dropout: Drop | None) -> torch.Tensor:
            noise = {}
            if dropout is not None:
                for (name, stand_in), number in zip(inside, rates, strict=True):
                    stand_in.uses = 0
                    noise[f"{name}.rate"] = dropout.rates[:, number]
                    noise[f"{name}.keys"] = dropout.keys
            outputs: torch.Tensor = mapped(tuple(parameters[i] for i in numbers), noise, x)
            return outputs

        return layer

    def _with_row_dropout(self, module: nn.Module) -> nn.Module:
        """A copy with a `RowDropout` for each dropout layer."""
        # deepcopy looks ids up in its memo: the stand-ins take the layers' places in the copy.
        stand_ins = {id(m): RowDropout(next(self._places), DROPOUTS[type(m)]) for m in self._dropouts}
        return copy.deepcopy(module, dict[int, Any](stand_ins))


def _chain(layers: Sequence[Layer]) -> Layer:
    def chain(parameters: Parameters, x: torch.Tensor, dropout: Drop | None) -> torch.Tensor:
        for layer in layers:
            x = layer(parameters, x, dropout)
        return x

    return chain


def _joint(module: Joint, branches: Sequence[Layer]) -> Layer:
    def at(branch: Layer, parameters: Parameters, dropout: Drop | None) -> Callable[..., torch.Tensor]:
        return lambda x: branch(parameters, x, dropout)

    def joint(parameters: Parameters, x: torch.Tensor, dropout: Drop | None) -> torch.Tensor:
        return module.join(x, [at(branch, parameters, dropout) for branch in branches])

    return joint


def _dropout(number: int, place: int, shared: int) -> Layer:
    def layer(_parameters: Parameters, x: torch.Tensor, dropout: Drop | None) -> torch.Tensor:
        return x if dropout is None else dropout.apply(x, number, place, shared)

    return layer
