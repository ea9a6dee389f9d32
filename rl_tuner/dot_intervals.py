"""Estimates as dots with intervals, a line a method, and names at the ends of curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rl_tuner.figures import short
from rl_tuner.inline_svg import INK, MUTED
from rl_tuner.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 0.26
"""Height of a method's line in inches."""
SMALL = 8
"""Size of small print in points."""
_LEADER = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}


def draw_estimates(
    axes: Axes,
    estimates: Sequence[Estimate],
    tones: Sequence[str],
    limits: tuple[float, float],
    missing: str = "undefined",
    inner: Sequence[Estimate] | None = None,
) -> None:
    """A dot with its interval for each estimate, the first one at the top.

    What lies beyond the axis stands at its edge as an arrow. In the place of a mean that is not finite and
    of its interval a word stands there.

    Args:
        axes: Where to; its limits are set here.
        estimates: What is drawn.
        tones: A colour for each.
        limits: Of the axis (see `limits_of`).
        missing: The word.
        inner: Other estimates of the same, whose intervals are drawn thick upon the first ones, drawn thin.
    """
    axes.set_xlim(*limits)
    axes.set_ylim(len(estimates) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for y, (estimate, tone) in enumerate(zip(estimates, tones, strict=True)):
        if np.isfinite(estimate.mean):
            _draw_interval(axes, estimate, y, tone, width=2.2 if inner is None else 1.2)
            if inner is not None:
                _draw_interval(axes, inner[y], y, tone, width=3.6)
            _draw_mean(axes, estimate.mean, y, tone)
        else:
            place = {"xy": (1, y), "xycoords": ("axes fraction", "data"), "fontsize": SMALL}
            offset = {"xytext": (-8, 0), "textcoords": "offset points", "color": MUTED}
            axes.annotate(missing, ha="right", va="center", **place, **offset)  # type: ignore[arg-type]


def limits_of(
    estimates: Sequence[Estimate], low: float = -np.inf, high: float = np.inf
) -> tuple[float, float]:
    """An axis around all that is finite, with a margin.

    Args:
        estimates: What will be drawn.
        low: What the statistic is never below.
        high: What it is never above.
    """
    ends = np.array([[e.mean, e.low, e.high] for e in estimates])
    finite = ends[np.isfinite(ends)]
    if not finite.size:
        return (max(low, 0.0), min(high, 1.0))
    least, most = float(finite.min()), float(finite.max())
    margin = 0.04 * (most - least) or 0.05 * max(abs(most), 1.0)
    return max(least - margin, low - margin / 2), min(most + margin, high + margin / 2)


def _draw_mean(axes: Axes, mean: float, y: float, tone: str) -> None:
    left, right = axes.get_xlim()
    mark = "<" if mean < left else ">" if mean > right else "o"
    axes.plot([np.clip(mean, left, right)], [y], mark, color=tone, markersize=6, zorder=3, clip_on=False)


def _draw_interval(axes: Axes, estimate: Estimate, y: float, tone: str, width: float) -> None:
    if np.isnan([estimate.low, estimate.high]).any():
        return
    left, right = axes.get_xlim()
    ends = np.clip([estimate.low, estimate.high], left, right)
    axes.plot(ends, [y, y], color=tone, linewidth=width, solid_capstyle="butt")
    if estimate.low < left:
        axes.plot([left], [y], "<", color=tone, markersize=5, clip_on=False)
    if estimate.high > right:
        axes.plot([right], [y], ">", color=tone, markersize=5, clip_on=False)


def name_lines(axes: Axes, names: Sequence[str]) -> None:
    """The methods' names left of their lines, as they are: a dollar sign begins no formula."""
    axes.set_yticks(range(len(names)), [short(name) for name in names], parse_math=False)


def name_curves(axes: Axes, ends: Mapping[str, tuple[float, str]], height: float) -> None:
    """Names right of the curves, in their order there, spread so that none covers another.

    Args:
        axes: Whose vertical limits are final.
        ends: Where each curve leaves the axes (in data units, NaN where there is none), and its colour.
        height: Of the axes, in inches, roughly.
    """
    exits = {name: _height_of(axes, y) for name, (y, _) in ends.items()}
    order = sorted(ends, key=exits.__getitem__)
    places = spread([exits[name] for name in order], 1.3 * SMALL / 72 / height)
    for name, place in zip(order, places, strict=True):
        axes.annotate(
            short(name),
            (1, exits[name]),
            xycoords="axes fraction",
            xytext=(1.04, place),
            textcoords="axes fraction",
            va="center",
            fontsize=SMALL,
            color=INK,
            arrowprops={"color": ends[name][1], **_LEADER},
            parse_math=False,
            annotation_clip=False,
        )


def _height_of(axes: Axes, y: float) -> float:
    """Where a value is between the axes' bottom, 0, and top, 1, whatever their scale; a NaN at the bottom."""
    if np.isnan(y):
        return 0.0
    place = axes.transAxes.inverted().transform(axes.transData.transform((axes.get_xlim()[1], y)))
    return float(np.clip(place[1], 0, 1))


def spread(places: Sequence[float], gap: float) -> list[float]:
    """The nearest places (least squares) in the same order that lie at least a gap apart, from 0 to 1.

    Pool adjacent violators: places that would be too near form a block around their mean. Where they are too
    many for their gaps they go beyond 1.

    Args:
        places: In rising order, in [0, 1].
        gap: >= 0.
    """
    blocks: list[tuple[float, int]] = []  # (mean place of the first one, size)
    for i, place in enumerate(places):
        mean, size = place - i * gap, 1
        while blocks and blocks[-1][0] > mean:
            other, n = blocks.pop()
            mean, size = (mean * size + other * n) / (size + n), size + n
        blocks.append((mean, size))
    level = [mean for mean, size in blocks for _ in range(size)]
    most = 1 - (len(places) - 1) * gap
    return [min(max(value, 0.0), max(most, 0.0)) + i * gap for i, value in enumerate(level)]
