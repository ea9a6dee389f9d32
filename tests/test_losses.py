"""The losses by name: values by hand, what fits what, and clear refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from rl_tuner import ConfigError, JobError
from rl_tuner.envs import TrainingJob
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.losses import LOSSES, TASK_LOSSES, masked_squared_error, name_of
from rl_tuner.seeding import Streams

NAN = math.nan


def job(**changes: Any) -> TrainingJob:
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"model": nn.Linear(4, 3), "train": (x, torch.arange(12) % 3)}
    return TrainingJob(**{**options, **changes})


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "wanted"),
    [
        ("mse", [1.0, 5.0], [2.0, 2.0], (1 + 9) / 2),
        ("l1", [1.0, 5.0], [2.0, 2.0], (1 + 3) / 2),
        ("huber", [1.5, 5.0], [2.0, 2.0], (0.125 + 2.5) / 2),
        ("bce", [0.0, math.log(3)], [1, 0], (math.log(2) + math.log(4)) / 2),
        ("masked_mse", [[1.0, 5.0], [3.0, 0.0]], [[2.0, NAN], [NAN, NAN]], (1 + 0) / 2),
        ("masked_mse", [[1.0, 5.0], [3.0, 0.0]], [[2.0, 2.0], [NAN, 1.0]], ((1 + 9) / 2 + 1) / 2),
        ("masked_mse", [1.0, 5.0, 7.0], [2.0, NAN, 5.0], (1 + 0 + 4) / 3),
        ("cross_entropy", [[0.0, math.log(3)]], [0], math.log(4)),
    ],
)
def test_losses_by_hand(name: str, outputs: list[Any], targets: list[Any], wanted: float) -> None:
    assert float(LOSSES[name](torch.tensor(outputs), torch.tensor(targets))) == pytest.approx(wanted)


def test_nothing_masked_is_the_mean_squared_error() -> None:
    outputs, targets = torch.randn(2, 5, 3, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(masked_squared_error(outputs, targets), functional.mse_loss(outputs, targets))


def test_a_masked_entry_has_no_gradient_whatever_stands_there() -> None:
    outputs = torch.tensor([[1.0, math.inf, 3.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(masked_squared_error(outputs, torch.tensor([[2.0, NAN, 3.5]])), outputs)
    assert gradient.tolist() == [[-1.0, 0.0, -0.5]]


@given(st.sampled_from(["mse", "l1", "huber", "bce", "masked_mse"]), st.integers(1, 6), st.integers(1, 5))
def test_a_loss_is_a_mean_over_samples_so_parts_of_a_batch_add_up(name: str, first: int, rest: int) -> None:
    generator = torch.Generator().manual_seed(first + 10 * rest)
    outputs, targets = torch.randn(2, first + rest, 3, generator=generator, dtype=torch.float64)
    if name == "masked_mse":
        targets = torch.where(targets > 0, NAN, targets)
    elif name == "bce":
        targets = (targets > 0).double()
    loss = LOSSES[name]
    parts = [float(loss(o, t)) * len(o) for o, t in ((outputs[:first], targets[:first]),
                                                     (outputs[first:], targets[first:]))]  # fmt: skip
    assert float(loss(outputs, targets)) == pytest.approx(sum(parts) / (first + rest), rel=1e-12)


@pytest.mark.parametrize("name", ["mse", "l1", "huber", "bce", "masked_mse"])
def test_outputs_shaped_unlike_the_targets_are_refused_not_broadcast(name: str) -> None:
    with pytest.raises(JobError, match=r"outputs have shape \(4, 1\), the targets \(4,\): make them alike"):
        LOSSES[name](torch.zeros(4, 1), torch.zeros(4))


def test_every_loss_fits_exactly_one_task_and_the_tasks_own_come_first() -> None:
    fitting = [name for losses in TASK_LOSSES.values() for name in losses]
    assert sorted(fitting) == sorted(LOSSES)
    assert {task: losses[0] for task, losses in TASK_LOSSES.items()} == {
        "classification": "cross_entropy",
        "regression": "mse",
    }


@pytest.mark.parametrize("name", LOSSES)
def test_a_job_takes_a_loss_by_name_and_knows_the_name_of_one_given_as_a_function(name: str) -> None:
    task = next(task for task, losses in TASK_LOSSES.items() if name in losses)
    assert job(task=task, loss=name).loss_function is LOSSES[name]
    assert job(task=task, loss=LOSSES[name]).loss_name == name == name_of(LOSSES[name])


def test_a_function_of_ones_own_has_no_name() -> None:
    def own(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().max()

    assert job(loss=own).loss_name is None
    assert job(loss=own).loss_function is own


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "cross_entropi"}, "unknown loss 'cross_entropi'.*did you mean 'cross_entropy'"),
        ({"loss": "mse"}, "'mse' does not fit a classification: choose from cross_entropy, bce"),
        ({"loss": "bce", "task": "regression"}, "'bce' does not fit a regression: choose from mse, l1, hub"),
        ({"loss": 3}, "loss must be a name or a function, got int"),
        ({"start": {"label_smoothing": 0.1}, "loss": "bce"}, "label_smoothing needs .*, the job's is bce"),
        ({"start": {"label_smoothing": 0.0}, "task": "regression"}, "label_smoothing needs .* is mse"),
        ({"start": {"label_smoothing": 0.1}, "loss": nn.NLLLoss()}, "label_smoothing needs .* is its own"),
        ({"start": {"label_smoothing": 1.0}}, "label_smoothing must be at least 0 and below 1, got 1.0"),
        ({"start": {"l1": -0.1}}, "l1 must be at least 0"),
        ({"start": {"max_grad_norm": 0.0}}, "max_grad_norm must be above 0"),
    ],
)
def test_a_loss_or_regularizer_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        job(**changes)


@pytest.mark.parametrize("targets", [[1.0, 2.0], [-1.0, 1.0], [0.0, NAN]])
def test_targets_that_are_no_probabilities_are_refused_by_both_engines(targets: list[float]) -> None:
    data = torch.zeros(2, 3), torch.tensor(targets)
    bad = job(model=nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), train=data, loss="bce")
    with pytest.raises(JobError, match="'bce' needs targets of 0 and 1, they go from"):
        ReferenceEngine(bad, Streams(0))
    with pytest.raises(JobError, match="'bce' needs targets of 0 and 1, they go from"):
        BatchedEngine(1).start(0, bad, Streams(0))
