"""Given weights: read from a file without executing anything in it, and put into a model where they fit."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from rl_tuner.errors import ConfigError, JobError
from rl_tuner.seeding import torch_seed

Weights: TypeAlias = "str | Path | Mapping[str, torch.Tensor]"
"""A file (``.safetensors``, or ``.pt``/``.pth``/``.bin`` with a state_dict), or tensors by name."""

TORCH_FILES = (".pt", ".pth", ".bin")
DAMAGE = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    OverflowError, MemoryError, struct.error,
)  # fmt: skip
"""What torch.load was seen to raise, or may, on files damaged at random."""
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training checkpoints keep the model's state_dict."""
FILES = 4
"""So many files' tensors are held in memory, so that episodes of one job read their file once."""
SHOWN = 3
"""So many entries that do not fit are named in a message."""


def require_weights(weights: object) -> None:
    """Checks what a job was given as weights, without reading a file.

    Raises:
        ConfigError: It is neither a path with a known ending nor tensors by name.
    """
    if isinstance(weights, str | Path):
        if Path(weights).suffix not in (".safetensors", *TORCH_FILES):
            raise ConfigError(f"weights must be a .safetensors, .pt, .pth or .bin file, got {str(weights)!r}")
    elif not isinstance(weights, Mapping):
        raise ConfigError(f"weights must be a path or tensors by name, got {type(weights).__name__}")
    elif wrong := [name for name, tensor in weights.items() if not _is_entry(name, tensor)]:
        raise ConfigError(f"weights must be tensors by name, the entry {wrong[0]!r} is not")


@torch.no_grad()
def load_weights(model: nn.Module, weights: Weights) -> tuple[str, ...]:
    """Puts given weights into a model, wherever name and shape are the model's; the rest stays as it is.

    So a body that was trained elsewhere goes under a fresh head of another shape. Types are converted.

    Args:
        model: Changed in place; parameters and buffers, by their names in its state_dict.
        weights: Where from.

    Returns:
        The names of what was loaded, in the model's order.

    Raises:
        ConfigError: The weights are neither a path with a known ending nor tensors by name.
        JobError: There is no such file, it is damaged, or nothing in it fits; the message names it.
    """
    require_weights(weights)
    named = isinstance(weights, Mapping)
    given = weights if isinstance(weights, Mapping) else read_weights(weights)
    own = {name: t for name, t in model.state_dict().items() if isinstance(t, torch.Tensor)}
    fitting = [name for name, tensor in own.items() if name in given and given[name].shape == tensor.shape]
    if not fitting:
        what = "the given weights" if named else str(weights)
        raise JobError(f"nothing in {what} fits the model: {'; '.join(_misfits(own, given))}")
    for name in fitting:
        own[name].copy_(given[name])
    return tuple(fitting)


def body_names(network: Callable[[int], nn.Module], outputs: int) -> set[str]:
    """Names of a network's tensors that do not depend on the number of outputs: all but its head.

    Args:
        network: Builds the network for a number of outputs.
        outputs: Any number.
    """
    with torch_seed(0):
        one, other = (network(number).state_dict() for number in (outputs, outputs + 1))
    return {name for name, tensor in one.items() if name in other and other[name].shape == tensor.shape}


def read_weights(path: str | Path) -> Mapping[str, torch.Tensor]:
    """The tensors in a file, by name, on the CPU; not to be changed: they are read once for all callers.

    Raises:
        JobError: There is no such file, or it is damaged or holds something else.
    """
    path = Path(path)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise JobError(f"weights cannot be read: no such file {path}") from error
    return _read(path.absolute(), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=FILES)
def _read(path: Path, modified: int, size: int) -> Mapping[str, torch.Tensor]:  # noqa: ARG001 (cache keys)
    load = _load_safetensors if path.suffix == ".safetensors" else _load_torch
    found: Any = load(path)
    for key in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not all(_is_entry(*item) for item in found.items()):
        raise JobError(f"{path} holds no state_dict: tensors by name are wanted")
    return found


def _load_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise JobError(f"{path} is no safetensors file: {_first_line(error)}") from error


def _load_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that another pickle protocol may not be supported
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's words would have the user load it unsafely
        raise JobError(
            f"{path} is no state_dict that can be read safely: it is damaged, or holds objects that loading "
            "would execute (save model.state_dict())"
        ) from error
    except DAMAGE as error:
        raise JobError(f"{path} is no file of torch.save: {_first_line(error)}") from error


def _is_entry(name: object, tensor: object) -> bool:
    return isinstance(name, str) and isinstance(tensor, torch.Tensor)


def _misfits(own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    """The first reasons why nothing fits, one for each of the model's tensors."""
    reasons = [
        f"{name} is {tuple(tensor.shape)}, given {tuple(given[name].shape)}"
        for name, tensor in own.items()
        if name in given
    ]
    theirs = ", ".join(list(given)[:SHOWN]) or "nothing"
    missing = ", ".join([name for name in own if name not in given][:SHOWN])
    return [*reasons[:SHOWN], *([f"it has no {missing} (but {theirs})"] if missing else [])]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
