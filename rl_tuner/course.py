"""One job's course of decisions: the bookkeeping that environments and tuners share.

The environment's ``step`` and the tuner's decision are the same four calls: `Course.act`, training,
`Course.settle`, `Course.observation`. What differs is only who trains.

A job may have phases, one after the other (pretraining, then fine-tuning): where an outcome says that one
is over, `Course.begin_phase` starts the next. To the policy it is a fresh start, but for the progress.

With restarts a training that is past its best, or had a false start, begins again (see `rl_tuner.restarts`):
where an outcome says that an attempt is over, `Course.begin_attempt` starts the next one. To the policy that
is a job of its own, whose budget is what is left. Rewards, records and the kept weights are those of all
attempts together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rl_tuner.actions import ActionMap
from rl_tuner.course_config import CourseConfig
from rl_tuner.errors import ConfigError
from rl_tuner.features import FeatureSet
from rl_tuner.history import Extent, Interval, Record, Track
from rl_tuner.intervals import boundaries, phase_boundaries
from rl_tuner.rails import Verdict, make_rails, not_finite
from rl_tuner.restarts import due, false_start, worse
from rl_tuner.rewards import crash_reward, reward_function
from rl_tuner.space import SearchSpace

K = TypeVar("K")


class Restorable(Protocol[K]):
    """What a course keeps and restores: `rl_tuner.trainee.Trainee`, or an engine's slot."""

    def keep(self) -> K:
        """A copy of the trainable state."""
        ...

    def keep_average(self) -> K:
        """A copy of the average of the weights; called only where one was validated."""
        ...

    def restore(self, kept: K) -> None:
        """Puts a copy back."""
        ...

    def write(self, values: Mapping[str, float]) -> None:
        """Sets hyperparameters."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an interval came to.

    Attributes:
        interval: The measurements.
        verdict: The rails' judgement.
        reward: In the reward's unit.
        improved: Whether the criterion, or that of the averaged weights, is a new best.
        crashed: Whether the job ended by a failure past the rails.
        finished: Whether the job is over: budget spent, crashed, or stopped early.
        phase_over: Whether the phase's budget is spent and the next phase is to begin.
        attempt_over: Whether the training is to begin again.
    """

    interval: Interval
    verdict: Verdict
    reward: float
    improved: bool
    crashed: bool
    finished: bool
    phase_over: bool
    attempt_over: bool = False


