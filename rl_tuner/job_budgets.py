"""The budget of a job in training samples, and the same job at another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rl_tuner.config import require_range
from rl_tuner.envs.jobs import Phase, TrainingJob
from rl_tuner.envs.tuning_setup import Source
from rl_tuner.errors import ConfigError


def budget_of(job: Source) -> int:
    """Training samples that a job may use, in all its phases.

    Raises:
        JobError: It has no training samples.
        ConfigError, DatasetError: It cannot be built.
    """
    return sum(phase_budgets(job.build()))


def phase_budgets(job: TrainingJob) -> list[int]:
    """Training samples that each phase of a job may use.

    Raises:
        JobError: It has no training samples.
        DatasetError: Its samples cannot be read.
    """
    first = job.budget
    if first is None:
        first = max(1, round(job.epochs * len(job.pool_to_score("train"))))
    return [first, *(phase.budget for phase in job.then)]


def with_budget(job: Source, budget: int) -> Source:
    """The job at another budget; the phases of a job that has several keep their shares of it.

    Raises:
        ConfigError: The budget cannot hold a sample of each phase.
        JobError, DatasetError: The job's own budget depends on data that cannot be read.
    """
    require_range("budget", budget, 1)
    if not isinstance(job, TrainingJob) or not job.then:
        return replace(job, budget=budget)
    first, *rest = _shares(phase_budgets(job), budget, job.name)
    then = tuple(Phase(phase.job, part) for phase, part in zip(job.then, rest, strict=True))
    return replace(job, budget=first, then=then)


def _shares(budgets: Sequence[int], budget: int, name: str) -> list[int]:
    """Divides a budget in proportion to others, a sample to each at least."""
    if budget < len(budgets):
        raise ConfigError(f"a budget of {budget} cannot hold the {len(budgets)} phases of the job {name!r}")
    free = budget - len(budgets)
    ends = np.floor(free * np.cumsum(budgets) / sum(budgets)).astype(np.int64)
    return [int(part) + 1 for part in np.diff(ends, prepend=0)]
