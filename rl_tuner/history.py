"""What a decision is based on: the last interval's measurements, and the episode's track so far.

Every number here is either a float (one job) or an array of shape (N,) (N jobs side by side); NaN means
"not measured". The functions of features, rewards and rails work on both, element by element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Value = Any
"""A float, or a float64 array of shape (N,)."""

WORST, BEST = 3.0, -10.0
"""Limits of the log-loss relative to the first value: 20 times worse counts no worse than that."""


@dataclass(frozen=True, slots=True)
class Interval:
    """What the training between two decisions showed.

    Attributes:
        samples: Training samples used.
        updates: Optimizer steps taken.
        train_early: Mean training loss over the first half of the updates.
        train_late: Mean training loss over the second half: "the training loss" of the interval.
        train_noise: Standard deviation over mean of the second half's losses, >= 0.
        val_loss: Validation loss at the end; NaN where the job has no validation.
        averaged_loss: That of the averaged weights (see `rl_tuner.averaging`); NaN where none are kept.
        test_loss: Test loss at the end; NaN where the job has no test part, and where the reward does not
            ask for it.
        averaged_test_loss: That of the averaged weights, likewise.
        grad_norm: L2 norm of the gradient at the last update.
        grad_alive: Share of the parameter tensors whose gradient was not (nearly) zero there, in [0, 1].
        update_ratio: L2 norm of the last update over the L2 norm of the weights.
        finite: Whether every loss and every parameter was finite.
    """

    samples: Value = 0
    updates: Value = 0
    train_early: Value = np.nan
    train_late: Value = np.nan
    train_noise: Value = np.nan
    val_loss: Value = np.nan
    averaged_loss: Value = np.nan
    test_loss: Value = np.nan
    averaged_test_loss: Value = np.nan
    grad_norm: Value = np.nan
    grad_alive: Value = np.nan
    update_ratio: Value = np.nan
    finite: Value = True

    @property
    def criterion(self) -> Value:
        """The loss that is tuned for: validation, or training where there is no validation."""
        return pick(np.isnan(self.val_loss), self.train_late, self.val_loss)

    @property
    def lowest(self) -> Value:
        """The lower of the criterion and the averaged weights' loss: what counts as a new best or not."""
        return np.fmin(self.criterion, self.averaged_loss)

    @property
    def averaged(self) -> Value:
        """Whether it is the averaged weights that reach `lowest`, and not the present ones."""
        return self.averaged_loss < self.criterion

    @property
    def lowest_tested(self) -> Value:
        """The test loss of the weights that reach `lowest`."""
        return pick(self.averaged, self.averaged_test_loss, self.test_loss)


@dataclass(frozen=True, slots=True)
class Extent:
    """How long a training is to be, as far as that is known before it begins; NaN where it is not.

    Attributes:
        updates: Optimizer steps that the budget holds, at the start's batch size.
        epochs: Passes over the training samples that it holds.
    """

    updates: Value = np.nan
    epochs: Value = np.nan

    @classmethod
    def of(cls, budget: float, batch_size: float, samples: float) -> Extent:
        """That of a budget in samples.

        Args:
            budget: Samples to be trained on, repeated ones counted again.
            batch_size: Samples an update.
            samples: Training samples that there are.
        """
        return cls(budget / batch_size, budget / samples)


