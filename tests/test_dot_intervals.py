from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.isotonic import IsotonicRegression

from rl_tuner.dot_intervals import draw_estimates, limits_of, name_curves, name_lines, spread
from rl_tuner.statistics import Estimate

INF, NAN = float("inf"), float("nan")
places = st.lists(st.floats(0, 1), min_size=1, max_size=20).map(sorted)


def marks(axes: Axes, marker: str) -> list[tuple[float, float]]:
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def test_each_estimate_is_a_dot_on_its_interval_from_the_top_down() -> None:
    axes = Figure().subplots()
    found = [Estimate(0.5, 0.25, 1.0, 3), Estimate(2.0, 1.5, 2.5, 3)]
    draw_estimates(axes, found, ["red", "blue"], limits_of(found))
    assert marks(axes, "o") == [(0.5, 0), (2.0, 1)]
    bars = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "None"]
    assert bars == [[0.25, 1.0], [1.5, 2.5]]
    low, high = axes.get_ylim()
    assert low > high
    assert not marks(axes, "<") + marks(axes, ">")


def test_an_interval_without_an_end_runs_to_the_edge_as_an_arrow() -> None:
    axes = Figure().subplots()
    draw_estimates(axes, [Estimate(0.5, 0.2, INF, 3)], ["red"], (0.0, 1.0))
    assert marks(axes, ">") == [(1.0, 0)]
    assert marks(axes, "o") == [(0.5, 0)]


def test_a_mean_beyond_the_axis_is_an_arrow_at_its_edge() -> None:
    axes = Figure().subplots()
    draw_estimates(axes, [Estimate(0.1, NAN, NAN, 1), Estimate(9.0, NAN, NAN, 1)], ["red"] * 2, (1.0, 4.0))
    assert marks(axes, "<") == [(1.0, 0)]
    assert marks(axes, ">") == [(4.0, 1)]
    assert not marks(axes, "o")


def test_a_second_interval_is_thick_upon_the_first() -> None:
    axes = Figure().subplots()
    outer, inner = Estimate(0.5, 0.1, 0.9, 3), Estimate(0.5, 0.4, 0.6, 3)
    draw_estimates(axes, [outer], ["red"], (0.0, 1.0), inner=[inner])
    thin, thick = (line for line in axes.lines if line.get_marker() == "None")
    assert list(thin.get_xdata()) == [0.1, 0.9]
    assert list(thick.get_xdata()) == [0.4, 0.6]
    assert thick.get_linewidth() > 2 * thin.get_linewidth()


@pytest.mark.parametrize("mean", [INF, NAN])
def test_a_mean_that_is_not_finite_is_a_word_in_the_place_of_its_interval(mean: float) -> None:
    axes = Figure().subplots()
    draw_estimates(axes, [Estimate(mean, 0.5, INF, 3)], ["red"], (0.0, 1.0), missing="never")
    assert [text.get_text() for text in axes.texts] == ["never"]
    assert not list(axes.lines)


@pytest.mark.parametrize(
    ("estimate", "low", "high"),
    [
        (Estimate(0.5, 0.0, 1.0, 2), 0.0, 1.0),
        (Estimate(3.0, 3.0, 3.0, 2), 0.0, INF),
        (Estimate(INF, NAN, INF, 2), 0, 5),
    ],
)
def test_an_axis_has_room_for_what_is_finite_and_little_beyond_the_possible(
    estimate: Estimate, low: float, high: float
) -> None:
    left, right = limits_of([estimate], low, high)
    assert left < right
    for value in (estimate.mean, estimate.low, estimate.high):
        assert not np.isfinite(value) or left < value < right
    assert left > low - 0.5
    assert right < high + 0.5


def test_names_on_lines_are_as_they_are() -> None:
    figure = Figure()
    axes = figure.subplots()
    name_lines(axes, ["$x$", "a_b"])
    figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["$x$", "a_b"]
    assert not any(label.get_parse_math() for label in axes.get_yticklabels())


@given(places, st.floats(0, 0.3))
def test_spread_names_keep_their_order_and_distance(where: list[float], gap: float) -> None:
    found = spread(where, gap)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(found))
    assert found[0] >= 0
    if (len(where) - 1) * gap <= 1:
        assert found[-1] <= 1 + 1e-9


@given(places, st.floats(0, 0.1))
def test_spread_names_are_as_near_as_isotonic_regression_puts_them(where: list[float], gap: float) -> None:
    steps = gap * np.arange(len(where))
    bounds = {"y_min": 0.0, "y_max": max(1 - steps[-1], 0.0)}
    oracle = IsotonicRegression(**bounds).fit_transform(np.arange(len(where)), np.array(where) - steps)
    assert spread(where, gap) == pytest.approx(oracle + steps, abs=1e-6)


def test_names_that_have_room_stand_level_with_their_curves_on_any_scale() -> None:
    axes = Figure(figsize=(6, 4)).subplots()
    axes.set_yscale("log")
    axes.set_ylim(1, 100)
    name_curves(axes, {"low": (1.0, "red"), "middle": (10.0, "red"), "none": (NAN, "red")}, 4.0)
    heights = {text.get_text(): text.xyann[1] for text in axes.texts}  # type: ignore[attr-defined]
    assert heights["middle"] == pytest.approx(0.5)
    assert sorted(heights, key=heights.__getitem__) == ["low", "none", "middle"]
