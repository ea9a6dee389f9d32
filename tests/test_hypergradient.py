"""SGD and Adam with hypergradient descent, against the paper's update rules written out and against torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner import ConfigError
from rl_tuner.envs.hypergradient import SGDHD, AdamHD, HypergradientOptimizer

Make = Callable[..., HypergradientOptimizer]
CURVATURE = torch.tensor([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.2]], dtype=torch.float64)
TARGET = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
START = torch.tensor([4.0, 3.0, -1.0], dtype=torch.float64)
RULES = [{"multiplicative": False, "hypergrad_lr": 1e-4}, {"multiplicative": True, "hypergrad_lr": 0.05}]
KINDS: list[tuple[Make, dict[str, Any]]] = [
    (SGDHD, {"lr": 0.01}),
    (SGDHD, {"lr": 0.01, "momentum": 0.8}),
    (SGDHD, {"lr": 0.01, "momentum": 0.8, "nesterov": True}),
    (SGDHD, {"lr": 0.01, "weight_decay": 0.1}),
    (AdamHD, {"lr": 0.02}),
    (AdamHD, {"lr": 0.02, "betas": (0.6, 0.9), "weight_decay": 0.1}),
    (AdamHD, {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True}),
]


def quadratic(theta: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    return scale * 0.5 * (theta - TARGET) @ CURVATURE @ (theta - TARGET)


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(START.clone())


def descend(
    optimizer: torch.optim.Optimizer, theta: torch.Tensor, updates: int, scale: float = 1.0
) -> list[list[float]]:
    """Updates on the quadratic; θ and the learning rate after each."""
    path = []
    for _ in range(updates):
        optimizer.zero_grad()
        quadratic(theta, scale).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        path.append([*theta.tolist(), optimizer.param_groups[0]["lr"]])
    return path


def gradient_of(theta: list[float]) -> list[float]:
    """∇f, without autograd."""
    rows = CURVATURE.tolist()
    away = [t - c for t, c in zip(theta, TARGET.tolist(), strict=True)]
    return [sum(a * x for a, x in zip(row, away, strict=True)) for row in rows]


class PaperSGD:
    """∂u_t/∂α of algorithms 4 and 5, in plain Python; the heavy ball beside Nesterov's."""

    def __init__(self, momentum: float = 0.0, nesterov: bool = False) -> None:
        self.mu, self.nesterov, self.v = momentum, nesterov, [0.0, 0.0, 0.0]

    def derivative(self, g: list[float]) -> list[float]:
        self.v = [self.mu * v + x for v, x in zip(self.v, g, strict=True)]
        if self.nesterov:
            return [-x - self.mu * v for x, v in zip(g, self.v, strict=True)]
        return [-v for v in self.v]


