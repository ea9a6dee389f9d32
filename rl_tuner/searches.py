"""A search on one job: what it is told, what each trial came to, and what came of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from rl_tuner.config import choose, require_counts, require_range
from rl_tuner.errors import ConfigError
from rl_tuner.history import Record
from rl_tuner.samplers import SAMPLERS
from rl_tuner.settings import SEARCHED_SCHEDULES, Setting
from rl_tuner.trials import Trial

MOST_TRIALS = 100_000
"""A typing error asks for more."""


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """How to search.

    Attributes:
        sampler: A name of `rl_tuner.samplers.SAMPLERS`.
        trials: So many times the job's budget in training samples may be used, whatever the sampler; unless
            trials are pruned, it is the number of trials.
        shared: Whether the trials share the budget of one run of the job instead.
        hyperparameters: Names of those varied; None for all standard ones that the job has.
        schedules: Names of the schedules to choose from.
        schedule_options: Whether the chosen schedule's own parameters are varied too.
        lr_decades: The range of the learning rate, in powers of ten from the optimizer's usual one.

    Raises:
        ConfigError: A value is unknown or out of range.
    """

    sampler: str
    trials: int = 16
    shared: bool = False
    hyperparameters: tuple[str, ...] | None = None
    schedules: tuple[str, ...] = SEARCHED_SCHEDULES
    schedule_options: bool = False
    lr_decades: tuple[float, float] = (-2.0, 2.0)

    def __post_init__(self) -> None:
        choose("sampler", self.sampler, SAMPLERS)
        require_counts({"trials": self.trials})
        require_range("trials", self.trials, 1, MOST_TRIALS)
        if not isinstance(self.lr_decades, tuple) or len(self.lr_decades) != 2:
            raise ConfigError(
                f"lr_decades must be a lowest and a highest power of ten, got {self.lr_decades!r}"
            )


@dataclass(frozen=True, slots=True)
class SearchTrial:
    """What a trial came to. Losses that are not finite, or not there, are infinite.

    Attributes:
        setting: `rl_tuner.settings.Setting.to_dict` of what was tried.
        val_loss: The best validation loss.
        test_loss: Loss of the best weights by validation on the test split; infinite if the job has none, or
            if the trial was pruned before the job's last phase.
        samples: Training samples used.
        val_samples: Validation samples evaluated.
        crashed: Whether it diverged, and so ended before its budget.
        pruned: Whether it was ended early, as unpromising.
        start_val_loss: Validation loss before training.
    """

    setting: dict[str, Any]
    val_loss: float
    test_loss: float
    samples: int
    val_samples: int
    crashed: bool
    pruned: bool
    start_val_loss: float

    @classmethod
    def of(cls, trial: Trial, setting: Setting, *, pruned: bool = False) -> SearchTrial:
        """What a trial at a setting came to."""
        losses = (trial.val_loss, trial.test.get("loss", inf), trial.start_val_loss)
        val_loss, test_loss, start_val_loss = (float(x) if isfinite(x) else inf for x in losses)
        return cls(
            setting=setting.to_dict(),
            val_loss=val_loss,
            test_loss=test_loss,
            samples=trial.samples,
            val_samples=trial.val_samples,
            crashed=trial.crashed,
            pruned=pruned,
            start_val_loss=start_val_loss,
        )


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What came of a search.

    Attributes:
        trials: One by one, in the order in which they were begun.
        best: Number of the chosen one, of the lowest validation loss.
        test: Its loss and metrics on the test split; empty if the job has none.
        records: Its intervals.
        samples: Training samples that all trials used together.
        val_samples: Validation samples that they evaluated.
        curve: Training samples that the search had used at each new best validation loss, and that loss; as
            if its trials had run one after another, unless they need each other and run side by side.
    """

    trials: tuple[SearchTrial, ...]
    best: int
    test: Mapping[str, float]
    records: tuple[Record, ...]
    samples: int
    val_samples: int
    curve: tuple[tuple[int, float], ...] = ()


def best_so_far(steps: Iterable[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Of losses at numbers of samples used, in any order, those that were lower than all before."""
    best: list[tuple[int, float]] = []
    for used, loss in sorted(steps):
        if loss < (best[-1][1] if best else inf):
            best.append((used, loss))
    return tuple(best)
