"""What may be stacked and what is refused: strangers' modules of every sort."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

from rl_tuner.envs.models import cnn, gru, mlp, transformer
from rl_tuner.envs.signatures import signature
from rl_tuner.envs.stacked import StackedModel
from rl_tuner.errors import JobError
from rl_tuner.seeding import torch_seed
from tests.stacking import numbers, tokens

WIDTH, TOKENS, LENGTH = 6, 5, 4


class Own(nn.Module):
    """A linear layer, and a function of (module, its outputs) of one's own after it."""

    def __init__(self, after: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(WIDTH, WIDTH), nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(WIDTH))
        self.register_buffer("seen", torch.zeros(()))
        self.after, self.calls, self.log = after, 0, []

    def forward(self, x: Tensor) -> Any:
        return self.after(self, self.linear(x) * self.scale)


class Zero(nn.Module):
    """Mixes samples by a weight that is zero at first, and so is its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.gate = nn.Linear(WIDTH, 3), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x + self.gate.square() * x.mean(0))
        return out


class TwoInputs(nn.Linear):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x + y)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x).tanh())
        return out


class Drawing(nn.Module):
    """Adds noise from generators other than torch's."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self.linear, self.draw = nn.Linear(WIDTH, 3), draw

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x) + self.draw()
        return out


def count(m: Any, x: Tensor) -> Tensor:
    m.calls += 1
    return x


def note(m: Any, x: Tensor) -> Tensor:
    m.log.append(1)
    return x


def see(m: Any, x: Tensor) -> Tensor:
    m.seen += 1
    return x


def grow(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.linear.bias.add_(0.01)
    return x


def write_in_place(m: Any, x: Tensor) -> Tensor:
    return x.mul_(2.0).relu_()


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch_seed(0):
        return make()


def check(make: Callable[[], nn.Module], inputs: Tensor) -> None:
    module = seeded(make)
    StackedModel(module).check(module, inputs)


def floats(make: Callable[[], nn.Module]) -> tuple[Callable[[], nn.Module], Tensor]:
    return make, numbers(4, WIDTH).float()


def own(after: Callable[[Any, Tensor], Any]) -> tuple[Callable[[], nn.Module], Tensor]:
    return floats(lambda: Own(after))


def chain(*layers: Callable[[], nn.Module]) -> tuple[Callable[[], nn.Module], Tensor]:
    return floats(lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), *(layer() for layer in layers)))


