"""What the tests of the report share: a comparison of many methods made by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import exp, inf
from typing import Any

import numpy as np

from rl_tuner.analysis import Analysis, MethodAnalysis, analyse
from rl_tuner.comparison import Comparison
from rl_tuner.results import Row
from tests.comparing import make_record, make_row
from tests.searching_rows import search_row

SINGLE = {
    "constant": 1.0,
    "cosine": 0.8,
    "onecycle": 0.75,
    "plateau": 1.0,
    "default": 0.5,
    "default-untrained": 1.3,
    "default-blind": 0.55,
    "default-replay": 0.52,
    "static": 0.7,
    "hypergradient": 1.1,
}
SEARCHES = ("random@8", "tpe@8", "gp@8", "genetic@8", "hyperband@8")
CONTROLS = ("default-untrained", "default-blind", "default-replay")
KINDS = {0: ("dataset",), 1: ("dataset", "optimizer"), 2: ("optimizer",)}
PROVENANCE: dict[str, Any] = {
    "command": "rl-tuner compare constant cosine --suite quick",
    "settings": {"suite": "quick", "split": "test", "jobs": 3, "seeds": 2},
    "versions": {"python": "3.12", "torch": "2.13"},
    "controls": CONTROLS,
    "static_setting": {"lr_factor": 0.5, "schedule": "cosine"},
    "files": ("rows.csv", "summary.csv"),
    "date": "2026-01-01",
}


def make_full(jobs: int = 3, seeds: int = 2) -> Comparison:
    """Fifteen methods: schedules, a policy and its controls, searches, and one whose runs crash."""
    rng = np.random.default_rng(0)
    rows = []
    for job in range(jobs):
        for seed in range(seeds):
            for name, level in SINGLE.items():
                rows.append(_run(name, job, seed, 0.2 * level * exp(rng.normal(0, 0.1))))
            for name in SEARCHES:
                found = 0.1 * np.exp(rng.exponential(1.0, 8))
                rows.append(search_row(name, job, seed, [(x, x) for x in found.tolist()], **_start(job)))
    return Comparison(tuple(rows), (*SINGLE, *SEARCHES), "constant")


def _start(job: int) -> dict[str, Any]:
    return {"start_test_loss": 3.0, "start_val_loss": 3.0, "job_name": f"toy-{job}-mlp"}


def _run(name: str, job: int, seed: int, loss: float) -> Row:
    crashed = name == "hypergradient" and seed == 0
    records = tuple(
        make_record(i, 10 * (i + 1), loss + (3.0 - loss) * exp(-(i + 1) / 2), lr=0.1 * exp(-i / 5))
        for i in range(10)
    )
    return make_row(
        name,
        job,
        seed,
        inf if crashed else loss,
        crashed=crashed,
        records=records,
        val_loss=records[-1].best,
        **_start(job),
    )


@cache
def full() -> tuple[Comparison, Analysis]:
    """Such a comparison with its analysis."""
    comparison = make_full()
    return comparison, analyse(comparison, kinds=KINDS)


def renamed(comparison: Comparison, names: dict[str, str]) -> Comparison:
    """The comparison with other names of its methods."""
    rows = tuple(replace(row, method=names.get(row.method, row.method)) for row in comparison.rows)
    methods = tuple(names.get(name, name) for name in comparison.methods)
    return Comparison(rows, methods, names.get(comparison.baseline, comparison.baseline))


def method(analysis: Analysis, name: str) -> MethodAnalysis:
    """The method of this name."""
    return next(m for m in analysis.methods if m.method == name)
