"""Records of many jobs side by side: a dataclass of numbers as the same dataclass of arrays, a row a job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
"""A dataclass whose fields are numbers, bools or arrays."""


def repeat(record: T, num: int) -> T:
    """The record `num` times: each field becomes an array of shape (num, …), to be written in place."""
    return type(record)(*(np.stack([np.asarray(value)] * num) for _, value in _items(record)))


def copied(rows: T) -> T:
    """The same columns, to be written in place without changing these."""
    return type(rows)(*(value.copy() for _, value in _items(rows)))


def put(rows: T, row: int, record: T) -> None:
    """Overwrites one row with a record."""
    for name, value in _items(record):
        getattr(rows, name)[row] = value


def update(rows: T, others: T, where: NDArray[np.bool_]) -> None:
    """Overwrites the rows marked in `where`, shape (N,).

    Args:
        rows: Arrays of shape (N, …), changed in place.
        others: What to take them from: arrays of shape (N, …), or one number for all rows.
        where: Which rows.
    """
    for name, value in _items(others):
        np.copyto(getattr(rows, name), value, where=where)


def arrays(rows: Any) -> list[NDArray[Any]]:
    """The columns themselves, each of shape (N, …)."""
    return [value for _, value in _items(rows)]


def _items(record: Any) -> Iterator[tuple[str, Any]]:
    return ((field.name, getattr(record, field.name)) for field in fields(record))
