"""Reads a user's table file into named columns, and says clearly what is wrong with a broken one."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.npz_files import read_npz
from rl_tuner.envs.reading import CHUNK, MOST_VALUES, reading, require_file
from rl_tuner.errors import ConfigError, DatasetError

Columns = dict[str, NDArray[Any]]
"""Arrays by name, in the file's order: numbers, or objects (strings, NaN where missing)."""
SUFFIXES = (".csv", ".tsv", ".parquet", ".npz")
MOST_COLUMNS = 10_000
"""Of a csv or parquet file: pandas takes some 0.1 ms for each. Wider data belongs into an array of an npz."""


def read_columns(path: Path, header: bool | None = None, text: Collection[str] = ()) -> Columns:
    """The columns of a .csv, .tsv or .parquet file, or the arrays of an .npz file, by name.

    Args:
        path: The file.
        header: Whether a csv file's first line holds column names; None decides that it does unless every
            cell of it is a number (0, 1, 2, … are names), and refuses to guess where some are, in the same
            places as in the second line. Columns without names are called "0", "1", ….
        text: Columns of a csv file that are text even if it looks like numbers, such as identifiers.

    Raises:
        ConfigError: pyarrow is not installed, which reads parquet.
        DatasetError: The file cannot be read, or is malformed.
    """
    suffix = path.suffix.lower()
    require_file(path)
    if suffix not in SUFFIXES:
        raise DatasetError(f"{path} is no table that can be read: its name must end in {', '.join(SUFFIXES)}")
    if suffix == ".npz":
        return read_npz(path)
    with reading(path):
        return _read_parquet(path) if suffix == ".parquet" else _read_csv(path, header, text)


def read_header(path: Path) -> list[str]:
    """The cells of a csv file's first line.

    Raises:
        DatasetError: The file cannot be read, or is malformed.
    """
    require_file(path)
    with reading(path):
        return _check_rows(path, most=1)[0]


def _read_csv(path: Path, header: bool | None, text: Collection[str]) -> Columns:
    import pandas as pd

    with path.open("rb") as file:
        if any(b"\0" in chunk for chunk in iter(lambda: file.read(CHUNK), b"")):
            raise DatasetError(f"{path} holds NUL bytes: it is no UTF-8 text (save it as UTF-8)")
    first, second, delimiter = _check_rows(path)
    if header is None:
        header = _has_names(path, first, second)
    names = _check_names(path, first) if header else [str(i) for i in range(len(first))]
    try:
        frame = pd.read_csv(
            path,
            sep=delimiter,
            header=0 if header else None,
            names=names,
            index_col=False,
            encoding="utf-8-sig",
            low_memory=False,
            skipinitialspace=True,
            dtype=dict.fromkeys(text, str),
            na_values=[""],
            keep_default_na=not text,  # an identifier may be "NA"
        )
    except pd.errors.EmptyDataError as error:
        raise DatasetError(f"{path} holds only blank lines") from error
    except (pd.errors.ParserError, OverflowError) as error:
        raise DatasetError(f"{path} is malformed: {str(error).strip()}") from error
    return {name: frame[name].to_numpy(object) if name in text else _values(frame[name]) for name in names}


