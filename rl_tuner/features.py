"""The one place where an observation is computed, for environments and tuners alike.

Observations are scale-free (ratios and logarithms, clipped), so that they mean the same on another model,
loss or optimizer. Scaling is fixed: there is no running normaliser that a saved policy could lose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import choose
from rl_tuner.errors import ConfigError
from rl_tuner.history import Interval, Track, Value, log_ratio, pick, stack
from rl_tuner.space import Anchor, Array, SearchSpace

if TYPE_CHECKING:
    from gymnasium import spaces

CLIP = 10.0
"""Every feature lies in [-CLIP, CLIP]."""

USUAL_UPDATES, USUAL_EPOCHS = 100, 10
"""What a training holds that is neither short nor long among those that policies learn on."""
MOST_DECADES = 1.0
"""A training that is longer or shorter by more looks like one that is by so much: none like it was seen."""

JOB_FEATURES = (
    "progress",  # share of the budget spent, in [0, 1]
    "next_interval",  # log10 of the next interval's share of the budget, plus 1
    "updates",  # log10(updates that the budget holds / 100), in [-1, 1]; 0 where that is not known
    "epochs",  # log10(passes over the training samples that it holds / 10), likewise
    "val_vs_last",  # log ratio of validation loss to its value at the decision before …
    "val_vs_best",  # … to the best before this interval …
    "val_vs_first",  # … and to the value before training
    "train_vs_last",  # the same for the training loss
    "train_vs_best",
    "train_vs_first",
    "val_over_train",  # log(validation loss / training loss)
    "averaged_over_val",  # log(validation loss of the averaged weights / of the present ones); 0 without
    "train_trend",  # log ratio of training loss, second half of the interval to first half
    "train_noise",  # standard deviation over mean of the training loss in the second half
    "update_to_weight",  # log10(|update| / |weights|) at the last update, plus 3
    "grad_vs_last",  # log ratio of the gradient norm to that at the decision before …
    "grad_vs_first",  # … and to the first one
    "grad_alive",  # share of parameter tensors that have a gradient
    "no_validation",  # 1 where the job has none: val_*, since_best and vs_best are then of the training loss
    "nonfinite",  # 1 if a loss or parameter was not finite in the interval
    "rescued",  # 1 if the rails restored the last good state after it
    "rescues",  # how often they did, over as often as they would in a row, in [0, 1]; 0 without rails
    "since_best",  # share of the budget spent since the best validation loss, in [0, 1]
    "lr_vs_usual",  # log10(learning rate / what is usual for the optimizer); 0 where that is not known
)
HYPERPARAMETER_FEATURES = (
    "vs_start",  # offset from the start value over the reach, in [-1, 1]
    "in_bounds",  # place between the bounds, in [-1, 1]
    "available",  # 1 if the job has it
    "last_action",  # the last action, as a fraction of the step, in [-1, 1]
    "vs_best",  # offset from where it stood when the loss was best, over the reach, in [-2, 2]
)
CLOCK = ("progress", "next_interval", "updates", "epochs")
"""What a schedule could know."""
FEATURE_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "clock": CLOCK,
        "validation": (
            "val_vs_last",
            "val_vs_best",
            "val_vs_first",
            "val_over_train",
            "averaged_over_val",
            "no_validation",
        ),
        "training": ("train_vs_last", "train_vs_best", "train_vs_first", "train_trend", "train_noise"),
        "gradients": ("update_to_weight", "grad_vs_last", "grad_vs_first", "grad_alive"),
        "failures": ("nonfinite", "rescued", "rescues"),
        "values": ("vs_start", "in_bounds", "available", "lr_vs_usual"),
        "actions": ("last_action",),
        "best": ("since_best", "vs_best"),
    }
)
"""What a policy can be learned without: each feature is in one group.

