"""The tables of a comparison's report: what stands in each cell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from rl_tuner.analysis import Analysis, MethodAnalysis
from rl_tuner.comparison import Comparison, MethodSummary
from rl_tuner.report_curves import by_score
from rl_tuner.report_text import (
    NONE,
    Cell,
    equivalents_cell,
    estimate_cell,
    fixed,
    loss_cell,
    number,
    percent_cell,
    ratio_cell,
    time_cell,
)
from rl_tuner.scores import best_test_losses, row_scores

METRICS = ("accuracy", "r2")
"""Metrics that have a column of their own where a job has them."""


def columns(comparison: Comparison, analysis: Analysis) -> list[tuple[str, str]]:
    """Headings of the main table, and what each means in a few words."""
    equivalents = [("k*", "random trials it is worth")] if analysis.best_of else []
    return [
        ("budgets", "of one run of the job"),
        ("IQM", "of the normalized score"),
        ("test loss", "median over runs"),
        *((metric, "on test") for metric in _metrics(comparison)),
        ("ratio", f"of test loss to {comparison.baseline}'s"),
        ("rank", "mean"),
        *equivalents,
        ("to target", f"budgets until score {analysis.target:g}"),
        ("crashes", "of its runs"),
        ("samples", "training, all runs"),
        ("validation", "samples on top"),
    ]


def _metrics(comparison: Comparison) -> list[str]:
    return [name for name in METRICS if any(name in summary.metrics for summary in comparison.summaries)]


def summary_rows(comparison: Comparison, analysis: Analysis) -> dict[str, list[Cell]]:
    """The main table: cells by method, best score first."""
    summaries = {summary.method: summary for summary in comparison.summaries}
    return {
        method.method: _summary_row(comparison, analysis, method, summaries[method.method])
        for method in by_score(analysis)
    }


def _summary_row(
    comparison: Comparison, analysis: Analysis, method: MethodAnalysis, summary: MethodSummary
) -> list[Cell]:
    metrics = [summary.metrics.get(name) for name in _metrics(comparison)]
    return [
        Cell(f"{method.budgets:g}"),
        estimate_cell(method.iqm),
        loss_cell(summary),
        *(Cell(NONE) if metric is None else estimate_cell(metric) for metric in metrics),
        ratio_cell(summary, comparison.baseline),
        estimate_cell(method.rank, 1),
        *([equivalents_cell(method.equivalents)] if analysis.best_of else []),
        time_cell(method),
        percent_cell(method.crash_rate),
        Cell(fixed(summary.samples, 0)),
        Cell(fixed(summary.val_samples, 0)),
    ]


def probabilities(analysis: Analysis) -> dict[str, dict[str, Cell]]:
    """Percent, by method and rival; the tone says on which side of one half the interval lies."""
    table: dict[str, dict[str, Cell]] = {}
    for method in by_score(analysis):
        table[method.method] = {}
        for rival, estimate in method.probability.items():
            tone = "better" if estimate.low > 0.5 else "worse" if estimate.high < 0.5 else ""
            cell = percent_cell(estimate)
            table[method.method][rival] = Cell(cell.text, cell.note, tone)
    return table


def control_rows(analysis: Analysis, controls: Iterable[str]) -> list[tuple[str, str, Cell, Cell, str]]:
    """Policy, control, difference of scores, probability of improvement, verdict."""
    methods = {method.method: method for method in analysis.methods}
    rows = []
    for control in controls:
        policy = methods.get(control.rpartition("-")[0])
        if policy is not None and control in policy.difference:
            cells = estimate_cell(policy.difference[control]), percent_cell(policy.probability[control])
            rows.append((policy.method, control, *cells, policy.verdicts[control]))
    return rows


def kind_rows(analysis: Analysis) -> dict[str, list[Cell]]:
    """By method: for each kind of job the IQM, the trial equivalents where there are any, and the crashes."""
    rows: dict[str, list[Cell]] = {method.method: [] for method in by_score(analysis)}
    for figures in (figures for kind in analysis.kinds for figures in kind.methods):
        rows[figures.method] += [
            estimate_cell(figures.iqm),
            *([equivalents_cell(figures.equivalents)] if analysis.best_of else []),
            percent_cell(figures.crash_rate),
        ]
    return rows


def job_rows(comparison: Comparison, analysis: Analysis) -> list[dict[str, Any]]:
    """For each job its name, its budget, the best test loss known, and each method's mean score."""
    best = best_test_losses(comparison.rows)
    order = [method.method for method in by_score(analysis)]
    scores = {name: row_scores(comparison.of(name), best).mean(axis=1) for name in order}
    jobs = {row.job: row for row in comparison.rows}
    rows = []
    for i, number_ in enumerate(sorted(jobs)):
        values = {name: float(scores[name][i]) for name in order}
        top = max(values.values())
        rows.append(
            {
                "number": number_,
                "name": jobs[number_].job_name,
                "budget": fixed(jobs[number_].job_budget, 0),
                "best": number(float(best[i])),
                "scores": {n: (fixed(v, 3), bool(np.isclose(v, top, atol=5e-4))) for n, v in values.items()},
            }
        )
    return rows