Case = tuple[Callable[[], nn.Module], Tensor]
TEXT = tokens(4, LENGTH, count=TOKENS)
IMAGES = numbers(4, 2, 6, 5).float()
STACKABLE: dict[str, Case] = {
    "mlp": floats(lambda: mlp(WIDTH, (8, 8), 3, 0.3)),
    "mlp for regression": floats(lambda: mlp(WIDTH, (8,), 1)),
    "mlp in double precision": (lambda: mlp(WIDTH, (8,), 3, 0.1).double(), numbers(4, WIDTH)),
    "mlp in half precision": (lambda: mlp(WIDTH, (8,), 3).bfloat16(), numbers(4, WIDTH).bfloat16()),
    "mlp, inputs in thousands": (lambda: mlp(WIDTH, (8,), 3), 1e4 * numbers(4, WIDTH).float()),
    "mlp, one sample": (lambda: mlp(WIDTH, (8,), 3), numbers(1, WIDTH).float()),
    "mlp, equal samples": (lambda: mlp(WIDTH, (8,), 3), torch.zeros(4, WIDTH)),
    "cnn, no norm": (lambda: cnn((1, 8, 8), (16, 32), 4, "none", 0.2), numbers(4, 64).float()),
    "cnn, group norm": (lambda: cnn((2, 6, 5), (8, 5), 3, "group", 0.1), IMAGES),
    "cnn, layer norm": (lambda: cnn((2, 6, 5), (8,), 3, "layer"), IMAGES),
    "cnn for regression": (lambda: cnn((2, 6, 5), (4,), 1, "none"), IMAGES),
    "gru": (lambda: gru(TOKENS, 3, 4, 7, 0.1), TEXT),
    "gru, every position": (lambda: gru(TOKENS, 3, 4, 7, predict_all=True), TEXT),
    "transformer": (lambda: transformer(TOKENS, LENGTH, 3, 8, 2, 2, 0.1), TEXT),
    "causal transformer": (
        lambda: transformer(TOKENS, LENGTH, 1, 8, 2, 1, 0.1, causal=True, predict_all=True),
        TEXT,
    ),
    "a module of one's own": own(lambda m, x: m.drop(torch.tanh(x))),
    "residual": own(lambda m, x: x + m.drop(m.linear(m.drop(x)))),
    "in place": own(write_in_place),
    "inputs written to": floats(lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(WIDTH, 3))),
    "views": own(lambda m, x: x.view(-1, 2, 3).transpose(1, 2)[:, 1:]),
    "buffers that stay": own(lambda m, x: x + m.seen),
    "tied weights": floats(Tied),
    "parametrized weights": chain(lambda: positive(nn.Linear(WIDTH, 3))),
    "dropped channels": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Dropout2d(), nn.Flatten(), nn.Linear(48, 3)),
        IMAGES,
    ),
    "zero at first": floats(lambda: zeroed(nn.Sequential(nn.Linear(WIDTH, 8), nn.Linear(8, 3)))),
}
MIXES = "a sample's outputs or gradients depend on the other samples"
CHANGES = "a forward pass changes it"
DRAWS = "it draws random numbers"
UNMAPPED = "cannot be mapped over rows"
OWN_PASS = "a forward or backward pass of its own fails"
REFUSED: dict[str, tuple[Case, str]] = {
    "batch norm": (chain(lambda: nn.BatchNorm1d(WIDTH)), f"{MIXES}|{CHANGES}"),
    "batch norm, no statistics": (
        chain(lambda: nn.BatchNorm1d(WIDTH, track_running_stats=False)),
        f"{MIXES}|{OWN_PASS}",
    ),
    "centred batch": (own(lambda m, x: x - x.mean(0)), MIXES),
    "centred batch, detached": (own(lambda m, x: x - x.mean(0).detach()), MIXES),
    "centred equal samples": ((lambda: Own(lambda m, x: x - x.mean(0)), torch.ones(4, WIDTH)), MIXES),
    "centred batch, one sample": ((lambda: Own(lambda m, x: x - x.mean(0)), torch.ones(1, WIDTH)), MIXES),
    "mixing, zero at first": (floats(Zero), MIXES),
    "reversed batch": (own(lambda m, x: x + x.flip(0)), MIXES),
    "softmax over the batch": (own(lambda m, x: x.softmax(0)), MIXES),
    "scaled by batch size": (own(lambda m, x: x * len(x)), MIXES),
    "token frequencies": ((lambda: nn.Embedding(TOKENS, 3, scale_grad_by_freq=True), TEXT), MIXES),
    "squeezed": (floats(lambda: nn.Sequential(nn.Linear(WIDTH, 1), Squeeze())), "must be one tensor"),
    "flattened batch": (chain(lambda: nn.Flatten(0)), "must be one tensor"),
    "mean over all": (own(lambda m, x: x.mean()), "must be one tensor"),
    "tuple": (own(lambda m, x: (x, x)), "must be one tensor.*got tuple"),
    "functional dropout": (own(lambda m, x: functional.dropout(x, 0.5, m.training)), DRAWS),
    "noise": (own(lambda m, x: x + torch.randn_like(x)), DRAWS),
    "numpy's noise": (floats(lambda: Drawing(lambda: np.random.rand())), DRAWS),  # noqa: NPY002
    "python's noise": (floats(lambda: Drawing(random.random)), DRAWS),
    "another function in training": (own(lambda m, x: x * (1 + m.training)), "works otherwise in evaluation"),
    "counter": (own(count), CHANGES),
    "log": (own(note), CHANGES),
    "buffer": (own(see), CHANGES),
    "weights changed": (own(grow), CHANGES),
    "an operation done row by row": (
        chain(lambda: parametrizations.weight_norm(nn.Linear(WIDTH, 3))),
        "cannot be mapped over rows: UserWarning",
    ),
    "max norm": ((lambda: nn.Embedding(TOKENS, 3, max_norm=0.1), TEXT), CHANGES),
    "spectral norm": (chain(lambda: parametrizations.spectral_norm(nn.Linear(WIDTH, 3))), CHANGES),
    "unused weights": (own(lambda m, x: m.linear.weight.sum(1) + torch.zeros_like(x)), "do not depend on"),
    "sparse gradients": ((lambda: nn.Embedding(TOKENS, 3, sparse=True), TEXT), "sparse"),
    "two inputs": (floats(lambda: TwoInputs(WIDTH, 3)), OWN_PASS),
    "no gradient": (own(lambda m, x: x.detach()), OWN_PASS),
    "wrong inputs": (floats(lambda: nn.Linear(WIDTH + 1, 3)), OWN_PASS),
    "a branch by value": (own(lambda m, x: x.tanh() if m.scale.sum() > 0 else x), UNMAPPED),
    "numpy inside": (own(lambda m, x: x * float(x.detach().numpy().shape[-1])), UNMAPPED),
    "dropout of weights": (own(lambda m, x: x @ m.drop(m.linear.weight)), "a dropout layer needs inputs"),
    "dropout by position": (own(lambda m, x: m.drop(x.T).T), "a dropout layer needs inputs"),
    "dropout in another order": (own(lambda m, x: m.drop(x.flip(0)).flip(0)), "rows of one sample"),
    "channels of vectors": (chain(nn.Dropout1d), "a dropout layer needs inputs"),
}  # fmt: skip


