"""What the loaders of users' files share: limits, reading within them, and classes from labels.

A file's own word about its size is never believed: what is there is counted before memory is taken for it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from rl_tuner.errors import DatasetError

MOST_BYTES = 2**30
"""Largest file, unpacked. All of it is kept in memory, several times over while it is being read."""
MOST_VALUES = 2**28
"""Most numbers in a data set's inputs: 1 GiB as float32, and as much again in its three parts."""
FREE_BYTES, MOST_RATIO = 2**26, 100
"""A packed file may unpack to 64 MiB, and above that to a hundred times its size: pictures and tables pack
some 5:1, the bombs that are to be kept out 1000:1."""
MIN_SAMPLES = 10
"""Fewer cannot be split three ways into parts that say anything."""
LARGEST = 1e100
"""Squares of numbers near 1e154 overflow, and with them the deviations that data is scaled by."""
CHUNK = 2**20
GZIP = b"\x1f\x8b"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what the operating system and decoders say about a file into one clear line.

    Raises:
        DatasetError: The block raised an error of reading, unpacking or decoding.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path} is cut short or damaged: {error}") from error
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except MemoryError as error:
        raise DatasetError(f"{path} does not fit into memory") from error


def require_path(path: Path) -> None:
    """Refuses a path where there is nothing.

    Raises:
        DatasetError: There is nothing, or it cannot be looked at.
    """
    try:
        path.stat()
    except FileNotFoundError as error:
        raise DatasetError(f"no such file: {path}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DatasetError(
            f"cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}"
        ) from error


def require_file(path: Path) -> int:
    """The size in bytes of a file that holds something.

    Raises:
        DatasetError: There is no such file, it is none, is empty or larger than `MOST_BYTES`.
    """
    require_path(path)
    if not path.is_file():
        raise DatasetError(f"{path} is not a file")
    size = path.stat().st_size
    if size == 0:
        raise DatasetError(f"{path} is empty")
    if size > MOST_BYTES:
        raise DatasetError(f"{path} has {size:,} bytes: at most {MOST_BYTES:,} are read")
    return size


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        DatasetError: See `require_file`; or it cannot be read.
    """
    require_file(path)
    with reading(path):
        return path.read_bytes()


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file, unpacked if it is gzip; fewer if there are no more.

    Raises:
        DatasetError: See `require_file`; or it cannot be read.
    """
    require_file(path)
    with reading(path), open_unpacked(path) as file:
        return file.read(count)


def is_packed(path: Path) -> bool:
    """Whether a file begins as gzip's do; whatever keeps it from being read is raised as it is."""
    with path.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


def open_unpacked(path: Path) -> IO[bytes]:
    """The file opened to read bytes, unpacked on the way if it is gzip."""
    return cast("IO[bytes]", gzip.open(path, "rb")) if is_packed(path) else path.open("rb")


def unpacked_limit(size: int) -> int:
    """Bytes that a packed file of `size` bytes may unpack to: see `MOST_RATIO`."""
    return min(MOST_BYTES, max(FREE_BYTES, MOST_RATIO * size))


def read_exactly(file: IO[bytes], count: int) -> bytearray | None:
    """The next `count` bytes; None if there are fewer. Takes memory for what is there, not for `count`."""
    data = bytearray()
    while len(data) < count:
        chunk = file.read(min(CHUNK, count - len(data)))
        if not chunk:
            return None
        data += chunk
    return data


def require_samples(what: object, count: int, values: int) -> None:
    """Refuses data with too few samples, or too many numbers.

    Args:
        what: For the message.
        count: Number of samples.
        values: Numbers in all of the inputs.

    Raises:
        DatasetError: There are fewer than `MIN_SAMPLES`, or more than `MOST_VALUES`.
    """
    if count < MIN_SAMPLES:
        raise DatasetError(f"{what} has {count} samples: at least {MIN_SAMPLES} are needed")
    if values > MOST_VALUES:
        raise DatasetError(f"{what} has {values:,} numbers: at most {MOST_VALUES:,} are read")


def require_classes(what: str, labels: Sequence[Any] | NDArray[Any], count: int) -> None:
    """Refuses distinct labels that make no classification.

    Args:
        what: For the message.
        labels: The distinct ones.
        count: Number of samples.

    Raises:
        DatasetError: There is one label only, or fewer than two samples for each.
    """
    if len(labels) < 2:
        raise DatasetError(f"{what} is {labels[0]} in every row: there is nothing to learn")
    if 2 * len(labels) > count:
        raise DatasetError(
            f"{what} has {len(labels)} distinct values in {count} rows, too many for classes: "
            "choose another target, or task regression if it is numeric"
        )


def class_numbers(what: str, labels: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as class numbers, and the class names in sorted order; 1.0 is named 1.

    Args:
        what: For the message.
        labels: Shape (n,), numbers or text.

    Raises:
        DatasetError: See `require_classes`.
    """
    distinct, numbers = np.unique(labels, return_inverse=True)
    require_classes(what, distinct, len(labels))
    names = (
        str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
        for label in distinct.tolist()
    )
    return numbers.astype(np.int64), tuple(names)
