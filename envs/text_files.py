"""Reads a text file as windows of characters, the target at every position the character after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import require_counts, require_range
from rl_tuner.envs.reading import MIN_SAMPLES, first_bytes, read_bytes, reading
from rl_tuner.envs.samples import Samples
from rl_tuner.errors import DatasetError

LENGTH = 64
"""Characters that a model reads, if nothing else is said."""
MOST_LENGTH = 4096
MOST_CHARACTERS = 2**24
"""Sixteen million characters, 16 bytes each as inputs and targets; the works of Shakespeare have five."""
MOST_SYMBOLS = 256
"""The rarest characters beyond so many become one symbol: most weights would stand for hardly any text."""
OTHER = "other"
"""Its name; all others are of one character."""


def is_text(path: Path) -> bool:
    """Whether a file begins as UTF-8 text does.

    Raises:
        DatasetError: There is no such file, or it cannot be read.
    """
    head = first_bytes(path, 4096)
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        cut = error.start >= len(head) - 3 and error.reason == "unexpected end of data"
        return cut and b"\0" not in head
    return b"\0" not in head


def load_text(path: str | Path, length: int | None = None) -> Samples:
    """A text as samples of kind "tokens": windows that do not overlap, so that the parts share no character.

    Args:
        path: A file of UTF-8 text. Line ends of any kind count as one character.
        length: Characters of a window that a model reads, T; None for `LENGTH`. The target of each is the one
            after it, so that a window takes T + 1 of the file.

    Returns:
        Inputs and targets (n, T); classes are the characters by number, and `OTHER` if there are more than
        `MOST_SYMBOLS`.

    Raises:
        ConfigError: `length` is out of range.
        DatasetError: The file cannot be read, is not UTF-8 text, too long, or too short for 10 windows.
    """
    path = Path(path)
    length = LENGTH if length is None else length
    require_counts({"length": length})
    require_range("length", length, 1, MOST_LENGTH)
    data = read_bytes(path)
    if b"\0" in data:
        raise DatasetError(f"{path} holds NUL bytes: it is no UTF-8 text (save it as UTF-8)")
    if len(data) > 4 * MOST_CHARACTERS:
        raise DatasetError(f"{path} has {len(data):,} bytes: at most {MOST_CHARACTERS:,} characters are read")
    with reading(path):
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > MOST_CHARACTERS:
        raise DatasetError(f"{path} has {len(text):,} characters: at most {MOST_CHARACTERS:,} are read")
    windows = len(text) // (length + 1)
    if windows < MIN_SAMPLES:
        raise DatasetError(
            f"{path} has {len(text)} characters, at least {MIN_SAMPLES} windows of {length + 1} are needed: "
            "take a longer text, or shorter windows (--length)"
        )
    tokens, symbols = _number(text)
    if len(symbols) < 2:
        raise DatasetError(f"{path} is {symbols[0]!r} throughout: there is nothing to learn")
    rows = tokens[: windows * (length + 1)].reshape(windows, length + 1)
    return Samples("tokens", rows[:, :-1], rows[:, 1:], symbols, vocabulary=(len(symbols),))


def _number(text: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Each character's number, in the order of their code points, and the symbols by number."""
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    distinct, numbers, counts = np.unique(codes, return_inverse=True, return_counts=True)
    symbols = tuple(map(chr, distinct.tolist()))
    if len(symbols) <= MOST_SYMBOLS:
        return numbers.astype(np.int64), symbols
    frequent = np.sort(np.argsort(-counts, kind="stable")[: MOST_SYMBOLS - 1])
    new = np.full(len(symbols), MOST_SYMBOLS - 1, dtype=np.int64)
    new[frequent] = np.arange(MOST_SYMBOLS - 1)
    return new[numbers], (*(symbols[i] for i in frequent), OTHER)
