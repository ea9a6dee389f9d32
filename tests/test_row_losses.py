"""The losses of many jobs at once against torch's own, values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from rl_tuner.envs.jobs import LOSSES
from rl_tuner.envs.row_losses import ROW_LOSSES, RowLoss, cross_entropy_rows, squared_error_rows
from rl_tuner.errors import JobError

TASKS = ["classification", "regression"]


def make(task: str, rows: int, m: int, places: tuple[int, ...] = (), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Outputs and targets of `rows` jobs with m samples each."""
    generator = torch.Generator().manual_seed(seed)
    if task == "regression":
        outputs, targets = torch.randn(2, rows, m, *places, generator=generator, dtype=torch.float64)
        return outputs, targets
    outputs = torch.randn(rows, m, 5, *places, generator=generator, dtype=torch.float64)
    return outputs, torch.randint(0, 5, (rows, m, *places), generator=generator)


def expected(task: str, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss and its gradient by autograd."""
    outputs = outputs.clone().requires_grad_()
    loss = LOSSES[task](outputs, targets)
    return loss.detach(), torch.autograd.grad(loss, outputs)[0]


def require_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("places", [(), (4,), (3, 2)])
def test_values_and_gradients_are_those_of_the_jobs_loss(
    task: str, rows: int, places: tuple[int, ...]
) -> None:
    outputs, targets = make(task, rows, 6, places)
    losses, gradient = ROW_LOSSES[task](outputs, targets, torch.full((rows, 6), 1 / 6, dtype=torch.float64))
    assert losses.shape == (rows,)
    assert gradient.shape == outputs.shape
    for row in range(rows):
        loss, own = expected(task, outputs[row], targets[row])
        require_close(losses[row], loss)
        require_close(gradient[row], own)


@given(st.sampled_from(TASKS), st.integers(1, 7), st.integers(0, 4), st.integers(0, 99))
def test_places_of_weight_zero_count_for_nothing(task: str, m: int, padding: int, seed: int) -> None:
    outputs, targets = make(task, 2, m + padding, seed=seed)
    weights = torch.full((2, m + padding), 1 / m, dtype=torch.float64)
    weights[:, m:] = 0
    losses, gradient = ROW_LOSSES[task](outputs, targets, weights)
    for row in range(2):
        loss, own = expected(task, outputs[row, :m], targets[row, :m])
        require_close(losses[row], loss)
        require_close(gradient[row, :m], own)
        assert not gradient[row, m:].any()


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_cut_into_rows_adds_up_to_its_loss(task: str) -> None:
    outputs, targets = make(task, 1, 12, (3,))
    weights = torch.full((3, 4), 1 / 12, dtype=torch.float64)
    losses, gradient = ROW_LOSSES[task](
        outputs.view(3, 4, *outputs.shape[2:]), targets.view(3, 4, 3), weights
    )
    loss, own = expected(task, outputs[0], targets[0])
    require_close(losses.sum(), loss)
    require_close(gradient.flatten(0, 1), own)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_scores_stay_finite(dtype: torch.dtype) -> None:
    outputs = torch.tensor([[[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]]], dtype=dtype)
    targets = torch.tensor([[2, 1]])
    losses, gradient = cross_entropy_rows(outputs, targets, torch.full((1, 2), 0.5, dtype=dtype))
    assert losses.tolist() == [1e4]  # 2e4 for the first sample, 0 for the second
    assert gradient.tolist() == [[[0.5, 0.0, -0.5], [0.0, 0.0, 0.0]]]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_in_its_row(task: str, bad: float) -> None:
    outputs, targets = make(task, 3, 4)
    weights = torch.full((3, 4), 0.25, dtype=torch.float64)
    clean_losses, clean_gradient = ROW_LOSSES[task](outputs, targets, weights)
    broken = outputs.clone()
    # The sample's own class would hide a score of -inf in another one, as it hides it from torch.
    broken[1, 2] = bad
    losses, gradient = ROW_LOSSES[task](broken, targets, weights)
    assert not losses[1].isfinite()
    assert not gradient[1, 2].isfinite().all()
    for row in (0, 2):
        assert torch.equal(losses[row], clean_losses[row])
        assert torch.equal(gradient[row], clean_gradient[row])


@pytest.mark.parametrize("loss", [cross_entropy_rows, squared_error_rows])
def test_inputs_are_left_as_they_are(loss: RowLoss) -> None:
    outputs, targets = make("classification" if loss is cross_entropy_rows else "regression", 2, 3)
    weights = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    before = [t.clone() for t in (outputs, targets, weights)]
    loss(outputs, targets, weights)
    assert all(torch.equal(a, b) for a, b in zip(before, (outputs, targets, weights), strict=True))


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8])
def test_class_numbers_of_other_integer_types_are_class_numbers(kind: torch.dtype) -> None:
    outputs, targets = make("classification", 2, 3)
    weights = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    for found, wanted in zip(
        cross_entropy_rows(outputs, targets.to(kind), weights),
        cross_entropy_rows(outputs, targets, weights),
        strict=True,
    ):
        assert torch.equal(found, wanted)


def test_the_gradient_has_the_outputs_type_when_targets_are_more_precise() -> None:
    outputs, targets = make("regression", 2, 3)
    loss, gradient = squared_error_rows(outputs.float(), targets, torch.full((2, 3), 1 / 3))
    assert gradient.dtype == torch.float32
    expected_loss = torch.stack([functional.mse_loss(o, t) for o, t in zip(outputs, targets, strict=True)])
    torch.testing.assert_close(loss.double(), expected_loss, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        ((2, 3), (2, 3)),
        ((2, 3, 5), (2, 3, 5)),
        ((2, 3, 5, 4), (2, 3)),
        ((2, 3, 5, 4), (2, 3, 5)),
        ((2, 4, 5), (2, 3)),
    ],
)
def test_scores_that_do_not_fit_the_class_numbers_are_an_error_with_both_shapes(
    outputs: tuple[int, ...], targets: tuple[int, ...]
) -> None:
    with pytest.raises(JobError, match="cross-entropy needs scores") as error:
        cross_entropy_rows(torch.zeros(outputs), torch.zeros(targets, dtype=torch.int64), torch.ones(2, 3))
    assert f"{outputs[1:]}" in str(error.value)
    assert f"{targets[1:]}" in str(error.value)


@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 1), (2, 3, 2)])
def test_predictions_of_another_shape_than_the_targets_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(JobError, match=r"outputs have shape .*the targets \(3,\): make them alike"):
        squared_error_rows(torch.zeros(shape), torch.zeros(2, 3), torch.ones(2, 3))


def test_there_is_a_loss_for_every_task() -> None:
    assert ROW_LOSSES.keys() == LOSSES.keys()
