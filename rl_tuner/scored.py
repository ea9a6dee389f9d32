"""A comparison's normalized scores, and the figures of a method that follow from them alone."""

from __future__ import annotations

from rl_tuner.aggregates import wilson_interval
from rl_tuner.comparison import Comparison
from rl_tuner.equivalents import Equivalents, trial_equivalents
from rl_tuner.random_pools import random_search_curves
from rl_tuner.scores import best_test_losses, row_scores
from rl_tuner.statistics import Estimate, mean_interval, paired_difference, per_job


class Scored:
    """The scores of a comparison's methods.

    Args:
        comparison: With a row for every method, job and seed.

    Attributes:
        rows: By method.
        best_test: The best test loss known of each job, shape (jobs,).
        scores: Normalized, by method, shape (jobs, seeds).
        curves: See `rl_tuner.random_pools.random_search_curves`.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.rows = {name: comparison.of(name) for name in comparison.methods}
        self.best_test = best_test_losses(comparison.rows)
        self.scores = {name: row_scores(rows, self.best_test) for name, rows in self.rows.items()}
        self.curves = random_search_curves(self.rows, self.best_test)

    def mean_score(self, name: str) -> Estimate:
        """The mean of a method's scores over jobs; t interval."""
        return mean_interval(per_job(self.scores[name]))

    def difference(self, name: str, other: str) -> Estimate:
        """The paired difference of two methods' scores, one number a job (a seed, where there is one job)."""
        return paired_difference(per_job(self.scores[name]), per_job(self.scores[other]))

    def crash_rate(self, name: str) -> Estimate:
        """The share of a method's runs that crashed; Wilson interval."""
        return wilson_interval(sum(row.crashed for row in self.rows[name]), len(self.rows[name]))

    def equivalents(self, name: str) -> Equivalents | None:
        """A method's trial equivalents; None where no random search took part."""
        return None if self.curves is None else trial_equivalents(self.curves, self.scores[name])
