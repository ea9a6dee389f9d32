"""The trials of a comparison's random searches as best-of-k curves, which trial equivalents are read off."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from rl_tuner.equivalents import best_of_curve
from rl_tuner.results import Row
from rl_tuner.scores import normalized_score
from rl_tuner.statistics import Array

RANDOM = re.compile(r"random(@\d+)?(-\d+)?")
"""Names of random searches each of whose trials has a whole budget (see `rl_tuner.method_names`)."""


def random_search_curves(rows: Mapping[str, list[Row]], best: Array) -> Array | None:
    """Best-of-k curves of the random search with the most trials a job; None if there is none.

    Its searches with several seeds are one pool of a job's trials. (With one job alone each seed has its own:
    intervals are then over seeds.) Should pools differ in size, K is the smallest one's.

    Args:
        rows: Of every method, by name, on the same jobs.
        best: The best test loss known of each job, shape (jobs,), by ascending number.

    Returns:
        Shape (jobs, 1, K), or (1, seeds, K) of one job.
    """
    found = None
    known = dict(zip(sorted({row.job for own in rows.values() for row in own}), best, strict=True))
    for name in filter(RANDOM.fullmatch, rows):
        pools: dict[tuple[int, int], list[Row]] = {}
        for row in sorted(rows[name], key=lambda row: (row.job, row.seed)):
            pools.setdefault((row.job, 0 if len(known) > 1 else row.seed), []).append(row)
        curves = [_curve(own, known[job]) for (job, _), own in pools.items()]
        size = min(len(curve) for curve in curves)
        if size and (found is None or size > found.shape[-1]):
            found = np.array([curve[:size] for curve in curves]).reshape(len(known), -1, size)
    return found


def _curve(searches: Sequence[Row], best: float) -> Array:
    """The best-of-k curve of all their trials; one that was cut short is no whole trial and left out."""
    pool = [(trial, row.start_test_loss) for row in searches for trial in row.trials if not trial.pruned]
    if not pool:
        return np.empty(0)
    scores = normalized_score([trial.test_loss for trial, _ in pool], [start for _, start in pool], best)
    return best_of_curve([trial.val_loss for trial, _ in pool], scores)
