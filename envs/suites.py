"""Suites: mixtures of job families, split so that the test part asks for stated kinds of generalization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from itertools import product
from pathlib import Path

import numpy as np

from rl_tuner.config import choose
from rl_tuner.envs.datasets import data_identity
from rl_tuner.envs.families import JobFamily
from rl_tuner.envs.job_specs import JobSpec, base_weights
from rl_tuner.envs.jobs import SPLITS
from rl_tuner.errors import ConfigError

AXES = {
    "dataset": "datasets",
    "architecture": "architectures",
    "optimizer": "optimizers",
    "horizon": "budget",
}
"""In what a held-out job may differ from the train split's, and the field of `JobFamily` that says how."""
SUFFIXES = (".toml", ".json")


@dataclass(frozen=True, slots=True)
class Mixture:
    """Several families, of which one is drawn and then a job from it.

    Attributes:
        parts: At least one; drawn by their weights.

    Raises:
        ConfigError: There is none.
    """

    parts: tuple[JobFamily, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigError("a split of a suite needs at least one family")

    def sample(self, rng: np.random.Generator) -> JobSpec:
        """Draws a job."""
        if len(self.parts) == 1:
            return self.parts[0].sample(rng)
        weights = np.array([part.weight for part in self.parts])
        return self.parts[int(rng.choice(len(self.parts), p=weights / weights.sum()))].sample(rng)

    def only(self, *, family: str | None = None, unseen: str | None = None) -> Mixture:
        """The parts of one family, or of one kind of generalization.

        Args:
            family: Name of the family.
            unseen: A key of `AXES`.

        Raises:
            ConfigError: There are none.
        """
        parts = tuple(
            part
            for part in self.parts
            if family in (None, part.name) and (unseen is None or unseen in part.unseen)
        )
        if not parts:
            asked = {"family": family, "unseen": unseen}.items()
            what = " and ".join(f"{key} {value!r}" for key, value in asked if value is not None)
            raise ConfigError(f"no part of the split has {what}")
        return Mixture(parts)

    def weighted_as(self, other: Mixture) -> Mixture:
        """The same parts, each family drawn as often as in another split.

        A family that the other lacks keeps its weight.
        """
        theirs = {name: sum(p.weight for p in other.parts if p.name == name) for name in other._names}
        mine = {name: sum(p.weight for p in self.parts if p.name == name) for name in self._names}
        return Mixture(
            tuple(
                replace(part, weight=part.weight * theirs.get(part.name, mine[part.name]) / mine[part.name])
                for part in self.parts
            )
        )

    @property
    def _names(self) -> set[str]:
        return {part.name for part in self.parts}


@dataclass(frozen=True, slots=True)
class Suite:
    """Families by split, checked: what a part holds out occurs in no other split.

    Attributes:
        name: The suite's name.
        description: One line for `rl-tuner list`.
        splits: "train", "validation" and "test".

    Raises:
        ConfigError: A split is missing, or what one holds out occurs in another.
    """

    name: str
    description: str
    splits: Mapping[str, Mixture]

    def __post_init__(self) -> None:
        if set(self.splits) != set(SPLITS):
            raise ConfigError(f"suite {self.name!r} must have splits {SPLITS}, got {tuple(self.splits)}")
        for split, other in product(("validation", "test"), SPLITS):
            if split != other:
                for part, theirs in product(self.splits[split].parts, self.splits[other].parts):
                    self._require_apart(split, part, other, theirs)

    def _require_apart(self, split: str, part: JobFamily, other: str, theirs: JobFamily) -> None:
        """A family's held-out values must not occur in another split's part."""
        for axis in part.unseen:
            shared = _shared(axis, part, theirs)
            if shared and not (axis == "horizon" and part.name != theirs.name):
                raise ConfigError(
                    f"suite {self.name!r}: the {split} split holds out {axis} {shared}, which occurs in the "
                    f"{other} split (family {theirs.name!r})"
                )

    def family(self, split: str) -> Mixture:
        """The split's distribution.

        Raises:
            ConfigError: There is no such split.
        """
        return self.splits[choose("split", split, SPLITS)]

    @property
    def families(self) -> tuple[str, ...]:
        """Names of its families, in order."""
        return tuple(dict.fromkeys(part.name for part in self.splits["train"].parts))

    def only(self, family: str) -> Suite:
        """One of its families as a suite of its own.

        Raises:
            ConfigError: There is no such family.
        """
        choose("family", family, self.families)
        splits = {split: mixture.only(family=family) for split, mixture in self.splits.items()}
        return replace(self, name=family, description=f"the family {family} of {self.name}", splits=splits)


def _shared(axis: str, part: JobFamily, other: JobFamily) -> str:
    """What two families have in common along an axis; empty if nothing."""
    if axis == "horizon":
        low, high = max(part.budget[0], other.budget[0]), min(part.budget[1], other.budget[1])
        return f"{low} to {high} samples" if low <= high else ""
    mine, theirs = (list(getattr(f, AXES[axis])) for f in (part, other))
    if axis == "dataset":
        theirs += [*other.weights, *part.weights]  # weights have seen the data that they were trained on
        seen = {data_identity(name) for name in theirs}
        return ", ".join(name for name in mine if data_identity(name) in seen)
    return ", ".join(sorted({*mine} & {*theirs}))


SUITES: dict[str, Suite] = {}
"""Suites that were read or registered, by name."""
STANDARD_SUITE = "standard"


def suite_names() -> tuple[str, ...]:
    """The suites that come along (each family of "standard" is one), and those registered in `SUITES`."""
    shipped = _shipped()
    families = load_suite(STANDARD_SUITE).families if STANDARD_SUITE in shipped else ()
    return tuple(dict.fromkeys((*shipped, *families, *SUITES)))


def load_suite(name: str) -> Suite:
    """A suite.

    Args:
        name: The name of one that comes along or was registered, or a path of a suite file, which ends in
            .toml or .json (see `rl_tuner.envs.suite_files`).

    Raises:
        ConfigError: There is none, or the file is wrong.
    """
    from rl_tuner.envs.suite_files import read_suite

    if str(name).lower().endswith(SUFFIXES):
        suite = read_suite(name)
        _require_weights(suite)
        return suite
    if any(mark in str(name) for mark in "./\\"):
        raise ConfigError(f"no suite {name!r}: the name of a suite file ends in {' or '.join(SUFFIXES)}")
    if name not in SUITES:
        if name in _shipped():
            SUITES[name] = read_suite(_shipped()[name])
        else:
            choose("suite", name, suite_names())
            SUITES[name] = load_suite(STANDARD_SUITE).only(name)
    return SUITES[name]


def _require_weights(suite: Suite) -> None:
    """Sees to it that all weights are there that jobs of a user's suite start from."""
    for split, mixture in suite.splits.items():
        for part in mixture.parts:
            for dataset, architecture in product(filter(None, part.weights), part.architectures):
                try:
                    base_weights(dataset, architecture)
                except ConfigError as error:
                    raise ConfigError(f"{split} split, family {part.name!r}: {error}") from None


@lru_cache(maxsize=1)
def _shipped() -> Mapping[str, Path]:
    """Files of the suites that come along, by name; "quick" comes first."""
    folder = Path(str(resources.files("rl_tuner"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.toml"), key=lambda p: (p.stem != "quick", p))}
