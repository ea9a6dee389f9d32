"""Courses of decisions side by side: the fast twin of `rl_tuner.course`, which stays the reference.

A *slot* is one of N places where a job runs; when its course is finished, the next one begins there while
the others go on. Everything is an array with the slots in front, so a decision in all of them is a few
dozen NumPy calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.actions import ActionMap
from rl_tuner.columns import copied, update
from rl_tuner.course_config import CourseConfig
from rl_tuner.course_table import Bools, CourseTable, Ints
from rl_tuner.errors import ConfigError
from rl_tuner.features import FeatureSet
from rl_tuner.history import Interval, Track
from rl_tuner.rails import Verdict, make_rails, not_finite
from rl_tuner.restarts import due, false_start, worse
from rl_tuner.rewards import crash_reward, reward_function
from rl_tuner.space import Array, SearchSpace


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What an interval came to in each slot; arrays of shape (N,). A slot left out shows 0 and False.

    Attributes:
        verdict: The rails' judgement, a `Verdict` as int.
        reward: In the reward's unit.
        improved: Whether the criterion, or that of the averaged weights, is a new best.
        best: Whether the present weights are the best ones so far.
        averaged: Whether the averaged ones are.
        crashed: Whether the job ended by a failure past the rails.
        finished: Whether the job is over: budget spent, crashed, or stopped early.
        phase_over: Whether the phase's budget is spent and the next is to begin (`Courses.begin_phases`).
        attempt_over: Whether the training is to begin again (`Courses.begin_attempts`).
        good: Whether the state is to be kept as the last good one.
        restore: Whether the last good state is to be put back, and `Courses.values` to be written again.
    """

    verdict: Ints
    reward: Array
    improved: Bools
    best: Bools
    averaged: Bools
    crashed: Bools
    finished: Bools
    phase_over: Bools
    attempt_over: Bools
    good: Bools
    restore: Bools


