"""How hard a suite's families are: do their jobs want different settings, and what could a policy win?

Each job drawn is trained at every setting of a grid: learning rates around the optimizer's usual one, with
and without regularization. The *static* setting is the one with the lowest mean log validation loss over the
family's jobs, the best that somebody could fix in advance; the *head-room* is what choosing the best setting
for each job in hindsight would take off its loss. (The best of many is a little too good: its own noise is
chosen too.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import require_counts
from rl_tuner.envs.datasets import split_cache
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.suites import Mixture, load_suite
from rl_tuner.seeding import Streams
from rl_tuner.static_setting import GRID as STATIC_GRID
from rl_tuner.static_setting import StaticSetting, capped_log_losses
from rl_tuner.timing import seconds_of
from rl_tuner.trials import Trial, run_trials

Array = NDArray[np.float64]
GRID = tuple(setting for setting in STATIC_GRID if setting.schedule == "constant")
LEAST_HEADROOM, LEAST_SPREAD = 0.03, 10.0
DRAWS, MOST_DRAW_SECONDS = 1000, 1.0
OVERFIT, UNDERFIT = 1.05, 0.98
"""A job overfits if its validation loss ends above 1.05 times its best, and underfits if the last two of
20 intervals (16 % of the budget) still took more than 2 % off it; both at the family's static setting."""


@dataclass(frozen=True, slots=True)
class FamilyFigure:
    """How hard a family is.

    Attributes:
        family: Its name.
        jobs: How many were drawn.
        lr_spread: Largest over smallest best learning rate of a job, over the optimizer's usual one.
        lr_quantiles: Of the jobs' best learning rates, over the usual one: 10 %, 50 % and 90 %.
        static: The setting with the lowest mean log loss over all jobs.
        headroom: What the best setting of each job takes off its validation loss against `static`, in the
            geometric mean, as a share.
        overfitting, underfitting: Shares of the jobs that do, at `static`.
        crashes: Share of all trials that diverged.
    """

    family: str
    jobs: int
    lr_spread: float
    lr_quantiles: tuple[float, float, float]
    static: StaticSetting
    headroom: float
    overfitting: float
    underfitting: float
    crashes: float

    @property
    def misses(self) -> list[str]:
        """What is asked of a family and does not hold."""
        found = []
        if self.lr_spread < LEAST_SPREAD:
            found.append(f"best learning rates differ by {self.lr_spread:.2g} times only")
        if self.headroom < LEAST_HEADROOM:
            found.append(f"the head-room is {self.headroom:.1%}, below {LEAST_HEADROOM:.0%}")
        found += ["no job overfits"] * (self.overfitting == 0) + ["no job underfits"] * (
            self.underfitting == 0
        )
        return [f"{self.family}: {what}" for what in found]


def bench_families(
    suite: str,
    split: str = "train",
    jobs: int = 32,
    seed: int = 0,
    families: Sequence[str] = (),
    on_trial: Callable[[], object] | None = None,
) -> list[FamilyFigure]:
    """Trains jobs of each family over the grid.

    Args:
        suite: Name or file of the suite.
        split: Of the suite.
        jobs: How many of each family.
        seed: Of the draws.
        families: Which ones; empty for all.
        on_trial: Called whenever a job was trained at a setting.

    Raises:
        ConfigError: A name is unknown, or `jobs` below 1.
    """
    require_counts({"jobs": jobs})
    found = load_suite(suite)
    mixtures = {name: found.only(name).family(split) for name in families or found.families}
    return [_measure(name, mixture, jobs, seed, on_trial) for name, mixture in mixtures.items()]


def trials_of(suite: str, jobs: int, families: Sequence[str] = ()) -> int:
    """How many trials `bench_families` runs."""
    return len(families or load_suite(suite).families) * jobs * len(GRID)


@dataclass(frozen=True, slots=True)
class SamplingFigure:
    """How long it takes to come by jobs.

    Attributes:
        suite, split: Which jobs.
        draws: How many were drawn.
        draw_seconds: CPU time of that.
        builds: How many of them were built.
        build_seconds: CPU time of that, with the first ones' imports and files read before.
        cache_bytes: Memory of the splits of data that were kept in the end.
    """

    suite: str
    split: str
    draws: int
    draw_seconds: float
    builds: int
    build_seconds: float
    cache_bytes: int

    @property
    def misses(self) -> list[str]:
        """What is asked and does not hold."""
        seconds = self.draw_seconds * DRAWS / self.draws
        slow = f"{self.suite}: drawing {DRAWS:,} jobs takes {seconds:.2f} s"
        return [slow] if seconds > MOST_DRAW_SECONDS else []


def bench_sampling(
    suite: str, split: str = "train", draws: int = DRAWS, builds: int = 200, seed: int = 0
) -> SamplingFigure:
    """Times the drawing of a suite's jobs, and the building of some.

    Raises:
        ConfigError: A name is unknown, or a number below 1.
    """
    require_counts({"draws": draws, "builds": builds})
    mixture = load_suite(suite).family(split)
    rng = Streams(seed).numpy("data")
    specs: list[JobSpec] = []
    draw_seconds = seconds_of(lambda: specs.extend(mixture.sample(rng) for _ in range(draws)))
    for name in load_suite(suite).families:
        mixture.only(family=name).sample(rng).build()
    some = specs[:builds]
    build_seconds = seconds_of(lambda: [spec.build() for spec in some])
    return SamplingFigure(suite, split, draws, draw_seconds, len(some), build_seconds, split_cache().nbytes)


def _measure(
    name: str, mixture: Mixture, jobs: int, seed: int, on_trial: Callable[[], object] | None
) -> FamilyFigure:
    rng = Streams(seed).numpy("data")
    specs = [mixture.sample(rng) for _ in range(jobs)]
    wanted = [setting.apply(spec) for spec in specs for setting in GRID]
    seeds = [seed + number for number in range(jobs) for _ in GRID]
    trials = run_trials(wanted, seeds, on_trial=on_trial)
    table = [trials[first : first + len(GRID)] for first in range(0, len(trials), len(GRID))]
    return summarize(name, table)


def summarize(name: str, table: Sequence[Sequence[Trial]]) -> FamilyFigure:
    """The figures of a family.

    Args:
        name: The family's name.
        table: A row for each job, with a trial for each setting of `GRID`.
    """
    losses = np.array([[trial.val_loss for trial in row] for row in table])
    logs = capped_log_losses(losses)
    best, static = logs.argmin(1), int(logs.mean(0).argmin())
    factors = np.array([GRID[i].lr_factor for i in best])
    at_static = [row[static] for row in table]
    return FamilyFigure(
        family=name,
        jobs=len(table),
        lr_spread=float(factors.max() / factors.min()),
        lr_quantiles=_quantiles(factors),
        static=GRID[static],
        headroom=float(1 - np.exp((logs.min(1) - logs[:, static]).mean())),
        overfitting=float(np.mean([_overfits(trial) for trial in at_static])),
        underfitting=float(np.mean([_underfits(trial) for trial in at_static])),
        crashes=float(np.mean([trial.crashed for row in table for trial in row])),
    )


def _quantiles(factors: Array) -> tuple[float, float, float]:
    low, middle, high = np.quantile(factors, (0.1, 0.5, 0.9), method="inverted_cdf").tolist()
    return low, middle, high


def _overfits(trial: Trial) -> bool:
    return not trial.crashed and trial.records[-1].val_loss > OVERFIT * trial.val_loss


def _underfits(trial: Trial) -> bool:
    """Whether the last two intervals still lowered the best validation loss."""
    return not trial.crashed and trial.val_loss < UNDERFIT * trial.records[-3].best
