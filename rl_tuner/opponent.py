"""The best static setting as an opponent: a policy against it on the same held-out jobs.

What is compared are normalized scores of the test loss, as in `rl-tuner compare`: linear in the loss, of one
scale on all jobs, and bounded, so that one explosion does not decide a mean. (Log losses would have to be
capped for that, and where a loss comes close to zero they make much of nothing.) 1 is the better one of the
two losses, or that before training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rl_tuner.held_out import held_out_jobs, run_held_out, scores_of
from rl_tuner.methods import Experiment, PolicyMethod, StaticMethod
from rl_tuner.policy import Policy
from rl_tuner.results import Row
from rl_tuner.static_setting import JOBS, STATIC, StaticSetting, choose_static
from rl_tuner.statistics import Estimate, mean_interval, paired_difference, per_job
from rl_tuner.timing import one_thread


@dataclass(frozen=True, slots=True)
class Trial:
    """A policy against the static setting, in normalized scores.

    Attributes:
        policy: Mean of the policy's.
        static: Mean of the setting's.
        difference: Policy less setting, paired by job, with its 95 % t interval.
    """

    policy: float
    static: float
    difference: Estimate

    @property
    def won(self) -> bool:
        """Whether the policy is above, with the whole interval."""
        return self.difference.low > 0


@dataclass(frozen=True, slots=True)
class Opponent:
    """The static setting, and what it came to on the jobs that policies are judged on.

    Attributes:
        setting: The best one of a grid on the train split.
        experiments: Jobs of the validation split.
        rows: One for each.
        others, other_rows: As many other jobs, for the policy that won alone.
    """

    setting: StaticSetting
    experiments: tuple[Experiment, ...]
    rows: tuple[Row, ...]
    others: tuple[Experiment, ...]
    other_rows: tuple[Row, ...]

    def against(self, policy: Policy, workers: int = 1, *, others: bool = False) -> Trial:
        """Runs a policy on the same jobs, or on the others."""
        experiments, rows = (self.others, self.other_rows) if others else (self.experiments, self.rows)
        found = run_held_out("policy", PolicyMethod(policy), experiments, workers)
        scores = scores_of({"policy": found, STATIC: rows})
        mine, its = per_job(scores["policy"]), per_job(scores[STATIC])
        return Trial(mean_interval(mine).mean, mean_interval(its).mean, paired_difference(mine, its))


def choose_opponent(
    suite: str,
    jobs: int,
    seed: int = 0,
    workers: int = 1,
    *,
    static_jobs: int = JOBS,
    on_trial: Callable[[], object] | None = None,
) -> Opponent:
    """The best static setting of the train split, run on jobs of the validation split.

    Args:
        suite: Whose jobs.
        jobs: Of the validation split, >= 2; and as many others.
        seed: Of all draws.
        workers: Processes that share the runs on validation jobs.
        static_jobs: See `choose_static`.
        on_trial: See `choose_static`.

    Raises:
        ConfigError: A value is unknown or out of range.
    """
    with one_thread():
        sets = [held_out_jobs(suite, jobs, number) for number in (seed, seed + 1)]
        setting = choose_static(suite, static_jobs, seed, on_trial)
        runs = [run_held_out(STATIC, StaticMethod(setting), experiments, workers) for experiments in sets]
    return Opponent(setting, sets[0], tuple(runs[0]), sets[1], tuple(runs[1]))