class Courses(CourseTable):
    """The decisions of N jobs, each from its first observation to its end.

    A course takes the same decisions as a `rl_tuner.course.Course`, but keeps no states: whoever trains does,
    as `Outcomes` says, from the state at `begin` on, which is the first good and best one.

    Args:
        space: The hyperparameters moved, D of them.
        actions: How actions are read.
        config: How the jobs are tuned.
        num: Number of slots, N.

    Raises:
        ConfigError: `num` is below 1.
    """

    def __init__(self, space: SearchSpace, actions: ActionMap, config: CourseConfig, num: int) -> None:
        super().__init__(space, config, num)
        self.actions = actions
        self.features = FeatureSet(space)
        self.rails = make_rails(config.rails)
        self._reward = reward_function(config.reward)
        self._lr = space.names.index("lr") if "lr" in space.names else None

    @property
    def next_end(self) -> Ints:
        """Where the running intervals end, in the budget's unit, shape (N,)."""
        passed = (self.ends <= self.used[:, None]).sum(axis=1)
        ends: Ints = self.ends[np.arange(self.num), np.minimum(passed, self.config.decisions - 1)]
        return ends

    @property
    def values(self) -> Array:
        """The hyperparameters as they should be now, shape (N, D); NaN where a job lacks one."""
        return self.space.array(self.anchor, self.offset)

    def act(self, actions: NDArray[Any], active: Bools | None = None) -> Array:
        """Takes decisions; returns the hyperparameters to train with until `next_end`, shape (N, D).

        Args:
            actions: Shape (N, D).
            active: The slots that act, bool, shape (N,); None for all that are not finished. The others stay
                as they are, and their rows of `actions` are not read.

        Raises:
            ConfigError: The shape does not fit, an action does not exist, or a slot that acts is finished.
        """
        active = self._running(active)
        fraction = self.read(actions, active) * self.anchor.available
        offset = self.actions.shift(self.anchor, self.offset, fraction)
        if self.actions.kind == "anchored":
            # Such an action sets the learning rate outright: the rails' cuts must outlast it.
            offset = self.actions.cut(self.anchor, offset, "lr", self.cuts)
        np.copyto(self.fraction, fraction, where=active[:, None])
        np.copyto(self.offset, offset, where=active[:, None])
        return self.values

    def read(self, actions: NDArray[Any], active: Bools) -> Array:
        """Actions as fractions of step, shape (N, D); nothing is changed by reading them.

        Args:
            actions: Shape (N, D).
            active: The slots that act, bool, shape (N,); the others' rows are not read.

        Raises:
            ConfigError: The shape does not fit, or an action does not exist.
        """
        actions = np.asarray(actions)
        if actions.shape != self.offset.shape:
            raise ConfigError(
                f"actions in {self.num} slots over {', '.join(self.space.names)} have shape "
                f"{self.offset.shape}, got {actions.shape}"
            )
        if not active.all():
            actions = actions.copy()
            actions[~active] = 0
        return self.actions.fraction(actions)

    def settle(self, interval: Interval, used: Ints, active: Bools | None = None) -> Outcomes:
        """Judges an interval in each slot, and says which states to keep and which to restore.

        Args:
            interval: What the training showed; arrays of shape (N,), or one number for all.
            used: How much of each budget is spent in all, shape (N,); at least `next_end`.
            active: The slots that trained, bool, shape (N,); None for all that are not finished. The others
                stay as they are.

        Raises:
            ConfigError: A slot that trained is finished.
        """
        active = self._running(active)
        update(self.interval, interval, active)
        update(self.before, self.track, active)
        np.copyto(self.used, used, where=active)
        trained_with, overall = self.values, copied(self.overall)
        verdict = np.where(active, self._judge(), Verdict.GOOD)
        failed = verdict != Verdict.GOOD
        accepted, averaged = active & ~failed, np.asarray(self.interval.averaged)
        improved = self._accept(accepted)
        self.rescued &= ~active
        self._reject(failed)
        phase_over = self._finish(active, improved)
        reward = self._pay(active, phase_over, overall)
        self._log.write(
            active, self.decision, self.used, self.interval, self.overall, reward, verdict, trained_with,
            self.attempt,
        )  # fmt: skip
        self.decision += active
        self._log.close(self.finished & active, self.decision)
        return Outcomes(
            verdict=verdict,
            reward=reward,
            improved=improved,
            best=improved & ~averaged,
            averaged=improved & averaged,
            crashed=self.crashed & active,
            finished=self.finished & active,
            phase_over=phase_over,
            attempt_over=active & ~self.finished & ~phase_over & self._begins_again(),
            good=improved if self.rails is None else accepted,
            restore=np.zeros_like(failed) if self.rails is None else failed,
        )

    def observation(self) -> NDArray[np.float32]:
        """What the policy sees now, shape (N, F)."""
        share = self.budget - self.begun
        return self.features.observe(
            track=self.before,
            interval=self.interval,
            progress=(self.used - self.begun) / share,
            next_interval=np.maximum(self.next_end - self.used, 1) / share,
            anchor=self.anchor,
            offset=self.offset,
            fraction=self.fraction,
            rescued=self.rescued,
            rescues=0.0 if self.rails is None else self.rails.share(self.rescues - self.earlier_rescues),
            since_best=(self.used - self.best_used) / share,
            best_offset=self.best_offset,
        )

    def _running(self, active: Bools | None) -> Bools:
        if active is None:
            return ~self.finished
        if (active & self.finished).any():
            slots = np.flatnonzero(active & self.finished).tolist()
            raise ConfigError(f"the courses in slots {slots} are finished: begin new ones there")
        return active

    def _judge(self) -> Ints:
        if self.rails is not None:
            verdict = self.rails.judge(self.interval, self.track)
        else:
            verdict = np.where(not_finite(self.interval), Verdict.DIVERGED, Verdict.GOOD)
        return np.asarray(verdict, np.int64)

    def _accept(self, accepted: Bools) -> Bools:
        """Notes the good intervals; returns which of them are new bests."""
        update(self.track, self.before.accept(self.interval), accepted)
        np.copyto(self.good_offset, self.offset, where=accepted[:, None])
        self.failures[accepted] = 0
        best: Bools = accepted & self.before.improved(self.interval)
        np.copyto(self.best_offset, self.offset, where=best[:, None])
        np.copyto(self.best_used, self.used, where=best)
        improved: Bools = accepted & self.overall.improved(self.interval)
        update(self.overall, self.overall.accept(self.interval), accepted)
        return improved

    def _begins_again(self) -> Bools:
        """Where the training is to begin again: only in last phases, whose weights are the jobs'."""
        if not self.config.restarts:
            return np.zeros(self.num, np.bool_)
        ripe = due(self.used, self.begun, self.best_used, self.budget, self.config.decisions)
        again = ripe & worse(self.interval, self.track)
        if self._lr is not None:
            spent, budget = self.used - self.phase_start, self.phase_end - self.phase_start
            lr, first = self.values[:, self._lr], self.anchor.start[:, self._lr]
            false = false_start(self.interval, spent, budget, self.config.decisions, lr, first)
            again |= (self.attempt == 0) & false
        begins: Bools = again & (self.phase == self.phases - 1)
        return begins

    def _reject(self, failed: Bools) -> None:
        """Cuts the learning rate below both the good and the failed one (without rails: a crash)."""
        rails = self.rails
        if rails is None or not failed.any():
            self.crashed |= failed
            return
        rescued = failed & (self.failures < rails.rescues)
        self.crashed |= failed & ~rescued
        self.rescued |= rescued
        self.rescues += rescued
        self.failures += rescued
        self.cuts[rescued] *= rails.lr_cut
        offset = self.good_offset.copy()
        if self._lr is not None:
            offset[:, self._lr] = np.minimum(offset[:, self._lr], self.offset[:, self._lr])
        offset = self.actions.cut(self.anchor, offset, "lr", rails.lr_cut)
        np.copyto(self.offset, offset, where=failed[:, None])

    def _finish(self, active: Bools, improved: Bools) -> Bools:
        """Notes which jobs are over; returns where only a phase is."""
        np.copyto(self.since_best, np.where(improved, 0, self.since_best + 1), where=active)
        last, spent = self.phase == self.phases - 1, self.used >= self.phase_end
        stopped = spent
        if self.config.patience is not None:
            stopped = spent | (self.since_best >= self.config.patience)
        self.finished |= self.crashed | (last & stopped)
        phase_over: Bools = active & spent & ~self.finished
        return phase_over

    def _pay(self, active: Bools, phase_over: Bools, before: Track) -> Array:
        """The rewards, shape (N,), added to the returns; 0 in slots that did not train."""
        earned = self._reward(before, self.overall, self.finished | phase_over)
        earned = np.where(self.crashed, crash_reward(self.return_, self.phases), earned)
        reward: Array = np.where(active, earned, 0.0)
        self.return_ += reward
        return reward