class Course(Generic[K]):
    """The decisions of one job, from its first observation to its end.

    Args:
        space: The hyperparameters moved.
        actions: How actions are read.
        config: How the job is tuned.
        budget: What the job may use, in samples or updates: the unit of `used` in `settle`. For a job in
            phases, what each of them may use.

    Raises:
        ConfigError: The budget cannot hold the decisions, or there are fewer of them than phases.
    """

    def __init__(
        self, space: SearchSpace, actions: ActionMap, config: CourseConfig, budget: int | Sequence[int]
    ) -> None:
        self.space, self.actions, self.config = space, actions, config
        self.features = FeatureSet(space)
        self.rails = make_rails(config.rails)
        self._reward = reward_function(config.reward)
        self.budgets = tuple(budget) if isinstance(budget, Sequence) else (budget,)
        self.budget = sum(self.budgets)
        self.ends: list[int] = phase_boundaries(self.budgets, config.decisions, config.intervals).tolist()
        self.phase = self.attempt = 0
        self.used = self._begun = 0
        self.decision = 0
        self.rescues = self._failures = self._earlier_rescues = 0
        self.crashed = self.finished = False
        self.return_ = 0.0
        self.track = self.overall = Track()
        self._before = Track()
        self.interval = Interval()
        self._rescued = False
        self._cuts = 1.0
        self._since_best = 0
        self._fraction = np.zeros(len(space))
        self.offset = np.zeros(len(space))
        self._good_offset = self._best_offset = self.offset
        self._best_used = 0
        self.anchor = space.anchor({})
        self.records: tuple[Record, ...] = ()
        self.good: K | None = None
        self.best: K | None = None

    def begin(
        self,
        trainee: Restorable[K],
        start: Mapping[str, float],
        val_loss: float,
        limits: Mapping[str, float] | None = None,
        usual: Mapping[str, float] | None = None,
        extent: Extent | None = None,
        test_loss: float = nan,
    ) -> None:
        """Starts the course at the job's own hyperparameters.

        Args:
            trainee: What is trained; its state is kept as the first good and best one.
            start: The start values; hyperparameters not named here are not tuned.
            val_loss: Validation loss before training; NaN if the job has no validation.
            limits: Upper bounds of this job (see `SearchSpace.anchor`).
            usual: Values that are usual for the job's optimizer (likewise).
            extent: How long the training is to be; None where that is not known.
            test_loss: Test loss before training; NaN where the reward does not ask for it.
        """
        self.anchor = self.space.anchor(start, limits, usual)
        self._begin_training(val_loss, extent, test_loss)
        self.overall = self.track
        self.good = self.best = trainee.keep()

    def begin_phase(
        self,
        trainee: Restorable[K],
        start: Mapping[str, float],
        val_loss: float,
        limits: Mapping[str, float] | None = None,
        usual: Mapping[str, float] | None = None,
        extent: Extent | None = None,
        test_loss: float = nan,
    ) -> None:
        """Starts the next phase, at its own hyperparameters, when `settle` said that one is over.

        What is known of the training starts anew; the budget used, the decisions, rescues, records and the
        return go on.

        Args:
            trainee: See `begin`.
            start: See `begin`.
            val_loss: See `begin`.
            limits: See `begin`.
            usual: See `begin`.
            extent: See `begin`; of the phase.
            test_loss: See `begin`.
        """
        self.phase += 1
        self.offset = np.zeros(len(self.space))
        self.begin(trainee, start, val_loss, limits, usual, extent, test_loss)

    def begin_attempt(
        self, trainee: Restorable[K], val_loss: float, extent: Extent | None = None, test_loss: float = nan
    ) -> None:
        """Starts the next attempt, when `settle` said that one is over, with the hyperparameters reached.

        Args:
            trainee: What is trained, at its beginning again; its state is kept as the last good one.
            val_loss: See `begin`.
            extent: See `begin`; of what is left.
            test_loss: See `begin`.
        """
        self.attempt += 1
        self._begun, self._earlier_rescues = self.used, self.rescues
        left = boundaries(self.budget - self.used, self.config.decisions, self.config.intervals)
        self.ends = (self.used + left).tolist()
        self._begin_training(val_loss, extent, test_loss)
        self.good = trainee.keep()

    def _begin_training(self, val_loss: float, extent: Extent | None, test_loss: float) -> None:
        """What is known of a training before its first interval."""
        self.track = self._before = Track.begin(val_loss, extent, test_loss)
        self.interval = Interval(val_loss=val_loss)
        self._best_used = self.used
        self._rescued, self._cuts, self._since_best, self._failures = False, 1.0, 0, 0
        self._fraction = np.zeros(len(self.space))
        self._good_offset = self._best_offset = self.offset

    @property
    def phase_start(self) -> int:
        """Where the present phase began, in the budget's unit."""
        return sum(self.budgets[: self.phase])

    @property
    def next_end(self) -> int:
        """Where the running interval ends, in the budget's unit."""
        return self.ends[min(bisect_right(self.ends, self.used), len(self.ends) - 1)]

    @property
    def values(self) -> dict[str, float]:
        """The hyperparameters as they should be now."""
        return self.space.values(self.anchor, self.offset)

    def act(self, action: NDArray[Any]) -> dict[str, float]:
        """Takes a decision; returns the hyperparameters to train with until `next_end`."""
        self._fraction = self.actions.fraction(action) * self.anchor.available
        self.offset = self.actions.shift(self.anchor, self.offset, self._fraction)
        if self.actions.kind == "anchored":
            # Such an action sets the learning rate outright: the rails' cuts must outlast it.
            self.offset = self.actions.cut(self.anchor, self.offset, "lr", self._cuts)
        return self.values

    def settle(self, trainee: Restorable[K], interval: Interval, used: int) -> Outcome:
        """Judges an interval; keeps its state if it is good, restores the last good one if not.

        Args:
            trainee: What was trained.
            interval: What the training showed.
            used: How much of the budget is spent in all.
        """
        self.used, self.interval, self._before = used, interval, self.track
        trained_with, overall = self.values, self.overall
        verdict = self._judge(interval)
        self._rescued = False
        improved = False
        if verdict == Verdict.GOOD:
            improved = self._accept(trainee, interval)
        else:
            self._reject(trainee)
        self._since_best = 0 if improved else self._since_best + 1
        phase_over = self._finish()
        reward = float(
            crash_reward(self.return_, len(self.budgets))
            if self.crashed
            else self._reward(overall, self.overall, self.finished or phase_over)
        )
        self.return_ += reward
        self.records += (
            Record(
                decision=self.decision,
                used=used,
                train_loss=float(interval.train_late),
                val_loss=float(interval.val_loss),
                best=float(self.overall.lowest),
                reward=reward,
                verdict=verdict.name.lower(),
                values=trained_with,
                attempt=self.attempt,
            ),
        )
        self.decision += 1
        attempt_over = not (self.finished or phase_over) and self._begins_again()
        return Outcome(
            interval, verdict, reward, improved, self.crashed, self.finished, phase_over, attempt_over
        )

    def observation(self) -> NDArray[np.float32]:
        """What the policy sees now, shape (F,)."""
        share = self.budget - self._begun
        return self.features.observe(
            track=self._before,
            interval=self.interval,
            progress=(self.used - self._begun) / share,
            next_interval=max(self.next_end - self.used, 1) / share,
            anchor=self.anchor,
            offset=self.offset,
            fraction=self._fraction,
            rescued=self._rescued,
            rescues=0.0 if self.rails is None else self.rails.share(self.rescues - self._earlier_rescues),
            since_best=(self.used - self._best_used) / share,
            best_offset=self._best_offset,
        )

    def _finish(self) -> bool:
        """Notes whether the job is over; returns whether only its phase is."""
        last, patience = self.phase == len(self.budgets) - 1, self.config.patience
        stopped = last and patience is not None and self._since_best >= patience
        spent = self.used >= self.phase_start + self.budgets[self.phase]
        self.finished = self.crashed or stopped or (last and spent)
        return spent and not self.finished

    def _begins_again(self) -> bool:
        """Whether the training is to begin again: only in the last phase, whose weights are the job's."""
        if not self.config.restarts or self.phase < len(self.budgets) - 1:
            return False
        decisions = self.config.decisions
        past = worse(self.interval, self.track) and due(
            self.used, self._begun, self._best_used, self.budget, decisions
        )
        return bool(past) or (self.attempt == 0 and self._had_false_start())

    def _had_false_start(self) -> bool:
        spent, budget = self.used - self.phase_start, self.budgets[self.phase]
        lr = self.values.get("lr", nan)
        first = self.space.values(self.anchor, np.zeros(len(self.space))).get("lr", nan)
        return bool(false_start(self.interval, spent, budget, self.config.decisions, lr, first))

    def _judge(self, interval: Interval) -> Verdict:
        if self.rails is not None:
            return Verdict(int(self.rails.judge(interval, self.track)))
        return Verdict.DIVERGED if not_finite(interval) else Verdict.GOOD

    def _accept(self, trainee: Restorable[K], interval: Interval) -> bool:
        improved = bool(self.overall.improved(interval))
        self.overall, self._failures = self.overall.accept(interval), 0
        self.track = self._before.accept(interval)
        if self.rails is not None or improved:
            self.good = trainee.keep()
        self._good_offset = self.offset
        if improved:
            self.best = trainee.keep_average() if interval.averaged else self.good
        if self._before.improved(interval):
            self._best_offset, self._best_used = self.offset, self.used
        return improved

    def _reject(self, trainee: Restorable[K]) -> None:
        """Restores the last good state (without rails there is none to go on from: the job crashed)."""
        if self.rails is None or self._failures >= self.rails.rescues:
            self.crashed = True
        else:
            self._failures += 1
            self.rescues += 1
            self._rescued = True
            self._cuts *= self.rails.lr_cut
        if self.rails is None or self.good is None:
            return
        trainee.restore(self.good)
        self.offset = self._cut(self.rails.lr_cut)
        trainee.write(self.values)

    def _cut(self, factor: float) -> NDArray[np.float64]:
        """The last good offsets, the learning rate below both the good and the failed one."""
        offset = self._good_offset.copy()
        if "lr" in self.space.names:
            i = self.space.names.index("lr")
            offset[i] = min(offset[i], self.offset[i])
        return self.actions.cut(self.anchor, offset, "lr", factor)

    _STATE = (
        "phase", "used", "decision", "rescues", "crashed", "finished", "return_", "track", "_before",
        "interval", "_rescued", "_failures", "_since_best", "_cuts", "_fraction", "offset", "_good_offset",
        "_best_offset", "_best_used", "anchor", "records", "good", "best", "overall", "ends", "attempt",
        "_begun", "_earlier_rescues",
    )  # fmt: skip

    def get_state(self) -> dict[str, Any]:
        """Everything that changes during the course, picklable; `set_state` continues from it.

        The records and kept copies in it are never changed in place, so they are shared, not copied.
        """
        return {name: getattr(self, name) for name in self._STATE}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave.

        Raises:
            ConfigError: The state is of another search space, or of an earlier version.
        """
        lacking = [name for name in self._STATE if name not in state]
        if lacking:
            raise ConfigError(f"the state was saved by another version of rl-tuner: it lacks {lacking[0]!r}")
        if state["offset"].shape != self.offset.shape:
            raise ConfigError(
                f"the state tunes {state['offset'].size} hyperparameters, this course {len(self.space)}"
            )
        for name in self._STATE:
            setattr(self, name, state[name])
