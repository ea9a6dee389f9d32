"""The figures of a comparison: test losses, anytime curves, hyperparameters.

Figures are drawn on Agg canvases of their own: pyplot, its global state and any display stay untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_tuner.anytime import anytime_curve
from rl_tuner.comparison import Comparison
from rl_tuner.figure_axes import log_axis, samples_axis
from rl_tuner.results import Row
from rl_tuner.space import HYPERPARAMETERS
from rl_tuner.statistics import LOSS_FLOOR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
PANELS = 6
"""At most so many jobs have a panel of their own among the anytime curves."""
COLUMNS = 3
HUGE = 1e100
PALETTE = (
    "#1f77b4", "#e06c00", "#2a9d3a", "#d62728", "#8f5fc4", "#9c6a56", "#d561b0", "#76808a", "#8f9010",
    "#0f97a5", "#5aa6dd", "#b35600", "#1d7230", "#f0655f", "#b48fe0", "#85543f", "#a83a86", "#9aa5b0",
    "#6c6d00", "#0b6f7a",
)  # fmt: skip
"""Ten hues, then ten again, lighter or darker; each can be seen on white and on near-black paper."""
LONG = 28
"""Letters of a method's name that figures have room for."""
GRID = 200
"""Points of an anytime curve, evenly over the budget."""


def colour(comparison: Comparison, method: str) -> str:
    """The method's colour, the same in every figure."""
    return PALETTE[comparison.methods.index(method) % len(PALETTE)]


def short(name: str) -> str:
    """A name that leaves room for its figure: of a long one its beginning and its end."""
    return name if len(name) <= LONG else f"{name[: LONG - 12]}…{name[-11:]}"


def style(comparison: Comparison, method: str) -> dict[str, Any]:
    """Colour and dashes of the method's lines: only the first, which lies below all others, has no gaps.

    So lines that coincide, as a plateau schedule's and the constant one's often do, can all be seen.
    """
    dashes = ((4, 2), (1, 1), (6, 2, 1, 2), (2, 3), (8, 3), (4, 2, 1, 2, 1, 2))
    index = comparison.methods.index(method)
    line = (0, dashes[(index - 1) % len(dashes)]) if index else "-"
    return {"color": colour(comparison, method), "linestyle": line}


def loss_figure(comparison: Comparison) -> Figure:
    """Left every run's test loss with each method's mean and interval, right the ratio to the baseline."""
    from matplotlib.figure import Figure

    n = len(comparison.methods)
    figure = Figure(figsize=(11, 1.9 + 0.55 * n), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.4, 1))
    _draw_losses(left, comparison)
    _draw_ratios(right, comparison)
    left.set_yticks(range(n), [short(name) for name in comparison.methods], parse_math=False)
    left.set_ylim(n - 0.4, -0.6)
    return figure


def _draw_losses(axes: Axes, comparison: Comparison) -> None:
    missing, seen = [], []
    for i, summary in enumerate(comparison.summaries):
        rows = comparison.of(summary.method)
        shown = np.array([max(row.test_loss, LOSS_FLOOR) for row in rows if row.finite])
        tone = colour(comparison, summary.method)
        # Dots side by side by job, so that the runs of a job can be told from the others.
        places = np.array([row.job for row in rows if row.finite]) / max(comparison.jobs - 1, 1)
        axes.plot(shown, i + 0.12 + 0.2 * places, ".", color=tone, alpha=0.55, markersize=5)
        _draw_estimate(axes, summary.test_loss.mean, summary.test_loss.low, summary.test_loss.high, i, tone)
        seen += [*shown, summary.test_loss.mean, summary.test_loss.high]
        if summary.not_finite:
            missing.append(f"{short(summary.method)}: {summary.not_finite} not finite")
    # An interval's lower end may lie at or below zero, where a log axis never gets: it runs off the edge.
    finite = [max(value, LOSS_FLOOR) for value in seen if np.isfinite(value)]
    if finite:
        axes.set_xlim(min(finite) / 1.5, max(finite) * 1.5)
    log_axis(axes, "x")
    note = f" ({'; '.join(missing)})" if missing else ""
    axes.set_xlabel(f"test loss{note}", parse_math=False, wrap=True)
    axes.set_title("Every run (dots), mean and 95% interval", fontsize="medium")
    axes.grid(axis="x", alpha=0.3)


def _draw_ratios(axes: Axes, comparison: Comparison) -> None:
    for i, summary in enumerate(comparison.summaries):
        ratio, tone = summary.log_ratio, colour(comparison, summary.method)
        if summary.method != comparison.baseline:
            mean, low, high = np.exp([ratio.mean, ratio.low, ratio.high])
            _draw_estimate(axes, mean, low, high, i, tone)
            axes.annotate(
                summary.verdict,
                (1, i),
                xycoords=("axes fraction", "data"),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                annotation_clip=False,
                fontsize="small",
                color="0.35",
            )
    axes.axvline(1, color="black", linewidth=1)
    log_axis(axes, "x")
    paired = f"test loss / {short(comparison.baseline)}'s, paired (below 1: lower loss)"
    axes.set_xlabel(paired, parse_math=False)
    axes.set_title("Geometric mean and 95% interval", fontsize="medium")
    axes.grid(axis="x", alpha=0.3)


