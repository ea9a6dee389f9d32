"""The losses of many jobs at once against torch's own, values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from rl_tuner.envs.losses import LOSSES
from rl_tuner.envs.row_losses import ROW_LOSSES, cross_entropy_rows, smoothed, squared_error_rows
from rl_tuner.errors import JobError

NAMES = list(LOSSES)


def make(name: str, rows: int, m: int, places: tuple[int, ...] = (), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Outputs and targets of `rows` jobs with m samples each."""
    generator = torch.Generator().manual_seed(seed)
    if name == "cross_entropy":
        outputs = torch.randn(rows, m, 5, *places, generator=generator, dtype=torch.float64)
        return outputs, torch.randint(0, 5, (rows, m, *places), generator=generator)
    outputs, targets = torch.randn(2, rows, m, *places, generator=generator, dtype=torch.float64)
    if name == "bce":
        return 3 * outputs, (targets > 0).long()
    if name == "masked_mse":
        return outputs, torch.where(targets > 0.3, torch.nan, targets)
    return 2 * outputs, targets  # so that Huber's loss sees errors on both sides of 1


def expected(name: str, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean loss, and the gradient of the (smoothed) loss by autograd."""
    outputs = outputs.clone().requires_grad_()
    loss = LOSSES[name](outputs, targets)
    trained = functional.cross_entropy(outputs, targets, label_smoothing=smoothing) if smoothing else loss
    return loss.detach(), torch.autograd.grad(trained, outputs)[0]


def require_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("places", [(), (4,), (3, 2)])
def test_values_and_gradients_are_those_of_the_jobs_loss(
    name: str, rows: int, places: tuple[int, ...]
) -> None:
    outputs, targets = make(name, rows, 6, places)
    losses, gradient = ROW_LOSSES[name](outputs, targets, torch.full((rows, 6), 1 / 6, dtype=torch.float64))
    assert losses.shape == (rows,)
    assert gradient.shape == outputs.shape
    for row in range(rows):
        loss, own = expected(name, outputs[row], targets[row])
        require_close(losses[row], loss)
        require_close(gradient[row], own)


@given(st.sampled_from(NAMES), st.integers(1, 7), st.integers(0, 4), st.integers(0, 99))
def test_places_of_weight_zero_count_for_nothing(name: str, m: int, padding: int, seed: int) -> None:
    outputs, targets = make(name, 2, m + padding, seed=seed)
    weights = torch.full((2, m + padding), 1 / m, dtype=torch.float64)
    weights[:, m:] = 0
    losses, gradient = ROW_LOSSES[name](outputs, targets, weights)
    for row in range(2):
        loss, own = expected(name, outputs[row, :m], targets[row, :m])
        require_close(losses[row], loss)
        require_close(gradient[row, :m], own)
        assert not gradient[row, m:].any()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_cut_into_rows_adds_up_to_its_loss(name: str) -> None:
    outputs, targets = make(name, 1, 12, (3,))
    weights = torch.full((3, 4), 1 / 12, dtype=torch.float64)
    losses, gradient = ROW_LOSSES[name](
        outputs.view(3, 4, *outputs.shape[2:]), targets.view(3, 4, 3), weights
    )
    loss, own = expected(name, outputs[0], targets[0])
    require_close(losses.sum(), loss)
    require_close(gradient.flatten(0, 1), own)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_scores_stay_finite(dtype: torch.dtype) -> None:
    outputs = torch.tensor([[[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]]], dtype=dtype)
    targets = torch.tensor([[2, 1]])
    losses, gradient = cross_entropy_rows(outputs, targets, torch.full((1, 2), 0.5, dtype=dtype))
    assert losses.tolist() == [1e4]  # 2e4 for the first sample, 0 for the second
    assert gradient.tolist() == [[[0.5, 0.0, -0.5], [0.0, 0.0, 0.0]]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_in_its_row(name: str, bad: float) -> None:
    outputs, targets = make(name, 3, 4)
    if name == "masked_mse":
        targets = targets.nan_to_num(0.5)
    weights = torch.full((3, 4), 0.25, dtype=torch.float64)
    clean_losses, clean_gradient = ROW_LOSSES[name](outputs, targets, weights)
    broken = outputs.clone()
    # The sample's own class would hide a score of -inf in another one, as it hides it from torch.
    broken[1, 2] = bad
    losses, gradient = ROW_LOSSES[name](broken, targets, weights)
    assert losses[1].isfinite() == expected(name, broken[1], targets[1])[0].isfinite()
    if name in ("cross_entropy", "mse", "masked_mse"):  # the slopes of the others are bounded
        assert not gradient[1, 2].isfinite().all()
    for row in (0, 2):
        assert torch.equal(losses[row], clean_losses[row])
        assert torch.equal(gradient[row], clean_gradient[row])


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_as_they_are(name: str) -> None:
    outputs, targets = make(name, 2, 3)
    weights = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    before = [t.clone() for t in (outputs, targets, weights)]
    ROW_LOSSES[name](outputs, targets, weights)
    for a, b in zip(before, (outputs, targets, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


SMOOTHINGS = st.lists(st.sampled_from([0.0, 0.001, 0.1, 0.5, 0.9]), min_size=1, max_size=4)


@given(SMOOTHINGS, st.integers(1, 5), st.sampled_from([(), (4,), (3, 2)]), st.integers(0, 99))
def test_smoothed_labels_change_the_gradient_as_in_torch_and_leave_the_loss_told_plain(
    each: list[float], m: int, places: tuple[int, ...], seed: int
) -> None:
    outputs, targets = make("cross_entropy", len(each), m + 1, places, seed)
    weights = torch.full((len(each), m + 1), 1 / m, dtype=torch.float64)
    weights[:, m] = 0  # filling
    losses, gradient = smoothed(torch.tensor(each, dtype=torch.float64))(outputs, targets, weights)
    for row, smoothing in enumerate(each):
        loss, own = expected("cross_entropy", outputs[row, :m], targets[row, :m], smoothing)
        require_close(losses[row], loss)
        require_close(gradient[row, :m], own)
        assert not gradient[row, m].any()


def test_large_logits_neither_overflow_nor_lose_their_loss() -> None:
    outputs = torch.tensor([[1e4, -1e4, 1e4, 30.0]], dtype=torch.float64)
    losses, gradient = ROW_LOSSES["bce"](outputs, torch.tensor([[0, 1, 1, 1]]), torch.ones(1, 4).double())
    assert losses.tolist() == pytest.approx([2e4 + math.exp(-30)], rel=1e-15)
    assert gradient[0, :3].tolist() == [1.0, -1.0, 0.0]


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8])
def test_class_numbers_of_other_integer_types_are_class_numbers(kind: torch.dtype) -> None:
    outputs, targets = make("cross_entropy", 2, 3)
    weights = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    for found, wanted in zip(
        cross_entropy_rows(outputs, targets.to(kind), weights),
        cross_entropy_rows(outputs, targets, weights),
        strict=True,
    ):
        assert torch.equal(found, wanted)


def test_the_gradient_has_the_outputs_type_when_targets_are_more_precise() -> None:
    outputs, targets = make("mse", 2, 3)
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


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cross_entropy"])
@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 1), (2, 3, 2)])
def test_predictions_of_another_shape_than_the_targets_are_an_error(
    name: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(JobError, match=r"outputs have shape .*the targets \(3,\): make them alike"):
        ROW_LOSSES[name](torch.zeros(shape), torch.zeros(2, 3), torch.ones(2, 3))


def test_every_loss_is_there_by_rows() -> None:
    assert ROW_LOSSES.keys() == LOSSES.keys()
