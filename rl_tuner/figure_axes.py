"""Axes of the figures of a comparison: of budgets, of losses, of normalized scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def samples_axis(axes: Axes, budget: int, first: float = 0.0) -> None:
    """Training samples: from none to the budget, or, by powers of ten, from `first` on."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("training samples")
    axes.set_xlim(first, budget)
    if first:
        log_axis(axes, "x")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))


def budgets_axis(axes: Axes, low: float, high: float) -> None:
    """Budgets of one run, from `low` to `high`, by powers of two: 1/8 is an eighth of one, 8 are eight."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log", base=2)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(2, numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}" if x >= 1 else f"1/{1 / x:.0f}"))


def log_axis(axes: Axes, which: str, base: int = 10) -> None:
    """A log scale with plain numbers where it spans few decades: matplotlib would label one or none."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    if not np.isfinite(axis.get_minpos()):  # nothing was drawn that has a logarithm
        return
    (axes.set_xscale if which == "x" else axes.set_yscale)("log", base=base)
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    decades = np.log(high / low) / np.log(base)
    if base == 10 and decades < 2.5:
        axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if decades > 0.7 else range(1, 10)))
    axis.set_minor_formatter(NullFormatter())
    if base == 2 or decades < 2.5:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def gap_axis(axes: Axes, which: str, low: float, high: float) -> None:
    """An axis of scores, logarithmic in the gap to 1: 0.9 is as far from 0.99 as from 0.

    1 is the best known. Scores of methods worth comparing crowd below it, where an even axis shows one line.

    Args:
        axes: Whose axis is made so.
        which: "x" or "y".
        low: Where it begins.
        high: Its highest value; it goes no nearer to 1 than 0.999.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    scale = (lambda score: -np.log(np.maximum(1.001 - score, 1e-9)), lambda place: 1.001 - np.exp(-place))
    (axes.set_xscale if which == "x" else axes.set_yscale)("function", functions=scale)
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, max(high, low + 0.01))
    ticks = [-1, 0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99] if which == "y" else [-1, 0, 0.5, 0.9, 0.98]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
