"""Files that appear whole or not at all: write beside, flush to disk, rename."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Makes an error of the block name this file: a full disk names none, a temporary file means nothing.

    Raises:
        OSError: As in the block, with `path` as its filename.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that a crash leaves the old one or the new one, never a part.

    Raises:
        OSError: It cannot be written (no such folder, full disk, …); nothing is left behind.
    """
    with naming(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object, indented, whole or not at all; NaN and infinities as null (JSON has none)."""
    write_bytes(path, (json.dumps(plain(value), indent=2, allow_nan=False) + "\n").encode())


def plain(value: Any) -> Any:
    """The value in JSON's own types: tuples as lists, arrays as lists, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)
