"""The figures of a comparison's report, drawn from its analysis.

Methods stand in the order of their scores, each in the colour that it has in every figure (see
`rl_tuner.figures`). Whatever runs over the budget is counted in budgets of one run of the job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rl_tuner.analysis import Analysis
from rl_tuner.comparison import Comparison
from rl_tuner.dot_intervals import LINE, SMALL, draw_estimates, limits_of, name_lines
from rl_tuner.figures import anytime_figure, hyperparameter_figure, loss_figure, short
from rl_tuner.inline_svg import INK, MUTED
from rl_tuner.report_curves import (
    WIDTH,
    anytime_score_figure,
    by_score,
    equivalents_figure,
    new_figure,
    profile_figure,
    tones_of,
)
from rl_tuner.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HIGH, LOW = "#2a7fd4", "#e0762b"
"""Above and below one half, in the matrix of probabilities."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure of the report.

    Attributes:
        name: Its file's name, without the ending.
        title: Its heading.
        about: What is drawn.
        draw: Draws it.
    """

    name: str
    title: str
    about: str
    draw: Callable[[Comparison, Analysis], Figure]


def score_figure(comparison: Comparison, analysis: Analysis) -> Figure:
    """Interquartile mean of the normalized score, with its interval; the stratified one thick."""
    figure, (axes,) = _lines_figure(comparison, analysis, 1)
    methods = by_score(analysis)
    found = [m.iqm for m in methods]
    draw_estimates(
        axes,
        found,
        tones_of(comparison, methods),
        limits_of(found, high=1),
        inner=[m.iqm_stratified for m in methods],
    )
    axes.set_xlabel("IQM of the normalized score (higher is better)")
    return figure


def rank_figure(comparison: Comparison, analysis: Analysis) -> Figure:
    """Mean rank, with its interval."""
    figure, (axes,) = _lines_figure(comparison, analysis, 1)
    methods = by_score(analysis)
    found = [m.rank for m in methods]
    draw_estimates(axes, found, tones_of(comparison, methods), limits_of(found, 1, len(methods)))
    axes.set_xlabel(f"mean rank among {len(methods)} methods (lower is better)")
    return figure


def speed_figure(comparison: Comparison, analysis: Analysis) -> Figure:
    """Left the time to the target, right the crash rate, both with intervals."""
    figure, (left, right) = _lines_figure(comparison, analysis, 2)
    methods = by_score(analysis)
    tones = tones_of(comparison, methods)
    times = [m.time_to_target for m in methods]
    draw_estimates(left, times, tones, limits_of(times, 0), missing="not reached by most")
    left.set_xlabel(f"budgets until the score {analysis.target:g} (median)")
    rates = [Estimate(100 * e.mean, 100 * e.low, 100 * e.high, e.n) for e in (m.crash_rate for m in methods)]
    draw_estimates(right, rates, tones, limits_of(rates, 0, 100))
    right.set_xlabel("runs that crashed, %")
    return figure


def _lines_figure(comparison: Comparison, analysis: Analysis, panels: int) -> tuple[Figure, list[Axes]]:
    """Panels side by side with a line for each method."""
    methods = by_score(analysis)
    figure = new_figure(0.75 + LINE * len(methods))
    panels_ = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    name_lines(panels_[0], [m.method for m in methods])
    for label, method in zip(panels_[0].get_yticklabels(), methods, strict=True):
        label.set_fontweight("bold" if method.method == comparison.baseline else "normal")
    return figure, list(panels_)


def probability_figure(_: Comparison, analysis: Analysis) -> Figure:
    """A matrix: how often, in percent, the method of the line has a lower test loss than the column's."""
    methods = by_score(analysis)
    n = len(methods)
    figure = new_figure(1.6 + 0.36 * n, width=min(max(1.9 + 0.47 * n, 4.5), WIDTH + 1.4))
    axes = figure.subplots()
    for i, line in enumerate(methods):
        for j, rival in enumerate(methods):
            estimate = line.probability.get(rival.method)
            if estimate is not None and np.isfinite(estimate.mean):
                _draw_cell(axes, i, j, estimate)
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
    name_lines(axes, [m.method for m in methods])
    names = [short(m.method) for m in methods]
    axes.set_xticks(range(n), names, rotation=40, ha="left", rotation_mode="anchor", parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("%, line's test loss below column's; bold: 95% interval excludes 50")
    return figure


def _draw_cell(axes: Axes, i: int, j: int, estimate: Estimate) -> None:
    from matplotlib.patches import Rectangle

    shown = estimate.low > 0.5 or estimate.high < 0.5
    tone, strength = (HIGH if estimate.mean > 0.5 else LOW), abs(estimate.mean - 0.5)
    axes.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, facecolor=tone, alpha=1.1 * strength))
    axes.annotate(
        f"{100 * estimate.mean:.0f}",
        (j, i),
        ha="center",
        va="center",
        fontsize=SMALL,
        fontweight="bold" if shown else "normal",
        color=INK if shown else MUTED,
    )


PLOTS: tuple[Plot, ...] = (
    Plot(
        "scores",
        "Scores",
        "Interquartile mean of the normalized score. Thin its 95% interval over jobs and seeds, thick the "
        "stratified one, over the seeds of these very jobs.",
        score_figure,
    ),
    Plot(
        "probability",
        "Probability of improvement",
        "How often, in percent, the method of a line has a lower test loss than that of a column on the same "
        "job. Blue: more often than not; orange: less often. Bold where the 95% interval excludes 50%.",
        probability_figure,
    ),
    Plot(
        "profiles",
        "Performance profiles",
        "Share of a method's runs that score above τ: higher is better at every τ. The band is a 95% one; "
        "dashed is the baseline, grey the range of all methods.",
        profile_figure,
    ),
    Plot(
        "anytime_scores",
        "Score over the budget",
        "What one would have on stopping there: interquartile mean of the score of the best validation loss "
        "so far. A dot marks the end of a method's own budget; beyond it its score is held.",
        anytime_score_figure,
    ),
    Plot(
        "equivalents",
        "Trial equivalents",
        "Above, the mean test score of the model that random search selects from k trials. Below, the k* "
        "whose score each method matches, with its 95% interval.",
        equivalents_figure,
    ),
    Plot("ranks", "Ranks", "Mean rank of each method's test loss, with 95% intervals.", rank_figure),
    Plot(
        "speed_and_crashes",
        "Time to target and crashes",
        "Left, how much of one run's budget passes until the target score is reached; right, the share of "
        "runs that crashed. 95% intervals.",
        speed_figure,
    ),
    Plot(
        "test_loss",
        "Test losses",
        "Left every run, with each method's mean; right the loss relative to the baseline's on the same job "
        "and seed. 95% intervals.",
        lambda comparison, _: loss_figure(comparison),
    ),
    Plot(
        "anytime",
        "Validation loss by job",
        "Best validation loss so far: median and quartiles over the seeds of each job.",
        lambda comparison, _: anytime_figure(comparison),
    ),
    Plot(
        "hyperparameters",
        "Hyperparameters of a job",
        "How each method moved the hyperparameters of the first job; the first seed bold. Of a search, the "
        "selected trial.",
        lambda comparison, _: hyperparameter_figure(comparison),
    ),
)
"""Every figure, in the order of the page."""


def plots(analysis: Analysis) -> tuple[Plot, ...]:
    """The figures that the analysis has something for: trial equivalents need a random search."""
    return tuple(plot for plot in PLOTS if plot.name != "equivalents" or analysis.best_of is not None)
