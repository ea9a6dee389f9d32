"""A user's own table: columns of a file as numbers, checked, ready to be split."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import choose
from rl_tuner.envs.encoding import one_hot, require_unambiguous
from rl_tuner.envs.metrics import TASKS
from rl_tuner.envs.preprocessing import require_numbers
from rl_tuner.envs.reading import LARGEST, MIN_SAMPLES, MOST_VALUES, class_numbers
from rl_tuner.envs.samples import Samples
from rl_tuner.envs.table_files import data_hint, first_text, is_number, near_names, read_columns
from rl_tuner.errors import DatasetError

MOST_CLASSES = 20
"""Whole numbers are class labels if at most so many are distinct, with three rows each on average."""
NUMBERS, TEXTS = "biuf", "OU"
"""Kinds of NumPy's dtypes. Objects are texts, and NaN where missing."""


def load_table(
    path: str | Path,
    target: str,
    *,
    impute: bool = False,
    task: str | None = None,
    header: bool | None = None,
    encode: bool | None = None,
) -> Samples:
    """Reads a table from a file.

    Args:
        path: A .csv file (UTF-8; separated by commas, semicolons or tabs), a .parquet file, or an .npz
            archive: the target array has shape (n,), all others are inputs of shape (n, …), flattened to
            columns.
        target: Name of the target column or array; for csv also its number, from 0, or from -1 at the end.
        impute: Accept missing inputs. Missing targets are never accepted.
        task: "classification" or "regression"; None takes text, and whole numbers with few distinct values,
            for classes.
        header: Whether a csv file's first line holds column names; None decides by its cells: see
            `rl_tuner.envs.table_files.read_columns`.
        encode: Whether input columns of text become columns of zeros and ones, see
            `rl_tuner.envs.encoding`. None: where no cell of the column is a number, and levels repeat twice
            on average, so that neither a typing error among numbers nor identifiers pass for levels.

    Raises:
        ConfigError: The task is unknown.
        DatasetError: The file cannot be read or is malformed, or see `table_samples`.
    """
    path = Path(path)
    columns = read_columns(path, header)
    numbered = path.suffix.lower() != ".npz"
    name = _target_name(path, columns, target, "column" if numbered else "array", numbered=numbered)
    return table_samples(str(path), columns, name, impute=impute, task=task, encode=encode)


def table_samples(
    what: str,
    columns: Mapping[str, NDArray[Any]],
    target: str,
    *,
    impute: bool = False,
    task: str | None = None,
    encode: bool | None = None,
) -> Samples:
    """Columns as a table.

    Args:
        what: Where they come from, for messages.
        columns: Arrays by name: see `rl_tuner.envs.table_files.Columns`.
        target: Name of the target among them.
        impute: See `load_table`.
        task: See `load_table`.
        encode: See `load_table`.

    Raises:
        ConfigError: The task is unknown.
        DatasetError: There is no such target, inputs are neither numbers nor text to encode, values are
            missing or infinite, the target does not vary, or there are fewer than `MIN_SAMPLES` rows.
    """
    if task is not None:
        choose("task", task, TASKS)
    inputs = dict(columns)
    truth = inputs.pop(_target_name(what, columns, target, "column"))
    if truth.ndim == 2 and truth.shape[1] == 1:
        truth = truth[:, 0]
    if truth.ndim != 1:
        raise DatasetError(f"target {target!r} of {what} must have shape (n,), it has {truth.shape}")
    if len(truth) < MIN_SAMPLES:
        raise DatasetError(f"{what} has {len(truth)} rows: at least {MIN_SAMPLES} are needed")
    try:
        stacked, names = _stack_inputs(inputs, len(truth), encode)
        require_numbers(stacked, names, impute=impute)
        large = np.flatnonzero((np.abs(stacked) > LARGEST).any(axis=0))
        if large.size:
            raise DatasetError(f"column {names[large[0]]!r} holds numbers beyond {LARGEST:g}: clean them")  # noqa: TRY301
    except DatasetError as error:
        raise DatasetError(f"{what}: {error}") from None
    targets, classes = _encode_target(f"target {target!r} of {what}", truth, task)
    return Samples("table", stacked, targets, classes, names, impute=impute)


