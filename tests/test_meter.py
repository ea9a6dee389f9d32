from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from rl_tuner.errors import ConfigError
from rl_tuner.meter import Meter


def toy() -> tuple[nn.Linear, torch.optim.SGD, Meter]:
    """y = w·x + b with w = (3, 4), b = 0; on x = (1, 2), target 0, the loss y² has gradient 22·(1, 2, 1)."""
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0]]))
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return model, optimizer, Meter(optimizer)


def update(model: nn.Module, optimizer: torch.optim.Optimizer, meter: Meter) -> torch.Tensor:
    optimizer.zero_grad()
    loss: torch.Tensor = (model(torch.tensor([[1.0, 2.0]])) ** 2).sum()
    loss.backward()
    optimizer.step()
    meter.record(loss, 1)
    return loss


def hooks(optimizer: torch.optim.Optimizer) -> int:
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


def losses(meter: Meter, values: list[float]) -> Meter:
    for value in values:
        meter.record(torch.tensor(value), 1)
    return meter


def test_gradient_and_update_norms_computed_by_hand() -> None:
    model, optimizer, meter = toy()
    meter.arm()
    update(model, optimizer, meter)
    interval = meter.read(1.0)
    gradient = 22 * math.sqrt(1 + 4 + 1)
    after = [3 - 0.22, 4 - 0.44, -0.22]
    assert interval.grad_norm == pytest.approx(gradient, rel=1e-5)
    assert interval.update_ratio == pytest.approx(0.01 * gradient / math.hypot(*after), rel=1e-5)
    assert interval.grad_alive == 1.0
    assert interval.finite is True


