"""The performance figures of learning: transitions a second of `rl-tuner train`, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from stable_baselines3 import PPO

from rl_tuner.agents.ppo_settings import rollout_settings
from rl_tuner.config import require_range, to_dict
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.group import Group
from rl_tuner.envs.slots import Slots
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.envs.vector_env import VectorTuningEnv
from rl_tuner.learning import Learner
from rl_tuner.learning_config import LearningConfig
from rl_tuner.runs import RunDirectory
from rl_tuner.timing import Method, Stopwatch, one_thread, replaced
from rl_tuner.tracking import Tracker

NUM_ENVS = 128
LEAST_SHARE = 0.75
"""At `NUM_ENVS` environments so much of the time, at least, is to go to updates and evaluation."""
SCALES = (1, 8, 32, 128, 256)
"""Throughput is to rise from each number of environments to the next."""

REST = "ppo"
PARTS: dict[str, tuple[Method, ...]] = {
    "updates": ((BatchedEngine, "advance"),),
    "evaluation": ((BatchedEngine, "validate"), (Group, "mean_losses"), (ReferenceEngine, "validate")),
    "starting": ((Slots, "start"),),
    "keeping": ((BatchedEngine, "keep"), (BatchedEngine, "restore")),
    "decisions": ((VectorTuningEnv, "step"), (VectorTuningEnv, "reset")),
    "logging": ((Tracker, "scalars"), (Tracker, "record"), (Tracker, "close"), (Learner, "save")),
}
"""Parts of learning by the methods that do them, calls of other parts' methods left out; the rest is PPO."""


@dataclass(frozen=True, slots=True)
class TrainFigure:
    """Where the time of learning goes.

    Attributes:
        suite: Where the jobs are from.
        num_envs: Jobs side by side.
        transitions: How many were timed.
        seconds: CPU time that they took.
        transitions_per_second: Median over rollouts, each with its PPO update.
        parts: Seconds of "updates" (batches drawn and trained on), "evaluation" (validation losses),
            "starting" (jobs drawn, networks built), "keeping" (good and best states kept and restored),
            "decisions" (actions, hyperparameters, observations, rewards, infos), "logging" (TensorBoard,
            checkpoints) and "ppo" (its networks, buffer and updates). They add up to `seconds`.
        share: Of the jobs themselves, updates and evaluation, in all the time.
    """

    suite: str
    num_envs: int
    transitions: int
    seconds: float
    transitions_per_second: float
    parts: dict[str, float]
    share: float


@dataclass(frozen=True, slots=True)
class ScaleFigure:
    """How fast learning is with a number of environments.

    Attributes:
        env: "TuningEnv" or "VectorTuningEnv".
        num_envs: How many jobs side by side.
        transitions: How many were timed.
        transitions_per_second: Median over rollouts, each with its PPO update.
    """

    env: str
    num_envs: int
    transitions: int
    transitions_per_second: float


@dataclass(frozen=True, slots=True)
class _Vectorized(LearningConfig):
    """Learns in a vector environment, also of one job."""

    def make_env(self, split: str) -> VectorTuningEnv:
        """See `LearningConfig.make_env`."""
        return VectorTuningEnv(self.num_envs, suite=self.suite, split=split)


def bench_train(
    num_envs: int = NUM_ENVS,
    rollouts: int = 3,
    suite: str = "quick",
    *,
    seed: int = 0,
    on_rollout: Callable[[], object] | None = None,
) -> TrainFigure:
    """Times `rl-tuner train --agent ppo`, and its parts, from one PPO update to the next.

    The first rollout, with its update, is not timed.

    Args:
        num_envs: Jobs side by side, >= 2 (one has no vector environment).
        rollouts: How many are timed, >= 1.
        suite: Jobs are drawn from its train split.
        seed: Of the agent and of the jobs drawn.
        on_rollout: Called after each of the rollouts, the first included.

    Raises:
        ConfigError: A value is unknown or out of range.
    """
    require_range("num_envs", num_envs, 2)
    marks = _learn(LearningConfig(suite=suite, num_envs=num_envs, seed=seed), rollouts, PARTS, on_rollout)
    first, last = marks[0], marks[-1]
    parts = {part: last.get(part, 0.0) - first.get(part, 0.0) for part in (*PARTS, REST)}
    seconds = sum(parts.values())
    share = (parts["updates"] + parts["evaluation"]) / seconds
    size = rollout_size(num_envs)
    return TrainFigure(suite, num_envs, rollouts * size, seconds, _rate(marks, size), parts, share)


