"""Static settings of a job (start values and a schedule), and the space that a search chooses them from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from numbers import Real
from typing import TYPE_CHECKING, Any

from rl_tuner.config import choose, from_dict, to_dict
from rl_tuner.envs.jobs import Phase, TrainingJob
from rl_tuner.envs.tuning_setup import Source
from rl_tuner.errors import ConfigError
from rl_tuner.schedules import SCHEDULE_OPTIONS, SCHEDULES, Schedule, make_schedule
from rl_tuner.search_dimensions import Dimension, dimensions_of
from rl_tuner.space import HYPERPARAMETERS

if TYPE_CHECKING:
    import optuna

SEARCHED_SCHEDULES = ("constant", "cosine")
FINEST = 8
"""A grid varies a further hyperparameter only if so many points are left to the first one, the lr."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A static setting of a job: what a trial of a search is.

    Attributes:
        start: Start values by hyperparameter; those not named stay the job's own.
        schedule: A name of `rl_tuner.schedules.SCHEDULES`.
        options: The schedule's own parameters: its constructor's arguments by name.

    Raises:
        ConfigError: A name is unknown, or a value out of range.
    """

    start: Mapping[str, float] = field(default_factory=dict)
    schedule: str = "constant"
    options: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        choose("schedule", self.schedule, SCHEDULES)
        for what, values in (("start", self.start), ("options", self.options)):
            if not isinstance(values, Mapping):
                raise ConfigError(f"{what} of a setting must be values by name, got {values!r}")
            for name, value in values.items():
                given: object = value
                if isinstance(given, bool) or not isinstance(given, Real):
                    raise ConfigError(f"{name} must be a number, got {value!r}")
        for name, value in self.start.items():
            HYPERPARAMETERS[choose("hyperparameter", name, HYPERPARAMETERS)].coordinate(value)
        if self.options:
            self.policy()  # knows their names and ranges

    def apply(self, job: Source) -> Source:
        """The job at these start values.

        A job's later phases get the values of those hyperparameters that their own start values name.
        """
        if isinstance(job, TrainingJob):
            then = tuple(Phase(_AtSetting(phase, self), phase.budget) for phase in job.then)
            return replace(job, start={**job.start, **self.start}, then=then)
        values: dict[str, Any] = {name: float(value) for name, value in self.start.items()}
        if "batch_size" in values:
            values["batch_size"] = round(values["batch_size"])
        return replace(job, **values)

    def policy(self) -> Schedule:
        """A new schedule, at its start.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        return make_schedule(self.schedule, self.options)

    def to_dict(self) -> dict[str, Any]:
        """The setting as plain JSON-able types."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Setting:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: A key or name is unknown, or a value out of range.
        """
        return from_dict(cls, data)


@dataclass(frozen=True, slots=True)
class _AtSetting:
    """Makes a phase's job as `phase` does, at the setting's values."""

    phase: Phase
    setting: Setting

    def __call__(self, trained: Any) -> TrainingJob:
        job = self.phase.job(trained)
        given: object = job
        if not isinstance(given, TrainingJob):
            return job  # whoever asked for it complains
        values = {name: value for name, value in self.setting.start.items() if name in job.start}
        return replace(job, start={**job.start, **values})