def _draw_estimate(axes: Axes, mean: float, low: float, high: float, y: float, tone: Any) -> None:
    """A diamond with its interval; what is at or below zero as a tiny value, as the axis is logarithmic."""
    if np.isfinite(mean):
        axes.plot(
            [max(mean, LOSS_FLOOR)], [y], "D", color=tone, markersize=7, markeredgecolor="black", zorder=3
        )
    if np.isfinite([low, high]).all():
        axes.plot(np.maximum([low, high], LOSS_FLOOR), [y, y], color=tone, linewidth=2.5)


def anytime_figure(comparison: Comparison) -> Figure:
    """Best validation loss against the budget used: median and interquartile band over seeds, by job."""
    from matplotlib.figure import Figure

    jobs = list(dict.fromkeys(row.job for row in comparison.rows))
    shown = jobs[:PANELS]
    columns = min(COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(max(3.9 * columns, 6.5), 1 + 3.0 * lines), dpi=DPI, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, job in zip(grid.flat, shown, strict=False):
        _draw_anytime(axes, comparison, job)
    left_out = f", first {PANELS} of {len(jobs)} jobs" if len(jobs) > PANELS else ""
    band = f"median and quartiles over {comparison.seeds} seeds" if comparison.seeds > 1 else "one seed"
    figure.suptitle(f"Best validation loss so far: {band}{left_out}", fontsize="medium")
    _legend(figure, comparison)
    return figure


def _draw_anytime(axes: Axes, comparison: Comparison, job: int) -> None:
    most = max(comparison.rows, key=lambda row: row.budget if row.job == job else 0)
    first = most.job_budget / 40 if most.budget > most.job_budget else 0.0
    for method in comparison.methods:
        rows = comparison.of(method, job)
        # A search goes on for many runs' budgets: on an even axis nothing of a run could be seen.
        used = np.geomspace(first, rows[0].budget, GRID) if first else np.linspace(0, rows[0].budget, GRID)
        curves = np.array([anytime_curve(row, used / row.job_budget) for row in rows])
        # Infinite losses as huge ones: interpolation between them and finite neighbours would give NaN.
        quartiles = np.quantile(np.minimum(curves, HUGE), [0.25, 0.5, 0.75], axis=0)
        low, median, high = np.where(quartiles < HUGE / len(rows), quartiles, np.nan)
        tone = colour(comparison, method)
        axes.plot(used, median, drawstyle="steps-post", label=method, **style(comparison, method))
        if len(rows) > 1:
            axes.fill_between(used, low, high, step="post", color=tone, alpha=0.15, linewidth=0)
    axes.set_title(f"job {job}: {rows[0].job_name}", fontsize="small", parse_math=False)
    axes.set_ylabel("validation loss")
    samples_axis(axes, most.budget, first)
    if first:
        axes.axvline(most.job_budget, color="black", linewidth=0.7)
    log_axis(axes, "y")
    axes.grid(alpha=0.3)


def hyperparameter_figure(comparison: Comparison, job: int = 0) -> Figure:
    """How each method moved the hyperparameters of one job: the first seed bold, the others thin."""
    from matplotlib.figure import Figure

    rows = [row for row in comparison.rows if row.job == job]
    moved = {name for row in rows for record in row.records for name in record.values}
    names = [name for name in HYPERPARAMETERS if name in moved]
    columns = min(COLUMNS, max(len(names), 1))
    lines = max(-(-len(names) // columns), 1)
    figure = Figure(figsize=(max(3.9 * columns, 6.5), 1 + 2.7 * lines), dpi=DPI, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names, strict=False):
        _draw_hyperparameter(axes, comparison, rows, name)
    title = f"Hyperparameters of job {job} ({rows[0].job_name}); the first seed bold"
    figure.suptitle(title, fontsize="medium", parse_math=False)
    _legend(figure, comparison)
    return figure


def _legend(figure: Figure, comparison: Comparison) -> None:
    """The methods below the panels, in as many columns as have room."""
    handles = [_line(comparison, method) for method in comparison.methods]
    columns = min(len(handles), int(figure.get_figwidth() / 1.9), 5)
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a dollar sign in a name begins no formula


def _line(comparison: Comparison, method: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=short(method), **style(comparison, method))


def _draw_hyperparameter(axes: Axes, comparison: Comparison, rows: Sequence[Row], name: str) -> None:
    first = min(row.seed for row in rows)
    for row in rows:
        ends = [0, *(record.used for record in row.records)]
        # What a method does not move stays at its start value.
        values = np.array([r.values.get(name, row.start.get(name, np.nan)) for r in row.records])
        bold = row.seed == first
        axes.stairs(
            values,
            ends,
            baseline=None,
            **style(comparison, row.method),
            linewidth=1.8 if bold else 0.7,
            alpha=1.0 if bold else 0.4,
        )
    axes.set_title(name, fontsize="small")
    samples_axis(axes, rows[0].job_budget)
    known = HYPERPARAMETERS[name]
    if known.scale != "logit" and axes.dataLim.y0 > 0:
        log_axis(axes, "y", base=2 if known.scale == "log2" else 10)
    elif known.scale == "log":  # zero has its place below the smallest value that is not zero
        axes.set_yscale("symlog", linthresh=known.low, linscale=0.3)
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
