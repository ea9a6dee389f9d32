"""The data sets that jobs are made of, by name, and the splits of them that are kept in memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rl_tuner.config import choose
from rl_tuner.envs import image_sets, rating_sets, sound_sets, teachers, text_sets
from rl_tuner.envs.data import Split
from rl_tuner.envs.difficulty import PLAIN, Difficulty
from rl_tuner.envs.loaders import is_remote, load_samples
from rl_tuner.envs.real_tables import REAL_TABLES
from rl_tuner.envs.samples import Samples

MOST_BYTES = 256 * 2**20
"""Memory of the splits that are kept; the ones asked for longest ago go first."""
OWN_FILES = 8
"""So many of a user's own data sets are kept as read."""
UNSPLIT_SETS = 64
"""So many of ours are kept as drawn: drawing one takes longer than splitting it (2 MiB at most, each)."""


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """A data set by its name.

    Attributes:
        kind: Kind of data; see `rl_tuner.envs.samples.KINDS`.
        make: The samples, given a generator; synthetic ones draw their task from it, of a real one it draws
            some, or nothing.
    """

    kind: str
    make: Callable[[np.random.Generator], Samples]


DATASETS: dict[str, DatasetEntry] = {
    name: DatasetEntry(kind, make)
    for kind, sets in (
        ("table", REAL_TABLES),
        ("table", teachers.TEACHERS),
        ("image", image_sets.IMAGE_SETS),
        ("sound", sound_sets.SOUND_SETS),
        ("tokens", text_sets.TEXT_SETS),
        ("ratings", rating_sets.RATING_SETS),
    )
    for name, make in sets.items()
}


class SplitCache:
    """Splits by what they were made of, the latest used ones, within a bound of memory.

    Args:
        most_bytes: The bound; a split larger than that is kept alone.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._splits: OrderedDict[tuple[str, int, Difficulty], Split] = OrderedDict()
        self._most = most_bytes
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._splits)

    def get(self, dataset: str, seed: int, difficulty: Difficulty) -> Split:
        """The split, made if it is not here; the same object as long as it is.

        Raises:
            ConfigError, DatasetError: See `load_split`.
        """
        key = (dataset, seed, difficulty)
        if key in self._splits:
            self._splits.move_to_end(key)
            return self._splits[key]
        split = open_samples(dataset, seed).split(seed, difficulty=difficulty)
        self._splits[key] = split
        self.nbytes += split.nbytes
        while self.nbytes > self._most and len(self._splits) > 1:
            self.nbytes -= self._splits.popitem(last=False)[1].nbytes
        return split


@lru_cache(maxsize=1)
def split_cache() -> SplitCache:
    """The one that all suites share."""
    return SplitCache()


def load_split(dataset: str, seed: int, difficulty: Difficulty = PLAIN) -> Split:
    """A data set, split and scaled; the same object for the same arguments, as long as it is kept.

    Args:
        dataset: A name of `DATASETS`, or a reference that `rl_tuner.envs.loaders.load_samples` reads.
        seed: Of the split, of what makes the data harder, and of what a synthetic set draws its task from.
        difficulty: What makes the data harder.

    Raises:
        ConfigError: There is no such data set.
        DatasetError: A user's own cannot be read.
    """
    return split_cache().get(dataset, seed, difficulty)


def open_samples(dataset: str, seed: int) -> Samples:
    """A data set before it is split, its arrays read-only; see `load_split`."""
    if dataset in DATASETS:
        return _drawn_samples(dataset, seed)
    if not is_data_reference(dataset):
        choose("dataset", dataset, DATASETS)
    return _own_samples(dataset)


def kind_of(dataset: str) -> str:
    """The kind of data of a data set; a user's own is read for that.

    Raises:
        ConfigError: There is no such data set.
        DatasetError: A user's own cannot be read.
    """
    entry = DATASETS.get(dataset)
    return open_samples(dataset, 0).kind if entry is None else entry.kind


def is_data_reference(name: str) -> bool:
    """Whether a name refers to a user's own data: a path, or data of a hub."""
    return is_remote(name) or any(mark in name for mark in "./\\#") or os.path.exists(name)


def data_identity(name: str) -> str:
    """What tells a data set from others: the name, or of a file its full path, however it is written."""
    if name in DATASETS or is_remote(name) or not is_data_reference(name):
        return name.partition("#")[0]
    place = name if os.path.exists(name) else name.rpartition("#")[0]
    return os.path.realpath(place)


@lru_cache(maxsize=OWN_FILES)
def _own_samples(reference: str) -> Samples:
    return load_samples(reference).frozen()


@lru_cache(maxsize=UNSPLIT_SETS)
def _drawn_samples(dataset: str, seed: int) -> Samples:
    return DATASETS[dataset].make(np.random.default_rng([seed, 0])).frozen()
