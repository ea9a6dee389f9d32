"""Evolution strategies' arithmetic: against closed forms and hand-computed ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rl_tuner.agents.mirrored import centred_ranks, gradient, mirrored

JOBS, POPULATION = 3, 8
RETURNS = arrays(np.float64, (JOBS, POPULATION), elements=st.integers(-1_000, 1_000).map(float))


def test_members_are_mirrored_around_the_weights() -> None:
    weights, noise = torch.tensor([1.0, 2.0]), torch.tensor([[0.5, -1.0], [2.0, 0.0]])
    members = mirrored(weights, noise, 0.5)
    assert members.tolist() == [[1.25, 1.5], [2.0, 2.0], [0.75, 2.5], [0.0, 2.0]]


def test_ranks_run_from_worst_to_best_within_each_job() -> None:
    ranks = centred_ranks(np.array([[3.0, -1.0, 7.0], [1e6, 1e6 + 1, 1e6 - 1]]))
    assert ranks.tolist() == [[0.0, -0.5, 0.5], [0.0, 0.5, -0.5]]


def test_equal_returns_share_their_rank() -> None:
    ranks = centred_ranks(np.array([[2.0, 5.0, 2.0, 9.0], [4.0, 4.0, 4.0, 4.0]]))
    np.testing.assert_allclose(ranks, [[-1 / 3, 1 / 6, -1 / 3, 0.5], [0, 0, 0, 0]], atol=1e-15)


def test_a_return_that_is_not_a_number_is_the_worst() -> None:
    assert centred_ranks(np.array([[np.nan, -np.inf, 1.0]])).tolist() == [[-0.25, -0.25, 0.5]]


@given(RETURNS, arrays(np.float64, (JOBS, 1), elements=st.integers(-(10**6), 10**6).map(float)))
def test_ranks_are_blind_to_what_a_job_gives_all_its_members(
    returns: np.ndarray, constants: np.ndarray
) -> None:
    np.testing.assert_array_equal(centred_ranks(returns + constants), centred_ranks(returns))


@given(RETURNS)
def test_ranks_of_a_job_sum_to_zero_and_turn_with_the_returns(returns: np.ndarray) -> None:
    ranks = centred_ranks(returns)
    np.testing.assert_allclose(ranks.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(centred_ranks(-returns), -ranks, atol=1e-12)
    assert np.abs(ranks).max() <= 0.5


def two_jobs(members: torch.Tensor) -> np.ndarray:
    """``f(θ) = b·θ − θ·A θ / 2`` with A symmetric, whose gradient is ``b − A θ``.

    One job has half of it, and another one and a half times f and a constant.
    """
    b, x = np.array([1.0, -2.0, 0.5]), members.numpy().astype(np.float64)
    a = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, -0.4], [0.0, -0.4, 3.0]])
    value: np.ndarray = x @ b - np.einsum("...i,ij,...j->...", x, a, x) / 2
    return np.stack([value / 2, 1.5 * value + 7])


GRADIENT_AT_2_1_M1 = [1 - 4.3, -2 - 2.0, 0.5 + 3.4]
"""``b - A θ`` at θ = (2, 1, -1), by hand: ``A θ = (4.3, 2.0, -3.4)``."""


@pytest.mark.parametrize("sigma", [0.01, 1.0])
def test_the_gradient_of_a_linear_quadratic_function_is_exact_along_an_orthogonal_basis(sigma: float) -> None:
    weights = torch.tensor([2.0, 1.0, -1.0], dtype=torch.float64)
    noise = np.sqrt(3) * torch.eye(3, dtype=torch.float64)  # mean of ε εᵀ is the identity
    found = gradient(two_jobs(mirrored(weights, noise, sigma)), noise, sigma)
    np.testing.assert_allclose(found, GRADIENT_AT_2_1_M1, rtol=1e-9)


def test_the_gradient_of_a_linear_quadratic_function_is_right_in_the_mean_over_normal_noise() -> None:
    weights = torch.tensor([2.0, 1.0, -1.0])
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((40_000, 3), dtype=np.float32))
    found = gradient(two_jobs(mirrored(weights, noise, 0.1)), noise, 0.1)
    np.testing.assert_allclose(found, GRADIENT_AT_2_1_M1, atol=0.15)  # a standard error is 0.04


def test_what_is_even_in_the_noise_cancels_exactly() -> None:
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((5, 7)))
    fitness = mirrored(torch.zeros(7, dtype=torch.float64), noise, 0.3).square().sum(-1).numpy()[None]
    for utilities in (fitness, centred_ranks(fitness)):
        assert gradient(utilities, noise, 0.3).tolist() == [0.0] * 7
