"""Runs a policy through an episode, and says what it started from and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.errors import ConfigError
from rl_tuner.history import Record
from rl_tuner.policy import Policy


@dataclass(frozen=True, slots=True)
class Episode:
    """What a policy made of a job.

    Attributes:
        job: The job's name.
        seed: The episode's seed.
        policy: The policy's name.
        return_: Sum of rewards.
        start_val_loss: Validation loss before training.
        val_loss: The best validation loss.
        test: Loss and metrics of the best weights on the test split; empty if the job has none.
        samples: Training samples used.
        val_samples: Validation samples evaluated on top.
        crashed: Whether the job crashed.
        rescues: How often the rails restored a state.
        records: The decisions, one by one.
    """

    job: str
    seed: int
    policy: str
    return_: float
    start_val_loss: float
    val_loss: float
    test: dict[str, float]
    samples: int
    val_samples: int
    crashed: bool
    rescues: int
    records: tuple[Record, ...]


def run_episode(
    env: TuningEnv,
    policy: Policy,
    seed: int,
    job: TrainingJob | JobSpec | None = None,
    on_decision: Callable[[Record], None] | None = None,
) -> Episode:
    """Runs one episode.

    Args:
        env: Made for the policy (see `TuningEnv.for_policy`).
        policy: What acts; it is reset first.
        seed: Of the job's streams (and of the job drawn, if none is given).
        job: The job to run; None for the environment's own.
        on_decision: Called after each interval.

    Raises:
        ConfigError: The environment has another search space or kind of action than the policy.
    """
    if env.space != policy.space or env.actions.kind != policy.actions.kind:
        raise ConfigError(
            f"the policy {policy.name!r} acts {policy.actions.kind} on {', '.join(policy.space.names)}, the "
            f"environment takes {env.actions.kind} on {', '.join(env.space.names)}"
        )
    policy.reset(seed)
    observation, info = env.reset(seed=seed, options=None if job is None else {"job": job})
    start_val_loss = info["val_loss"]
    terminated = False
    while not terminated:
        observation, _, terminated, _, info = env.step(policy.act(observation))
        if on_decision is not None:
            on_decision(env.records[-1])
    return Episode(
        job=info["job"],
        seed=seed,
        policy=policy.name,
        return_=env.course.return_,
        start_val_loss=start_val_loss,
        val_loss=info["best_val_loss"],
        test=env.evaluate("test") if env.engine.job.test is not None else {},
        samples=info["samples"],
        val_samples=info["val_samples"],
        crashed=info["crashed"],
        rescues=info["rescues"],
        records=env.records,
    )


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where an episode begins, whatever the policy.

    Attributes:
        job: The job's name.
        start: Its start values by hyperparameter.
        budget: Training samples that it may use, in all its phases.
        last_phase: Training samples used when its last phase begins; 0 for a job in one phase.
        val_loss: Validation loss of the untrained weights, in the last phase; NaN without validation.
        test_loss: Their loss on that phase's test split; NaN without one.
    """

    job: str
    start: dict[str, float]
    budget: int
    last_phase: int
    val_loss: float
    test_loss: float


def beginning(job: TrainingJob | JobSpec, seed: int) -> Beginning:
    """Builds a job as the episode of that seed would, and scores it before any training.

    Raises:
        JobError, ConfigError, DatasetError: The job cannot be built.
    """
    built = job.build()
    env = TuningEnv(decisions=1 + len(built.then))
    env.reset(seed=seed, options={"job": built})
    engine, phase = env.engine, env.phase
    if not phase.last:
        last = phase.last_one(engine.model, 0)
        engine = ReferenceEngine(last.job, last.streams)
    losses = [
        engine.evaluate(split)["loss"] if getattr(engine.job, split) is not None else float("nan")
        for split in ("validation", "test")
    ]
    budgets = env.course.budgets
    return Beginning(built.name, dict(built.start), sum(budgets), sum(budgets[:-1]), *losses)
