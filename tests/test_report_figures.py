from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from rl_tuner.analysis import analyse
from rl_tuner.comparison import Comparison
from rl_tuner.figure_axes import gap_axis
from rl_tuner.figures import PALETTE, anytime_figure, colour, hyperparameter_figure, short
from rl_tuner.report_curves import (
    anytime_score_figure,
    by_score,
    equivalents_figure,
    profile_figure,
)
from rl_tuner.report_figures import (
    PLOTS,
    plots,
    probability_figure,
    rank_figure,
    score_figure,
    speed_figure,
)
from rl_tuner.statistics import Estimate
from tests.comparing import failed, make_comparison, small
from tests.reporting import full, method, renamed

INF, NAN = float("inf"), float("nan")


def dots(axes: Axes) -> list[float]:
    """Places of the dots, the topmost first."""
    found = [(line.get_ydata()[0], line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]
    return [float(x) for _, x in sorted(found)]


def names(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_methods_stand_in_the_order_of_their_scores_in_every_figure_of_lines() -> None:
    comparison, analysis = full()
    order = [m.method for m in by_score(analysis)]
    means = [m.iqm.mean for m in by_score(analysis)]
    assert means == sorted(means, reverse=True)
    for draw in (score_figure, rank_figure, speed_figure, probability_figure):
        assert names(draw(comparison, analysis).axes[0]) == order


def test_the_dots_of_scores_and_ranks_are_the_analysis_own_numbers() -> None:
    comparison, analysis = full()
    methods = by_score(analysis)
    assert dots(score_figure(comparison, analysis).axes[0]) == [m.iqm.mean for m in methods]
    assert dots(rank_figure(comparison, analysis).axes[0]) == [m.rank.mean for m in methods]


def test_crashes_are_percent_and_a_target_not_reached_is_said() -> None:
    comparison, analysis = full()
    never = tuple(replace(m, time_to_target=Estimate(INF, NAN, NAN, 3)) for m in analysis.methods[:1])
    changed = replace(analysis, methods=never + analysis.methods[1:])
    left, right = speed_figure(comparison, changed).axes
    assert dots(right) == [100 * m.crash_rate.mean for m in by_score(analysis)]
    assert max(dots(right)) == 50
    assert [text.get_text() for text in left.texts] == ["not reached by most"]
    assert len(dots(left)) == len(analysis.methods) - 1


def test_a_cell_of_the_matrix_is_bold_only_where_the_interval_excludes_one_half() -> None:
    comparison, analysis = full()
    methods = by_score(analysis)
    cells = {tuple(text.xy): text for text in probability_figure(comparison, analysis).axes[0].texts}
    assert len(cells) == len(methods) * (len(methods) - 1)
    weights = set()
    for i, line in enumerate(methods):
        for j, rival in enumerate(methods):
            if i != j:
                estimate = line.probability[rival.method]
                shown = not estimate.low <= 0.5 <= estimate.high
                assert cells[j, i].get_text() == f"{100 * estimate.mean:.0f}"
                assert cells[j, i].get_fontweight() == ("bold" if shown else "normal")
                weights.add(shown)
    assert weights == {True, False}


def test_each_profile_has_a_panel_with_its_curve_and_the_baselines() -> None:
    comparison, analysis = full()
    panels = {
        axes.get_title(): axes for axes in profile_figure(comparison, analysis).axes if axes.get_visible()
    }
    assert set(panels) == set(comparison.methods)
    for name, axes in panels.items():
        curves = [tuple(line.get_ydata()) for line in axes.lines]
        assert method(analysis, name).profile in curves
        assert method(analysis, "constant").profile in curves
        assert axes.get_xlim() == (analysis.taus[0], analysis.taus[-2])


def test_the_curve_of_a_method_is_thin_beyond_its_own_budget() -> None:
    comparison, analysis = full()
    axes = anytime_score_figure(comparison, analysis).axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[1] == pytest.approx(8)
    tone = colour(comparison, "cosine")
    own, held = (line for line in axes.lines if line.get_color() == tone and line.get_marker() == "None")
    assert max(own.get_xdata()) == pytest.approx(1)
    assert min(held.get_xdata()) > 1
    assert held.get_linewidth() < own.get_linewidth() / 2
    assert {text.get_text() for text in axes.texts} == set(comparison.methods)


def test_single_runs_alone_have_an_even_axis_from_nothing_to_their_budget() -> None:
    comparison = small()
    axes = anytime_score_figure(comparison, analyse(comparison)).axes[0]
    assert axes.get_xscale() == "linear"
    assert axes.get_xlim() == (0, 1)


def test_trial_equivalents_stand_below_the_curve_on_the_same_axis() -> None:
    comparison, analysis = full()
    above, below = equivalents_figure(comparison, analysis).axes
    assert analysis.best_of is not None
    assert tuple(above.lines[0].get_ydata()) == analysis.best_of
    assert above.get_xlim() == below.get_xlim()
    found = {m.method: m.equivalents for m in by_score(analysis)}
    shown = [e.of_mean.mean for e in found.values() if e is not None and e.of_mean.mean >= 0.5]
    assert dots(below) == pytest.approx(shown)
    censored = [name for name, e in found.items() if e is not None and e.censored]
    assert [text.get_text().strip() for text in below.texts] == ["> 16"] * len(censored)  # of two seeds
    assert censored


def test_without_a_random_search_there_are_no_trial_equivalents_to_draw() -> None:
    analysis = analyse(small())
    assert {plot.name for plot in PLOTS} - {plot.name for plot in plots(analysis)} == {"equivalents"}
    assert plots(full()[1]) == PLOTS


@pytest.mark.parametrize("which", ["x", "y"])
def test_an_axis_of_scores_gives_each_tenth_of_the_gap_to_the_best_the_same_room(which: str) -> None:
    axes = Figure().subplots()
    gap_axis(axes, which, -1.0, 0.995)
    index = 0 if which == "x" else 1
    place = [axes.transData.transform((score, score))[index] for score in (0.0, 0.9, 0.99)]
    assert place[2] - place[1] == pytest.approx(place[1] - place[0], rel=0.06)
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    assert (low, high) == (-1.0, 0.995)


@pytest.mark.parametrize("best", [-1.0, 1.0])
def test_an_axis_of_scores_stands_where_all_scores_are_the_same(best: float) -> None:
    axes = Figure().subplots()
    gap_axis(axes, "y", best, best)
    low, high = axes.get_ylim()
    assert low < high


@pytest.mark.parametrize(
    "comparison",
    [
        small(),
        failed(),
        make_comparison(constant=[[0.0]]),
        make_comparison(constant=[[1.0, 2.0]], x=[[1.0, INF]]),
    ],
)
def test_every_comparison_can_be_drawn(comparison: Comparison) -> None:
    analysis = analyse(comparison)
    for plot in plots(analysis):
        figure = plot.draw(comparison, analysis)
        figure.draw_without_rendering()
        assert figure.axes, plot.name


def test_a_dollar_sign_in_a_name_begins_no_formula() -> None:
    comparison = renamed(small(), {"x": r"$\frac{$_x$"})
    analysis = analyse(comparison)
    for plot in plots(analysis):  # matplotlib would fail to parse it
        plot.draw(comparison, analysis).draw_without_rendering()


def luminance(tone: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(tone)]
    return float(np.dot([0.2126, 0.7152, 0.0722], channels))


@pytest.mark.parametrize("paper", ["#ffffff", "#15181d"])
def test_every_colour_can_be_seen_on_both_papers(paper: str) -> None:
    assert len(set(PALETTE)) == len(PALETTE) >= 20
    for tone in PALETTE:
        low, high = sorted([luminance(tone), luminance(paper)])
        assert (high + 0.05) / (low + 0.05) > 2.4, tone


def test_fifteen_methods_have_fifteen_colours_of_their_own() -> None:
    comparison, analysis = full()
    assert len({colour(comparison, m.method) for m in analysis.methods}) == 15


def test_the_figures_of_a_comparison_are_no_larger_than_a_page() -> None:
    comparison, analysis = full()
    for plot in plots(analysis):
        width, height = plot.draw(comparison, analysis).get_size_inches()
        assert 4 < width <= 12
        assert 2 < height <= 12


def test_every_figure_says_what_it_shows() -> None:
    for plot in PLOTS:
        assert len(plot.about) > 40
        assert plot.about.endswith(".")
    assert len({plot.name for plot in PLOTS}) == len({plot.title for plot in PLOTS}) == len(PLOTS)


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    name = "policy-" + "of-many-words-" * 5 + "untrained"
    assert short(name).startswith("policy-of-many-w")
    assert short(name).endswith("…s-untrained")
    assert len(short(name)) == 28
    assert short("default-untrained") == "default-untrained"


def test_where_searches_go_on_a_line_marks_the_budget_of_one_run() -> None:
    comparison, _ = full()
    axes = anytime_figure(comparison).axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[1] == 800
    (mark,) = (line for line in axes.lines if list(line.get_ydata()) == [0, 1])
    assert list(mark.get_xdata()) == [100, 100]
    assert anytime_figure(small()).axes[0].get_xscale() == "linear"


def test_a_legend_of_fifteen_methods_lies_within_its_figure() -> None:
    comparison, _ = full()
    for figure in (anytime_figure(comparison), hyperparameter_figure(comparison)):
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert [text.get_text() for text in legend.get_texts()] == list(comparison.methods)
