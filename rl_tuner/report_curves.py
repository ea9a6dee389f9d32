"""The curves of a comparison's report: performance profiles, scores over the budget, trial equivalents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rl_tuner.analysis import Analysis, MethodAnalysis
from rl_tuner.comparison import Comparison
from rl_tuner.dot_intervals import LINE, SMALL, draw_estimates, name_curves, name_lines
from rl_tuner.figure_axes import budgets_axis, gap_axis
from rl_tuner.figures import colour, short, style
from rl_tuner.inline_svg import GRID, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 7.4
"""Inches."""
DPI = 120


def by_score(analysis: Analysis) -> list[MethodAnalysis]:
    """The methods from the highest interquartile mean to the lowest; one that has none comes last."""
    return sorted(analysis.methods, key=lambda m: np.inf if np.isnan(m.iqm.mean) else -m.iqm.mean)


def profile_figure(comparison: Comparison, analysis: Analysis) -> Figure:
    """A panel a method: the share of its runs above each score, with its band; the baseline dashed.

    Grey is what lies between the lowest and the highest of all methods' profiles.
    """
    methods = by_score(analysis)
    columns = min(len(methods), 3 if len(methods) <= 6 else 5)
    rows = -(-len(methods) // columns)
    figure = new_figure(0.6 + 1.55 * rows, width=min(2.6 * columns, WIDTH + 1.6))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    curves = np.array([m.profile for m in methods])
    base = next((m.profile for m in methods if m.method == comparison.baseline), None)
    for axes in panels.flat[len(methods) :]:
        axes.set_visible(False)
    for axes, method in zip(panels.flat, methods, strict=False):
        tone = colour(comparison, method.method)
        axes.fill_between(analysis.taus, curves.min(0), curves.max(0), color=GRID, alpha=0.45, linewidth=0)
        if base is not None and method.method != comparison.baseline:
            axes.plot(analysis.taus, base, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
        axes.fill_between(
            analysis.taus, method.profile_low, method.profile_high, color=tone, alpha=0.3, linewidth=0
        )
        axes.plot(analysis.taus, method.profile, color=tone, linewidth=1.8)
        axes.set_title(short(method.method), fontsize=SMALL + 0.5, parse_math=False)
        # Nothing is above 1, and of what lies between it and the threshold before nothing is known.
        gap_axis(axes, "x", min(analysis.taus), max(tau for tau in analysis.taus if tau < 1))
        axes.set_ylim(0, 1.03)
        axes.tick_params(labelsize=SMALL - 1)
    figure.supxlabel("normalized score τ", fontsize=SMALL + 1)
    figure.supylabel("share of runs above τ", fontsize=SMALL + 1)
    return figure


def anytime_score_figure(comparison: Comparison, analysis: Analysis) -> Figure:
    """The score that one would have on stopping; thin where a method's own budget is over."""
    methods = by_score(analysis)
    height = max(3.8, 0.19 * len(methods) + 1)
    figure = new_figure(height)
    axes = figure.subplots()
    shares = np.array(analysis.shares)
    several = max(m.budgets for m in methods) > 1
    ends = {}
    for method in methods:
        scores = np.array(method.anytime, dtype=float)
        own = shares <= method.budgets * (1 + 1e-9)
        look = style(comparison, method.method)
        axes.plot(
            shares[own], scores[own], drawstyle="steps-post", linewidth=1.7, label=method.method, **look
        )
        held = np.where(np.isnan(scores), scores[own][-1] if own.any() else np.nan, scores)
        if own.any() and not own.all():
            axes.plot(shares[own][-1:], scores[own][-1:], "o", color=look["color"], markersize=4)
            axes.plot(shares[~own], held[~own], linewidth=0.6, color=look["color"])
        ends[method.method] = (float(held[-1]), str(look["color"]))
    if several:
        budgets_axis(axes, shares[shares > 0].min(), shares.max())
    else:
        axes.set_xlim(0, shares.max())
    values = np.concatenate([m.anytime for m in methods])
    gap_axis(axes, "y", max(float(np.nanmin(values)), -1), float(np.nanmax(values)))
    axes.set_xlabel("budgets of one run of the job" if several else "share of the budget")
    axes.set_ylabel("IQM of the anytime score (validation)")
    axes.grid()
    name_curves(axes, ends, height - 0.9)
    return figure


def equivalents_figure(comparison: Comparison, analysis: Analysis) -> Figure:
    """Above what the selected model of k random trials scores; below each method's k on the same axis."""
    methods = [m for m in by_score(analysis) if m.equivalents is not None]
    lines = LINE * len(methods)
    figure = new_figure(2.9 + lines)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, max(lines, 0.3)))
    scores = np.array(analysis.best_of or (), dtype=float)
    above.plot(range(1, len(scores) + 1), scores, "o-", color=INK, markersize=3.5, linewidth=1.4)
    above.set_ylabel("mean normalized score")
    above.set_title("Random search: the selected model of k trials", fontsize=SMALL + 1)
    above.grid()
    budgets_axis(below, 0.5, max(analysis.pool, 1) * 1.15)
    found = [m.equivalents.of_mean for m in methods if m.equivalents is not None]
    draw_estimates(below, found, tones_of(comparison, methods), below.get_xlim())
    name_lines(below, [m.method for m in methods])
    for y, method in enumerate(methods):
        if method.equivalents is not None and method.equivalents.censored:
            below.annotate(
                f" > {analysis.pool}", (analysis.pool * 1.15, y), fontsize=SMALL, va="center", color=MUTED
            )
    below.set_xlabel("trials of random search k; below, the k* that matches each method")
    return figure


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure on a canvas of its own; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def tones_of(comparison: Comparison, methods: list[MethodAnalysis]) -> list[str]:
    """The methods' colours."""
    return [colour(comparison, method.method) for method in methods]
