"""Reads a user's table file into named columns, and says clearly what is wrong with a broken one."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.errors import DatasetError

Columns = dict[str, NDArray[Any]]
"""Arrays by name, in the file's order: numbers, or objects (strings, NaN where missing)."""


def read_columns(path: Path, header: bool | None = None) -> Columns:
    """The columns of a .csv file, or the arrays of an .npz file, by name.

    Args:
        path: The file.
        header: Whether a csv file's first line holds column names; None decides that it does unless every
            cell of it is a number (0, 1, 2, … are names), and refuses to guess where some are, in the same
            places as in the second line. Columns without names are called "0", "1", ….

    Raises:
        DatasetError: The file cannot be read, or is malformed.
    """
    suffix = path.suffix.lower()
    if not path.exists():
        raise DatasetError(f"no such file: {path}")
    if not path.is_file():
        raise DatasetError(f"{path} is not a file")
    if suffix not in (".csv", ".npz"):
        raise DatasetError(f"{path} is no table that can be read: its name must end in .csv or .npz")
    try:
        if path.stat().st_size == 0:
            raise DatasetError(f"{path} is empty")
        return _read_csv(path, header) if suffix == ".csv" else _read_npz(path)
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error


def _read_csv(path: Path, header: bool | None) -> Columns:
    import pandas as pd

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
        )
    except pd.errors.ParserError as error:
        raise DatasetError(f"{path} is malformed: {str(error).strip()}") from error
    return {name: _numbers_or_text(frame[name]) for name in names}


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


def _check_rows(path: Path) -> tuple[list[str], list[str], str]:
    """The first two rows, and the delimiter; each row is counted, as pandas pads short ones in silence."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        line = file.readline()
        delimiter = next((d for d in ",;\t" if d in line), ",")
        file.seek(0)
        rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        try:
            first: list[str] = []
            second: list[str] = []
            for row in rows:
                second = second or (row if first else [])
                first = first or row
                if row and len(row) != len(first):
                    raise DatasetError(
                        f"{path}, line {rows.line_num}: {len(row)} fields, the first line has {len(first)}"
                    )
        except csv.Error as error:
            raise DatasetError(f"{path}, line {rows.line_num}: {error}") from error
    if not first:
        raise DatasetError(f"{path} holds only blank lines")
    return first, second, delimiter


def _check_names(path: Path, names: Sequence[str]) -> list[str]:
    stripped = [name.strip() for name in names]
    for i, name in enumerate(stripped):
        if not name:
            raise DatasetError(
                f"{path}: column {i} has no name; drop it if it numbers the rows (to_csv(index=False))"
            )
        if name in stripped[:i]:
            raise DatasetError(f"{path}: two columns are named {name!r}: rename one{data_hint(names)}")
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


def _numbers_or_text(column: Any) -> NDArray[Any]:
    """A column as float64 if every value that is there is a number, else as objects."""
    import pandas as pd

    if column.dtype.kind == "b":  # pandas makes these of the words True and False
        return np.asarray(column.astype(str).astype(object))
    numbers = pd.to_numeric(column, errors="coerce")
    text = numbers.isna() & column.notna()
    return np.asarray(column.astype(object) if text.any() else numbers.astype(np.float64))


def _read_npz(path: Path) -> Columns:
    """The arrays of an archive; pickled ones are never loaded."""
    if not zipfile.is_zipfile(path):
        raise DatasetError(f"{path} is not an npz archive, or is cut short")
    arrays: Columns = {}
    name = ""
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = np.asarray(archive[name])
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        where = f"array {name!r} of {path}" if name else str(path)
        if "allow_pickle" in str(error):
            raise DatasetError(
                f"{where} holds Python objects, which are not loaded for safety: save plain numbers"
            ) from error
        raise DatasetError(f"{where} cannot be read: {error}") from error
    if not arrays:
        raise DatasetError(f"{path} holds no arrays")
    return arrays