class Positive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.softplus(x)


def positive(module: nn.Module) -> nn.Module:
    parametrize.register_parametrization(module, "weight", Positive())
    return module


class Squeeze(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze()


def zeroed(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    return module


@pytest.mark.usefixtures("untouched_rng")
@pytest.mark.parametrize("name", STACKABLE)
def test_a_module_that_computes_sample_by_sample_may_be_stacked(name: str) -> None:
    check(*STACKABLE[name])


@pytest.mark.usefixtures("untouched_rng")
@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_a_stack_would_not_follow_is_refused_with_the_reason(name: str) -> None:
    case, reason = REFUSED[name]
    with pytest.raises(JobError, match=reason):
        check(*case)


def test_a_stack_that_computes_something_else_is_refused() -> None:
    module = seeded(lambda: mlp(WIDTH, (8,), 3))
    stacked = StackedModel(nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, 3)))
    with pytest.raises(JobError, match="differ when it is mapped over rows"):
        stacked.check(module, numbers(4, WIDTH).float())


@pytest.mark.parametrize(
    "name", ["mlp", "a module of one's own", "inputs written to", "counter", "buffer", "noise"]
)
def test_module_and_inputs_are_left_as_they_are(name: str) -> None:
    make, inputs = STACKABLE[name] if name in STACKABLE else REFUSED[name][0]
    module, given = seeded(make), inputs.clone()
    module.eval()
    for p in module.parameters():
        p.grad = torch.full_like(p, 7)
    before, weights = signature(module), copy.deepcopy(module.state_dict())
    try:
        StackedModel(module).check(module, given)
    except JobError:
        assert name in REFUSED
    assert signature(module) == before
    assert not module.training
    assert torch.equal(given, inputs)
    assert all(torch.equal(v, weights[k]) for k, v in module.state_dict().items())
    assert all((p.grad == 7).all() for p in module.parameters())
    assert all(m.p == 0.3 for m in module.modules() if name == "mlp" and isinstance(m, nn.Dropout))


def test_an_error_without_a_message_is_named_by_its_class() -> None:
    def fail(m: Any, x: Tensor) -> Tensor:
        raise KeyError

    with pytest.raises(JobError, match="its own fails: KeyError"):
        check(*own(fail))


def test_an_interrupt_is_no_refusal() -> None:
    def interrupt(m: Any, x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(*own(interrupt))
