from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.figure import Figure
from PIL import Image

from rl_tuner.comparison import Comparison
from rl_tuner.figures import (
    anytime_figure,
    colour,
    hyperparameter_figure,
    loss_figure,
)
from tests.comparing import failed, make_comparison, make_record, make_row, small

INF, NAN = float("inf"), float("nan")


def drawn(comparison: Comparison) -> list[tuple[int, int]]:
    """Draws every figure; their widths and heights in pixels."""
    sizes = []
    for draw in (loss_figure, anytime_figure, hyperparameter_figure):
        content = BytesIO()
        draw(comparison).savefig(content, format="png")
        with Image.open(content) as image:
            sizes.append(image.size)
    return sizes


def test_the_test_loss_figure_has_a_dot_for_every_run_and_a_mark_at_every_mean() -> None:
    comparison = small()
    axes = loss_figure(comparison).axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "."]
    means = [line for line in axes.lines if line.get_marker() == "D"]
    assert [sorted(line.get_xdata()) for line in dots] == [[1.0, 1.2, 4.0, 5.0], [0.5, 0.7, 2.0, 2.5]]
    assert [line.get_xdata()[0] for line in means] == [s.test_loss.mean for s in comparison.summaries]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["constant", "x"]


def test_the_ratio_panel_shows_the_paired_ratio_and_the_verdict_of_all_but_the_baseline() -> None:
    comparison = small()
    axes = loss_figure(comparison).axes[1]
    marks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"]
    ratio = comparison.summaries[1].log_ratio
    assert marks == [pytest.approx(np.exp(ratio.mean))]
    assert [text.get_text() for text in axes.texts] == [comparison.summaries[1].verdict]


def test_runs_that_are_not_finite_are_named_on_the_axis_not_left_out_in_silence() -> None:
    comparison = make_comparison(constant=[[1.0, 1.2]], x=[[0.5, INF]])
    assert loss_figure(comparison).axes[0].get_xlabel() == "test loss (x: 1 not finite)"


@pytest.mark.parametrize(
    ("losses", "median"),
    [([1.0, 0.2, 0.6], 0.6), ([1.0, 0.2], 0.6), ([INF, 0.2, 0.6], 0.6), ([INF, 0.2], NAN)],
)
def test_the_anytime_figure_draws_the_median_over_seeds(losses: list[float], median: float) -> None:
    rows = tuple(
        make_row("constant", 0, seed, records=(make_record(0, 50, loss), make_record(1, 100, loss)))
        for seed, loss in enumerate(losses)
    )
    axes = anytime_figure(Comparison(rows, ("constant",), "constant")).axes[0]
    (line,) = axes.lines
    assert line.get_ydata()[0] == 2.0
    assert line.get_ydata()[-1] == pytest.approx(median, nan_ok=True)
    assert axes.get_yscale() == "log"


def test_the_anytime_figure_says_how_many_jobs_it_leaves_out() -> None:
    figure = anytime_figure(make_comparison(constant=[[1.0]] * 8))
    assert sum(axes.get_visible() for axes in figure.axes) == 6
    assert "first 6 of 8 jobs" in figure.get_suptitle()


def test_the_hyperparameter_figure_draws_what_moved_and_holds_the_rest_at_its_start() -> None:
    both = make_record(0, 100, 1.0, values={"lr": 0.3, "batch_size": 64.0})
    rows = (make_row("constant"), make_row("x", records=(both,)))
    figure = hyperparameter_figure(Comparison(rows, ("constant", "x"), "constant"))
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert set(panels) == {"lr", "batch_size"}
    lr = [patch.get_data().values.tolist() for patch in panels["lr"].patches]
    size = [patch.get_data().values.tolist() for patch in panels["batch_size"].patches]
    assert lr == [[0.1, 0.01], [0.3]]
    assert size == [[32.0, 32.0], [64.0]]


def test_a_method_has_the_same_colour_in_every_figure_and_another_than_its_neighbour() -> None:
    comparison = small()
    dots = [line.get_color() for line in loss_figure(comparison).axes[0].lines if line.get_marker() == "."]
    lines = [line.get_color() for line in anytime_figure(comparison).axes[0].lines]
    assert dots == lines == [colour(comparison, "constant"), colour(comparison, "x")]
    assert dots[0] != dots[1]


def test_only_the_line_below_all_others_has_no_gaps() -> None:
    comparison = make_comparison(**{name: [[1.0]] for name in ("constant", *"abcdefg")})
    lines = anytime_figure(comparison).axes[0].lines
    assert [line.get_label() for line in lines if line.get_linestyle() == "-"] == ["constant"]
    assert lines[0].get_label() == "constant"
    assert all(a.get_linestyle() != b.get_linestyle() or a is b for a in lines[:1] for b in lines)


@pytest.mark.parametrize("comparison", [small(), failed(), make_comparison(constant=[[0.0]])])
def test_every_comparison_gives_figures_that_can_be_opened(comparison: Comparison) -> None:
    for width, height in drawn(comparison):
        assert 250 < height < 2000
        assert 600 < width < 2000


def test_more_methods_make_the_test_loss_figure_taller() -> None:
    def height(n: int) -> float:
        figure: Figure = loss_figure(make_comparison(**{f"m{i}": [[1.0, 2.0]] for i in range(n)}))
        return float(figure.get_size_inches()[1])

    assert height(12) > 2 * height(2)


def test_figures_leave_pyplot_alone() -> None:
    before = list(_pylab_helpers.Gcf.figs)
    drawn(small())
    assert list(_pylab_helpers.Gcf.figs) == before


def test_an_interval_that_reaches_below_zero_does_not_stretch_the_axis() -> None:
    axes = loss_figure(make_comparison(constant=[[1.0], [2.0]], x=[[0.5], [9.0]])).axes[0]
    low, high = axes.get_xlim()
    assert 0.2 < low < 0.5
    assert high > 9