@dataclass(frozen=True, slots=True)
class SettingSpace:
    """What a search varies on a job.

    Attributes:
        dimensions: The hyperparameters, the learning rate first.
        schedules: Names of the schedules to choose from, at least one.
        schedule_options: Whether the chosen schedule's own parameters are varied too.

    Raises:
        ConfigError: A schedule is unknown or named twice, or there is nothing to vary.
    """

    dimensions: tuple[Dimension, ...]
    schedules: tuple[str, ...] = SEARCHED_SCHEDULES
    schedule_options: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.schedules, tuple) or len({*self.schedules}) != len(self.schedules):
            raise ConfigError(f"schedules must be different names, got {self.schedules!r}")
        for name in self.schedules:
            choose("schedule", name, SCHEDULES)
        if not self.schedules:
            raise ConfigError("a search needs at least one schedule: 'constant' changes nothing")
        if not self.parameters:
            raise ConfigError(
                f"there is nothing to search: no hyperparameter, and the one schedule {self.schedules[0]!r}"
            )

    @classmethod
    def of(
        cls,
        job: Source,
        hyperparameters: Sequence[str] | None = None,
        schedules: Sequence[str] = SEARCHED_SCHEDULES,
        schedule_options: bool = False,
        lr_decades: tuple[float, float] = (-2.0, 2.0),
    ) -> SettingSpace:
        """The space of a job's settings.

        Args:
            job: On which.
            hyperparameters: See `rl_tuner.search_dimensions.dimensions_of`.
            schedules: See the class.
            schedule_options: See the class.
            lr_decades: See `rl_tuner.search_dimensions.dimensions_of`.

        Raises:
            ConfigError: A name is unknown, the job lacks a hyperparameter, or there is nothing to vary.
            JobError, DatasetError: The job cannot be built.
        """
        dimensions = dimensions_of(job, hyperparameters, lr_decades)
        return cls(dimensions, tuple(schedules), schedule_options)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The study's parameters that every trial has, without those of a chosen schedule only."""
        names = [dimension.parameter for dimension in self.dimensions]
        if len(self.schedules) > 1:
            names.append("schedule")
        elif self.schedule_options:
            names += [f"{self.schedules[0]}.{name}" for name in SCHEDULE_OPTIONS[self.schedules[0]]]
        return tuple(names)

    def suggest(self, trial: optuna.trial.BaseTrial) -> Setting:
        """The setting that a study's sampler wants to try."""
        start = {dimension.name: dimension.suggest(trial) for dimension in self.dimensions}
        schedule = self.schedules[0]
        if len(self.schedules) > 1:
            schedule = str(trial.suggest_categorical("schedule", self.schedules))
        options = {}
        if self.schedule_options:
            for name, r in SCHEDULE_OPTIONS[schedule].items():
                options[name] = trial.suggest_float(f"{schedule}.{name}", r.low, r.high, log=r.log)
        return Setting(start, schedule, options)

    def grid(self, points: int) -> tuple[SettingSpace, list[dict[str, Any]]]:
        """A grid of at most so many points: as many, unless the finest dimension has fewer values.

        The first dimension, the learning rate, is the finest. A further one has two points (the schedule: all
        of them), in the order schedule, batch_size, weight_decay, …, as long as `FINEST` points are left to
        the first; the others stay at the job's start values, and a schedule's parameters at its own.

        Args:
            points: At least 1.

        Returns:
            The space that is left, and the values of its parameters at each point.

        Raises:
            ConfigError: There is neither a hyperparameter nor a choice of schedules.
        """
        if not self.dimensions:
            if len(self.schedules) == 1:
                raise ConfigError("a grid needs a hyperparameter, or several schedules, to vary")
            return self, [{"schedule": name} for name in self.schedules[:points]]
        first, *others = self.dimensions
        coarse = self._coarse_axes(others, points)
        combinations = [dict(zip(coarse, values, strict=True)) for values in product(*coarse.values())]
        least, more = divmod(points, len(combinations))
        found = [
            {first.parameter: point, **values}
            for number, values in enumerate(combinations)
            for point in first.points(least + (number < more))
        ]
        kept = (first, *(d for d in others if d.parameter in coarse))
        return SettingSpace(kept, self.schedules if "schedule" in coarse else self.schedules[:1]), found

    def _coarse_axes(self, others: Sequence[Dimension], points: int) -> dict[str, Sequence[Any]]:
        """The points of a grid along each parameter but the finest, of those that it varies."""
        axes: dict[str, Sequence[Any]] = {"schedule": self.schedules} if len(self.schedules) > 1 else {}
        axes |= {dimension.parameter: dimension.points(2) for dimension in others}
        kept: dict[str, Sequence[Any]] = {}
        left = points
        for name, values in axes.items():
            if left >= len(values) * FINEST:
                kept[name] = values
                left //= len(values)
        return kept