class Overwriting(torch.optim.SGD):
    """Uses its gradients up, as Schedule-Free's optimizers do."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.zero_()


def test_gradient_norms_are_of_what_the_optimizer_got_not_of_what_it_left() -> None:
    model, _, _ = toy()
    optimizer = Overwriting(model.parameters(), lr=0.01)
    meter = Meter(optimizer)
    meter.arm()
    update(model, optimizer, meter)
    interval = meter.read(1.0)
    assert interval.grad_norm == pytest.approx(22 * math.sqrt(1 + 4 + 1), rel=1e-5)
    assert interval.grad_alive == 1.0


def test_the_norms_are_those_of_the_armed_update_whatever_the_optimizer() -> None:
    torch_model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    with torch.no_grad():
        for i, p in enumerate(torch_model.parameters()):
            p.copy_(torch.linspace(-1, 1 + i, p.numel()).reshape(p.shape))
    optimizer = torch.optim.Adam(torch_model.parameters(), lr=0.05, weight_decay=0.1)
    meter = Meter(optimizer)
    for step in range(3):
        optimizer.zero_grad()
        loss = torch_model(torch.linspace(-1, 1, 12).reshape(3, 4)).square().mean()
        loss.backward()
        before = [p.detach().clone() for p in torch_model.parameters()]
        if step == 2:
            meter.arm()
        optimizer.step()
        meter.record(loss, 3)
    interval = meter.read(math.nan)
    flat = [torch.cat([t.detach().reshape(-1) for t in ts]) for ts in (before, torch_model.parameters())]
    grads = torch.cat([p.grad.reshape(-1) for p in torch_model.parameters() if p.grad is not None])
    assert interval.grad_norm == pytest.approx(float(grads.norm()), rel=1e-5)
    assert interval.update_ratio == pytest.approx(
        float((flat[1] - flat[0]).norm() / flat[1].norm()), rel=1e-4
    )


def test_grad_alive_is_the_share_of_tensors_with_a_gradient_worth_the_name() -> None:
    parameters = [nn.Parameter(torch.ones(4)) for _ in range(5)]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for p, size in zip(parameters, (1.0, 1e-3, 1e-8, 0.0), strict=False):
        p.grad = torch.full((4,), size)
    meter = Meter(optimizer)
    meter.arm()
    optimizer.step()
    assert meter.read(math.nan).grad_alive == 0.5  # 2 of 4: the fifth has no gradient and does not count


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_grad_alive_is_relative_to_the_size_of_the_weights(factor: float) -> None:
    parameters = [nn.Parameter(torch.full((4,), factor)) for _ in range(2)]
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    for p, size in zip(parameters, (1e-5, 1e-7), strict=True):
        p.grad = torch.full((4,), size * factor)
    meter = Meter(optimizer)
    meter.arm()
    optimizer.step()
    assert meter.read(math.nan).grad_alive == 0.5


def test_sparse_gradients_are_measured_like_dense_ones() -> None:
    results = []
    for sparse in (True, False):
        table = nn.Embedding(5, 2, sparse=sparse)
        nn.init.ones_(table.weight)
        optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
        meter = Meter(optimizer)
        table(torch.tensor([1, 3, 3])).sum().backward()
        meter.arm()
        optimizer.step()
        results.append(meter.read(math.nan))
    assert results[0].grad_norm == pytest.approx(math.sqrt(2 * 1 + 2 * 4))
    assert results[0].grad_norm == pytest.approx(results[1].grad_norm)
    assert results[0].update_ratio == pytest.approx(results[1].update_ratio)


@pytest.mark.parametrize(
    ("values", "early", "late"),
    [
        ([4.0], 4.0, 4.0),
        ([4.0, 2.0], 4.0, 2.0),
        ([4.0, 2.0, 1.0], 4.0, 1.5),
        ([1.0, 2.0, 3.0, 5.0], 1.5, 4.0),
    ],
)
def test_early_and_late_are_the_means_of_the_halves(values: list[float], early: float, late: float) -> None:
    interval = losses(toy()[2], values).read(math.nan)
    assert (interval.train_early, interval.train_late) == (early, late)


def test_noise_is_standard_deviation_over_mean_of_the_second_half() -> None:
    interval = losses(toy()[2], [9.0, 9.0, 9.0, 1.0, 2.0, 3.0]).read(math.nan)
    assert interval.train_noise == pytest.approx(math.sqrt(2 / 3) / 2)


def test_floats_and_tensors_of_one_element_count_the_same() -> None:
    values = [3.0, 1.0, 2.5, 0.5]
    from_tensors = losses(toy()[2], values).read(0.5)
    meter = toy()[2]
    for value in values:
        meter.record(value, 1)
    shaped = toy()[2]
    for value in values:
        shaped.record(torch.tensor([[value]], requires_grad=True), 1)
    np.testing.assert_equal(asdict(meter.read(0.5)), asdict(from_tensors))
    np.testing.assert_equal(asdict(shaped.read(0.5)), asdict(from_tensors))


def test_a_loss_of_more_than_one_element_is_refused_with_its_shape() -> None:
    with pytest.raises(ConfigError, match=r"loss must be a tensor of one element, got shape \(3,\)"):
        toy()[2].record(torch.ones(3), 3)


@pytest.mark.parametrize("count", [255, 256, 257, 600])
def test_long_intervals_keep_every_loss_in_order(count: int) -> None:
    values = [float(i) for i in range(count)]
    interval = losses(toy()[2], values).read(math.nan)
    assert interval.train_early == pytest.approx(np.mean(values[: count // 2]))
    assert interval.train_late == pytest.approx(np.mean(values[count // 2 :]))
    assert (interval.updates, interval.samples) == (count, count)


def test_a_recorded_loss_holds_no_graph() -> None:
    model, optimizer, meter = toy()
    loss = update(model, optimizer, meter)
    recorded = meter._losses[0]
    assert isinstance(recorded, torch.Tensor)
    assert not recorded.requires_grad
    assert meter.read(math.nan).train_late == loss.item() == 121.0


def test_samples_and_updates_are_counted_and_begin_anew_after_reading() -> None:
    meter = toy()[2]
    for samples in (4, 8, 3):
        meter.record(1.0, samples)
    first = meter.read(0.5)
    assert (first.samples, first.updates, first.val_loss) == (15, 3, 0.5)
    empty = meter.read(0.25)
    assert (empty.samples, empty.updates, empty.val_loss, empty.finite) == (0, 0, 0.25, True)
    unmeasured = (empty.train_early, empty.train_late, empty.train_noise, empty.grad_norm, empty.update_ratio)
    assert all(math.isnan(value) for value in unmeasured)


def test_hooks_are_there_for_one_armed_update_only() -> None:
    model, optimizer, meter = toy()
    assert hooks(optimizer) == 0
    meter.arm()
    meter.arm()
    assert (hooks(optimizer), meter.armed) == (2, True)
    update(model, optimizer, meter)
    assert (hooks(optimizer), meter.armed) == (0, False)
    first = meter.read(math.nan).grad_norm
    update(model, optimizer, meter)
    assert math.isnan(meter.read(math.nan).grad_norm)
    assert first > 0


@pytest.mark.parametrize("ending", ["read", "clear", "disarm"])
def test_hooks_go_when_the_armed_update_never_comes(ending: str) -> None:
    _, optimizer, meter = toy()
    meter.arm()
    {"read": lambda: meter.read(math.nan), "clear": meter.clear, "disarm": meter.disarm}[ending]()
    assert (hooks(optimizer), meter.armed) == (0, False)


def test_measuring_does_not_change_the_training() -> None:
    weights = []
    for armed in (True, False):
        model, optimizer, meter = toy()
        for _ in range(3):
            if armed:
                meter.arm()
            update(model, optimizer, meter)
        weights.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    assert torch.equal(*weights)


def test_floats_and_tensors_mixed_keep_their_order() -> None:
    meter = toy()[2]
    for loss in (4.0, torch.tensor(3.0), 2.0, torch.tensor(1.0)):
        meter.record(loss, 1)
    interval = meter.read(math.nan)
    assert (interval.train_early, interval.train_late) == (3.5, 1.5)


@pytest.mark.parametrize("armed_before", [0, 1])
def test_a_saved_state_continues_identically_on_another_meter(armed_before: int) -> None:
    model, optimizer, meter = toy()
    if armed_before:
        meter.arm()
        update(model, optimizer, meter)
    losses(meter, [float(i) for i in range(300)])
    if not armed_before:
        meter.arm()
    state = meter.get_state()
    meter.disarm()
    other = Meter(optimizer)
    other.set_state(state)
    assert other.armed == (not armed_before)
    other.disarm()
    for m in (meter, other):
        m.record(7.0, 2)
    np.testing.assert_equal(asdict(other.read(1.0)), asdict(meter.read(1.0)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_loss_that_is_not_finite_is_seen(bad: float) -> None:
    assert losses(toy()[2], [1.0, bad, 1.0, 1.0]).read(1.0).finite is False


def test_one_parameter_that_is_not_finite_is_seen_though_every_loss_was() -> None:
    model, optimizer, meter = toy()
    optimizer.param_groups[0]["lr"] = math.inf
    meter.arm()
    update(model, optimizer, meter)
    assert meter.read(1.0).finite is False


def test_an_armed_step_without_any_gradient_measures_nothing() -> None:
    _, optimizer, meter = toy()
    meter.arm()
    optimizer.step()
    assert math.isnan(meter.read(1.0).grad_norm)
    assert hooks(optimizer) == 0


def test_a_skipped_step_leaves_the_meter_armed_for_the_next_one() -> None:
    model, optimizer, meter = toy()
    meter.arm()
    meter.record(1.0, 1)  # a gradient scaler skipped this one
    assert meter.armed
    update(model, optimizer, meter)
    assert meter.read(1.0).grad_norm == pytest.approx(22 * math.sqrt(6), rel=1e-5)
