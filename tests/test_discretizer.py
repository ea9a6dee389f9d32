"""Quantile bins hold even shares, and survive every awkward column."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.agents.discretizer import quantile_binning
from rl_tuner.binning import Binning
from rl_tuner.errors import ConfigError


def bins_of(binning: Binning, values: np.ndarray) -> list[int]:
    return [binning.row(np.array([v])) for v in values]


def column(values: object) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)[:, None]


def test_bins_hold_even_shares() -> None:
    values = np.random.default_rng(0).permutation(np.arange(100.0))
    binning = quantile_binning(column(values), {0: 4})
    np.testing.assert_array_equal(binning.edges[0], [24.5, 49.5, 74.5])
    assert np.bincount(bins_of(binning, values)).tolist() == [25, 25, 25, 25]


def test_edges_agree_with_numpys_quantiles_on_many_values() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    edges = quantile_binning(column(values), {0: 8}).edges[0]
    np.testing.assert_allclose(edges, np.quantile(values, np.arange(1, 8) / 8), atol=1e-3)


def test_a_rare_flag_still_parts_its_zeros_from_its_ones() -> None:
    binning = quantile_binning(column([0.0] * 97 + [1.0] * 3), {0: 2})
    assert bins_of(binning, np.array([0.0, 1.0])) == [0, 1]


def test_a_constant_column_gets_one_bin() -> None:
    binning = quantile_binning(column([2.0] * 50), {0: 5})
    assert binning.shape == (1,)


def test_coinciding_edges_are_merged() -> None:
    binning = quantile_binning(column([0.0] * 80 + [1.0] * 10 + [2.0] * 10), {0: 10})
    np.testing.assert_array_equal(binning.edges[0], [0.5, 1.5])


def test_the_bins_are_chosen_for_each_column() -> None:
    data = np.random.default_rng(1).normal(size=(200, 3))
    binning = quantile_binning(data, {2: 3, 0: 5})
    assert (binning.columns, binning.shape) == ((2, 0), (3, 5))


def test_unseen_values_fall_into_the_outer_bins() -> None:
    binning = quantile_binning(column(np.arange(10.0)), {0: 2})
    assert bins_of(binning, np.array([-1e9, 1e9])) == [0, 1]


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60),
    st.integers(1, 12),
)
def test_whatever_is_observed_no_bin_is_empty(values: list[float], bins: int) -> None:
    binning = quantile_binning(column(values), {0: bins})
    shape = binning.shape[0]
    assert shape <= min(bins, len(set(values)))
    assert set(bins_of(binning, np.array(values))) == set(range(shape))


@pytest.mark.parametrize(
    ("data", "bins", "message"),
    [
        (np.zeros((0, 2)), {0: 2}, "shape"),
        (np.zeros(4), {0: 2}, "shape"),
        (np.zeros((4, 2)), {2: 2}, "no column 2"),
        (np.zeros((4, 2)), {0: 0}, "number of bins of column 0 must be >= 1"),
        (np.array([[1.0], [np.nan]]), {0: 2}, "column 0 .* not finite"),
    ],
)
def test_what_cannot_be_binned_is_named(data: np.ndarray, bins: dict[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quantile_binning(data, bins)
