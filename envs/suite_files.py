"""Suites as TOML or JSON files: what a family draws from, by split, and what each split holds out.

A family says for each of ``datasets``, ``architectures``, ``optimizers`` and ``budget`` either what all
splits draw from, or a table ``{train = …, validation = …, test = …}``. With ``held_out = "apart"`` (the
default) the validation and test splits have a part for each of these that is so told apart, in which that one
alone is new; with "together" all are new at once. A family's ``weight`` may be told by split likewise: what
is costly to learn on may be drawn rarely in the train split, and be judged in full. ``[defaults]`` is what a
family does not say itself. A value ``"none"`` among start values stands for a job that lacks the
hyperparameter.
"""

from __future__ import annotations

import json
import reprlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rl_tuner.config import choose
from rl_tuner.envs.datasets import DATASETS, is_data_reference
from rl_tuner.envs.families import JobFamily
from rl_tuner.envs.jobs import SPLITS
from rl_tuner.envs.loaders import is_remote
from rl_tuner.envs.suites import AXES, Mixture, Suite
from rl_tuner.errors import ConfigError, DatasetError

HELD_OUT = ("apart", "together")
KEYS = ("name", "description", "held_out", "defaults", "families")
SEEDS = {"train": (0, 1000), "validation": (1000, 2000), "test": (2000, 3000)}
"""Data seeds by split, unless a family says them: synthetic sets of one split never occur in another."""
MOST_BYTES = 1_000_000


def read_suite(path: str | Path) -> Suite:
    """Reads a suite file.

    Args:
        path: A .toml or .json file; relative paths of data files in it are relative to its folder.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or missing, or a value is wrong; the message
            names file and key.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} is no suite: it has more than {MOST_BYTES:,} bytes")
        text = path.read_text("utf-8")
        data = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read the suite {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # of UTF-8, TOML or JSON, or a NUL in the name
        raise ConfigError(f"the suite {path} is malformed: {error}") from error
    try:
        return make_suite(data, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def make_suite(data: object, folder: Path = Path()) -> Suite:
    """A suite from what its file holds.

    Args:
        data: The file's table.
        folder: What relative paths of data files are relative to.

    Raises:
        ConfigError: A key is unknown or missing, a value is wrong, or a user's data file cannot be read.
    """
    table = _table("a suite", data)
    for key in table:
        choose("key of a suite", key, KEYS)
    _require_keys("a suite", table, ("name", "families"))
    for key in ("name", "description"):
        if not isinstance(table.get(key, ""), str):
            raise ConfigError(f"{key!r} of a suite must be text, got {reprlib.repr(table[key])}")
    if not isinstance(table["families"], list) or not table["families"]:
        raise ConfigError("'families' must be a list of tables, [[families]]")
    together = choose("held_out", table.get("held_out", "apart"), HELD_OUT) == "together"
    defaults = _table("'defaults'", table.get("defaults", {}))
    parts: dict[str, list[JobFamily]] = {split: [] for split in SPLITS}
    for family in table["families"]:
        own = {**defaults, **_table("a family", family)}
        for split in SPLITS:
            parts[split] += _parts(own, split, together=together, folder=folder)
    splits = {split: Mixture(tuple(found)) for split, found in parts.items()}
    return Suite(table["name"], table.get("description", ""), splits)


def _parts(family: Mapping[str, Any], split: str, *, together: bool, folder: Path) -> list[JobFamily]:
    """A family's parts in a split: one in the train split, elsewhere one for each thing that is new there."""
    told_apart = [axis for axis, name in AXES.items() if split in _by_split(family, name)]
    if split == "train" or not told_apart:
        return [_family(family, split, (), folder)]
    if together:
        return [_family(family, split, tuple(told_apart), folder)]
    return [_family(family, split, (axis,), folder) for axis in told_apart]


def _family(family: Mapping[str, Any], split: str, unseen: tuple[str, ...], folder: Path) -> JobFamily:
    """One part: what is new from the split's own values, all else from the train split's."""
    name = family.get("name", "")
    known = [f.name for f in fields(JobFamily) if f.name != "unseen"]
    options: dict[str, Any] = {}
    try:
        for key, value in family.items():
            choose("key of a family", key, known)
            options[key] = _plain(value)
        for axis, key in AXES.items():
            by_split = _by_split(family, key)
            if by_split:
                options[key] = _plain(by_split[split if axis in unseen else "train"])
        weights = _by_split(family, "weight")
        if weights:
            options["weight"] = weights.get(split, weights["train"])
        for key in ("start", "data"):
            options[key] = {k: _plain(v) for k, v in _table(f"{key!r}", family.get(key, {})).items()}
        _require_keys("a family", options, ("datasets", "architectures"))
        if isinstance(options["datasets"], tuple):
            options["datasets"] = tuple(_resolved(d, folder) for d in options["datasets"])
        return JobFamily(**{"data_seeds": SEEDS[split], **options}, unseen=unseen)
    except (ConfigError, DatasetError) as error:
        raise ConfigError(f"family {reprlib.repr(name)}, {split} split: {error}") from error


def _by_split(family: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A family's values by split; empty if all splits draw from the same."""
    value = family.get(key)
    if not isinstance(value, Mapping):
        return {}
    name = reprlib.repr(family.get("name", ""))
    for split in value:
        choose(f"split of {key!r} in family {name}", split, SPLITS)
    if "train" not in value:
        raise ConfigError(f"family {name}: {key!r} needs what the train split draws from")
    return value


def _plain(value: Any) -> Any:
    """Lists as tuples, "none" as None."""
    if isinstance(value, list):
        return tuple(None if item == "none" else item for item in value)
    return value


def _resolved(dataset: Any, folder: Path) -> Any:
    """A data file's path relative to the working directory rather than to the suite's file."""
    if not isinstance(dataset, str) or dataset in DATASETS or is_remote(dataset):
        return dataset
    return str(folder / dataset) if is_data_reference(dataset) else dataset


def _table(what: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} must be a table of keys and values, got {reprlib.repr(value)}")
    return value


def _require_keys(what: str, table: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in keys:
        if key not in table:
            raise ConfigError(f"{what} needs {key!r}")
