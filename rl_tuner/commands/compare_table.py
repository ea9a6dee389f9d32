"""The table that ``rl-tuner compare`` prints, and what it means."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rl_tuner.analysis import Analysis, MethodAnalysis
    from rl_tuner.comparison import Comparison, MethodSummary
    from rl_tuner.equivalents import Equivalents
    from rl_tuner.kinds import KindFigures
    from rl_tuner.statistics import Estimate

WIDTH = 100
"""Columns of the table where there is no terminal to ask."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table: its heading, and what stands in it by method; lines are broken as they come."""

    heading: str
    cells: Sequence[str]


def show_table(
    comparison: Comparison, analysis: Analysis, results: Mapping[str, Any], console: Console
) -> None:
    """Prints the table, what it means, and where everything lies."""
    console.print(_terms(analysis, comparison, results), markup=False)
    shown = console.width if console.is_terminal else WIDTH
    for tables in _layouts(comparison, analysis):
        needed = max(_width(table, console) for table in tables)
        if needed <= shown:
            break
    # Rich would leave out whole columns, the first one too, where a terminal is narrower than a table.
    console.width = max(shown, needed)
    for table in tables:
        console.print(table, soft_wrap=False)
    console.print(_caption(comparison, analysis), soft_wrap=False, width=shown, markup=False)
    if analysis.kinds:
        kinds = _kinds(comparison, analysis)
        console.width = max(console.width, _width(kinds, console))
        worth = " and k*" if analysis.best_of else ""
        console.print(f"\nScore (IQM){worth} by what is new in a job:")
        console.print(kinds, soft_wrap=False)
    _show_files(results, console, shown)


def _terms(analysis: Analysis, comparison: Comparison, results: Mapping[str, Any]) -> str:
    """On what, and at which budget."""
    new = f", new in {results['unseen']}" if results["unseen"] else ""
    runs = ", ".join(_count(results[name], name) for name in ("jobs", "seeds"))
    one = sum(row.job_budget for row in comparison.of(comparison.baseline))
    larger = [f"{m.budgets:g} times that for {m.method}" for m in analysis.methods if m.budgets > 1]
    budget = "; ".join([f"{_short(one)} training samples a method", ", ".join(larger)]).rstrip("; ")
    return f"suite {results['suite']}, split {results['split']}{new}: {runs} each, {budget}"


def _count(number: int, things: str) -> str:
    return f"{number} {things if number > 1 else things.removesuffix('s')}"


def _layouts(comparison: Comparison, analysis: Analysis) -> Iterator[list[Table]]:
    """Tables that say the same in less and less width: lines broken, then the costs below the scores."""
    scores, costs = _columns(comparison, analysis)
    broken = [_Column(c.heading, [cell.replace(" shown", "\nshown") for cell in c.cells]) for c in scores]
    yield [_table(comparison, [*scores, *costs])]
    yield [_table(comparison, [*broken, *costs])]
    yield [_table(comparison, scores), _table(comparison, costs)]
    yield [_table(comparison, broken), _table(comparison, costs)]


def _columns(comparison: Comparison, analysis: Analysis) -> tuple[list[_Column], list[_Column]]:
    """What the methods came to, and what it cost."""
    pairs = list(zip(comparison.summaries, analysis.methods, strict=True))
    metrics = [name for name in ("accuracy", "r2") if any(name in s.metrics for s in comparison.summaries)]
    scores = {
        "score\n(IQM)": [_lines(f"{m.iqm.mean:.3f}", _interval(m.iqm)) for _, m in pairs],
        f"score -\n{comparison.baseline}'s": [_difference(m, comparison.baseline) for _, m in pairs],
        _lines("test loss", *metrics): [_losses(s, metrics) for s, _ in pairs],
        "rank": [f"{m.rank.mean:.1f}" for _, m in pairs],
    }
    if analysis.best_of is not None:
        scores["k*"] = [equivalents_in_words(m.equivalents) for _, m in pairs]
    costs = {
        "crashes /\nrescues": [f"{s.crashes} / {s.rescues}" for s, _ in pairs],
        "samples /\nvalidation": [_lines(_short(s.samples), _short(s.val_samples)) for s, _ in pairs],
    }
    return [_Column(*column) for column in scores.items()], [_Column(*column) for column in costs.items()]


