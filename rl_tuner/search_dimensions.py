"""The dimensions of a search: which hyperparameters of a job it varies, over what range, on what scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rl_tuner.config import choose, require_range
from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.tuning_setup import Source
from rl_tuner.errors import ConfigError
from rl_tuner.space import HYPERPARAMETERS, STANDARD
from rl_tuner.trainee import Trainee

if TYPE_CHECKING:
    import optuna

SCALES = ("linear", "log", "log2", "complement")
USUAL_LR = 1e-3
"""The middle of the range where an optimizer's usual learning rate is not known."""
MOST_DECADES = 10.0


@dataclass(frozen=True, slots=True)
class Dimension:
    """A hyperparameter that a search varies.

    Attributes:
        name: The hyperparameter.
        low: Its smallest value.
        high: Its largest value, above `low`.
        scale: How values are spread: "linear"; "log", evenly on a logarithm; "log2", powers of two, evenly;
            "complement", ``1 - value`` evenly on a logarithm: 0.9 is as far from 0.99 as 0 is from 0.9.
    """

    name: str
    low: float
    high: float
    scale: str = "linear"

    def __post_init__(self) -> None:
        choose("scale", self.scale, SCALES)
        if not self.low < self.high:
            raise ConfigError(f"the range of {self.name} is empty: {self.low:g} to {self.high:g}")

    @property
    def parameter(self) -> str:
        """What the study calls it: its name, or what is varied in its place."""
        return {"log2": f"log2_{self.name}", "complement": f"one_minus_{self.name}"}.get(
            self.scale, self.name
        )

    @property
    def distribution(self) -> optuna.distributions.FloatDistribution | optuna.distributions.IntDistribution:
        """Where the study's parameter is drawn from."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.scale == "log2":
            return IntDistribution(int(np.log2(self.low)), int(np.log2(self.high)))
        low, high = (1 - self.high, 1 - self.low) if self.scale == "complement" else (self.low, self.high)
        return FloatDistribution(low, high, log=self.scale != "linear")

    def suggest(self, trial: optuna.trial.BaseTrial) -> float:
        """The hyperparameter's value in a trial."""
        space = self.distribution
        if self.scale == "log2":
            return float(2 ** trial.suggest_int(self.parameter, int(space.low), int(space.high)))
        drawn = trial.suggest_float(self.parameter, space.low, space.high, log=space.log)
        return 1 - drawn if self.scale == "complement" else drawn

    def points(self, number: int) -> list[float]:
        """The parameter in the middles of so many equal parts of its range; fewer values if they coincide."""
        space = self.distribution
        places = (np.arange(number) + 0.5) / number
        if self.scale == "log2":
            # Each whole number stands for an interval of length 1.
            whole = np.floor(space.low + places * (space.high - space.low + 1)).astype(np.int64)
            return np.unique(whole).tolist()  # type: ignore[no-any-return]
        if space.log:
            low, high = np.log((space.low, space.high))
            return np.exp(low + places * (high - low)).tolist()  # type: ignore[no-any-return]
        return (space.low + places * (space.high - space.low)).tolist()  # type: ignore[no-any-return]


RANGES: Mapping[str, Dimension] = {
    d.name: d
    for d in (
        Dimension("batch_size", 16, 256, "log2"),
        Dimension("weight_decay", 1e-6, 1e-1, "log"),
        Dimension("dropout", 0.0, 0.5),
        Dimension("momentum", 0.0, 0.99, "complement"),
        Dimension("l1", 1e-6, 1e-1, "log"),
        Dimension("l2", 1e-6, 1e-1, "log"),
        Dimension("label_smoothing", 0.0, 0.3),
        Dimension("max_grad_norm", 1e-2, 1e2, "log"),
    )
}
"""What a search varies besides the learning rate. Momentum is β1 where the optimizer is of Adam's kind."""


def dimensions_of(
    job: Source, names: Sequence[str] | None = None, lr_decades: tuple[float, float] = (-2.0, 2.0)
) -> tuple[Dimension, ...]:
    """What a search varies on a job.

    Args:
        job: On which.
        names: Hyperparameters; None for all of the five standard ones that the job has and does not fix.
        lr_decades: The range of the learning rate, in powers of ten from the optimizer's usual one.

    Returns:
        One for each, the learning rate first.

    Raises:
        ConfigError: A name is unknown, or the job lacks or fixes it; or `lr_decades` is no range.
        JobError, DatasetError: The job cannot be built.
    """
    for bound in lr_decades:
        require_range("lr_decades", bound, -MOST_DECADES, MOST_DECADES)
    if isinstance(names, str):
        raise ConfigError(f"hyperparameters must be a sequence of names, got the string {names!r}")
    built = job.build()
    there = free_hyperparameters(built)
    chosen = [name for name in STANDARD if name in there] if names is None else names
    for name in chosen:
        if choose("hyperparameter", name, HYPERPARAMETERS) not in there:
            raise ConfigError(
                f"the job {built.name!r} has no hyperparameter {name!r} to search; it has {', '.join(there)}"
            )
    order = [name for name in HYPERPARAMETERS if name in chosen]
    found = (_dimension(built, name, lr_decades) for name in order)
    return tuple(dimension for dimension in found if dimension is not None)


def free_hyperparameters(job: TrainingJob) -> tuple[str, ...]:
    """Names of the hyperparameters that a job has and does not fix.

    Raises:
        JobError: The job cannot be built.
    """
    model = job.build_model(0)
    there = Trainee(job.build_optimizer(model), model, None, job.regularizers).read()
    return tuple(name for name in HYPERPARAMETERS if name in {*there, "batch_size"} and name not in job.fixed)


def _dimension(job: TrainingJob, name: str, lr_decades: tuple[float, float]) -> Dimension | None:
    """The dimension of a hyperparameter; None if the job leaves it no choice."""
    if name == "lr":
        usual = SANE_LR.get(job.optimizer, USUAL_LR) if isinstance(job.optimizer, str) else USUAL_LR
        return Dimension("lr", usual * 10.0 ** lr_decades[0], usual * 10.0 ** lr_decades[1], "log")
    dimension = RANGES[name]
    if name != "batch_size":
        return dimension
    # A batch is no larger than the dataset; of few samples, half of them should be among the choices.
    samples = len(job.pool_to_score("train"))
    high = 2 ** min(int(np.log2(dimension.high)), int(np.log2(max(samples, 1))))
    low = min(int(dimension.low), high // 2)
    return Dimension(name, low, high, dimension.scale) if 1 <= low < high else None
