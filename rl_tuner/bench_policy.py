"""Time to a policy: how long it takes to learn, from nothing, one that beats the best static setting.

An agent learns by its own recipe, as `rl-tuner train` has it. After every so many decisions the policy as it
stands runs on jobs of the validation split, against the setting that does best on the train split, which
knows the suite as well as the policy does (see `rl_tuner.opponent`).

The policy is looked at several times, and the first interval above zero ends the run: a lucky one is likelier
than a single interval says. So the policy that won is tried once more, on as many other jobs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from rl_tuner.config import require_range, to_dict
from rl_tuner.learning import Learner
from rl_tuner.learning_config import LearningConfig
from rl_tuner.opponent import Opponent, Trial
from rl_tuner.policy import LearnedPolicy
from rl_tuner.runs import RunDirectory, versions
from rl_tuner.static_setting import StaticSetting
from rl_tuner.timing import one_thread

JOBS, EVERY, LIMIT = 60, 20_000, 900.0
"""Validation jobs, decisions between two evaluations, and seconds of learning at most."""
MOST_SECONDS = 900.0
"""Learning is to take no longer until its policy is above the static setting, on two cores."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A policy as it stood.

    Attributes:
        decisions: What it was learned from.
        seconds: Wall time of learning until then, evaluations left out.
        trial: What it came to.
    """

    decisions: int
    seconds: float
    trial: Trial


@dataclass(frozen=True, slots=True)
class PolicyFigure:
    """How long it took to a policy.

    Attributes:
        config: What was learned, on what.
        static: The setting to beat.
        jobs: Validation jobs.
        decisions: What the first policy above the static setting was learned from; None if there was none.
        seconds: Wall time of learning until then, the making of the environments included; None likewise.
        learning_seconds: Wall time of all the learning.
        evaluation_seconds: Wall time of all evaluations since learning began.
        curve: Each evaluation.
        again: The policy above the static setting, on as many other jobs; None if there was none.
        cores: The machine's.
        used_cores: At most so many were at work at a time: the processes that jobs are spread over.
        versions: See `rl_tuner.runs.versions`.
    """

    config: LearningConfig
    static: StaticSetting
    jobs: int
    decisions: int | None
    seconds: float | None
    learning_seconds: float
    evaluation_seconds: float
    curve: tuple[CurvePoint, ...]
    again: Trial | None
    cores: int
    used_cores: int
    versions: dict[str, str]


def bench_policy(
    config: LearningConfig,
    opponent: Opponent,
    every: int = EVERY,
    limit: float = LIMIT,
    *,
    on_step: Callable[[int], object] | None = None,
    on_point: Callable[[CurvePoint], object] | None = None,
) -> PolicyFigure:
    """Learns until a policy is above the static setting, the steps are done, or the time is over.

    Args:
        config: What is learned, on what; its workers share the evaluations as well.
        opponent: See `choose_opponent`.
        every: Decisions between two evaluations, >= 1; the next update of the agent is waited for.
        limit: Seconds of learning, > 0, after which the policy is evaluated once more and that is all.
        on_step: Called with the decisions made, as they are.
        on_point: Called after each evaluation.

    Raises:
        ConfigError: A value is out of range.
    """
    require_range("every", every, 1)
    require_range("limit", limit, 0, above=True)
    with TemporaryDirectory() as folder, one_thread():
        watch = _Watch(opponent, config.workers, every, limit, on_point)
        run = RunDirectory(Path(folder) / "run", to_dict(config))
        with closing(Learner(config, run)) as learner:

            def stepped(made: int) -> None:
                watch.look(learner)
                if on_step is not None:
                    on_step(made)

            learner.fit(lambda _: not watch.over, stepped)
            if not watch.over:
                watch.evaluate(learner)
        last = watch.curve[-1]
        won = last.trial.won
        again = opponent.against(watch.policy, config.workers, others=True) if won else None
    return PolicyFigure(
        config=config,
        static=opponent.setting,
        jobs=len(opponent.experiments),
        decisions=last.decisions if won else None,
        seconds=last.seconds if won else None,
        learning_seconds=watch.seconds,
        evaluation_seconds=watch.clock.paused,
        curve=tuple(watch.curve),
        again=again,
        cores=os.cpu_count() or 1,
        used_cores=config.workers,
        versions=versions(),
    )


class _Clock:
    """Wall time since it was made, but for pauses.

    Attributes:
        paused: Seconds of the pauses so far.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.paused = 0.0

    @property
    def seconds(self) -> float:
        """Outside of a pause."""
        return time.perf_counter() - self._began - self.paused

    @contextmanager
    def pause(self) -> Iterator[None]:
        """The block does not count."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.paused += time.perf_counter() - began


@dataclass(slots=True)
class _Watch:
    """Evaluates a policy while it is learned, the clock stopped.

    Attributes:
        over: Whether learning is to end: a policy won, or there is no time left.
        seconds: Of learning until then.
        policy: The one evaluated last: tables learn on until the episodes under way have ended.
    """

    opponent: Opponent
    workers: int
    every: int
    limit: float
    on_point: Callable[[CurvePoint], object] | None
    clock: _Clock = field(default_factory=_Clock)
    curve: list[CurvePoint] = field(default_factory=list)
    over: bool = False
    seconds: float = 0.0
    policy: LearnedPolicy = field(init=False)

    def look(self, learner: Learner) -> None:
        """Evaluates, if it is time to."""
        if self.over:
            return
        self.seconds = self.clock.seconds
        learned = learner.agent.steps // self.every
        if self.seconds >= self.limit:
            self.over = True
            self.evaluate(learner)
        elif learned > (self.curve[-1].decisions // self.every if self.curve else 0):
            self.evaluate(learner)

    def evaluate(self, learner: Learner) -> None:
        """Runs the policy as it stands, unless that was done already."""
        if self.curve and self.curve[-1].decisions == learner.agent.steps:
            return
        self.seconds = seconds = self.clock.seconds
        with self.clock.pause():
            self.policy = learner.config.policy(learner.agent)
            trial = self.opponent.against(self.policy, self.workers)
        point = CurvePoint(learner.agent.steps, seconds, trial)
        self.curve.append(point)
        self.over = self.over or trial.won
        if self.on_point is not None:
            self.on_point(point)


def misses(figure: PolicyFigure) -> list[str]:
    """In words, in what the figure misses its bar; empty if it does not."""
    agent, curve = figure.config.agent, figure.curve
    if figure.seconds is None:
        return [
            f"{agent}: no policy above the static setting after {figure.learning_seconds:.0f} s of learning "
            f"from {curve[-1].decisions:,} decisions"
        ]
    missed = []
    if figure.seconds > MOST_SECONDS:
        missed.append(f"{agent}: {figure.seconds:.0f} s of learning, above {MOST_SECONDS:.0f} s")
    if figure.again is not None and not figure.again.won:
        d = figure.again.difference
        missed.append(
            f"{agent}: on {d.n} other jobs its difference to the static setting is {d.mean:+.3f} "
            f"({d.low:+.3f} to {d.high:+.3f}), not above zero"
        )
    return missed