def _table(comparison: Comparison, columns: Sequence[_Column]) -> Table:
    """A line for each method."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=0)
    table.add_column("method", overflow="fold", max_width=24)
    for column in columns:
        table.add_column(escape(column.heading), justify="right", no_wrap=True)
    for i, method in enumerate(comparison.methods):
        table.add_row(escape(method), *(escape(column.cells[i]) for column in columns))
    return table


def _kinds(comparison: Comparison, analysis: Analysis) -> Table:
    """A column for each kind of job."""
    columns = [
        _Column(f"{kind.kind}\n({_count(kind.jobs, 'jobs')})", [_kind_cell(m) for m in kind.methods])
        for kind in analysis.kinds
    ]
    return _table(comparison, columns)


def _kind_cell(figures: KindFigures) -> str:
    """The score, and below it in one line what it is worth."""
    return _lines(f"{figures.iqm.mean:.3f}", equivalents_in_words(figures.equivalents).replace("\n", " "))


def _width(table: Table, console: Console) -> int:
    """Characters that the table needs."""
    return console.measure(table, options=console.options.update(width=10 * WIDTH)).maximum


def _show_files(results: Mapping[str, Any], console: Console, width: int) -> None:
    """Where everything lies: figures and tables beside the report, their names wrapped to a width."""
    console.print(f"report   {results['report']}", markup=False)
    for what in ("figures", "tables"):
        names = ", ".join(Path(path).name for path in results[what])
        beside = textwrap.wrap(f"{what:<8} beside it: {names}", width, subsequent_indent=" " * 9)
        console.print("\n".join(beside if names else ()), markup=False, end="\n" if names else "")
    view = shlex.join(["tensorboard", "--logdir", results["tensorboard"]])
    console.print(f"curves   {view}", markup=False)


def equivalents_in_words(worth: Equivalents | None) -> str:
    """Trial equivalents with their interval; "> K" where the pool of random trials is too small to say."""
    if worth is None:
        return ""
    found = worth.of_mean
    between = f"[{found.low:.2g}, {found.high:.2g}]" if isfinite(found.half_width) else ""
    return _lines(f"> {worth.pool}" if worth.censored else f"{found.mean:.1f}", between)


def _lines(*parts: str) -> str:
    """One below the other, empty ones left out."""
    return "\n".join(filter(None, parts))


def _interval(estimate: Estimate, digits: int = 3) -> str:
    """The interval in brackets; nothing where there is none."""
    if not isfinite(estimate.half_width):
        return ""
    return f"[{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _short(count: int) -> str:
    """A large number in few characters: 12.3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if count >= size:
            unit = size if letter != "k" else 1e3
            return f"{count / unit:.3g}{letter}"
    return f"{count:,}"


def _plus_minus(estimate: Estimate) -> str:
    """Mean and half the interval's width, as far as there are any."""
    half = estimate.half_width
    return f"{estimate.mean:.3g}" + (f" ±{half:.2g}" if isfinite(half) else "")


def _losses(summary: MethodSummary, metrics: Sequence[str]) -> str:
    """The median test loss, which no single run decides, and below it the metrics that the method has."""
    missing = f"{summary.not_finite} not finite" if summary.not_finite else ""
    found = [_plus_minus(summary.metrics[name]) for name in metrics if name in summary.metrics]
    return _lines(f"{summary.median_test_loss.mean:.3g}", missing, *found)


def _difference(figures: MethodAnalysis, baseline: str) -> str:
    """The paired difference of scores with its interval, and what it allows to say."""
    if figures.method == baseline:
        return "baseline"
    difference = figures.difference[baseline]
    return _lines(f"{difference.mean:+.3f}", _interval(difference), figures.verdicts[baseline])


def _caption(comparison: Comparison, analysis: Analysis) -> str:
    sample = f"the {comparison.jobs} jobs, each the mean of its seeds"
    if comparison.jobs == 1:
        sample = "the seeds of a single job: they say nothing about other jobs"
    words = (
        "Scores are normalized by job: 0 is the loss before training, 1 the best one known; IQM is their "
        f"interquartile mean. Intervals are 95%, over {sample}. Differences are paired by job and seed; "
        "“better” and “worse” stand only where the interval excludes 0. Test losses are medians over runs, "
        "metrics means over jobs. Crashed runs count with their best weights by validation."
    )
    if analysis.best_of is not None:
        words += (
            f" k* is the least number of random-search trials whose selected model scores as high (of "
            f"{analysis.pool})."
        )
    return words
