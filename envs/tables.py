"""A user's own table for ``rl-tuner apply``: a .csv or .npz file as numbers, checked, ready to be split."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import choose
from rl_tuner.envs.data import Split, split_table
from rl_tuner.envs.metrics import TASKS
from rl_tuner.envs.preprocessing import require_numbers
from rl_tuner.envs.table_files import Columns, data_hint, is_number, read_columns
from rl_tuner.errors import DatasetError

MIN_ROWS = 10
MOST_CLASSES = 20
"""Whole numbers are class labels if at most so many are distinct, with three rows each on average."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of numbers and its target.

    Attributes:
        inputs: Shape (n, d), float64; NaN where missing, if that is accepted.
        targets: Shape (n,): class numbers (int64) in the order of `classes`, or values (float64).
        classes: Class names in sorted order; empty for regression.
        columns: Names of the d input columns.
        impute: Whether missing inputs are filled in, by the train part's medians, when the table is split.
    """

    inputs: NDArray[np.float64]
    targets: NDArray[Any]
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    impute: bool = False

    @property
    def task(self) -> str:
        """The task: "classification" or "regression"."""
        return "classification" if self.classes else "regression"

    def split(self, seed: int, *, validation: float = 0.2, test: float = 0.2) -> Split:
        """The table split and scaled; `Split.preprocessing` knows the columns and classes by name.

        Args:
            seed: Of the shuffle.
            validation: Share of all rows, in (0, 1).
            test: Share of all rows, in (0, 1).

        Raises:
            ConfigError: A share is out of range.
            DatasetError: See `split_table`.
        """
        split = split_table(
            self.inputs,
            self.targets,
            classes=len(self.classes),
            seed=seed,
            validation=validation,
            test=test,
            impute=self.impute,
        )
        named = replace(split.preprocessing, columns=self.columns, classes=self.classes)
        return replace(split, preprocessing=named)


def load_table(
    path: str | Path,
    target: str,
    *,
    impute: bool = False,
    task: str | None = None,
    header: bool | None = None,
) -> Table:
    """Reads a table from a file.

    Args:
        path: A .csv file (UTF-8; separated by commas, semicolons or tabs), or an .npz archive: the target
            array has shape (n,), all others are inputs of shape (n, …), flattened to columns.
        target: Name of the target column or array; for csv also its number, from 0, or from -1 at the end.
        impute: Accept missing inputs. Missing targets are never accepted.
        task: "classification" or "regression"; None takes text, and whole numbers with few distinct values,
            for classes.
        header: Whether a csv file's first line holds column names; None decides by its cells: see
            `rl_tuner.envs.table_files.read_columns`.

    Raises:
        ConfigError: The task is unknown.
        DatasetError: The file cannot be read or is malformed, there is no such target, inputs are not
            numbers, values are missing or infinite, the target does not vary, or there are fewer than
            `MIN_ROWS` rows.
    """
    if task is not None:
        choose("task", task, TASKS)
    path = Path(path)
    columns = read_columns(path, header)
    name = _target_name(path, columns, target)
    truth = columns.pop(name)
    if truth.ndim == 2 and truth.shape[1] == 1:
        truth = truth[:, 0]
    if truth.ndim != 1:
        raise DatasetError(f"target {name!r} of {path} must have shape (n,), it has {truth.shape}")
    if len(truth) < MIN_ROWS:
        raise DatasetError(f"{path} has {len(truth)} rows: at least {MIN_ROWS} are needed")
    inputs, names = _stack_inputs(path, columns, len(truth))
    try:
        require_numbers(inputs, names, impute=impute)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    targets, classes = _encode(f"target {name!r} of {path}", truth, task)
    return Table(inputs, targets, classes, names, impute)


def _target_name(path: Path, columns: Columns, target: str) -> str:
    names = list(columns)
    if target in columns:
        return target
    if path.suffix.lower() == ".csv" and target.removeprefix("-").isdecimal():
        number = int(target)
        if -len(names) <= number < len(names):
            return names[number]
    near = difflib.get_close_matches(target, names, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    more = f", … ({len(names)} in all)" if len(names) > 20 else ""
    part = "column" if path.suffix.lower() == ".csv" else "array"
    raise DatasetError(
        f"{path} has no {part} {target!r}{meant}: it has {', '.join(names[:20])}{more}{data_hint(names)}"
    )


def _stack_inputs(path: Path, columns: Columns, n: int) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The input columns side by side, arrays of more dimensions flattened, and their names."""
    parts: list[NDArray[np.float64]] = []
    names: list[str] = []
    for name, column in columns.items():
        if column.ndim == 0 or len(column) != n:
            raise DatasetError(f"{path}: {name!r} has shape {column.shape}, the target has {n} rows")
        if column.dtype.kind not in "biuf":
            raise DatasetError(f"{path}: column {name!r} must hold numbers{_first_text(column)}")
        part = column.reshape(n, -1).astype(np.float64)
        parts.append(part)
        names += [name] if column.ndim == 1 else [f"{name}[{i}]" for i in range(part.shape[1])]
    if not names:
        raise DatasetError(f"{path} has no input column besides the target")
    inputs = np.concatenate(parts, axis=1)
    empty = np.flatnonzero(np.isnan(inputs).all(axis=0))
    if empty.size:
        raise DatasetError(f"{path}: column {names[empty[0]]!r} holds no value at all: drop it")
    return inputs, tuple(names)


def _first_text(column: NDArray[Any]) -> str:
    """Where text stands in a column, for messages; rows are counted from 1, without the header."""
    for row, value in enumerate(column.ravel().tolist(), start=1):
        if isinstance(value, str) and not is_number(value):
            return f": row {row} holds {value!r}"
    return f", not {column.dtype}"


def _encode(what: str, truth: NDArray[Any], task: str | None) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Targets as class numbers and class names, or as values and no names."""
    text = truth.dtype.kind not in "biuf"
    missing = np.array([v != v for v in truth.tolist()], dtype=bool)  # only NaN differs from itself
    if missing.any():
        rows = (np.flatnonzero(missing)[:3] + 1).tolist()
        raise DatasetError(f"{what} is missing in {missing.sum()} rows (row {rows[0]} first): drop them")
    if text and task == "regression":
        raise DatasetError(f"{what} must hold numbers for a regression{_first_text(truth)}")
    if not text and np.isinf(truth.astype(np.float64)).any():
        raise DatasetError(f"{what} holds infinite values")
    labels, numbers = np.unique(truth.astype(str) if text else truth, return_inverse=True)
    if len(labels) < 2:
        raise DatasetError(f"{what} is {labels[0]} in every row: there is nothing to learn")
    if (task or _infer(labels, len(truth), text=text)) == "regression":
        return truth.astype(np.float64), ()
    if 2 * len(labels) > len(truth):
        raise DatasetError(
            f"{what} has {len(labels)} distinct values in {len(truth)} rows, too many for classes: "
            "choose another target, or task regression if it is numeric"
        )
    return numbers.astype(np.int64), _class_names(labels)


def _infer(labels: NDArray[Any], rows: int, *, text: bool) -> str:
    """The task that the distinct target values suggest."""
    if text:
        return "classification"
    whole = bool((labels == np.rint(labels.astype(np.float64))).all())
    return "classification" if whole and len(labels) <= min(MOST_CLASSES, rows // 3) else "regression"


def _class_names(labels: Sequence[Any] | NDArray[Any]) -> tuple[str, ...]:
    """Labels as text; whole numbers without a decimal point."""
    return tuple(
        str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
        for label in np.asarray(labels).tolist()
    )
