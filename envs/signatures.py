"""What two networks must share to be rows of one stack."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from dataclasses import fields
from enum import Enum
from functools import cached_property
from types import FunctionType
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from rl_tuner.envs.stacked_layers import DROPOUTS

_STANDARD = frozenset(vars(nn.Module()))
"""What every module holds, besides its own settings."""


def signature(module: nn.Module) -> Hashable:
    """Classes, settings, shapes, buffers and what is shared within a network, but not its weights.

    Dropout rates of the layers in `DROPOUTS` do not count. Plain values, enum members and frozen dataclasses
    are compared by value; other settings (objects, say) are equal only if they are the same object.
    """
    return _signature(module, {})


def _signature(module: nn.Module, seen: dict[int, int]) -> Hashable:
    """As `signature`; `seen` numbers the modules and parameters met so far, by id."""
    if id(module) in seen:
        return seen[id(module)]
    seen[id(module)] = len(seen)
    settings = tuple(
        (name, _setting(value))
        for name, value in sorted(vars(module).items())
        if name not in _STANDARD and not (name == "p" and type(module) in DROPOUTS)
    )
    parameters = tuple((name, _parameter(p, seen)) for name, p in module._parameters.items())
    buffers = tuple((name, None if b is None else _content(b)) for name, b in module._buffers.items())
    # Not named_children(): it leaves out what stands there for the second time.
    children = tuple((name, m and _signature(m, seen)) for name, m in module._modules.items())
    return _kind(module), settings, parameters, buffers, children


def _kind(module: nn.Module) -> Hashable:
    """The module's class; a parametrized module has one of its own, made for it."""
    if parametrize.is_parametrized(module):
        return "parametrized", parametrize.type_before_parametrizations(module)
    return cast(Hashable, type(module))


def _parameter(p: nn.Parameter | None, seen: dict[int, int]) -> Hashable:
    if p is None:
        return None
    return seen.setdefault(id(p), len(seen)), p.shape, p.dtype


def _content(values: torch.Tensor) -> Hashable:
    """Shape, type and a digest of the values."""
    data = values.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
    return values.shape, values.dtype, hashlib.sha256(data).digest()


def _setting(value: Any) -> Hashable:
    if isinstance(value, torch.Tensor):
        return _content(value)
    if isinstance(value, tuple | list):
        return type(value), *(_setting(v) for v in value)
    if isinstance(value, dict):
        return dict, *((_setting(k), _setting(v)) for k, v in value.items())
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype):
        return type(value), value
    if isinstance(value, FunctionType) and value.__closure__ is None:
        return value.__code__, _setting(value.__defaults__), _setting(value.__kwdefaults__), value.__module__
    if isinstance(value, Enum):
        return type(value), value.name, _setting(value.value)
    if getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False):
        return type(value), *((name, _setting(getattr(value, name, None))) for name in _attributes(value))
    return _Same(value)


def _attributes(value: Any) -> Iterator[str]:
    """Names of a dataclass's fields, and of what else was set on it; what it caches follows from these."""
    names = [field.name for field in fields(value)]
    yield from names
    for name in sorted({*getattr(value, "__dict__", ())} - {*names}):
        if not isinstance(getattr(type(value), name, None), cached_property):
            yield name


class _Same:
    """Equals only what holds the same object, and keeps that alive: no later one can come by its id."""

    __slots__ = ("_held",)

    def __init__(self, held: object) -> None:
        self._held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._held is self._held

    def __hash__(self) -> int:
        return id(self._held)
