"""Which networks share a group: equal signatures, the same function of parameters and inputs."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, Flag
from functools import cached_property
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from rl_tuner.envs.models import cnn, gru, mlp, transformer
from rl_tuner.envs.signatures import signature

Make = Callable[[], nn.Module]


class Holder(nn.Module):
    """Holds a setting of any kind."""

    def __init__(self, value: Any, name: str = "value") -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        setattr(self, name, value)


class Other(Holder):
    pass


@dataclass(frozen=True)
class Sizes:
    widths: list[int]
    act: type[nn.Module] = nn.ReLU

    @cached_property
    def total(self) -> int:
        return sum(self.widths)


class MoreSizes(Sizes):
    pass


@dataclass(frozen=True, slots=True)
class Few:
    count: int


@dataclass
class Open:
    width: int


class Norm(Enum):
    BEFORE = (1, "norm")
    AFTER = (2, "norm")


class Where(Flag):
    HERE = 1
    THERE = 2


def extended(by: int) -> Sizes:
    sizes = Sizes([3])
    object.__setattr__(sizes, "more", by)
    return sizes


class Positive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.softplus(x)


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square()


def buffered(value: Tensor) -> nn.Module:
    module = nn.Linear(3, 2)
    module.register_buffer("table", value)
    return module


def parametrized(way: nn.Module, name: str = "weight") -> nn.Module:
    module = nn.Linear(3, 2)
    parametrize.register_parametrization(module, name, way)
    return module


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight  # type: ignore[assignment]
    return module


def repeated(times: int) -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(*[layer] * times)


MADE_ANEW: dict[str, Make] = {
    "mlp": lambda: mlp(4, (3, 5), 2, 0.1),
    "cnn": lambda: cnn((1, 4, 4), (4,), 2),
    "gru": lambda: gru(5, 2),
    "transformer": lambda: transformer(5, 4, 2, 8, 2),
    "plain settings": lambda: Holder([1, 2.5, None, "a", (True, {"b": torch.float64})]),
    "tensors": lambda: Holder(torch.arange(3.0)),
    "empty tensors": lambda: Holder(torch.zeros(0, 2)),
    "classes": lambda: Holder(nn.ReLU),
    "functions of torch": lambda: Holder(functional.relu),
    "functions without surroundings": lambda: Holder(lambda x, by=2: x * by),
    "buffers": lambda: buffered(torch.tensor([1.0, -2.0])),
    "other buffers": lambda: nn.Sequential(buffered(torch.tensor(3)), buffered(torch.tensor([True]))),
    "frozen dataclasses": lambda: Holder([Sizes([3, 4]), Few(2), extended(1)]),
    "classes of frozen dataclasses": lambda: Holder(Few),
    "enum members": lambda: Holder([Norm.AFTER, Where.HERE | Where.THERE]),
    "no bias": lambda: nn.Linear(3, 2, bias=False),
    "tied weights": tied,
    "repeated layers": lambda: repeated(3),
    "parametrized": lambda: parametrized(Positive()),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE_ANEW)
def test_networks_made_alike_share_a_signature_whatever_their_weights(name: str) -> None:
    first, second = MADE_ANEW[name](), MADE_ANEW[name]()
    assert not torch.equal(next(first.parameters()), next(second.parameters()))
    assert signature(first) == signature(second)
    assert hash(signature(first)) == hash(signature(second))
    assert signature(copy.deepcopy(first)) == signature(first)


def test_dropout_rates_and_modes_do_not_count() -> None:
    assert signature(mlp(4, (3,), 2, 0.1)) == signature(mlp(4, (3,), 2, 0.5).eval())


def scaling(factor: int) -> Callable[[Tensor], Tensor]:
    def scale(x: Tensor, by: int = factor) -> Tensor:
        return x * by

    return scale


def closure(by: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x * by


DIFFERENT: dict[str, tuple[Make, Make]] = {
    "widths": (lambda: mlp(4, (3,), 2), lambda: mlp(4, (5,), 2)),
    "depths": (lambda: mlp(4, (3,), 2), lambda: mlp(4, (3, 3), 2)),
    "dropout or none": (lambda: mlp(4, (3,), 2, 0.0), lambda: mlp(4, (3,), 2)),
    "layers": (lambda: nn.Sequential(nn.ReLU()), lambda: nn.Sequential(nn.Tanh())),
    "settings": (lambda: nn.LeakyReLU(0.1), lambda: nn.LeakyReLU(0.2)),
    "strides": (lambda: nn.Conv2d(1, 1, 3), lambda: nn.Conv2d(1, 1, 3, stride=2)),
    "types": (lambda: mlp(4, (3,), 2), lambda: mlp(4, (3,), 2).double()),
    "biases": (lambda: nn.Linear(3, 2), lambda: nn.Linear(3, 2, bias=False)),
    "classes": (lambda: Holder(1), lambda: Other(1)),
    "values of other types": (lambda: Holder(1), lambda: Holder(True)),
    "names of settings": (lambda: Holder(1), lambda: Holder(1, "other")),
    "settings called p": (lambda: Holder(0.1, "p"), lambda: Holder(0.2, "p")),
    "lists": (lambda: Holder([1, [2]]), lambda: Holder([1, [3]])),
    "mappings": (lambda: Holder({"a": 1}), lambda: Holder({"a": 2})),
    "buffers' contents": (lambda: buffered(torch.zeros(2)), lambda: buffered(torch.ones(2))),
    "buffers' shapes": (lambda: buffered(torch.zeros(2, 1)), lambda: buffered(torch.zeros(1, 2))),
    "tensors' contents": (lambda: Holder(torch.zeros(2)), lambda: Holder(torch.ones(2))),
    "functions": (lambda: Holder(lambda x: x + 1), lambda: Holder(lambda x: x + 2)),
    "defaults": (lambda: Holder(scaling(1)), lambda: Holder(scaling(2))),
    "surroundings of functions": (lambda: Holder(closure(1)), lambda: Holder(closure(2))),
    "objects": (lambda: Holder(object()), lambda: Holder(object())),
    "frozen dataclasses": (lambda: Holder(Sizes([3])), lambda: Holder(Sizes([4]))),
    "frozen dataclasses with slots": (lambda: Holder(Few(1)), lambda: Holder(Few(2))),
    "values within dataclasses of other types": (lambda: Holder(Few(1)), lambda: Holder(Few(True))),
    "classes of dataclasses": (lambda: Holder(Sizes([3])), lambda: Holder(MoreSizes([3]))),
    "what was set on dataclasses": (lambda: Holder(extended(1)), lambda: Holder(extended(2))),
    "dataclasses that may change": (lambda: Holder(Open(1)), lambda: Holder(Open(1))),
    "enum members": (lambda: Holder(Norm.BEFORE), lambda: Holder(Norm.AFTER)),
    "flags": (lambda: Holder(Where.HERE), lambda: Holder(Where.HERE | Where.THERE)),
    "tied or not": (tied, lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))),
    "how often a layer stands there": (lambda: repeated(2), lambda: repeated(3)),
    "where a layer stands again": (
        lambda: again([0, 1, 0, 1]),
        lambda: again([0, 1, 1, 0]),
    ),
    "parametrized or not": (lambda: parametrized(Positive()), lambda: nn.Linear(3, 2)),
    "parametrizations": (lambda: parametrized(Positive()), lambda: parametrized(Square())),
    "what is parametrized": (lambda: parametrized(Positive()), lambda: parametrized(Positive(), "bias")),
    "cnns": (lambda: cnn((1, 8, 8), (4,), 10), lambda: cnn((1, 8, 8), (4,), 9)),
}  # fmt: skip


def again(order: list[int]) -> nn.Module:
    layers = nn.Linear(3, 3), nn.Linear(3, 3)
    return nn.Sequential(*(layers[i] for i in order))


@pytest.mark.parametrize("name", DIFFERENT)
def test_networks_that_may_compute_different_functions_do_not_share_a_signature(name: str) -> None:
    first, second = (make() for make in DIFFERENT[name])
    assert signature(first) != signature(second)


def test_an_object_is_kept_alive_so_that_no_later_one_can_be_taken_for_it() -> None:
    kept = [signature(Holder(object())) for _ in range(200)]
    gc.collect()
    assert all(signature(Holder(object())) not in kept for _ in range(200))


def test_what_a_frozen_dataclass_caches_does_not_count() -> None:
    sizes = Sizes([3, 4])
    before = signature(Holder(sizes))
    assert sizes.total == 7
    assert signature(Holder(sizes)) == before
