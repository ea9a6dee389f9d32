"""Columns of text as numbers: one column of zeros and ones for each level, named "column=level".

The names are the whole schema (scikit-learn's `DictVectorizer` names its features so): a saved model knows
them through `Preprocessing.columns`, and `encode_rows` takes new rows to the same columns. The levels are
those of the whole table, as the classes are: which levels there are is part of a table's form, no statistic
of its values, and the train part alone decides on means, deviations and medians. A level that is not among
them, in new rows, is 0 in each of its column's levels, the "other" of a one-hot code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rl_tuner.errors import DatasetError

MOST_LEVELS = 50
"""A column with more levels is refused: names and identifiers would become thousands of columns."""
MARK = "="


def one_hot(name: str, values: Sequence[Any]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """A column of text as zeros and ones, and the new columns' names.

    Args:
        name: The column's.
        values: n texts, or NaN where missing: that becomes NaN in each of its columns.

    Raises:
        DatasetError: The column holds more than `MOST_LEVELS` levels, or none, or its name holds `MARK`.
    """
    levels = sorted({value for value in values if isinstance(value, str)})
    if not levels:
        raise DatasetError(f"column {name!r} holds no value at all: drop it")
    if len(levels) > MOST_LEVELS:
        raise DatasetError(
            f"column {name!r} holds text of {len(levels)} distinct values, at most {MOST_LEVELS} can be "
            f"encoded (the first is {levels[0]!r}): drop it, or make groups of it"
        )
    if MARK in name:
        raise DatasetError(f"column {name!r} holds text: rename it, a name with {MARK!r} cannot be encoded")
    return _zeros_and_ones(values, levels), tuple(f"{name}{MARK}{level}" for level in levels)


def require_unambiguous(names: Sequence[str], encoded: Sequence[str]) -> None:
    """Refuses columns that could be taken for a level of an encoded one.

    Args:
        names: Of the columns that hold numbers.
        encoded: Of those that hold text.

    Raises:
        DatasetError: There is such a column; the message names it.
    """
    for name in names:
        if MARK in name and name.partition(MARK)[0] in encoded:
            raise DatasetError(
                f"column {name!r} could be a level of column {name.partition(MARK)[0]!r}: rename it"
            )


class Rows(Protocol):
    """Values by column name: a mapping, or a pandas frame."""

    def __contains__(self, name: Any, /) -> bool:
        """Whether there is such a column."""
        ...

    def __getitem__(self, name: Any, /) -> Any:
        """A column's values."""
        ...


def encode_rows(columns: Sequence[str], table: Rows) -> NDArray[np.float64]:
    """New rows in a model's columns, those of text encoded as in training.

    Args:
        columns: Names of the d columns, of which "column=level" is 1 where the column is at that level.
        table: Values by column, n each: numbers, or text; NaN or None where missing. A pandas frame fits.
            Columns that the model does not know are left out.

    Returns:
        Shape (n, d); what `rl_tuner.envs.preprocessing.Preprocessing.inputs` takes.

    Raises:
        DatasetError: A column is missing, is as long as no other, or holds no numbers where it must.
    """
    found: list[NDArray[np.float64]] = []
    for name in columns:
        source, _, level = name.partition(MARK)
        if name in table:
            found.append(_numbers(name, table[name]))
        elif level and source in table:
            found.append(_zeros_and_ones(list(table[source]), [level])[:, 0])
        else:
            raise DatasetError(f"the new rows have no column {source if level else name!r}")
    lengths = {len(part) for part in found}
    if len(lengths) > 1:
        raise DatasetError(f"the columns of the new rows differ in length: {sorted(lengths)}")
    return np.stack(found, axis=1) if found else np.zeros((0, 0))


def _numbers(name: str, values: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"column {name!r} of the new rows must hold numbers: {error}") from error


def _zeros_and_ones(values: Sequence[Any], levels: Sequence[str]) -> NDArray[np.float64]:
    """Shape (n, levels); NaN where a value is missing. True is the level "True"."""
    numbers = {level: number for number, level in enumerate(levels)}
    code = np.zeros((len(values), len(levels)))
    for row, value in enumerate(values):
        if value is None or value != value:  # only NaN differs from itself
            code[row] = np.nan
        elif (level := str(value).strip()) in numbers:
            code[row, numbers[level]] = 1.0
    return code
