"""An episode's decisions as text and as a figure: loss curves above, hyperparameters below.

Figures are drawn on Agg canvases of their own: pyplot, its global state and any display stay untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.history import Record
from rl_tuner.rails import Verdict
from rl_tuner.space import HYPERPARAMETERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (9.6, 6.4)
"""Width and height in inches, the same for any episode: the frames of a video must not change size."""
DPI = 100
PANELS = 3
"""At most so many hyperparameter panels side by side."""
NOTHING_YET = "no decision yet"


def records_text(records: Sequence[Record], title: str) -> str:
    """An aligned table, a line for each decision; hyperparameters in the order they first come up in.

    Args:
        records: An episode's log; may be empty.
        title: The first line.
    """
    if not records:
        return f"{title}\n({NOTHING_YET})"
    names = list(dict.fromkeys(name for record in records for name in record.values))
    rows = [["decision", "used", *names, "train_loss", "val_loss", "best", "reward", "verdict", "attempt"]]
    for r in records:
        values = [f"{r.values[name]:.4g}" if name in r.values else "-" for name in names]
        losses = [_number(r.train_loss), _number(r.val_loss), _number(r.best)]
        rows.append(
            [str(r.decision), str(r.used), *values, *losses, f"{r.reward:+.3f}", r.verdict, str(r.attempt)]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([title, *lines])


def _number(loss: float) -> str:
    return "-" if np.isnan(loss) else f"{loss:.4g}"


def records_image(records: Sequence[Record], title: str) -> NDArray[np.uint8]:
    """The figure as pixels, shape (height, width, 3), the same shape for any episode.

    Args:
        records: An episode's log; may be empty.
        title: The figure's title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(records_figure(records, title))
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
    return pixels


def records_figure(records: Sequence[Record], title: str, unit: str = "") -> Figure:
    """The figure itself; ``figure.savefig("episode.png")`` writes it.

    Losses and hyperparameters are drawn over the budget used, in the budget's unit. Decisions whose interval
    diverged or collapsed are marked in red, those after which the training began again in gray.

    Args:
        records: An episode's log; may be empty.
        title: The figure's title.
        unit: What the budget is counted in, such as "training samples"; said on the axis if given.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    figure.suptitle(title)
    if not records:
        figure.text(0.5, 0.5, NOTHING_YET, ha="center", va="center", color="gray")
        return figure
    names = list(dict.fromkeys(name for record in records for name in record.values))
    rows = -(-len(names) // PANELS)
    columns = -(-len(names) // rows) if rows else 1
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[max(1.6, 1.2 * rows)] + [1.0] * rows)
    _draw_losses(figure.add_subplot(grid[0, :]), records, f"budget used ({unit})" if unit else "budget used")
    for i, name in enumerate(names):
        _draw_hyperparameter(figure.add_subplot(grid[1 + i // columns, i % columns]), records, name)
    return figure


def _draw_losses(axes: Axes, records: Sequence[Record], xlabel: str) -> None:
    used = np.array([r.used for r in records])
    curves = {
        "train": np.array([r.train_loss for r in records]),
        "validation": np.array([r.val_loss for r in records]),
        "best so far": np.array([r.best for r in records]),
    }
    styles: dict[str, dict[str, Any]] = {
        "train": {"color": "C0", "marker": "."},
        "validation": {"color": "C1", "marker": "."},
        "best so far": {"color": "black", "linestyle": ":", "drawstyle": "steps-post"},
    }
    for label, values in curves.items():
        shown = np.where(np.isfinite(values), values, np.nan)
        if np.isfinite(shown).any():
            axes.plot(used, shown, label=label, **styles[label])
    _mark_events(axes, records, "diverged or collapsed", "began again")
    every = np.concatenate(list(curves.values()))
    _scale(axes, every[np.isfinite(every)], "log")
    axes.set(xlabel=xlabel, ylabel="loss")
    axes.set_xlim(0, used[-1])
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.grid(alpha=0.3)


def _draw_hyperparameter(axes: Axes, records: Sequence[Record], name: str) -> None:
    """A step curve: each value holds from the end of the interval before to the end of its own."""
    from matplotlib.ticker import MaxNLocator

    edges = np.array([0, *(r.used for r in records)])
    values = np.array([r.values.get(name, np.nan) for r in records])
    axes.stairs(values, edges, baseline=None, color="C2", linewidth=1.8)
    _mark_events(axes, records)
    known = HYPERPARAMETERS.get(name)
    _scale(axes, values[np.isfinite(values)], known.scale if known else "linear", known.low if known else 0.0)
    axes.set_title(name, fontsize="medium")
    axes.set_xlim(0, edges[-1])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(alpha=0.3)


def _mark_events(
    axes: Axes, records: Sequence[Record], failure: str | None = None, restart: str | None = None
) -> None:
    """A line at the end of each interval that failed, or after which the training began again.

    Only the first one of each carries its label.
    """
    for r, following in zip(records, [*records[1:], records[-1]], strict=True):
        if following.attempt > r.attempt:
            axes.axvline(r.used, color="gray", linestyle="-", linewidth=1.0, alpha=0.6, label=restart)
            restart = None
        elif r.verdict != Verdict.GOOD.name.lower():
            axes.axvline(r.used, color="C3", linestyle="--", linewidth=1.0, alpha=0.7, label=failure)
            failure = None


def _scale(axes: Axes, values: NDArray[np.float64], scale: str, low: float = 0.0) -> None:
    """Sets the vertical scale; zeros keep their place below `low` where a logarithm has none for them.

    Ticks are plain numbers where the values span less than two decades: a log axis would label one or none.
    """
    if scale not in ("log", "log2") or not values.size:
        return
    base = 2 if scale == "log2" else 10
    if (values > 0).all():
        axes.set_yscale("log", base=base)
        _plain_ticks(axes, values, base)
    elif low > 0 and (values >= 0).all():
        axes.set_yscale("symlog", base=base, linthresh=low, linscale=0.3)
        axes.set_ylim(0, 2 * max(values.max(), low))  # the axis's own margin would be next to nothing


def _plain_ticks(axes: Axes, values: NDArray[np.float64], base: int) -> None:
    """Labels powers of two, and ranges below two decades, with a few plain numbers."""
    from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter, NullLocator

    span = values.max() / values.min()
    if base == 10 and span >= 100:
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    locator: Locator = MaxNLocator(4)
    if base == 2:
        axes.set_ylim(values.min() / 2, values.max() * 2)
        locator = LogLocator(2, numticks=6)
    elif span >= 5:
        locator = LogLocator(10, subs=(1.0, 2.0, 5.0))
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
