"""Reads a csv of ratings: who gave what how many stars."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rl_tuner.envs.reading import LARGEST, MIN_SAMPLES
from rl_tuner.envs.samples import Samples
from rl_tuner.envs.table_files import first_text, read_columns, read_header
from rl_tuner.errors import DatasetError

COLUMNS = ("user", "item", "rating")


def is_ratings(path: Path) -> bool:
    """Whether a csv file's first line names the columns user, item and rating, in any order, and no other.

    Raises:
        DatasetError: The file cannot be read, or is malformed.
    """
    return sorted(name.strip() for name in read_header(path)) == sorted(COLUMNS)


def load_ratings(path: str | Path) -> Samples:
    """Ratings of kind "ratings", a regression.

    Args:
        path: A csv file with the columns user, item and rating. Users and items are text of any kind, and
            numbered in sorted order: 7 and 07 are two users.

    Raises:
        DatasetError: The file cannot be read or is malformed, a column or a value is missing, a rating is no
            finite number, or all are the same.
    """
    path = Path(path)
    if not is_ratings(path):
        raise DatasetError(
            f"{path} must have the columns {', '.join(COLUMNS)}: its first line does not name them"
        )
    columns = read_columns(path, header=True, text=COLUMNS[:2])
    ratings = columns["rating"]
    if len(ratings) < MIN_SAMPLES:
        raise DatasetError(f"{path} has {len(ratings)} rows: at least {MIN_SAMPLES} are needed")
    for name in COLUMNS:
        missing = np.flatnonzero([value != value for value in columns[name].tolist()])  # only NaN does
        if missing.size:
            raise DatasetError(f"{path}: the {name} is missing in row {missing[0] + 1}")
    if ratings.dtype.kind != "f":
        raise DatasetError(f"{path}: column 'rating' must hold numbers{first_text(ratings)}")
    large = np.flatnonzero(np.abs(ratings) > LARGEST)
    if large.size:
        raise DatasetError(f"{path}: the rating is infinite, or beyond {LARGEST:g}, in row {large[0] + 1}")
    if ratings.min() == ratings.max():
        raise DatasetError(f"{path}: the rating is {ratings[0]:g} in every row: there is nothing to learn")
    users, user = np.unique(columns["user"], return_inverse=True)
    items, item = np.unique(columns["item"], return_inverse=True)
    pairs = np.stack([user, item], axis=1).astype(np.int64)
    return Samples("ratings", pairs, ratings, vocabulary=(len(users), len(items)))
