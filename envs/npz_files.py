"""Reads the arrays of an .npz archive: no pickles, no bombs, nothing larger than the archive itself says."""

from __future__ import annotations

import io
import tokenize
import warnings
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rl_tuner.envs.reading import read_exactly, reading, require_file, unpacked_limit
from rl_tuner.errors import DatasetError

MOST_ARRAYS = 10_000
"""An array is a column or a block of columns: no table has more."""
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy writes; zipfile unpacks others without a bound on memory."""
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
MOST_HEADER = 2**16
"""NumPy itself refuses a header of more than 10,000 characters."""
FAULTS: tuple[type[Exception], ...] = (ValueError, TypeError, KeyError, EOFError, OverflowError, zlib.error)
FAULTS += (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    tokenize.TokenError,
)
"""What zipfile and NumPy raise on damaged files. RuntimeError: a file that is encrypted."""


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an archive by name, in the file's order.

    Raises:
        DatasetError: The file cannot be read, is no archive, is damaged, holds Python objects, or would
            unpack to more than `unpacked_limit`.
    """
    size = require_file(path)
    arrays: dict[str, NDArray[Any]] = {}
    name = ""
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy about dtypes that are out of use
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
                _check_size(path, members, unpacked_limit(size))
                for member in members:
                    name = member.filename.removesuffix(".npy")
                    if name in arrays:
                        raise DatasetError(f"{path} holds two arrays named {name!r}")
                    if member.compress_type not in PACKINGS:
                        raise DatasetError(
                            f"array {name!r} of {path} is packed in a way NumPy does not write"
                        )
                    with archive.open(member) as file:
                        arrays[name] = _read_array(f"array {name!r} of {path}", file, member.file_size)
        except FAULTS as error:
            if not name:
                raise DatasetError(f"{path} is not an npz archive, or is cut short") from error
            raise DatasetError(f"array {name!r} of {path} cannot be read: {error}") from error
    if not arrays:
        raise DatasetError(f"{path} holds no arrays")
    return arrays


def _check_size(path: Path, members: list[zipfile.ZipInfo], most: int) -> None:
    total = sum(member.file_size for member in members)
    if len(members) > MOST_ARRAYS:
        raise DatasetError(f"{path} holds {len(members)} arrays: at most {MOST_ARRAYS} are read")
    if total > most:
        raise DatasetError(f"{path} unpacks to {total:,} bytes: at most {most:,} of a file of its size are")


def _read_array(what: str, file: IO[bytes], size: int) -> NDArray[Any]:
    """One array; its header must say exactly what follows it, before NumPy takes memory for it."""
    data = read_exactly(file, size)  # in pieces: zipfile itself unpacks a piece without regard to `size`
    if data is None:
        raise DatasetError(f"{what} is cut short: fewer than {size:,} bytes are there")
    head = io.BytesIO(data[:MOST_HEADER])
    version = npy.read_magic(head)
    if version not in READERS:
        raise DatasetError(f"{what} is of npy version {version}, which is not read")
    shape, fortran, dtype = READERS[version](head)
    if dtype.hasobject:
        raise DatasetError(
            f"{what} holds Python objects, which are not loaded for safety: save plain numbers"
        )
    there = size - head.tell()
    if any(side < 0 for side in shape) or prod(shape) * dtype.itemsize != there:
        raise DatasetError(f"{what} is to hold {shape} of {dtype}, but {there:,} bytes are there")
    if there == 0:
        return np.zeros(shape, dtype)
    return np.frombuffer(data, dtype, offset=head.tell()).reshape(shape, order="F" if fortran else "C")