class PaperAdam:
    """∂u_t/∂α of algorithm 6, in plain Python."""

    def __init__(self, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.betas, self.t, self.m, self.v = betas, 0, [0.0] * 3, [0.0] * 3

    def derivative(self, g: list[float]) -> list[float]:
        self.t += 1
        b1, b2 = self.betas
        self.m = [b1 * m + (1 - b1) * x for m, x in zip(self.m, g, strict=True)]
        self.v = [b2 * v + (1 - b2) * x * x for v, x in zip(self.v, g, strict=True)]
        c1, c2 = 1 - b1**self.t, 1 - b2**self.t
        return [-(m / c1) / (math.sqrt(v / c2) + 1e-8) for m, v in zip(self.m, self.v, strict=True)]


def paper_path(options: dict[str, Any], rule: dict[str, Any], adam: bool, updates: int) -> list[list[float]]:
    """The right-hand column of the paper's algorithms, line by line, and its equation 8."""
    options = dict(options)
    alpha, decay = options.pop("lr"), options.pop("weight_decay", 0.0)
    decoupled = options.pop("decoupled_weight_decay", False)
    base = PaperAdam(**options) if adam else PaperSGD(**options)
    theta, last, path = START.tolist(), [0.0] * 3, []
    for _ in range(updates):
        g = gradient_of(theta)
        if not decoupled:
            g = [x + decay * t for x, t in zip(g, theta, strict=True)]
        h = sum(x * u for x, u in zip(g, last, strict=True))
        if rule["multiplicative"]:
            norms = math.hypot(*g) * math.hypot(*last)
            alpha *= 1 - rule["hypergrad_lr"] * (h / norms if norms else 0.0)
        else:
            alpha -= rule["hypergrad_lr"] * h
        last = base.derivative(g)
        if decoupled:
            last = [u - decay * t for u, t in zip(last, theta, strict=True)]
        theta = [t + alpha * u for t, u in zip(theta, last, strict=True)]
        path.append([*theta, alpha])
    return path


@pytest.mark.parametrize("rule", RULES, ids=["additive", "multiplicative"])
@pytest.mark.parametrize(("make", "options"), KINDS)
def test_updates_are_those_of_the_paper(make: Make, options: dict[str, Any], rule: dict[str, Any]) -> None:
    theta = parameter()
    path = descend(make([theta], **options, **rule), theta, 30)
    expected = paper_path(options, rule, make is AdamHD, 30)
    assert torch.tensor(path).allclose(torch.tensor(expected), rtol=1e-9, atol=1e-12)
    assert expected[-1][-1] != options["lr"]


@pytest.mark.parametrize(("make", "options"), KINDS)
def test_without_a_step_of_the_learning_rate_it_is_torchs_optimizer(
    make: Make, options: dict[str, Any]
) -> None:
    mine, theirs = parameter(), parameter()
    plain = torch.optim.Adam if make is AdamHD else torch.optim.SGD
    path = descend(make([mine], hypergrad_lr=0.0, **options), mine, 25)
    expected = descend(plain([theirs], **options), theirs, 25)
    assert torch.tensor(path).allclose(torch.tensor(expected), rtol=1e-10)


@pytest.mark.parametrize(("make", "options"), KINDS)
def test_the_additive_step_follows_the_derivative_of_the_loss(make: Make, options: dict[str, Any]) -> None:
    # Of the loss that the optimizer descends: coupled weight decay is a penalty in it.
    decay = 0.0 if options.get("decoupled_weight_decay") else options.get("weight_decay", 0.0)
    theta = parameter()
    optimizer = make([theta], **options, multiplicative=False, hypergrad_lr=0.0)
    descend(optimizer, theta, 4)

    def loss_after(shift: float) -> float:
        """Of one more update whose learning rate is shifted."""
        other = copy.deepcopy(optimizer)
        other.param_groups[0]["lr"] += shift
        moved = other.param_groups[0]["params"][0]
        descend(other, moved, 1)
        return float((quadratic(moved) + 0.5 * decay * moved @ moved).detach())

    slope = (loss_after(1e-5) - loss_after(-1e-5)) / 2e-5
    descend(optimizer, theta, 1)
    optimizer.param_groups[0]["hypergrad_lr"] = 1e-6
    descend(optimizer, theta, 1)
    moved_by = optimizer.param_groups[0]["lr"] - options["lr"]
    assert -moved_by / 1e-6 == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(("make", "options"), KINDS)
def test_each_groups_learning_rate_moves_as_if_the_group_were_alone(
    make: Make, options: dict[str, Any]
) -> None:
    first, second, alone = parameter(), parameter(), parameter()
    optimizer = make([{"params": [first]}, {"params": [second], "lr": 1e-3}], **options)
    for _ in range(10):
        optimizer.zero_grad()
        (quadratic(first) + quadratic(second)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    path = descend(make([alone], **{**options, "lr": 1e-3}), alone, 10)
    assert [*second.tolist(), optimizer.param_groups[1]["lr"]] == path[-1]
    assert optimizer.param_groups[0]["lr"] != optimizer.param_groups[1]["lr"]


@pytest.mark.parametrize(("make", "options"), KINDS)
def test_a_state_dict_continues_bit_for_bit(make: Make, options: dict[str, Any]) -> None:
    theta = parameter()
    optimizer = make([theta], **options)
    descend(optimizer, theta, 5)
    weights, state = theta.detach().clone(), copy.deepcopy(optimizer.state_dict())
    rest = descend(optimizer, theta, 5)
    other = torch.nn.Parameter(weights)
    fresh = make([other])
    fresh.load_state_dict(state)
    assert descend(fresh, other, 5) == rest


@pytest.mark.parametrize("make", [SGDHD, AdamHD])
def test_a_learning_rate_a_hundred_times_too_small_is_raised_and_the_loss_falls_faster(make: Make) -> None:
    good = 0.1
    losses, rates = [], []
    for beta in (0.0, 0.2):
        theta = parameter()
        optimizer = make([theta], lr=good / 100, hypergrad_lr=beta)
        path = descend(optimizer, theta, 100)
        losses.append(float(quadratic(theta).detach()))
        rates.append(max(row[-1] for row in path))
    assert rates[0] == good / 100
    assert rates[1] > good
    assert losses[1] < 0.05 * losses[0]


def test_a_learning_rate_that_makes_the_loss_climb_is_lowered_in_time() -> None:
    lr = 1.5  # plain descent climbs above 2 / the largest curvature, 0.96
    losses, lowest = [], []
    for beta in (0.0, 0.2):
        theta = parameter()
        path = descend(SGDHD([theta], lr=lr, hypergrad_lr=beta), theta, 60)
        losses.append(float(quadratic(theta).detach()))
        lowest.append(min(row[-1] for row in path))
    first = float(quadratic(START))
    assert losses[0] > 1e6 * first
    assert losses[1] < first
    assert lowest[1] < 0.96


def test_the_multiplicative_rule_does_not_depend_on_the_losss_scale() -> None:
    plain, scaled = parameter(), parameter()
    path = descend(SGDHD([plain], lr=0.01), plain, 20)
    other = descend(SGDHD([scaled], lr=0.01 / 1024), scaled, 20, scale=1024.0)
    expected = [[*row[:-1], row[-1] / 1024] for row in path]
    assert torch.tensor(other).allclose(torch.tensor(expected), rtol=1e-12)


@given(
    make=st.sampled_from([SGDHD, AdamHD]),
    multiplicative=st.booleans(),
    lr=st.floats(0, 1e30),
    hypergrad_lr=st.floats(0, 0.99),
    gradients=st.lists(st.floats(width=32), min_size=2, max_size=8),
)
def test_the_learning_rate_stays_finite_and_not_negative(
    make: Make, multiplicative: bool, lr: float, hypergrad_lr: float, gradients: list[float]
) -> None:
    theta = torch.nn.Parameter(torch.ones(2))
    optimizer = make([theta], lr=lr, hypergrad_lr=hypergrad_lr, multiplicative=multiplicative)
    for gradient in gradients:
        theta.grad = torch.tensor([gradient, 1.0])
        optimizer.step()
        assert 0 <= optimizer.param_groups[0]["lr"] < math.inf


def test_the_first_update_leaves_the_learning_rate() -> None:
    theta = parameter()
    assert descend(SGDHD([theta], lr=0.01), theta, 1)[0][-1] == 0.01


def test_gradients_are_left_as_they_are() -> None:
    theta = parameter()
    optimizer = SGDHD([theta], weight_decay=0.5, momentum=0.9)
    descend(optimizer, theta, 3)
    before = theta.detach().clone()
    descend(optimizer, theta, 1)
    assert theta.grad is not None
    assert theta.grad.tolist() == pytest.approx(gradient_of(before.tolist()))


def test_a_parameter_without_a_gradient_stays_and_may_join_later() -> None:
    moving, waiting = parameter(), parameter()
    optimizer = AdamHD([moving, waiting], lr=0.1)
    descend(optimizer, moving, 3)
    assert torch.equal(waiting, START)
    optimizer.zero_grad()
    (quadratic(moving) + quadratic(waiting)).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    lr = optimizer.param_groups[0]["lr"]
    # Its first step is Adam's: the learning rate, against the gradient's sign.
    signs = [math.copysign(1.0, g) for g in gradient_of(START.tolist())]
    assert waiting.tolist() == pytest.approx(
        [t - lr * s for t, s in zip(START.tolist(), signs, strict=True)], rel=1e-6
    )


def test_momentum_may_rise_from_zero_while_training() -> None:
    theta, torchs = parameter(), parameter()
    mine = SGDHD([theta], lr=0.01, hypergrad_lr=0.0)
    plain = torch.optim.SGD([torchs], lr=0.01)
    for optimizer, weights in ((mine, theta), (plain, torchs)):
        descend(optimizer, weights, 2)
        optimizer.param_groups[0]["momentum"] = 0.9
        descend(optimizer, weights, 5)
    assert torch.allclose(theta, torchs, rtol=1e-12)


def test_a_closure_is_evaluated_and_its_loss_returned() -> None:
    theta = parameter()
    optimizer = SGDHD([theta], lr=0.01)

    def closure() -> float:
        optimizer.zero_grad()
        loss = quadratic(theta)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    assert optimizer.step(closure) == float(quadratic(START))
    assert not torch.equal(theta, START)


@pytest.mark.parametrize(
    ("make", "options", "named"),
    [
        (SGDHD, {"lr": -1.0}, "lr must be >= 0"),
        (SGDHD, {"lr": math.nan}, "lr"),
        (SGDHD, {"momentum": 1.0}, "momentum"),
        (SGDHD, {"weight_decay": -0.1}, "weight_decay"),
        (SGDHD, {"hypergrad_lr": 1.0}, "hypergrad_lr must be >= 0 and < 1, got 1.0"),
        (SGDHD, {"hypergrad_lr": -1.0, "multiplicative": False}, "hypergrad_lr"),
        (AdamHD, {"betas": (0.9, 1.0)}, r"betas\[1\]"),
        (AdamHD, {"eps": 0.0}, "eps must be > 0"),
    ],
)
def test_an_option_out_of_range_is_named(make: Make, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make([parameter()], **options)


def test_options_of_a_single_group_are_checked_too() -> None:
    with pytest.raises(ConfigError, match="lr must be >= 0"):
        SGDHD([{"params": [parameter()], "lr": -1.0}])
