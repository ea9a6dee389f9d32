"""Methods compared on the same jobs, from the same start, at the same budget.

Each pair of a job and a seed is one experiment that every method runs: the same job, the same samples, the
same initial weights and the same budget. Policies, schedules, optimizers and searches are all a
`rl_tuner.methods.Method`, so there is one code path and no favoured contestant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rl_tuner.chunks import run_chunk, split_work
from rl_tuner.config import choose, require_range
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.suites import AXES, load_suite
from rl_tuner.errors import ConfigError
from rl_tuner.methods import BASELINE, Experiment, Method, PolicyMethod
from rl_tuner.policy import Policy
from rl_tuner.results import Row
from rl_tuner.scores import table
from rl_tuner.seeding import Streams
from rl_tuner.statistics import (
    Array,
    Estimate,
    bootstrap_interval,
    log_losses,
    mean_interval,
    per_job,
    share_below,
    verdict,
)
from rl_tuner.workers import run_tasks


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """What a method came to over all its runs; intervals are 95% (see `rl_tuner.statistics`).

    Attributes:
        method: Its name.
        runs: How many, crashed ones included.
        test_loss: Mean over jobs (over seeds if there is one job).
        median_test_loss: Median over runs, with a bootstrap interval over jobs and seeds.
        metrics: Mean of each metric, over the jobs that have it.
        val_loss: Mean of the best validation loss.
        budget: Training samples allowed, all runs together.
        samples: Training samples used.
        val_samples: Validation samples evaluated on top.
        crashes: Runs that crashed; they are scored with their best weights by validation.
        rescues: Restorations by the rails.
        not_finite: Runs whose test loss is not finite; they make means and intervals undefined.
        log_ratio: Mean of log(test loss / the baseline's on the same job and seed), in nats.
        share_below: Share of the runs with a test loss below the baseline's, ties counting half.
        verdict: What the interval of `log_ratio` allows to say; empty for the baseline itself.
    """

    method: str
    runs: int
    test_loss: Estimate
    median_test_loss: Estimate
    metrics: dict[str, Estimate]
    val_loss: Estimate
    budget: int
    samples: int
    val_samples: int
    crashes: int
    rescues: int
    not_finite: int
    log_ratio: Estimate
    share_below: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """The rows of a comparison and what follows from them.

    Attributes:
        rows: One for each job, seed and method, in that order.
        methods: Names, in the order asked for.
        baseline: The method that ratios are taken to.
    """

    rows: tuple[Row, ...]
    methods: tuple[str, ...]
    baseline: str

    @property
    def jobs(self) -> int:
        """Number of jobs."""
        return len({row.job for row in self.rows})

    @property
    def seeds(self) -> int:
        """Number of seeds of each job."""
        return len({row.seed for row in self.rows})

    def of(self, method: str, job: int | None = None) -> list[Row]:
        """A method's rows, on all jobs or on one."""
        return [row for row in self.rows if row.method == method and job in (None, row.job)]

    def on(self, jobs: Collection[int]) -> Comparison:
        """The comparison on these of its jobs alone."""
        rows = tuple(row for row in self.rows if row.job in jobs)
        return Comparison(rows, self.methods, self.baseline)

    @cached_property
    def summaries(self) -> tuple[MethodSummary, ...]:
        """A summary for each method."""
        return tuple(self._summary(method) for method in self.methods)

    def _summary(self, method: str) -> MethodSummary:
        rows = self.of(method)
        losses = table(rows, lambda row: row.test_loss)
        base = table(self.of(self.baseline), lambda row: row.test_loss)
        ratio = log_ratio(losses, base)
        names = dict.fromkeys(name for row in rows for name in row.metrics)
        return MethodSummary(
            method=method,
            runs=len(rows),
            test_loss=mean_interval(per_job(losses)),
            median_test_loss=bootstrap_interval(losses, _median),
            metrics={name: self._metric(rows, name) for name in names},
            val_loss=mean_interval(per_job(table(rows, lambda row: row.val_loss))),
            budget=sum(row.budget for row in rows),
            samples=sum(row.samples for row in rows),
            val_samples=sum(row.val_samples for row in rows),
            crashes=sum(row.crashed for row in rows),
            rescues=sum(row.rescues for row in rows),
            not_finite=sum(not row.finite for row in rows),
            log_ratio=ratio,
            share_below=share_below(losses, base),
            verdict="" if method == self.baseline else verdict(ratio),
        )

    def _metric(self, rows: Sequence[Row], name: str) -> Estimate:
        having = [row for row in rows if name in row.metrics]
        return mean_interval(per_job(table(having, lambda row: row.metrics[name])))


def _median(values: Array) -> Array:
    medians: Array = np.median(values, axis=1)
    return medians


def log_ratio(losses: Array, baseline: Array) -> Estimate:
    """Mean log ratio of test losses of shape (jobs, seeds), paired run by run, with its interval.

    Infinite losses on both sides are a tie; on one side they make the mean infinite, without an interval.
    """
    a, b = log_losses(losses), log_losses(baseline)
    with np.errstate(invalid="ignore"):
        difference = np.where(a == b, 0.0, a - b)
    return mean_interval(per_job(difference))


def draw_jobs(suite: str, split: str, jobs: int, seed: int, unseen: str | None = None) -> tuple[JobSpec, ...]:
    """The jobs of a comparison; the first ones of a longer comparison are the same.

    Args:
        suite: Whose jobs.
        split: Of the suite.
        jobs: How many, >= 1.
        seed: Of the draw, >= 0.
        unseen: Only jobs that are new in this, a key of `rl_tuner.envs.suites.AXES`; None for all.

    Raises:
        ConfigError: A value is unknown or out of range, or the split holds no such jobs.
    """
    require_range("jobs", jobs, 1)
    family, rng = load_suite(suite).family(split), Streams(seed).numpy("data")
    if unseen is not None:
        family = family.only(unseen=choose("unseen", unseen, AXES))
    return tuple(family.sample(rng) for _ in range(jobs))


def episode_seed(seed: int, job: int, repeat: int) -> int:
    """The environment's seed for a repetition of a job: the same one for every method."""
    return int(np.random.SeedSequence([seed, job, repeat]).generate_state(1, np.uint32)[0])


def compare(  # noqa: PLR0913 (each one an option of the command)
    methods: Mapping[str, Method | Policy],
    suite: str = "quick",
    split: str = "test",
    jobs: int = 5,
    seeds: int = 5,
    seed: int = 0,
    *,
    unseen: str | None = None,
    baseline: str = BASELINE,
    workers: int = 1,
    on_row: Callable[[Row], object] | None = None,
    done_rows: Collection[Row] = (),
) -> Comparison:
    """Runs every method on every job with every seed, in chunks (see `rl_tuner.chunks`).

    Args:
        methods: By name (see `rl_tuner.method_names.load_methods`); a policy stands for one run under it.
        suite: Whose jobs.
        split: Of the suite.
        jobs: How many jobs are drawn, >= 1.
        seeds: How often each is run by each method, >= 1.
        seed: Of all that is random, >= 0.
        unseen: See `draw_jobs`.
        baseline: One of the methods.
        workers: Processes that share the work (see `rl_tuner.workers.run_tasks`); the rows are the same.
        on_row: Called with each new row, as soon as it is known.
        done_rows: Rows of the same comparison: they are kept, and not told of again.

    Raises:
        ConfigError: A value is unknown or out of range.
    """
    require_range("seeds", seeds, 1)
    if baseline not in methods:
        raise ConfigError(f"the baseline {baseline!r} is not among the methods {', '.join(methods)}")
    contestants = {name: PolicyMethod(m) if isinstance(m, Policy) else m for name, m in methods.items()}
    specs = draw_jobs(suite, split, jobs, seed, unseen)
    rows = {row.key: row for row in done_rows}
    experiments = [
        [Experiment(spec, job, repeat, episode_seed(seed, job, repeat)) for repeat in range(seeds)]
        for job, spec in enumerate(specs)
    ]
    chunks = [chunk for of_job in experiments for chunk in split_work(contestants, of_job)]
    to_do = [chunk for chunk in chunks if not rows.keys() >= chunk.keys]
    for _, found in run_tasks(run_chunk, contestants, to_do, workers):
        for row in found:
            if row.key not in rows:
                rows[row.key] = row
                if on_row is not None:
                    on_row(row)
    keys = [(name, each.job, each.seed) for of_job in experiments for each in of_job for name in contestants]
    return Comparison(tuple(rows[key] for key in keys), tuple(contestants), baseline)
