"""The main figures of a comparison as Markdown, for a README or a pull request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rl_tuner.analysis import Analysis, MethodAnalysis
from rl_tuner.files import write_bytes
from rl_tuner.report_curves import by_score
from rl_tuner.report_text import MINUS, NONE, Cell, equivalents_cell, estimate_cell, fixed, percent_cell

FILE = "tables.md"
"""The file's name in a run."""


def write_markdown(analysis: Analysis, command: str, folder: Path) -> Path:
    """Writes `markdown` into ``tables.md``; returns its path."""
    path = folder / FILE
    write_bytes(path, markdown(analysis, command).encode())
    return path


def markdown(analysis: Analysis, command: str) -> str:
    """Tables of all methods, best score first, and the command that they are from.

    The first table has the scores, the paired difference to the first method that is not the baseline, the
    trial equivalents where there are any, and the crashes. The second has the scores, trial equivalents and
    crashes of each kind of job, where there are several kinds.

    Args:
        analysis: The statistics.
        command: What runs the comparison again.
    """
    runs = analysis.jobs * analysis.seeds
    jobs = "one job" if analysis.jobs == 1 else f"{analysis.jobs} jobs"
    seeds = "one seed" if analysis.seeds == 1 else f"{analysis.seeds} seeds"
    parts = [
        f"Runs: {jobs}, {seeds} each. Intervals are 95 %, over {'jobs' if analysis.jobs > 1 else 'seeds'}.",
        _table(_headings(analysis, runs), [_row(analysis, method, runs) for method in by_score(analysis)]),
    ]
    if analysis.kinds:
        parts.append(_kinds(analysis))
    return "\n\n".join([*parts, f"```\n{command}\n```"]) + "\n"


def _first(analysis: Analysis) -> MethodAnalysis:
    """What the comparison was most likely made for: the method named first, the baseline left aside."""
    others = (method for method in analysis.methods if method.method != analysis.baseline)
    return next(others, analysis.methods[0])


def _headings(analysis: Analysis, runs: int) -> list[str]:
    first = _first(analysis).method
    worth = [r"k\* of the mean", r"k\* over jobs"] if analysis.best_of else []
    return ["method", "score (IQM)", f"`{first}`'s score {MINUS} its, paired", *worth, f"crashes of {runs}"]


def _row(analysis: Analysis, method: MethodAnalysis, runs: int) -> list[str]:
    difference = _first(analysis).difference.get(method.method)
    cells = [_inline(estimate_cell(method.iqm)), _inline(estimate_cell(difference)) if difference else ""]
    if analysis.best_of:
        worth = method.equivalents
        each = NONE if worth is None else fixed(worth.mean_over_jobs.mean, 1)
        cells += [_inline(equivalents_cell(worth)), each]
    return [method.method, *cells, fixed(method.crash_rate.mean * runs, 0)]


def _kinds(analysis: Analysis) -> str:
    """Scores, trial equivalents and crashes by kind of job."""
    headings, rows = ["method"], {method.method: [method.method] for method in by_score(analysis)}
    for kind in analysis.kinds:
        what = f"{kind.kind} ({kind.jobs} jobs)"
        headings += [f"{what}: score", *([r"k\*"] if analysis.best_of else []), "crashes"]
        for figures in kind.methods:
            rows[figures.method] += [
                _inline(estimate_cell(figures.iqm)),
                *([_inline(equivalents_cell(figures.equivalents))] if analysis.best_of else []),
                percent_cell(figures.crash_rate).text,
            ]
    return _table(headings, list(rows.values()))


def _inline(cell: Cell) -> str:
    """A cell in one line."""
    return " ".join(filter(None, (cell.text, cell.note)))


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in (headings, *rows))
    first, *others = (f"| {' | '.join(line)} |" for line in escaped)
    return "\n".join([first, "|---" * len(headings) + "|", *others])
