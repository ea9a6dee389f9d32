"""A comparison kind by kind: does a method do as well on new data sets as with new optimizers?

A job of a held-out split is new in one respect or more (`rl_tuner.envs.suites.AXES`). Scores are normalized
by job, so those of a kind are the ones of the whole comparison.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rl_tuner.aggregates import iqm_interval
from rl_tuner.comparison import Comparison
from rl_tuner.equivalents import Equivalents
from rl_tuner.scored import Scored
from rl_tuner.statistics import Estimate


@dataclass(frozen=True, slots=True)
class KindFigures:
    """What a method came to on the jobs of a kind; all as in `rl_tuner.analysis.MethodAnalysis`.

    Attributes:
        method: Its name.
        iqm: Interquartile mean of the normalized scores.
        mean_score: Their mean over jobs.
        difference: To the baseline's, paired; None for the baseline itself.
        crash_rate: Share of runs that crashed.
        equivalents: Trial equivalents; None where no random search took part.
    """

    method: str
    iqm: Estimate
    mean_score: Estimate
    difference: Estimate | None
    crash_rate: Estimate
    equivalents: Equivalents | None


@dataclass(frozen=True, slots=True)
class KindAnalysis:
    """The jobs of a kind.

    Attributes:
        kind: Its name.
        jobs: How many.
        methods: In the comparison's order.
    """

    kind: str
    jobs: int
    methods: tuple[KindFigures, ...]


def analyse_kinds(comparison: Comparison, kinds: Mapping[int, Collection[str]]) -> tuple[KindAnalysis, ...]:
    """The figures of every kind by itself, in alphabetical order; empty unless they tell jobs apart.

    Args:
        comparison: With a row for every method, job and seed.
        kinds: Of the jobs, by number; a job may be of several, and one that is missing is of none.
    """
    jobs: dict[str, set[int]] = {}
    for job in {row.job for row in comparison.rows} & set(kinds):
        for kind in kinds[job]:
            jobs.setdefault(kind, set()).add(job)
    if len({frozenset(own) for own in jobs.values()}) < 2:
        return ()
    return tuple(
        KindAnalysis(kind, len(jobs[kind]), _figures(comparison.on(jobs[kind]))) for kind in sorted(jobs)
    )


def _figures(comparison: Comparison) -> tuple[KindFigures, ...]:
    scored, baseline = Scored(comparison), comparison.baseline
    return tuple(
        KindFigures(
            method=name,
            iqm=iqm_interval(scores),
            mean_score=scored.mean_score(name),
            difference=None if name == baseline else scored.difference(name, baseline),
            crash_rate=scored.crash_rate(name),
            equivalents=scored.equivalents(name),
        )
        for name, scores in scored.scores.items()
    )
