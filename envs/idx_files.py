"""Reads images and their labels from IDX files, the format of MNIST, plain or packed with gzip.

A header of two zero bytes, a type, the number of dimensions and each dimension (4 bytes, the most significant
first) is followed by the values: http://yann.lecun.com/exdb/mnist.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.reading import (
    class_numbers,
    first_bytes,
    is_packed,
    open_unpacked,
    read_exactly,
    reading,
    require_file,
    require_samples,
    unpacked_limit,
)
from rl_tuner.envs.samples import Samples
from rl_tuner.errors import DatasetError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""NumPy's types by the code in the header."""
MOST_DIMENSIONS = 4


def is_idx(path: Path) -> bool:
    """Whether a file, packed or not, begins as IDX files do.

    Raises:
        DatasetError: There is no such file, or it cannot be read.
    """
    head = first_bytes(path, 4)
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in TYPES and 1 <= head[3] <= MOST_DIMENSIONS


def load_idx(path: str | Path, labels: str | Path | None = None) -> Samples:
    """Images of kind "image" and their classes.

    Args:
        path: File of unsigned bytes, shape (n, H, W), or (n, H, W, C) with 1, 3 or 4 channels.
        labels: File of n whole numbers; None for the one beside it that is named the usual way:
            train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz.

    Raises:
        DatasetError: A file cannot be read or is malformed, there are no labels, or the two do not fit.
    """
    path = Path(path)
    with reading(path), open_unpacked(path) as file:
        dtype, shape = _read_header(path, file)
    if len(shape) < 3 or dtype != TYPES[0x08]:
        raise DatasetError(f"{path} holds {shape} of type {dtype[1:]}, not images: (n, H, W) unsigned bytes")
    numbers, classes = _read_labels(Path(labels) if labels is not None else find_labels(path))
    if len(numbers) != shape[0]:
        raise DatasetError(f"{path} holds {shape[0]} images, but there are {len(numbers)} labels")
    require_samples(path, shape[0], prod(shape))
    pixels = read_idx(path)
    images = pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, 3, 1)
    if images.shape[1] not in (1, 3, 4):
        raise DatasetError(f"{path} holds {shape}: the last of four dimensions must be 1, 3 or 4 channels")
    return Samples("image", images.astype(np.float32) / np.float32(255), numbers, classes)


def find_labels(path: Path) -> Path:
    """The label file beside a file of images.

    Raises:
        DatasetError: There is none; the message says under which names it was looked for.
    """
    stem = path.name.removesuffix(".gz").replace("images", "labels")
    plain = stem.replace("idx3", "idx1").replace("idx4", "idx1")
    found = [path.with_name(name) for name in (plain + ".gz", plain) if name != path.name]
    for candidate in found:
        if "images" in path.name and candidate.is_file():
            return candidate
    raise DatasetError(
        f"no labels beside {path}: looked for {plain} and {plain}.gz; name the file of labels (--labels)"
    )


def read_idx(path: Path) -> NDArray[Any]:
    """The array in a file.

    Raises:
        DatasetError: It cannot be read, is no IDX file, or holds more or fewer values than its header says.
    """
    require_file(path)
    with reading(path), open_unpacked(path) as file:
        dtype, shape = _read_header(path, file)
        data = read_exactly(file, prod(shape) * np.dtype(dtype).itemsize)
        if data is None:
            raise DatasetError(f"{path} is cut short: its header says {shape} of type {dtype[1:]}")
        if file.read(1):
            raise DatasetError(f"{path} goes on behind the {shape} values that its header says")
    return np.frombuffer(data, dtype).reshape(shape)


def _read_header(path: Path, file: IO[bytes]) -> tuple[str, tuple[int, ...]]:
    """Type and shape; the file must be able to hold as much."""
    if not is_idx(path):
        raise DatasetError(f"{path} is no IDX file: it begins with {first_bytes(path, 4).hex(' ')}")
    _, _, code, dimensions = file.read(4)
    sides = file.read(4 * dimensions)
    if len(sides) < 4 * dimensions:
        raise DatasetError(f"{path} is cut short in its header")
    shape = struct.unpack(f">{dimensions}I", sides)
    dtype = TYPES[code]
    size = require_file(path)
    most = unpacked_limit(size) if is_packed(path) else size
    needed = prod(shape) * np.dtype(dtype).itemsize
    if needed == 0 or needed > most:
        raise DatasetError(
            f"{path} is to hold {shape} of type {dtype[1:]}: a file of its size holds 1 … {most:,}"
        )
    return dtype, shape


def _read_labels(path: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    values = read_idx(path)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DatasetError(
            f"{path} holds {values.shape} of type {values.dtype}, not labels: (n,) whole numbers"
        )
    return class_numbers(f"the label in {path}", values)
