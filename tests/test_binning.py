"""Rows of a table: a bijection from bins, edges belonging to the bin above."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.binning import Binning
from rl_tuner.errors import ConfigError


def binning(*edges: list[float], columns: tuple[int, ...] | None = None) -> Binning:
    return Binning(columns or tuple(range(len(edges))), tuple(np.array(e, dtype=np.float64) for e in edges))


@pytest.mark.parametrize(("value", "row"), [(-9.0, 0), (0.0, 1), (0.5, 1), (1.0, 2), (np.inf, 2), (0.99, 1)])
def test_an_edge_belongs_to_the_bin_above(value: float, row: int) -> None:
    assert binning([0.0, 1.0]).row(np.array([value])) == row


def test_each_combination_of_bins_has_a_row_of_its_own() -> None:
    b = binning([0.0, 1.0], [0.0], [])
    assert (b.shape, b.rows) == ((3, 2, 1), 6)
    places = itertools.product([-1.0, 0.5, 2.0], [-1.0, 1.0], [7.0])
    assert sorted(b.row(np.array(p)) for p in places) == list(range(6))


def test_rows_count_like_an_array_in_c_order() -> None:
    b = binning([0.0, 1.0], [0.0])
    assert b.row(np.array([0.5, 3.0])) == np.ravel_multi_index((1, 1), (3, 2))


def test_only_the_chosen_columns_count() -> None:
    b = binning([0.0], columns=(2,))
    assert b.row(np.array([5.0, 5.0, -1.0])) == 0
    assert b.row(np.array([-5.0, -5.0, 1.0])) == 1


def test_without_columns_there_is_one_row() -> None:
    assert Binning((), ()).rows == 1
    assert Binning((), ()).row(np.array([1.0])) == 0


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=2), st.lists(st.floats(-10, 10), max_size=5))
def test_a_row_always_exists(observation: list[float], edges: list[float]) -> None:
    b = binning(sorted(set(edges)), [0.0])
    assert 0 <= b.row(np.array(observation)) < b.rows


@pytest.mark.parametrize("edges", [[1.0, 1.0], [2.0, 1.0], [np.nan], [0.0, np.inf]])
def test_edges_must_increase_and_be_finite(edges: list[float]) -> None:
    with pytest.raises(ConfigError, match="column 4 must be finite and strictly increasing"):
        binning(edges, columns=(4,))


def test_edges_must_be_one_dimensional() -> None:
    with pytest.raises(ConfigError, match="column 0"):
        Binning((0,), (np.zeros((1, 1)),))


def test_each_column_needs_edges() -> None:
    with pytest.raises(ConfigError, match="2 columns need as many edges, got 1"):
        Binning((0, 1), (np.zeros(1),))
