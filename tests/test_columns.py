from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_tuner.columns import put, repeat, update


@dataclass(frozen=True, slots=True)
class Point:
    x: Any
    count: Any
    on: Any
    place: Any


POINT = Point(1.5, 2, True, np.array([3.0, 4.0]))
OTHER = Point(9.0, 8, False, np.array([7.0, 6.0]))


def test_a_record_becomes_columns_of_its_own_types() -> None:
    rows = repeat(POINT, 3)
    assert isinstance(rows, Point)
    assert [a.dtype for a in (rows.x, rows.count, rows.on, rows.place)] == [float, int, bool, float]
    assert rows.x.tolist() == [1.5] * 3
    assert rows.place.tolist() == [[3.0, 4.0]] * 3


def test_columns_share_no_memory_with_the_record() -> None:
    rows = repeat(POINT, 2)
    rows.place[0, 0] = 99.0
    assert rows.place[1, 0] == POINT.place[0] == 3.0


def test_one_row_is_overwritten_and_no_other() -> None:
    rows = repeat(POINT, 3)
    put(rows, 1, OTHER)
    assert rows.count.tolist() == [2, 8, 2]
    assert rows.on.tolist() == [True, False, True]
    assert rows.place.tolist() == [[3.0, 4.0], [7.0, 6.0], [3.0, 4.0]]


def test_marked_rows_are_overwritten_from_columns_or_from_one_number() -> None:
    rows = repeat(Point(1.0, 2, True, 0.0), 3)
    update(rows, Point(np.array([7.0, 8.0, 9.0]), 5, False, 1.0), np.array([True, False, True]))
    assert rows.x.tolist() == [7.0, 1.0, 9.0]
    assert rows.count.tolist() == [5, 2, 5]
    assert rows.on.tolist() == [False, True, False]
