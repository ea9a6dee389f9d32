"""The statistics of a comparison, all of them, as plain numbers for tables, figures and files.

Scores are normalized by job (`rl_tuner.scores`). Intervals are about other jobs of the kind, unless they are
called stratified; with one job they are about its seeds. Each verdict stands for itself: of twenty
comparisons between equals, one is expected to find a difference.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from rl_tuner.aggregates import (
    improvement_interval,
    iqm,
    iqm_interval,
    mean_rank,
    median_interval,
    performance_profile,
    ranks,
)
from rl_tuner.anytime import TARGET, anytime_scores, budget_axis, times_to_target
from rl_tuner.comparison import Comparison
from rl_tuner.equivalents import Equivalents, break_even
from rl_tuner.kinds import KindAnalysis, analyse_kinds
from rl_tuner.scored import Scored
from rl_tuner.scores import best_val_losses, table
from rl_tuner.statistics import Estimate, verdict

TAUS = tuple(np.append(np.linspace(0, 0.98, 99), np.linspace(0.99, 1, 11)).round(3).tolist())
"""Thresholds of performance profiles: finer where good methods are."""


@dataclass(frozen=True, slots=True)
class MethodAnalysis:
    """What a method came to, and how that compares to the others; intervals are 95%.

    Attributes:
        method: Its name.
        budgets: What it was allowed, in budgets of one run of the job: 1, or a search's trials.
        iqm: Interquartile mean of the normalized scores of all runs; bootstrap interval over jobs and seeds.
        iqm_stratified: The same with the stratified bootstrap interval, which is about these jobs only; there
            is none where each job ran with one seed.
        mean_score: Mean of the scores over jobs; t interval.
        rank: Mean rank of the test loss among the methods, 1 is best, ties share; t interval.
        crash_rate: Share of runs that crashed; Wilson interval.
        time_to_target: Median of the budgets until the anytime score first reached the target, infinite where
            fewer than half of the runs did; bootstrap interval.
        reached: Share of runs that did.
        probability: By other method, the probability of a lower test loss on the same job.
        difference: By other method, the paired difference of scores, over jobs; t interval.
        verdicts: By other method, what the interval of `difference` allows to say.
        profile: Share of runs with a score above each of `Analysis.taus`.
        profile_low: Lower end of its pointwise band.
        profile_high: Upper end.
        anytime: Interquartile mean of the anytime scores, by validation loss, at `Analysis.shares`.
        equivalents: Trial equivalents; None where no random search took part.
        break_even: Jobs after which a policy's training has paid; None if it never has, or is not known.
    """

    method: str
    budgets: float
    iqm: Estimate
    iqm_stratified: Estimate
    mean_score: Estimate
    rank: Estimate
    crash_rate: Estimate
    time_to_target: Estimate
    reached: float
    probability: dict[str, Estimate]
    difference: dict[str, Estimate]
    verdicts: dict[str, str]
    profile: tuple[float, ...]
    profile_low: tuple[float, ...]
    profile_high: tuple[float, ...]
    anytime: tuple[float, ...]
    equivalents: Equivalents | None
    break_even: float | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """The statistics of a comparison.

    Attributes:
        methods: In the comparison's order.
        taus: Thresholds of the profiles.
        shares: Places of the anytime curves, in budgets of one run of the job, from 0.
        target: The score that times to target are about.
        best_of: Mean normalized test score of the model that a random search of k = 1 … `pool` trials
            selects; None without a random search.
        pool: Trials of that random search on each job, with all seeds together (with each seed, of one job
            alone); 0 without one.
        jobs: Number of jobs.
        seeds: Number of seeds of each.
        baseline: The comparison's.
        kinds: The same for each kind of job by itself; empty where there are not several.
    """

    methods: tuple[MethodAnalysis, ...]
    taus: tuple[float, ...]
    shares: tuple[float, ...]
    target: float
    best_of: tuple[float, ...] | None
    pool: int
    jobs: int
    seeds: int
    baseline: str
    kinds: tuple[KindAnalysis, ...] = ()


def analyse(
    comparison: Comparison,
    training_episodes: Mapping[str, float] | None = None,
    kinds: Mapping[int, Collection[str]] | None = None,
) -> Analysis:
    """Computes all statistics of a comparison; the same ones each time.

    Args:
        comparison: With a row for every method, job and seed.
        training_episodes: By method, what its training cost in episodes, that is in budgets of a job.
        kinds: What a job is, by its number: in what it is new, say (see `rl_tuner.kinds.analyse_kinds`).

    Raises:
        ConfigError: A row is missing, or a number of episodes is negative.
    """
    data = _Data(comparison)
    methods = tuple(_analyse_method(data, name, training_episodes or {}) for name in comparison.methods)
    curves = data.curves
    return Analysis(
        methods=methods,
        taus=TAUS,
        shares=tuple(data.shares.tolist()),
        target=TARGET,
        best_of=None if curves is None else tuple(curves.mean((0, 1)).tolist()),
        pool=0 if curves is None else curves.shape[-1],
        jobs=comparison.jobs,
        seeds=comparison.seeds,
        baseline=comparison.baseline,
        kinds=analyse_kinds(comparison, kinds or {}),
    )


class _Data(Scored):
    """What the statistics of every method need of all of them; arrays are (jobs, seeds) by method."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison)
        self.best_val = best_val_losses(comparison.rows)
        self.losses = {name: table(rows, lambda row: row.test_loss) for name, rows in self.rows.items()}
        ranked = ranks(np.array(list(self.losses.values())))
        self.ranks = dict(zip(self.rows, ranked, strict=True))
        self.shares = budget_axis(max(row.budget / row.job_budget for row in comparison.rows))


def _analyse_method(data: _Data, name: str, training_episodes: Mapping[str, float]) -> MethodAnalysis:
    rows, scores = data.rows[name], data.scores[name]
    others = [other for other in data.rows if other != name]
    times = times_to_target(rows, data.best_val)
    anytime = anytime_scores(rows, data.best_val, data.shares)
    profile = performance_profile(scores, TAUS)
    difference = {other: data.difference(name, other) for other in others}
    worth = data.equivalents(name)
    budgets = float(np.mean([row.budget / row.job_budget for row in rows]))
    episodes = training_episodes.get(name)
    paid = None if worth is None or episodes is None else break_even(episodes, worth.of_mean.mean, budgets)
    return MethodAnalysis(
        method=name,
        budgets=budgets,
        iqm=iqm_interval(scores),
        iqm_stratified=iqm_interval(scores, stratified=True),
        mean_score=data.mean_score(name),
        rank=mean_rank(data.ranks[name], len(data.rows)),
        crash_rate=data.crash_rate(name),
        time_to_target=median_interval(times),
        reached=float(np.isfinite(times).mean()),
        probability={o: improvement_interval(-data.losses[name], -data.losses[o]) for o in others},
        difference=difference,
        verdicts={other: verdict(e, higher_is_better=True) for other, e in difference.items()},
        profile=profile.share,
        profile_low=profile.low,
        profile_high=profile.high,
        anytime=tuple(iqm(anytime.reshape(-1, len(data.shares)).T).tolist()),
        equivalents=worth,
        break_even=paid,
    )
