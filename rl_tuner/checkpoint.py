"""Checkpoints: plain types and tensors in one file that appears whole or not at all."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rl_tuner.errors import ConfigError
from rl_tuner.files import write_bytes

PLAIN = (type(None), bool, int, float, str, bytes)
"""Types, besides tensors and collections, that a checkpoint may hold."""


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes plain types and tensors, whole or not at all.

    Raises:
        TypeError: Something in it is neither, so that `read_checkpoint` would refuse the file.
        ConfigError: The file cannot be written.
    """
    import torch

    _require_plain(state, "the checkpoint")
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    try:
        write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise ConfigError(f"cannot write the checkpoint {path}: {error.strerror or error}") from error


def read_checkpoint(path: Path, keys: Collection[str]) -> dict[str, Any]:
    """Reads what `write_checkpoint` wrote; nothing in it is executed.

    Args:
        path: The file.
        keys: What it must hold.

    Raises:
        ConfigError: The file is damaged or missing, or lacks a key.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a foreign pickle before it refuses it
            state = torch.load(path, weights_only=True)
    except Exception as error:  # damaged bytes make torch's reader fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"the checkpoint {path} is damaged ({reason}): delete it to start anew") from error
    if not isinstance(state, dict) or not set(keys) <= set(state):
        raise ConfigError(f"{path} is no checkpoint of rl-tuner: delete it to start anew")
    return state


def _require_plain(value: object, name: str) -> None:
    """Refuses what `read_checkpoint` could not read, by its place: on the day that it is written.

    Raises:
        TypeError: It is neither a plain type nor a tensor.
    """
    import torch

    if isinstance(value, Mapping):
        for key, each in value.items():
            _require_plain(key, f"a key of {name}")
            _require_plain(each, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple | set):
        for number, each in enumerate(value):
            _require_plain(each, f"{name}[{number}]")
    elif not isinstance(value, torch.Tensor) and type(value) not in PLAIN:
        raise TypeError(f"{name} is a {type(value).__name__}, neither a plain type nor a tensor")