def bench_scaling(
    scales: Sequence[int] = SCALES,
    rollouts: int = 3,
    suite: str = "quick",
    *,
    seed: int = 0,
    on_rollout: Callable[[], object] | None = None,
) -> list[ScaleFigure]:
    """Times learning with the single environment, then with vector environments.

    Args:
        scales: How many jobs side by side, each >= 1.
        rollouts: How many are timed, >= 1; one more comes first.
        suite: Jobs are drawn from its train split.
        seed: Of the agent and of the jobs drawn.
        on_rollout: Called after each rollout, (1 + len(scales)) * (rollouts + 1) times.

    Raises:
        ConfigError: A value is unknown or out of range.
    """
    for number in scales:
        require_range("num_envs", number, 1)
    configs: list[LearningConfig] = [LearningConfig(suite=suite, num_envs=1, seed=seed)]
    configs += [_Vectorized(suite=suite, num_envs=number, seed=seed) for number in scales]
    figures = []
    for config in configs:
        size = rollout_size(config.num_envs)
        rate = _rate(_learn(config, rollouts, {}, on_rollout), size)
        kind = VectorTuningEnv if isinstance(config, _Vectorized) else TuningEnv
        figures.append(ScaleFigure(kind.__name__, config.num_envs, rollouts * size, rate))
    return figures


def rollout_size(num_envs: int) -> int:
    """Transitions that PPO collects between two updates."""
    return rollout_settings(num_envs).n_steps * num_envs


def _learn(
    config: LearningConfig,
    rollouts: int,
    parts: Mapping[str, Sequence[Method]],
    on_rollout: Callable[[], object] | None,
) -> list[dict[str, float]]:
    """Learns; returns the stopwatch as it stood after each PPO update, the first one included."""
    require_range("rollouts", rollouts, 1)
    steps = (rollouts + 1) * rollout_size(config.num_envs)
    config = replace(config, steps=steps)
    marks: list[dict[str, float]] = []

    def marked(update: Callable[..., Any]) -> Callable[..., Any]:
        def run(model: PPO) -> None:
            update(model)
            marks.append(watch.read())
            if on_rollout is not None:
                on_rollout()

        return run

    with TemporaryDirectory() as folder, one_thread():
        learner = Learner(config, RunDirectory(Path(folder) / "run", to_dict(config)))
        watch = Stopwatch(REST)
        with watch.watching(parts), replaced((PPO, "train"), marked):
            learner.fit()
    return marks


def _rate(marks: Sequence[Mapping[str, float]], size: int) -> float:
    """Median of the transitions a second, between marks one rollout apart."""
    seconds = [sum(after.values()) - sum(before.values()) for before, after in pairwise(marks)]
    return float(np.median(size / np.array(seconds)))


def misses(figures: Sequence[TrainFigure | ScaleFigure]) -> list[str]:
    """In words, which figures miss their bar; empty if none."""
    missed = [
        f"{f.num_envs} environments: updates and evaluation take {f.share:.0%} of the time, "
        f"below {LEAST_SHARE:.0%}"
        for f in figures
        if isinstance(f, TrainFigure) and f.num_envs == NUM_ENVS and f.share < LEAST_SHARE
    ]
    scales = [f for f in figures if isinstance(f, ScaleFigure) and f.env == VectorTuningEnv.__name__]
    for fewer, more in pairwise(sorted(scales, key=lambda f: f.num_envs)):
        if more.transitions_per_second <= fewer.transitions_per_second:
            missed.append(
                f"{more.num_envs} environments: {more.transitions_per_second:.0f} transitions/s, no more "
                f"than the {fewer.transitions_per_second:.0f} of {fewer.num_envs}"
            )
    return missed