"validation" and "best" together are all that is computed from the validation loss, but for what the rails do.
"""


def features_without(space: SearchSpace, groups: Collection[str]) -> tuple[str, ...]:
    """The features over a search space, in an observation's order, but for some groups.

    Args:
        space: The hyperparameters acted on.
        groups: Names of `FEATURE_GROUPS`.

    Raises:
        ConfigError: A group is unknown, or no feature is left.
    """
    dropped = {
        name
        for group in groups
        for name in FEATURE_GROUPS[choose("group of features", group, FEATURE_GROUPS)]
    }
    kept = tuple(name for name in JOB_FEATURES if name not in dropped) + tuple(
        f"{name}_{feature}"
        for feature in HYPERPARAMETER_FEATURES
        if feature not in dropped
        for name in space.names
    )
    if not kept:
        raise ConfigError(f"without {', '.join(groups)} there is no feature left: leave out fewer groups")
    return kept


class FeatureSet:
    """Computes observations over a search space.

    Args:
        space: The hyperparameters acted on, D of them.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.names = features_without(space, ())

    def __len__(self) -> int:
        return len(self.names)

    @property
    def gym_space(self) -> spaces.Space[NDArray[np.float32]]:
        """The Gymnasium observation space of one job."""
        from gymnasium import spaces

        return spaces.Box(-CLIP, CLIP, (len(self),), np.float32)

    def observe(  # noqa: PLR0913 (each one a part of what is observed)
        self,
        *,
        track: Track,
        interval: Interval,
        progress: Value,
        next_interval: Value,
        anchor: Anchor,
        offset: Array,
        fraction: Array,
        rescued: Value,
        rescues: Value,
        since_best: Value,
        best_offset: Array,
    ) -> NDArray[np.float32]:
        """The observation after an interval.

        Args:
            track: The track *before* the interval.
            interval: What the interval showed; before the first one, the validation loss alone.
            progress: Share of the budget spent, in [0, 1].
            next_interval: Share of the budget that the next interval takes, in [0, 1].
            anchor: Start values and limits.
            offset: Offsets now, shape (…, D).
            fraction: The last action as fractions of the step, shape (…, D); zeros before the first.
            rescued: Whether the rails stepped in after the interval.
            rescues: See `rl_tuner.rails.Rails.share`.
            since_best: Share of the budget spent since the best criterion, in [0, 1].
            best_offset: Offsets in the interval that ended with the best criterion, shape (…, D); zeros
                before the first one.

        Returns:
            Shape (…, F), float32, in [-CLIP, CLIP]; 0 where nothing was measured.
        """
        job = self._job(track, interval, progress, next_interval, rescued)
        job_features = stack((*job, rescues, since_best, self._above_usual(anchor, offset))).T
        available = np.broadcast_to(anchor.available, offset.shape)
        place = self.space.position(anchor, offset)
        features = np.concatenate(
            [
                job_features,
                offset / self.space.reaches,
                place,
                available,
                fraction * available,
                (offset - best_offset) / self.space.reaches,
            ],
            axis=-1,
        )
        features[np.isnan(features)] = 0.0
        observation: NDArray[np.float32] = np.minimum(np.maximum(features, -CLIP), CLIP).astype(np.float32)
        return observation

    def _above_usual(self, anchor: Anchor, offset: Array) -> Value:
        """Decades of the learning rate above its usual value; NaN where that is not known."""
        if "lr" not in self.space.names:
            return np.nan
        lr = self.space.names.index("lr")
        above: Value = (offset[..., lr] - anchor.usual[..., lr]) / np.log(10)
        return above

    @staticmethod
    def _job(
        track: Track, interval: Interval, progress: Value, next_interval: Value, rescued: Value
    ) -> tuple[Value, ...]:
        """The `JOB_FEATURES` but the last three, in order; NaN where not measured."""
        unvalidated = np.isnan(interval.val_loss)
        value, late = interval.criterion, interval.train_late
        early, start = interval.train_early, pick(np.isnan(track.first), interval.train_early, track.first)
        train_start = pick(np.isnan(track.train_first), early, track.train_first)
        averaged, train_last = interval.averaged_loss, track.train_last
        # One vectorized call for the nine loss ratios: alone they would cost as much as all the rest.
        ratios = log_ratio(
            stack([value, value, value, late, late, late, value, averaged, late]),
            stack(
                [track.last, track.best, start, train_last, track.train_best, train_start, late, value, early]
            ),
            stack([start, start, start, train_start, train_start, train_start, start, start, train_start]),
        )
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return (
                progress,
                np.log10(next_interval) + 1,
                _decades(track.updates, USUAL_UPDATES),
                _decades(track.epochs, USUAL_EPOCHS),
                *ratios,
                interval.train_noise,
                np.log10(interval.update_ratio) + 3,
                np.log(np.divide(interval.grad_norm, track.grad_last)),
                np.log(np.divide(interval.grad_norm, track.grad_first)),
                interval.grad_alive,
                unvalidated,
                np.logical_not(interval.finite),
                rescued,
            )


def _decades(value: Value, usual: float) -> Value:
    """log10(value / usual), in [-MOST_DECADES, MOST_DECADES]; NaN where it is not known."""
    return np.clip(np.log10(value / usual), -MOST_DECADES, MOST_DECADES)
