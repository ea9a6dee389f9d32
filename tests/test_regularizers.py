"""Penalties, smoothed labels and clipping against autograd of what they stand for, alone and by rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from rl_tuner.envs import TrainingJob, TuningEnv
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.models import mlp
from rl_tuner.envs.regularizers import (
    REGULARIZERS,
    Regularizers,
    RowRegularizers,
    add_penalties,
    stacked_columns,
    used_in,
)
from rl_tuner.seeding import Streams
from rl_tuner.space import HYPERPARAMETERS, STANDARD

GENERATOR = np.random.default_rng(0)
X = torch.from_numpy(GENERATOR.normal(size=(90, 4)))
Y = torch.from_numpy(GENERATOR.integers(3, size=90))
SEED, BUDGET = 5, 640
VALUES: dict[str, float] = {"l1": 0.01, "l2": 0.03, "label_smoothing": 0.2, "max_grad_norm": 0.4}


def model() -> nn.Sequential:
    return mlp(4, (6,), 3).double()


def make_job(start: dict[str, float], **changes: Any) -> TrainingJob:
    options: dict[str, Any] = {
        "train": (X[:64], Y[:64]),
        "validation": (X[64:], Y[64:]),
        "optimizer": "adam",
        "start": {"lr": 0.02, "batch_size": 16.0, **start},
        "budget": BUDGET,
    }
    return TrainingJob(model, **{**options, **changes})


def written_out(network: nn.Module, outputs: Tensor, targets: Tensor, values: dict[str, float]) -> Tensor:
    """The loss with everything that regularizes it, as a textbook has it."""
    smoothing = values.get("label_smoothing", 0.0)
    loss = functional.cross_entropy(outputs, targets, label_smoothing=smoothing)
    l1 = sum(p.abs().sum() for p in network.parameters())
    l2 = sum(p.square().sum() for p in network.parameters())
    return loss + values.get("l1", 0.0) * l1 + values.get("l2", 0.0) / 2 * l2


def batches(seed: int, n: int, size: int) -> Iterator[list[int]]:
    shuffles = np.random.default_rng(Streams(Streams(seed).seed_of("batches")).seed_of("batches"))
    while True:
        order = shuffles.permutation(n).tolist()
        yield from (order[i : i + size] for i in range(0, n, size))


@pytest.mark.parametrize("names", [*((name,) for name in VALUES), tuple(VALUES)], ids="+".join)
def test_training_is_the_plain_loop_with_the_penalties_written_out(names: tuple[str, ...]) -> None:
    values = {name: VALUES[name] for name in names}
    with torch.random.fork_rng():
        torch.manual_seed(Streams(SEED).seed_of("init"))
        network = model()
    optimizer, draw = torch.optim.Adam(network.parameters(), lr=0.02), batches(SEED, 64, 16)
    plain_losses, norms = [], []
    for update in range(BUDGET // 16):
        if update == 20:
            values = {name: value / 4 for name, value in values.items()}
        rows = next(draw)
        optimizer.zero_grad()
        outputs = network(X[rows])
        written_out(network, outputs, Y[rows], values).backward()  # type: ignore[no-untyped-call]
        if "max_grad_norm" in values:
            norms.append(nn.utils.clip_grad_norm_(network.parameters(), values["max_grad_norm"]).item())
        optimizer.step()
        plain_losses.append(functional.cross_entropy(outputs, Y[rows]).item())

    engine = ReferenceEngine(make_job({name: VALUES[name] for name in names}), Streams(SEED))
    first = engine.advance(BUDGET // 2)
    engine.trainee.write(values)
    second = engine.advance(BUDGET)
    for ours, theirs in zip(engine.model.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    # Neither loss knows of smoothing and penalties.
    assert first.train_late == pytest.approx(np.mean(plain_losses[10:20]), rel=1e-9)
    assert second.train_late == pytest.approx(np.mean(plain_losses[30:]), rel=1e-9)
    with torch.no_grad():
        plain = functional.cross_entropy(network(X[64:]), Y[64:]).item()
    assert second.val_loss == pytest.approx(plain, rel=1e-9)
    if norms:  # what is measured is what the optimizer gets
        assert norms[-1] > values["max_grad_norm"]
        assert second.grad_norm == pytest.approx(values["max_grad_norm"], rel=1e-5)


def test_regularizers_at_zero_change_nothing() -> None:
    zero = {"l1": 0.0, "l2": 0.0, "label_smoothing": 0.0, "max_grad_norm": 1e9}
    one, other = (ReferenceEngine(make_job(start), Streams(0)) for start in (zero, {}))
    assert one.advance(BUDGET) == other.advance(BUDGET)
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_penalties_pull_on_parameters_that_the_loss_does_not_reach_and_on_sparse_ones() -> None:
    table = nn.Embedding(3, 2, sparse=True).double()
    idle = nn.Parameter(torch.tensor([-2.0, 0.0, 0.5], dtype=torch.float64))
    table(torch.tensor([1])).sum().backward()
    before = table.weight.detach().clone()
    add_penalties([table.weight, idle], 0.1, 0.2)
    assert idle.grad is not None
    assert table.weight.grad is not None
    assert idle.grad.tolist() == pytest.approx([-0.1 - 0.4, 0.0, 0.1 + 0.1])
    wanted = 0.1 * before.sign() + 0.2 * before
    wanted[1] += 1
    torch.testing.assert_close(table.weight.grad, wanted)


def test_a_state_continues_bit_for_bit_with_the_regularizers_it_had() -> None:
    one, other = (ReferenceEngine(make_job(VALUES), Streams(0)) for _ in range(2))
    tuned = {"l1": 0.2, "l2": 0.0, "label_smoothing": 0.4, "max_grad_norm": 0.1}
    one.advance(100)
    one.trainee.write(tuned)
    state = one.get_state()
    expected = one.advance(BUDGET)
    other.set_state(state)
    assert tuned.items() <= other.trainee.read().items()
    assert other.advance(BUDGET) == expected


def test_a_policy_may_act_on_regularizers_and_on_those_alone_that_the_job_names() -> None:
    env = TuningEnv(make_job({"l1": 0.001, "max_grad_norm": 1.0}), hyperparameters=list(HYPERPARAMETERS))
    _, info = env.reset(seed=0)
    assert info["hyperparameters"].keys() >= {"lr", "l1", "max_grad_norm"}
    assert not info["hyperparameters"].keys() & {"l2", "label_smoothing"}
    assert env.action_space.shape == (len(HYPERPARAMETERS),)
    *_, info = env.step(np.ones(len(HYPERPARAMETERS), np.float32))
    assert info["hyperparameters"]["l1"] == pytest.approx(0.001 * 10**0.5)
    assert info["hyperparameters"]["max_grad_norm"] == pytest.approx(10**0.5)


def test_every_regularizer_is_a_hyperparameter_outside_of_the_standard_space() -> None:
    assert {*REGULARIZERS} == {*HYPERPARAMETERS} - {*STANDARD}


COEFFICIENTS = st.fixed_dictionaries(
    {
        "l1": st.sampled_from([0.0, 0.02]),
        "l2": st.sampled_from([0.0, 0.3]),
        "max_grad_norm": st.sampled_from([0.0, 0.05, 0.7, 50.0]),
    }
)


@given(st.lists(COEFFICIENTS, min_size=1, max_size=5), st.integers(0, 99))
def test_each_row_is_regularized_as_a_model_of_its_own(each: list[dict[str, float]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    theta, gradient = torch.randn(2, len(each), 7, generator=generator, dtype=torch.float64)
    theta[:, 2] = 0.0
    wanted = []
    for row, values in enumerate(each):
        p = nn.Parameter(theta[row].clone())
        given_values = {k: v for k, v in values.items() if k != "max_grad_norm" or v}
        loss = (p * gradient[row]).sum()
        Regularizers([p], given_values).backward(loss, p, p)
        wanted.append(p.grad)
    settings = {name: np.array([values.get(name, 0.0) for values in each]) for name in REGULARIZERS}
    used = used_in({**settings, "dropout": np.zeros(len(each))})
    rows = RowRegularizers.of(stacked_columns(settings, theta), used)
    assert rows.act == bool(used)
    found = gradient.clone()
    rows.apply(found, theta, torch.empty_like(theta))
    for row, own in zip(found, wanted, strict=True):
        torch.testing.assert_close(row, own, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_gradient_that_is_no_number_stays_in_its_row_clipped_or_not(bad: float) -> None:
    gradient = torch.ones(3, 4, dtype=torch.float64)
    gradient[:2, 1] = bad
    columns = torch.zeros(4, 3, 1, dtype=torch.float64)
    columns[REGULARIZERS.index("max_grad_norm"), :, 0] = torch.tensor([0.0, 1.0, 1.0])
    RowRegularizers.of(columns, ["max_grad_norm"]).apply(gradient, torch.ones(3, 4), torch.empty(3, 4))
    assert gradient[0, [0, 2, 3]].tolist() == [1.0, 1.0, 1.0]
    assert not gradient[1, 1].isfinite()
    assert gradient[2].tolist() == pytest.approx([0.5] * 4, rel=1e-6)


def test_what_no_row_uses_is_no_column_at_all() -> None:
    rows = RowRegularizers.of(torch.zeros(4, 2, 1), ["l2", "dropout"])
    assert (rows.l1, rows.label_smoothing, rows.max_grad_norm) == (None, None, None)
    assert rows.l2 is not None
    assert not RowRegularizers.of(torch.zeros(4, 2, 1), ["label_smoothing"]).act