def _target_name(
    what: object, columns: Mapping[str, Any], target: str, part: str, *, numbered: bool = False
) -> str:
    names = list(columns)
    if target in columns:
        return target
    if numbered and target.removeprefix("-").isdecimal() and len(target) < 10:
        number = int(target)
        if -len(names) <= number < len(names):
            return names[number]
    near = difflib.get_close_matches(target, names, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    raise DatasetError(
        f"{what} has no {part} {target!r}{meant}: it has {near_names(columns)}{data_hint(names)}"
    )


def _stack_inputs(
    columns: Mapping[str, NDArray[Any]], n: int, encode: bool | None
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The input columns side by side, arrays of more dimensions flattened, text encoded; and their names."""
    parts: list[NDArray[np.float64]] = []
    names: list[str] = []
    numeric: list[str] = []
    texts = [name for name, column in columns.items() if column.dtype.kind in TEXTS]
    for name, column in columns.items():
        if column.ndim == 0 or len(column) != n:
            raise DatasetError(f"{name!r} has shape {column.shape}, the target has {n} rows")
        part, new = _encode_text(name, column, encode) if name in texts else _numbers(name, column)
        if n * (len(names) + len(new)) > MOST_VALUES:
            raise DatasetError(f"{n:,} rows of so many columns are more than {MOST_VALUES:,} numbers")
        parts.append(part)
        names += new
        numeric += () if name in texts else new
    if not names:
        raise DatasetError("there is no input column besides the target")
    require_unambiguous(numeric, texts)
    inputs = np.concatenate(parts, axis=1)
    empty = np.flatnonzero(np.isnan(inputs).all(axis=0))
    if empty.size:
        raise DatasetError(f"column {names[empty[0]]!r} holds no value at all: drop it")
    return inputs, tuple(names)


def _numbers(name: str, column: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """An array of numbers as columns, shape (n, d), and their names."""
    if column.dtype.kind not in NUMBERS:
        raise DatasetError(f"column {name!r} must hold numbers, not {column.dtype}")
    part = _doubles(column.reshape(len(column), -1))
    return part, (name,) if column.ndim == 1 else tuple(f"{name}[{i}]" for i in range(part.shape[1]))


def _encode_text(
    name: str, column: NDArray[Any], encode: bool | None
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """A column of text as zeros and ones, if that is asked for or obvious."""
    values = column.tolist()
    texts = [value for value in values if isinstance(value, str)]
    numbers = any(is_number(str(value)) for value in values if value == value)  # NaN differs from itself
    repeated = 2 * len(set(texts)) <= len(texts)
    if column.ndim > 1 or encode is False or (encode is None and numbers):
        advice = "" if column.ndim > 1 else " (or --encode its texts as levels)"
        raise DatasetError(f"column {name!r} must hold numbers{first_text(column)}{advice}")
    if encode is None and not repeated:
        raise DatasetError(
            f"column {name!r} must hold numbers{first_text(column)}, and most of its {len(texts)} texts are "
            "unlike any other: drop it, or --encode them as levels"
        )
    return one_hot(name, [str(v) if v == v else v for v in values])


def _encode_target(what: str, truth: NDArray[Any], task: str | None) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Targets as class numbers and class names, or as values and no names."""
    text = truth.dtype.kind in TEXTS
    if not text and truth.dtype.kind not in NUMBERS:
        raise DatasetError(f"{what} must hold numbers or text, not {truth.dtype}")
    missing = np.array([v != v for v in truth.tolist()], dtype=bool)  # only NaN differs from itself
    if missing.any():
        rows = (np.flatnonzero(missing)[:3] + 1).tolist()
        raise DatasetError(f"{what} is missing in {missing.sum()} rows (row {rows[0]} first): drop them")
    if text and task == "regression":
        raise DatasetError(f"{what} must hold numbers for a regression{first_text(truth)}")
    if not text and (np.abs(_doubles(truth)) > LARGEST).any():
        raise DatasetError(f"{what} holds infinite values, or numbers beyond {LARGEST:g}")
    labels = np.array([str(v) for v in truth.tolist()], dtype=object) if text else truth
    distinct = np.unique(labels)  # of objects: an array of text is as wide everywhere as the longest
    if (task or _infer(distinct, len(truth), text=text)) == "regression" and len(distinct) > 1:
        return _doubles(truth), ()
    return class_numbers(what, labels)  # refuses also a regression's constant


def _doubles(values: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers of any type as float64; long doubles beyond its range become infinite, and are refused."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float64)


def _infer(labels: NDArray[Any], rows: int, *, text: bool) -> str:
    """The task that the distinct target values suggest."""
    if text:
        return "classification"
    whole = bool((labels == np.rint(_doubles(labels))).all())
    return "classification" if whole and len(labels) <= min(MOST_CLASSES, rows // 3) else "regression"
