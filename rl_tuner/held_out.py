"""Jobs that nothing was learned on, and what methods score there: how recipes of learning are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rl_tuner.chunks import run_together
from rl_tuner.comparison import draw_jobs, episode_seed
from rl_tuner.config import require_range
from rl_tuner.methods import Experiment, PolicyMethod
from rl_tuner.results import Row
from rl_tuner.scores import best_test_losses, row_scores
from rl_tuner.statistics import Array
from rl_tuner.workers import run_tasks

LEAST_JOBS = 2
"""Fewer have no interval."""


def held_out_jobs(suite: str, jobs: int, seed: int = 0, number: int = 0) -> tuple[Experiment, ...]:
    """Jobs of the validation split, each with one seed.

    Args:
        suite: Whose jobs.
        jobs: How many, >= 2.
        seed: Of the draw, and of the jobs' initial weights and batches.
        number: What the rows say of their seed; decides nothing.

    Raises:
        ConfigError: A value is unknown or out of range.
    """
    require_range("jobs", jobs, LEAST_JOBS)
    specs = draw_jobs(suite, "validation", jobs, seed)
    return tuple(Experiment(spec, job, number, episode_seed(seed, job, 0)) for job, spec in enumerate(specs))


def run_held_out(
    name: str, method: PolicyMethod, experiments: Sequence[Experiment], workers: int = 1
) -> list[Row]:
    """Runs a method on every job, many side by side.

    Args:
        name: Of the method, in the rows.
        method: What is run.
        experiments: On what.
        workers: Processes that share the work (see `rl_tuner.workers.run_tasks`); the rows differ with their
            number by rounding errors only.

    Returns:
        A row for each job, in ascending order.

    Raises:
        ConfigError: A job has no test split.
        JobError, DatasetError: A job cannot be built or trained.
    """
    # Jobs of one network train in one program: they stay together as far as all workers get as many.
    alike = sorted(experiments, key=lambda each: (each.spec.architecture, each.spec.dataset))
    parts = [part for part in (alike[worker::workers] for worker in range(workers)) if part]
    rows = [row for _, found in run_tasks(run_together, {name: method}, parts, workers) for row in found]
    return sorted(rows, key=lambda row: row.job)


def scores_of(rows: Mapping[str, Sequence[Row]]) -> dict[str, Array]:
    """Normalized scores of test losses: 1 is the best loss that any of these rows came to on the job.

    Args:
        rows: By method, all on the same jobs.

    Returns:
        By method, shape (jobs, seeds); see `rl_tuner.scores.normalized_score`.
    """
    best = best_test_losses([row for found in rows.values() for row in found])
    return {name: row_scores(found, best) for name, found in rows.items()}