@dataclass(frozen=True, slots=True)
class Track:
    """First, last and best values of an episode so far, at accepted intervals only; and its extent.

    Attributes:
        first: The criterion before any training (see `Interval.criterion`).
        last: The criterion at the last accepted state.
        best: The lowest criterion.
        lowest: The lowest criterion, that of averaged weights included (see `Interval.lowest`): the loss of
            the weights that are kept as the best ones.
        test_first: Test loss before any training; NaN where none is measured (see `Interval.test_loss`).
        test_kept: That of the weights that are kept as the best ones.
        train_first: Training loss of the first updates.
        train_last: Training loss of the last accepted interval.
        train_best: The lowest such.
        grad_first: Gradient norm of the first measured update.
        grad_last: Gradient norm at the end of the last accepted interval.
        updates: See `Extent`.
        epochs: See `Extent`.
    """

    first: Value = np.nan
    last: Value = np.nan
    best: Value = np.nan
    lowest: Value = np.nan
    test_first: Value = np.nan
    test_kept: Value = np.nan
    train_first: Value = np.nan
    train_last: Value = np.nan
    train_best: Value = np.nan
    grad_first: Value = np.nan
    grad_last: Value = np.nan
    updates: Value = np.nan
    epochs: Value = np.nan

    @classmethod
    def begin(cls, val_loss: Value, extent: Extent | None = None, test_loss: Value = np.nan) -> Track:
        """The track before any training.

        Args:
            val_loss: NaN where the job has no validation.
            extent: How long it will be; None where that is not known.
            test_loss: NaN where it is not measured.
        """
        known = Extent() if extent is None else extent
        losses = dict.fromkeys(("first", "last", "best", "lowest"), val_loss)
        tested = dict.fromkeys(("test_first", "test_kept"), test_loss)
        return cls(**losses, **tested, updates=known.updates, epochs=known.epochs)

    def improved(self, interval: Interval) -> Value:
        """Whether an interval, if its outcome is kept, is a new best one; a bool or of shape (N,)."""
        return np.isnan(self.lowest) | (interval.lowest < self.lowest)

    def accept(self, interval: Interval) -> Track:
        """The track after an interval whose outcome was kept."""
        late, criterion = interval.train_late, interval.criterion
        # Without validation the first criterion is the training loss of the first updates.
        first = _first(self.first, interval.train_early)
        return replace(
            self,
            first=first,
            last=criterion,
            best=np.fmin(_first(self.best, first), criterion),
            lowest=np.fmin(_first(self.lowest, first), interval.lowest),
            test_kept=pick(self.improved(interval), interval.lowest_tested, self.test_kept),
            train_first=_first(self.train_first, interval.train_early),
            train_last=late,
            train_best=np.fmin(self.train_best, late),
            grad_first=_first(self.grad_first, interval.grad_norm),
            grad_last=_first(interval.grad_norm, self.grad_last),
        )


def pick(condition: Value, yes: Value, no: Value) -> Value:
    """`numpy.where`, but a number comes back as a number, not as an array without dimensions."""
    if isinstance(condition, bool | np.bool_):  # one job alone: ten times as fast
        return yes if condition else no
    chosen: Any = np.where(np.asarray(condition), yes, no)
    return chosen[()]


def stack(values: Sequence[Value]) -> NDArray[np.float64]:
    """Numbers, or arrays of shape (N,) among them, as one array of shape (len(values),) or (…, N)."""
    if any(isinstance(value, np.ndarray) and value.ndim for value in values):
        return np.stack(np.broadcast_arrays(*values)).astype(np.float64)
    return np.array(values, np.float64)


def _first(value: Value, otherwise: Value) -> Value:
    return pick(np.isnan(value), otherwise, value)


def log_ratio(a: Value, b: Value, scale: Value) -> Value:
    """log(a / b) for losses, finite at and below zero: both are first raised to 1e-6 of `scale`.

    NaN where a, b or scale is NaN; ±inf losses give ±inf.
    """
    floor = 1e-6 * np.abs(scale) + 1e-30
    with np.errstate(invalid="ignore"):
        return np.log(np.maximum(a, floor)) - np.log(np.maximum(b, floor))


def log_level(value: Value, first: Value) -> Value:
    """Where a loss stands relative to the first one: log(value / first), clipped to [BEST, WORST].

    NaN (not measured) and infinite values count as WORST.
    """
    level = log_ratio(value, first, first)
    return pick(np.isnan(level), WORST, np.minimum(np.maximum(level, BEST), WORST))


@dataclass(frozen=True, slots=True)
class Record:
    """One line of an episode's log: a decision and what came of it.

    Attributes:
        decision: Number of the decision, from 0.
        used: Budget spent at the interval's end, in the budget's unit.
        train_loss: Training loss over the interval's second half.
        val_loss: Validation loss at its end; NaN without validation, inf where it was not finite.
        best: The lowest criterion so far, of averaged weights too where they are kept.
        reward: In the reward's unit.
        verdict: "good", "diverged" or "collapsed".
        values: The hyperparameters the interval was trained with.
        attempt: Number of the attempt, from 0; above where the training has begun again.
    """

    decision: int
    used: int
    train_loss: float
    val_loss: float
    best: float
    reward: float
    verdict: str
    values: dict[str, float]
    attempt: int = 0
