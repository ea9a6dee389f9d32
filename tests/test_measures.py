"""The array twin of the meter against the meter itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rl_tuner.envs.measures import measure, norms
from rl_tuner.meter import Meter

SIZES = (3, 1, 6)
FIELDS = (
    "updates", "train_early", "train_late", "train_noise",
    "grad_norm", "grad_alive", "update_ratio", "finite",
)  # fmt: skip

LOSSES = st.floats(-10, 10) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0])
JOBS = st.lists(st.lists(LOSSES, min_size=1, max_size=9), min_size=1, max_size=5)


def as_tensors(row: NDArray[np.float32]) -> list[torch.Tensor]:
    return [torch.from_numpy(part.copy()) for part in np.split(row, np.cumsum(SIZES)[:-1])]


def measured(
    losses: list[float], before: NDArray[np.float32], gradient: NDArray[np.float32], lr: float
) -> tuple[Meter, NDArray[np.float32]]:
    """A meter that saw the losses, and one plain step at the last; also the weights after it."""
    weights = [p.requires_grad_() for p in as_tensors(before)]
    optimizer = torch.optim.SGD(weights, lr=lr)
    meter = Meter(optimizer)
    for p, grad in zip(weights, as_tensors(gradient), strict=True):
        p.grad = grad
    for loss in losses:
        meter.record(loss, 1)
    meter.arm()
    optimizer.step()
    return meter, np.concatenate([p.detach().numpy() for p in weights])


@given(JOBS, st.integers(0, 99), st.sampled_from([1.0, 1e-9, 0.0, np.nan, np.inf]))
def test_every_job_is_measured_as_by_a_meter_of_its_own(
    jobs: list[list[float]], seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    n, rounds = len(jobs), max(map(len, jobs))
    before = rng.normal(size=(n, sum(SIZES))).astype(np.float32)
    gradient = rng.normal(size=before.shape).astype(np.float32)
    with np.errstate(invalid="ignore"):
        gradient[0, : SIZES[0]] *= scale
    losses = np.full((rounds, n), np.nan)  # what is not a job's own is not read
    expected, after = [], before.copy()
    for i, own in enumerate(jobs):
        losses[rounds - len(own) :, i] = own
        meter, after[i] = measured(own, before[i], gradient[i], 0.1)
        expected.append(meter.read(0.0))
    matrices = [torch.from_numpy(m) for m in (gradient, after - before, after)]
    found = measure(
        losses, np.array([len(own) for own in jobs]), *(norms(m, SIZES).double().numpy() for m in matrices)
    )
    for i, one in enumerate(expected):
        for name in FIELDS:
            actual, wanted = getattr(found, name)[i], getattr(one, name)
            np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-12, err_msg=name)


def test_norms_are_those_of_each_tensor_in_each_row() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(4, sum(SIZES)))
    found = norms(torch.from_numpy(matrix), SIZES).numpy()
    expected = [[np.linalg.norm(part.numpy()) for part in as_tensors(row)] for row in matrix]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("losses", "early", "late"), [([4.0], 4, 4), ([4, 2], 4, 2), ([4, 2, 1], 4, 1.5), ([5, 3, 2, 1], 4, 1.5)]
)
def test_halves_are_cut_as_computed_by_hand(losses: list[float], early: float, late: float) -> None:
    one = np.ones((1, 1))
    found = measure(np.array(losses, float)[:, None], np.array([len(losses)]), one, one, one)
    assert (found.train_early[0], found.train_late[0]) == (early, late)