def _has_names(path: Path, first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the first row holds names. Never guessed: without names, classes as text give "0.02, …, R"."""
    numbers = list(map(is_number, first))
    if all(numbers):
        counted = list(first) in ([str(i + start) for i in range(len(first))] for start in (0, 1))
        return counted and len(first) > 2
    if any(numbers) and numbers == list(map(is_number, second)):
        raise DatasetError(
            f"{path}: its first line ({', '.join(first[:2])}, … {first[-1]}) may be names or data: "
            "give --header or --no-header (header=True or header=False)"
        )
    return True


def _check_rows(path: Path, most: int | None = None) -> tuple[list[str], list[str], str]:
    """The first two rows, and the delimiter; each row is counted, as pandas pads short ones in silence."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        line = file.readline()
        delimiter = next((d for d in ",;\t" if d in line), ",")
        file.seek(0)
        rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        first: list[str] = []
        second: list[str] = []
        try:
            for number, row in enumerate(rows):
                second = second or (row if first else [])
                first = first or row
                if row and len(row) != len(first):
                    raise DatasetError(
                        f"{path}, line {rows.line_num}: {len(row)} fields, the first line has {len(first)}"
                    )
                if len(first) > MOST_COLUMNS:
                    raise DatasetError(f"{path} has {len(first)} columns: at most {MOST_COLUMNS} are read")
                if first and most is not None and number + 1 >= most:
                    break
        except csv.Error as error:
            raise DatasetError(f"{path}, line {rows.line_num}: {error}") from error
    if not first:
        raise DatasetError(f"{path} holds only blank lines")
    return first, second, delimiter


def _check_names(path: Path, names: Sequence[str]) -> list[str]:
    stripped = [name.strip() for name in names]
    seen: set[str] = set()
    for i, name in enumerate(stripped):
        if not name:
            raise DatasetError(
                f"{path}: column {i} has no name; drop it if it numbers the rows (to_csv(index=False))"
            )
        if name in seen:
            raise DatasetError(f"{path}: two columns are named {name!r}: rename one{data_hint(names)}")
        seen.add(name)
    return stripped


def data_hint(names: Sequence[str]) -> str:
    """What to say of column names that look like a line of data; nothing of others."""
    numbers = sum(map(is_number, names))
    advice = "; if the first line is data, not names, say --no-header (header=False)"
    return advice if 0 < numbers < len(names) else ""


def is_number(cell: str) -> bool:
    """Whether a cell's text is a number, in the way of files: Python alone takes 1_000."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def first_text(column: NDArray[Any]) -> str:
    """Where text stands in a column, for messages; rows are counted from 1, without the header."""
    for row, value in enumerate(column.ravel().tolist(), start=1):
        if isinstance(value, str) and not is_number(value):
            return f": row {row} holds {value!r}"
    return f", not {column.dtype}"


def _read_parquet(path: Path) -> Columns:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ConfigError(
            f"reading {path} needs pyarrow: pip install 'rl-tuner[parquet]', or save the table as csv"
        ) from error
    import pandas as pd

    try:
        size = parquet.read_metadata(path)
        if size.num_columns > MOST_COLUMNS or size.num_columns * size.num_rows > MOST_VALUES:
            raise DatasetError(
                f"{path} has {size.num_rows:,} rows of {size.num_columns:,} columns: at most "
                f"{MOST_COLUMNS:,} columns and {MOST_VALUES:,} numbers are read"
            )
        frame = pd.read_parquet(path, engine="pyarrow")
    except (ArrowException, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise DatasetError(f"{path} is no parquet file that can be read: {error}") from error
    return frame_columns(str(path), frame)


def frame_columns(what: str, frame: Any) -> Columns:
    """The columns of a pandas frame; its index is left out.

    Args:
        what: For messages.
        frame: The frame.

    Raises:
        DatasetError: Two columns have the same name, or one holds neither numbers nor text.
    """
    names = _check_names(Path(what), [str(name) for name in frame.columns])
    columns: Columns = {}
    for number, name in enumerate(names):
        series = frame.iloc[:, number]
        kind = getattr(series.dtype, "kind", "O")
        values = _values(series.astype(object) if kind == "O" else series) if kind in "biufO" else None
        if values is None or any(not isinstance(v, str | float) for v in values.tolist()):
            raise DatasetError(
                f"{what}: column {name!r} holds {series.dtype}, neither numbers nor text: drop or change it"
            )
        columns[name] = values
    return columns


def _values(column: Any) -> NDArray[Any]:
    """A column as float64 if every value that is there is a number, else as objects: texts and NaN."""
    import pandas as pd

    if column.dtype.kind == "O":  # pandas makes these also of the words True and False with gaps
        column = column.map(lambda value: str(value) if isinstance(value, bool) else value)
    elif column.dtype.kind == "b":
        column = column.astype(object).map(lambda value: str(value) if isinstance(value, bool) else value)
    numbers = pd.to_numeric(column, errors="coerce")
    text = numbers.isna() & column.notna()
    if not text.any():
        return np.asarray(numbers.astype(np.float64))
    column = column.map(lambda value: value.strip() if isinstance(value, str) else value)
    values = np.asarray(column.astype(object), dtype=object)
    return np.where(np.asarray(column.isna()), np.nan, values)


def near_names(names: Mapping[str, Any]) -> str:
    """The names a file has, for messages: the first twenty."""
    more = f", … ({len(names)} in all)" if len(names) > 20 else ""
    return ", ".join(list(names)[:20]) + more
