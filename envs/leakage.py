"""Data leakage: does a data set that a suite holds out share samples with one of its other splits?

Names alone do not tell: the same images may lie in two data sets, as a table in one and in another scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.datasets import open_samples
from rl_tuner.envs.families import JobFamily
from rl_tuner.envs.jobs import SPLITS
from rl_tuner.envs.samples import NUMBERED, Samples
from rl_tuner.envs.suites import Suite

LEAST_COLUMNS = 8
"""Shorter rows are compared as they are: brought to one mean and deviation, many would look alike."""
LEAST_RATINGS = 5
"""Users with fewer are left out: the same few ratings occur by chance."""
TOLERANCE = 1e-8
"""Of 1 minus the correlation of two rows: far above what rounding to single precision makes of it."""
CHUNK = 2048
"""Rows compared at once."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Samples of a held-out data set that occur in another split.

    Attributes:
        split, dataset: Where they are held out.
        other_split, other_dataset: Where they occur.
        rows: How many.
    """

    split: str
    dataset: str
    other_split: str
    other_dataset: str
    rows: int


def find_leaks(suite: Suite) -> list[Leak]:
    """Compares what a suite's validation and test splits hold out as new data sets with all other splits.

    All data sets are made or read for that, synthetic ones with the first of their split's data seeds.

    Raises:
        DatasetError: A user's own data set cannot be read.
    """
    found = []
    for split, other in product(("validation", "test"), SPLITS):
        if split == other:
            continue
        held = _drawn_from([part for part in suite.family(split).parts if "dataset" in part.unseen])
        theirs = _drawn_from(suite.family(other).parts)
        for (dataset, seed), (other_dataset, other_seed) in product(held, theirs):
            rows = rows_in_common(open_samples(dataset, seed), open_samples(other_dataset, other_seed))
            if rows:
                found.append(Leak(split, dataset, other, other_dataset, rows))
    return found


def rows_in_common(one: Samples, other: Samples) -> int:
    """How many rows of a data set occur in another one.

    Rows of tables, images and sounds of `LEAST_COLUMNS` numbers or more are the same if a factor and a shift
    make one of the other, whatever their kind and shape. Tokens are compared as they are. A row of ratings
    is all that a user rated, whatever the user's number.

    Args:
        one: Whose rows are counted.
        other: Where they are looked for.
    """
    if one.kind in NUMBERED or other.kind in NUMBERED:
        return _found(_numbered_rows(one), _numbered_rows(other)) if one.kind == other.kind else 0
    mine, theirs = _rows(one), _rows(other)
    if mine.shape[1] != theirs.shape[1]:
        return 0
    if mine.shape[1] < LEAST_COLUMNS:
        return _found([row.tobytes() for row in mine], [row.tobytes() for row in theirs])
    mine, theirs = _directions(mine), _directions(theirs)
    chunks = range(0, len(mine), CHUNK)
    return sum(int(((mine[i : i + CHUNK] @ theirs.T).max(axis=1) > 1 - TOLERANCE).sum()) for i in chunks)


def _found(mine: list[bytes], theirs: list[bytes]) -> int:
    known = set(theirs)
    return sum(row in known for row in mine)


def _drawn_from(parts: Sequence[JobFamily]) -> list[tuple[str, int]]:
    """The parts' data sets, each with its first data seed."""
    return sorted({(dataset, part.data_seeds[0]) for part in parts for dataset in part.datasets})


def _rows(samples: Samples) -> NDArray[np.float64]:
    """Inputs as rows of numbers; what is missing is 0."""
    return np.nan_to_num(samples.inputs.reshape(len(samples), -1).astype(np.float64))


def _directions(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows without their means, of length 1, so that a product is a correlation; a constant row is 0."""
    centred: NDArray[np.float64] = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    constant = length <= 1e-6 * np.abs(rows).max()
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, length))


def _numbered_rows(samples: Samples) -> list[bytes]:
    """Windows of tokens; of ratings what each user rated, and how."""
    if samples.kind == "tokens":
        return [np.ascontiguousarray(row).tobytes() for row in samples.inputs]
    users, items = samples.inputs.T
    order = np.lexsort((items, users))
    borders = np.flatnonzero(np.diff(users[order])) + 1
    rated = np.stack([items, samples.targets], axis=1).astype(np.float64)[order]
    return [user.tobytes() for user in np.split(rated, borders) if len(user) >= LEAST_RATINGS]
