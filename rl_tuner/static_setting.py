"""The best static setting of a suite: what one could fix in advance for all jobs, chosen on the train split.

It is what a learned policy has to beat first: it knows the suite as well as the policy does, but not the job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl_tuner.config import require_counts
from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.suites import load_suite
from rl_tuner.policy_file import load_policy
from rl_tuner.seeding import Streams
from rl_tuner.trials import run_trials

STATIC = "static"
"""The method's name in a comparison."""
LR_FACTORS = tuple(10.0 ** (k / 2) for k in range(-5, 5))
"""Learning rates of the grid, over the optimizer's usual one: two a decade, from 0.003 to 100 times."""
REGULARIZATION = ((0.0, 0.0), (0.3, 1e-2))
"""Dropout and weight decay of the grid."""
BATCH_SIZE = 32
WORST = 3.0
"""A trial's log loss counts at most so much above the best one of its job: a crash is no worse than that."""
JOBS = 24
"""Jobs of the train split on which the whole grid runs."""
LATER_ROUNDS = ((2, 10), (4, 4))
"""Then (so many times as many further jobs, on which so many of the best settings run): luck on a few jobs
would choose a rival that is easily beaten."""


@dataclass(frozen=True, slots=True)
class StaticSetting:
    """Start values, and a schedule, for jobs of any kind.

    Attributes:
        lr_factor: Learning rate over the optimizer's usual one (`rl_tuner.envs.families.SANE_LR`).
        dropout, weight_decay: As they are.
        schedule: Of the learning rate: a name of `rl_tuner.schedules.SCHEDULES`.
    """

    lr_factor: float
    dropout: float
    weight_decay: float
    schedule: str = "constant"

    def apply(self, spec: JobSpec) -> JobSpec:
        """The job at this setting; what is fixed for all who tune it stays as it is."""
        values: dict[str, Any] = {
            "lr": SANE_LR[spec.optimizer] * self.lr_factor,
            "batch_size": BATCH_SIZE,
            "dropout": self.dropout,
            "weight_decay": self.weight_decay,
        }
        free = {name: value for name, value in values.items() if name not in spec.fixed}
        if spec.dropout is None:
            free.pop("dropout", None)
        return replace(spec, **free)


GRID = tuple(
    StaticSetting(factor, *rest, schedule)
    for schedule, rest, factor in product(("constant", "cosine"), REGULARIZATION, LR_FACTORS)
)


def capped_log_losses(losses: ArrayLike) -> NDArray[np.float64]:
    """Logarithms of losses, shape (jobs, settings), each at most `WORST` above the job's best."""
    logs = np.log(np.clip(losses, np.finfo(float).tiny, np.finfo(float).max))
    capped: NDArray[np.float64] = np.minimum(logs, logs.min(1, keepdims=True) + WORST)
    return capped


def choose_static(
    suite: str, jobs: int = JOBS, seed: int = 0, on_trial: Callable[[], object] | None = None
) -> StaticSetting:
    """The setting of `GRID` with the lowest mean log validation loss over jobs of the train split.

    All settings run on the first jobs, the best of them on `LATER_ROUNDS` of further ones; those left at the
    end are judged by all the jobs (successive halving, Jamieson and Talwalkar, 2016, arXiv 1502.07943, with
    jobs in the place of training time).

    Families are drawn as often as in the validation split, which a suite may weigh otherwise: the rival of
    what is learned must not be chosen on jobs that are rarely judged.

    Args:
        suite: Name or file.
        jobs: How many are drawn for the whole grid.
        seed: Of the draw.
        on_trial: Called whenever a job was trained at a setting, `choosing_trials` times.

    Raises:
        ConfigError: The suite is unknown, or `jobs` below 1.
    """
    require_counts({"jobs": jobs})
    splits, rng = load_suite(suite), Streams(seed).numpy("data")
    family = splits.family("train").weighted_as(splits.family("validation"))
    left, losses = list(GRID), np.empty((0, len(GRID)))
    for more, settings in _rounds(jobs):
        if len(losses):
            best = np.sort(capped_log_losses(losses).mean(0).argsort(kind="stable")[:settings])
            left, losses = [left[i] for i in best], losses[:, best]
        specs = [family.sample(rng) for _ in range(more)]
        losses = np.vstack([losses, _val_losses(specs, left, seed + len(losses), on_trial)])
    return left[int(capped_log_losses(losses).mean(0).argmin())]


def choosing_trials(jobs: int = JOBS) -> int:
    """So many trials `choose_static` takes."""
    return sum(more * settings for more, settings in _rounds(jobs))


def _rounds(jobs: int) -> list[tuple[int, int]]:
    """Further jobs and settings of each round."""
    return [(jobs, len(GRID)), *((times * jobs, settings) for times, settings in LATER_ROUNDS)]


def _val_losses(
    specs: Sequence[JobSpec],
    settings: Sequence[StaticSetting],
    seed: int,
    on_trial: Callable[[], object] | None,
) -> NDArray[np.float64]:
    """Best validation losses, shape (jobs, settings); the jobs' seeds count from `seed`."""
    trials = run_trials(
        [setting.apply(spec) for spec in specs for setting in settings],
        [seed + number for number in range(len(specs)) for _ in settings],
        [load_policy(setting.schedule) for _ in specs for setting in settings],
        intervals="uniform",
        on_trial=on_trial,
    )
    return np.reshape([trial.val_loss for trial in trials], (len(specs), len(settings)))
