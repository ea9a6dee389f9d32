"""Do networks learn as they should: test accuracy of known data sets at their best constant setting.

The setting is chosen by validation loss, for each split of the data on its own; the test part is looked at
with the chosen one alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from rl_tuner.config import require_counts
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.trials import run_trials

LRS = (1e-3, 3e-3, 1e-2)
DROPOUTS = (0.0, 0.3)


@dataclass(frozen=True, slots=True)
class Case:
    """What is trained, and what it must reach.

    Attributes:
        job: All but learning rate, dropout and split.
        least: Test accuracy.
    """

    job: JobSpec
    least: float


CASES = {
    "digits cnn": Case(
        JobSpec("digit-images", "cnn-16x32", "adam", 60_000, 0, 0.0, 32, 1e-4, 0.9, 0.0), 0.97
    ),
    "breast cancer": Case(
        JobSpec("breast_cancer", "mlp-64x32", "adam", 20_000, 0, 0.0, 32, 1e-2, 0.9, 0.0), 0.95
    ),
}


@dataclass(frozen=True, slots=True)
class AccuracyFigure:
    """What a case reached.

    Attributes:
        case: A key of `CASES`.
        splits: How many splits of the data.
        accuracy: Mean test accuracy.
        lowest: The lowest of a split.
        least: What is asked of the mean.
    """

    case: str
    splits: int
    accuracy: float
    lowest: float
    least: float


def bench_accuracy(
    splits: int = 5, seed: int = 0, on_trial: Callable[[], object] | None = None
) -> list[AccuracyFigure]:
    """Trains each case on some splits of its data.

    Args:
        splits: How many.
        seed: Of the first split, and of all trainings; the others follow.
        on_trial: Called whenever one training has ended.

    Raises:
        ConfigError: `splits` is below 1.
    """
    require_counts({"splits": splits})
    return [_measure(name, case, splits, seed, on_trial) for name, case in CASES.items()]


def trials_of(splits: int) -> int:
    """How many trainings `bench_accuracy` does."""
    return len(CASES) * splits * len(LRS) * len(DROPOUTS)


def _measure(
    name: str, case: Case, splits: int, seed: int, on_trial: Callable[[], object] | None
) -> AccuracyFigure:
    settings = list(product(LRS, DROPOUTS))
    jobs = [
        replace(case.job, data_seed=seed + split, lr=lr, dropout=dropout)
        for split in range(splits)
        for lr, dropout in settings
    ]
    trials = run_trials(jobs, [seed] * len(jobs), test=True, on_trial=on_trial)
    chosen = [
        min(trials[first : first + len(settings)], key=lambda trial: trial.val_loss)
        for first in range(0, len(trials), len(settings))
    ]
    reached = [trial.test["accuracy"] for trial in chosen]
    return AccuracyFigure(name, splits, float(np.mean(reached)), min(reached), case.least)


def misses(figures: list[AccuracyFigure]) -> list[str]:
    """The cases below what is asked."""
    return [
        f"{f.case}: test accuracy {f.accuracy:.1%}, at least {f.least:.0%} is asked"
        for f in figures
        if f.accuracy < f.least
    ]
