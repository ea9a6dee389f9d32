"""The update rules against torch.optim: one optimizer a row, the same gradients, the same settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from rl_tuner.envs.jobs import OPTIMIZERS
from rl_tuner.envs.row_settings import Columns, Hyperparameters
from rl_tuner.envs.torch_rules import rule_of
from rl_tuner.envs.update_rules import SGD, Adadelta, Adagrad, Adam, AdamW, RMSprop, UpdateRule
from rl_tuner.errors import ConfigError
from rl_tuner.trainee import Trainee

RULES: dict[str, UpdateRule] = {
    "sgd": SGD(),
    "momentum": SGD(),
    "nesterov": SGD(nesterov=True),
    "adam": Adam(),
    "adamw": AdamW(),
    "rmsprop": RMSprop(),
    "adagrad": Adagrad(),
    "adadelta": Adadelta(),
}
"""The rule of each optimizer in `rl_tuner.envs.jobs.OPTIMIZERS`."""

Build = Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]
Schedule = Callable[[int], tuple[list[float], list[float], list[float]]]
"""Number of an update → learning rates, weight decays and momenta, a value a row each."""

ROWS, SIZE = 5, 33
LR = [0.01, 0.03, 0.1, 0.002, 0.0]
DECAY = [0.0, 0.01, 0.1, 0.3, 0.02]
MOMENTUM = [0.9, 0.5, 0.99, 0.1, 0.8]
NONE = [0.0] * ROWS


def turned(values: list[float], by: int) -> list[float]:
    return values[by:] + values[:by]


SCHEDULES: dict[str, Schedule] = {
    "constant": lambda t: (LR, NONE, MOMENTUM),
    "no momentum": lambda t: (LR, NONE, NONE),
    "weight decay": lambda t: (LR, turned(DECAY, t // 20), MOMENTUM),
    "lr changes": lambda t: (turned(LR, t // 9), NONE, MOMENTUM),
    "momentum changes": lambda t: (LR, NONE, turned(MOMENTUM, t // 9)),
    "momentum to and from zero": lambda t: (LR, NONE, turned([0.0, 0.9, 0.0, 0.5, 0.99], t // 9)),
    "momentum late": lambda t: (LR, NONE, NONE if t < 15 else MOMENTUM),
    "all at once": lambda t: (
        turned(LR, t // 9),
        turned(DECAY, t // 7),
        turned([0.9, 0.0, 0.5, 0.0, 0.8], t // 8),
    ),
}


@dataclass
class State:
    """What a rule is called with, besides gradients and settings."""

    theta: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    steps: torch.Tensor

    @classmethod
    def start(cls, rule: UpdateRule, theta: torch.Tensor) -> State:
        rows = len(theta)
        first, second = torch.zeros_like(theta), torch.full_like(theta, rule.second_start)
        return cls(theta.clone(), first, second, torch.zeros(rows, 1, dtype=torch.float64))

    def part(self, first: int, last: int) -> State:
        """Rows of it, as views."""
        return State(*(t[first:last] for t in self.tensors()))

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self.theta, self.first, self.second, self.steps

    def step(self, rule: UpdateRule, grad: torch.Tensor, settings: Hyperparameters) -> None:
        # NaN: what reads scratch before it wrote it shows.
        scratch = (torch.full_like(grad, torch.nan), torch.full_like(grad, torch.nan))
        rule.step(self.theta, grad, self.first, self.second, self.steps, settings, scratch)

    def same(self, other: State) -> bool:
        return all(torch.equal(a, b) for a, b in zip(self.tensors(), other.tensors(), strict=True))


def draw(seed: int, updates: int, rows: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    """Start values, then gradients whose sizes differ from row to row: shape (updates + 1, rows, size)."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(updates + 1, rows, size)) * 10.0 ** rng.uniform(-3, 1, size=(1, rows, 1))
    values[1:, :, :: max(size // 4, 1)] *= rng.uniform(size=values[1:, :, :: max(size // 4, 1)].shape) < 0.5
    return torch.tensor(values, dtype=dtype)


def settings_of(schedule: Schedule, number: int, rows: slice = slice(None)) -> Hyperparameters:
    lr, decay, momentum = (values[rows] for values in schedule(number))
    return Hyperparameters.of(lr, decay, momentum)


def by_rule(rule: UpdateRule, values: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    state = State.start(rule, values[0])
    for number, grad in enumerate(values[1:]):
        state.step(rule, grad, settings_of(schedule, number))
    return state.theta


def by_torch(build: Build, values: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """Each row by an optimizer of its own, written to as the reference engine does."""
    trained = []
    for row, start in enumerate(values[0]):
        parameter = torch.nn.Parameter(start.clone())
        trainee = Trainee(build([parameter]))
        for number, grads in enumerate(values[1:]):
            present = zip(("lr", "weight_decay", "momentum"), schedule(number), strict=True)
            trainee.write({name: column[row] for name, column in present if name in trainee.read()})
            parameter.grad = grads[row].clone()
            trainee.optimizer.step()
        trained.append(parameter.detach())
    return torch.stack(trained)


def builder(name: str) -> Build:
    cls, defaults = OPTIMIZERS[name]
    return lambda parameters: cls(parameters, foreach=False, **defaults)  # type: ignore[call-arg]


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """In float64 each value to 1e-9, in float32 each to 1e-4 of its row's largest.

    What nearly cancels out carries the rounding of what it is the difference of, in torch as here.
    """
    if ours.dtype == torch.float64:
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    else:
        largest = theirs.abs().amax(1, keepdim=True)
        torch.testing.assert_close(ours / largest, theirs / largest, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", SCHEDULES)
@pytest.mark.parametrize("name", RULES)
def test_fifty_updates_equal_one_torch_optimizer_per_row(name: str, case: str, dtype: torch.dtype) -> None:
    values = draw(1, 50, ROWS, SIZE, dtype)
    schedule = SCHEDULES[case]
    assert_close(by_rule(RULES[name], values, schedule), by_torch(builder(name), values, schedule))


@st.composite
def runs(draw_from: st.DrawFn) -> tuple[Build, torch.Tensor, Schedule]:
    """An optimizer with constants of its own, gradients, and settings that change at random."""
    name = draw_from(st.sampled_from(sorted(RULES)))
    cls, defaults = OPTIMIZERS[name]
    eps, share = st.sampled_from([1e-10, 1e-8, 1e-4]), st.sampled_from([0.0, 0.5, 0.9, 0.9999])
    constants: dict[str, dict[str, Any]] = {
        "adam": {"eps": draw_from(eps), "betas": (0.9, draw_from(share))},
        "adamw": {"eps": draw_from(eps), "betas": (0.9, draw_from(share))},
        "rmsprop": {"eps": draw_from(eps), "alpha": draw_from(share)},
        "adagrad": {
            "eps": draw_from(eps),
            "lr_decay": draw_from(st.sampled_from([0.0, 0.1])),
            "initial_accumulator_value": draw_from(st.sampled_from([0.0, 0.5])),
        },
        "adadelta": {"eps": draw_from(eps), "rho": draw_from(share)},
    }
    rows, size, updates = (draw_from(st.integers(1, most)) for most in (4, 40, 12))

    def columns(choices: list[float]) -> list[list[float]]:
        row = st.lists(st.sampled_from(choices), min_size=rows, max_size=rows)
        return draw_from(st.lists(row, min_size=updates, max_size=updates))

    lr, decay = columns([0.0, 1e-4, 0.01, 0.3]), columns([0.0, 0.0, 1e-3, 0.2])
    momentum = columns([0.0, 0.3, 0.9, 0.99])
    values = draw(draw_from(st.integers(0, 2**32)), updates, rows, size, torch.float64)
    options = {**defaults, **constants.get(name, {})}
    return (
        lambda parameters: cls(parameters, foreach=False, **options),  # type: ignore[call-arg]
        values,
        lambda number: (lr[number], decay[number], momentum[number]),
    )


@given(runs())
def test_the_rule_of_any_optimizer_does_as_it_under_any_settings(
    run: tuple[Build, torch.Tensor, Schedule],
) -> None:
    build, values, schedule = run
    rule = rule_of(build([torch.nn.Parameter(torch.zeros(1))]))
    assert rule is not None
    assert_close(by_rule(rule, values, schedule), by_torch(build, values, schedule))


@pytest.mark.parametrize("lr", [1e-3, 0.5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_adams_first_update_is_the_gradients_sign_times_lr(lr: float, dtype: torch.dtype) -> None:
    grad = torch.tensor([[3.0, -1e-3, 20.0, 0.0]], dtype=dtype)
    state = State.start(RULES["adam"], torch.zeros_like(grad))
    state.step(RULES["adam"], grad, Hyperparameters.of([lr], [0], [0.9]))
    expected = -lr * grad / (grad.abs() + 1e-8)
    torch.testing.assert_close(state.theta, expected, rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=0)


def test_momentum_follows_the_table_worked_out_by_hand() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    plain, nesterov = State.start(RULES["sgd"], one), State.start(RULES["nesterov"], one)
    # gradient 1 each time; buffers 1, 1.5, (momentum 0: stays 1.5), then 0.5 · 1.5 + 1 = 1.75
    for momentum, after_plain, after_nesterov in [
        (0.5, 0.9, 0.85),
        (0.5, 0.75, 0.675),
        (0.0, 0.65, 0.575),
        (0.5, 0.475, 0.3875),
    ]:
        settings = Hyperparameters.of([0.1], [0], [momentum])
        plain.step(RULES["sgd"], one, settings)
        nesterov.step(RULES["nesterov"], one, settings)
        assert plain.theta.item() == pytest.approx(after_plain, abs=1e-15)
        assert nesterov.theta.item() == pytest.approx(after_nesterov, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("size", [1, 7, 33, 130])
@pytest.mark.parametrize("name", RULES)
def test_a_rows_bits_do_not_depend_on_its_neighbours(name: str, size: int, dtype: torch.dtype) -> None:
    rule, values, schedule = RULES[name], draw(2, 9, ROWS, size, dtype), SCHEDULES["all at once"]
    together, parts = State.start(rule, values[0]), State.start(rule, values[0])
    for number, grad in enumerate(values[1:]):
        together.step(rule, grad, settings_of(schedule, number))
        for part in (slice(0, 1), slice(1, 4), slice(4, 5)):
            rows = parts.part(part.start, part.stop)
            rows.step(rule, grad[part], settings_of(schedule, number, part))
        assert together.same(parts)


@pytest.mark.parametrize("name", RULES)
def test_flags_change_the_passes_never_the_numbers(name: str) -> None:
    rule, values = RULES[name], draw(3, 9, ROWS, SIZE, torch.float32)
    for decay, momentum in [(NONE, MOMENTUM), (NONE, NONE), (DECAY, MOMENTUM), (DECAY, NONE)]:
        exact = Hyperparameters.of(LR, decay, momentum)
        careful = replace(exact, any_decay=True, any_momentum=True, all_momentum=False)
        a, b = State.start(rule, values[0]), State.start(rule, values[0])
        for grad in values[1:]:
            a.step(rule, grad, exact)
            b.step(rule, grad, careful)
        assert a.same(b)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", RULES)
def test_a_gradient_that_is_not_finite_spoils_its_own_row_alone(name: str, bad: float) -> None:
    rule, values, schedule = RULES[name], draw(4, 6, ROWS, SIZE, torch.float32), SCHEDULES["all at once"]
    spoiled = values.clone()
    spoiled[3, 1] = bad
    clean, hurt = by_rule(rule, values, schedule), by_rule(rule, spoiled, schedule)
    others = [0, 2, 3, 4]
    assert torch.equal(hurt[others], clean[others])
    assert not hurt[1].isfinite().any()


@pytest.mark.parametrize("name", RULES)
def test_the_gradient_is_left_as_it_is_and_the_update_is_counted(name: str) -> None:
    rule, values = RULES[name], draw(5, 1, ROWS, SIZE, torch.float32)
    state, grad = State.start(rule, values[0]), values[1]
    state.steps += torch.arange(5.0)[:, None]
    before = grad.clone()
    state.step(rule, grad, Hyperparameters.of(LR, DECAY, turned(MOMENTUM, 1)))
    assert torch.equal(grad, before)
    assert state.steps.flatten().tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", RULES)
def test_updates_with_columns_worked_out_ahead_are_the_same_bit_for_bit(name: str) -> None:
    rule, values = RULES[name], draw(10, 8, ROWS, SIZE, torch.float32)
    settings = Hyperparameters.of(LR, DECAY, turned([0.9, 0.0, 0.5, 0.99, 0.8], 1))
    ahead, single = State.start(rule, values[0]), State.start(rule, values[0])
    for state in (ahead, single):
        state.steps += torch.tensor([0.0, 3.0, 10.0, 500.0, 100_000.0])[:, None]
    steps = ahead.steps.clone()
    all_columns = rule.columns(ahead.steps, settings, 8, torch.float32)
    assert torch.equal(ahead.steps, steps)
    for grad, columns in zip(values[1:], all_columns, strict=True):
        scratch = (torch.empty_like(grad), torch.empty_like(grad))
        rule.apply(ahead.theta, grad, ahead.first, ahead.second, columns, scratch)
        single.step(rule, grad, settings)
    assert single.steps.flatten().tolist() == [8, 11, 18, 508, 100_008]
    ahead.steps += 8
    assert ahead.same(single)


def test_an_adagrad_whose_rate_falls_follows_the_closed_form() -> None:
    rule = Adagrad(eps=0.0, lr_decay=1.0)
    columns = rule.columns(
        torch.zeros(1, 1, dtype=torch.float64), Hyperparameters.of([1], [0], [0]), 4, torch.float64
    )
    assert [c.lr.item() for c in columns] == [1, 1 / 2, 1 / 3, 1 / 4]


@pytest.mark.parametrize("name", RULES)
def test_a_learning_rate_of_zero_leaves_the_weights_bit_for_bit(name: str) -> None:
    values = draw(6, 5, ROWS, SIZE, torch.float32)
    assert torch.equal(by_rule(RULES[name], values, lambda t: (NONE, DECAY, MOMENTUM)), values[0])


@pytest.mark.parametrize("name", RULES)
def test_a_buffer_said_to_be_unused_need_not_be_there(name: str) -> None:
    rule, values = RULES[name], draw(7, 3, ROWS, SIZE, torch.float64)
    state = State.start(rule, values[0])
    nothing = torch.empty(ROWS, 0, dtype=torch.float64)
    state.first = state.first if rule.uses_first else nothing
    state.second = state.second if rule.uses_second else nothing
    schedule = SCHEDULES["all at once"]
    for number, grad in enumerate(values[1:]):
        state.step(rule, grad, settings_of(schedule, number))
    assert torch.equal(state.theta, by_rule(rule, values, schedule))


class Allocations(TorchDispatchMode):
    """Counts results of at least `size` elements that lie in memory not known before."""

    def __init__(self, size: int, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.size, self.known, self.count = size, {t.untyped_storage().data_ptr() for t in known}, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.numel() >= self.size:
            self.count += result.untyped_storage().data_ptr() not in self.known
        return result


@pytest.mark.parametrize("case", ["constant", "all at once"])
@pytest.mark.parametrize("name", RULES)
def test_an_update_allocates_nothing_as_large_as_the_rows(name: str, case: str) -> None:
    rule, values = RULES[name], draw(8, 1, ROWS, SIZE, torch.float32)
    state, grad = State.start(rule, values[0]), values[1]
    scratch = (torch.empty_like(grad), torch.empty_like(grad))
    tensors = (state.theta, grad, state.first, state.second, state.steps)
    with Allocations(grad.numel(), (*tensors, *scratch)) as allocations:
        rule.step(*tensors, settings_of(SCHEDULES[case], 0), scratch)
        assert allocations.count == 0
        torch.add(grad, 1)  # the counter counts
    assert allocations.count == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_a_traced_update_equals_the_plain_one(name: str) -> None:
    rule, values, schedule = RULES[name], draw(9, 6, ROWS, SIZE, torch.float64), SCHEDULES["all at once"]
    traced, plain = State.start(rule, values[0]), State.start(rule, values[0])

    def apply(state: tuple[torch.Tensor, ...], grad: torch.Tensor, columns: Columns) -> None:
        theta, first, second, _ = state
        scratch = (torch.empty_like(theta), torch.empty_like(theta))
        rule.apply(theta, grad, first, second, columns, scratch)

    torch.compiler.reset()
    compiled = torch.compile(apply, fullgraph=True, backend="aot_eager")
    for number, grad in enumerate(values[1:]):
        settings = settings_of(schedule, number)
        compiled(traced.tensors(), grad, rule.columns(plain.steps, settings, 1, grad.dtype)[0])
        plain.step(rule, grad, settings)
    assert_close(traced.theta, plain.theta)


def test_flags_say_what_the_columns_hold() -> None:
    def flags(decay: list[float], momentum: list[float]) -> tuple[bool, bool, bool]:
        settings = Hyperparameters.of([0.1, 0.1], decay, momentum)
        return settings.any_decay, settings.any_momentum, settings.all_momentum

    assert flags([0, 0], [0, 0]) == (False, False, False)
    assert flags([0, 1e-9], [0, 0.5]) == (True, True, False)
    assert flags([0.1, 0.1], [0.9, 0.5]) == (True, True, True)


def test_columns_are_double_precision_and_copies() -> None:
    lr: NDArray[np.float64] = np.array([0.1, 0.2])
    settings = Hyperparameters.of(lr, np.zeros(2, np.float32), [0, 0])
    lr[0] = 7.0
    assert settings.lr.tolist() == [[0.1], [0.2]]
    assert {settings.lr.dtype, settings.weight_decay.dtype, settings.momentum.dtype} == {torch.float64}


@pytest.mark.parametrize("lr", [[0.1], [0.1, 0.1, 0.1], 0.1, [[0.1], [0.1]]])
def test_settings_of_unequal_length_are_refused(lr: Any) -> None:
    with pytest.raises(ConfigError, match=r"one value a row, shape \(rows,\) each"):
        Hyperparameters.of(lr, [0, 0], [0, 0])


def test_every_named_optimizer_has_its_rule() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    assert {name: rule_of(cls(parameters, **options)) for name, (cls, options) in OPTIMIZERS.items()} == RULES


P = [torch.nn.Parameter(torch.zeros(2))]
"""A parameter for optimizers that take no step."""


@pytest.mark.parametrize(
    ("optimizer", "rule"),
    [
        (torch.optim.SGD(P, lr=0.1), SGD()),
        (torch.optim.Adam(P, betas=(0.8, 0.95), eps=1e-6), Adam(beta2=0.95, eps=1e-6)),
        (torch.optim.Adam(P, fused=True, weight_decay=0.1), Adam()),
        (torch.optim.Adam(P, decoupled_weight_decay=True), AdamW()),
        (torch.optim.AdamW(P, betas=(0.8, 0.95), eps=1e-6), AdamW(beta2=0.95, eps=1e-6)),
        (torch.optim.RMSprop(P, alpha=0.9, eps=1e-6, momentum=0.5), RMSprop(alpha=0.9, eps=1e-6)),
        (
            torch.optim.Adagrad(P, eps=1e-6, lr_decay=0.1, initial_accumulator_value=0.2),
            Adagrad(eps=1e-6, lr_decay=0.1, initial_accumulator_value=0.2),
        ),
        (torch.optim.Adadelta(P, rho=0.8, eps=1e-5), Adadelta(rho=0.8, eps=1e-5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_constants_of_the_optimizer_are_the_rules(optimizer: torch.optim.Optimizer, rule: UpdateRule) -> None:
    assert rule_of(optimizer) == rule


class MyAdam(torch.optim.Adam):
    """A subclass may do anything."""


def hooked() -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(P, lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: None)
    return optimizer


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.Adam(P, amsgrad=True),
        torch.optim.AdamW(P, amsgrad=True),
        torch.optim.RMSprop(P, centered=True),
        torch.optim.SGD(P, lr=0.1, momentum=0.9, dampening=0.1),
        torch.optim.SGD(P, lr=0.1, maximize=True),
        torch.optim.Adadelta(P, maximize=True),
        torch.optim.Adam(P, differentiable=True),
        torch.optim.NAdam(P),
        torch.optim.Adamax(P),
        MyAdam(P),
        hooked(),
        torch.optim.SGD([{"params": P}, {"params": [torch.nn.Parameter(torch.zeros(1))]}], lr=0.1),
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))], lr=0.1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_rule_does_has_none(optimizer: torch.optim.Optimizer) -> None:
    assert rule_of(optimizer) is None
