"""Files of ratings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rl_tuner import DatasetError
from rl_tuner.envs.rating_files import is_ratings, load_ratings

ROWS = [f"{['007', '7', 'ann', 'NA'][i % 4]},i{i % 3},{1 + i % 5 / 2}" for i in range(12)]


def write(*rows: str, head: str = "user,item,rating") -> Path:
    Path("r.csv").write_text("\n".join([head, *rows]))
    return Path("r.csv")


def test_users_and_items_of_any_text_are_numbered_in_sorted_order() -> None:
    samples = load_ratings(write(*ROWS))
    assert samples.kind == "ratings"
    assert samples.task == "regression"
    assert samples.vocabulary == (4, 3)
    users = sorted({"007", "7", "ann", "NA"})
    names = [row.split(",") for row in ROWS]
    assert samples.inputs.tolist() == [[users.index(user), int(item[1:])] for user, item, _ in names]
    np.testing.assert_array_equal(samples.targets, [float(rating) for _, _, rating in names])


def test_the_columns_may_stand_in_any_order() -> None:
    plain = load_ratings(write(*ROWS))
    turned = load_ratings(write(*(";".join(row.split(",")[::-1]) for row in ROWS), head="rating; item; user"))
    np.testing.assert_array_equal(turned.inputs, plain.inputs)
    np.testing.assert_array_equal(turned.targets, plain.targets)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("user,item,rating", True),
        ("rating;user;item", True),
        ("user,item,stars", False),
        ("user,item,rating,when", False),
    ],
)
def test_ratings_are_known_by_their_columns(head: str, expected: bool) -> None:
    assert is_ratings(write(head=head)) is expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,b,", "the rating is missing in row 13"),
        (",b,3", "the user is missing in row 13"),
        ("a,,3", "the item is missing in row 13"),
        ("a,b,good", "column 'rating' must hold numbers: row 13 holds 'good'"),
        ("a,b,inf", "the rating is infinite, or beyond 1e.100, in row 13"),
        ("a,b", "line 14: 2 fields"),
    ],
)
def test_a_broken_row_is_named(row: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_ratings(write(*ROWS, row))


def test_ratings_that_say_nothing_are_refused() -> None:
    with pytest.raises(DatasetError, match="has 3 rows: at least 10"):
        load_ratings(write(*ROWS[:3]))
    with pytest.raises(DatasetError, match="is 3 in every row"):
        load_ratings(write(*(f"u{i},i,3" for i in range(12))))
    with pytest.raises(DatasetError, match="must have the columns user, item, rating"):
        load_ratings(write(*ROWS, head="user,item,stars"))
