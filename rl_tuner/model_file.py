"""The model file: a trained model's weights with all that is needed to use it, in one safetensors file.

Nothing in it is ever executed. The metadata key ``rl_tuner_model`` holds a JSON object: ``format_version``,
``architecture``, ``task``, ``preprocessing`` (columns, means, scales, imputation values, class names; null if
the data did not come from a table) and ``provenance``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rl_tuner.config import from_dict, to_dict
from rl_tuner.envs.architectures import build_network
from rl_tuner.envs.data import DataShape
from rl_tuner.envs.models import mlp
from rl_tuner.envs.preprocessing import Preprocessing
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.files import plain, write_bytes
from rl_tuner.seeding import torch_seed

FORMAT_VERSION = 1
KEY = "rl_tuner_model"


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model file says about its model.

    Attributes:
        architecture: ``{"kind": "network", "name", "shape", "dropout"}``, what
            `rl_tuner.envs.architectures.build_network` takes; or ``{"kind": "function", "name"}`` for a
            model that the user's own code builds. Files of old may say ``{"kind": "mlp", "inputs",
            "hidden", "outputs", "dropout"}``.
        task: "classification" or "regression".
        preprocessing: How raw columns become inputs, and outputs class names or values; None if unknown.
        provenance: Where the model comes from, JSON-able: policy, seed, scores.
    """

    architecture: Mapping[str, Any]
    task: str
    preprocessing: Preprocessing | None
    provenance: Mapping[str, Any]


def save_model(model: nn.Module, metadata: ModelMetadata, path: Path) -> None:
    """Writes a model file, whole or not at all.

    Args:
        model: Its state_dict is saved; tensors that are shared are stored once for each name.
        metadata: What the file says about it.
        path: Where; its folder must exist.

    Raises:
        JobError: The state_dict holds something besides tensors.
        OSError: The file cannot be written.
    """
    from safetensors.torch import save

    require_tensors(model)
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    preprocessing = metadata.preprocessing
    header = {
        "format_version": FORMAT_VERSION,
        "architecture": plain(metadata.architecture),
        "task": metadata.task,
        "preprocessing": None if preprocessing is None else to_dict(preprocessing),
        "provenance": plain(metadata.provenance),
    }
    write_bytes(path, save(tensors, metadata={KEY: json.dumps(header)}))


def require_tensors(model: nn.Module) -> None:
    """Refuses a model whose state_dict cannot be saved.

    Raises:
        JobError: An entry is no tensor; the message names it.
    """
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise JobError(f"the model cannot be saved: {name!r} in its state_dict is no tensor")


def load_model(path: str | Path, model: nn.Module | None = None) -> tuple[nn.Module, ModelMetadata]:
    """Loads a trained model. Nothing from the file is executed.

    Args:
        path: The file.
        model: A module to load the weights into; needed where the user's own code built the model.

    Returns:
        The module in evaluation mode, on the CPU unless `model` is elsewhere, and the metadata.

    Raises:
        JobError: There is no such file, it is no model file or of an unknown version, or the module has
            other tensors.
    """
    path = Path(path)
    header, tensors = _read(path)
    try:
        architecture = header["architecture"]
        preprocessing = header["preprocessing"]
        metadata = ModelMetadata(
            architecture,
            header["task"],
            None if preprocessing is None else from_dict(Preprocessing, preprocessing),
            header["provenance"],
        )
        if model is None:
            model = _build(path, architecture)
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise JobError(f"{path} is a damaged model file: {error}") from error
    except RuntimeError as error:  # torch's complaint about missing, foreign or misshapen tensors
        raise JobError(f"{path} does not fit the model: {' '.join(str(error).split())}") from error
    return model.eval(), metadata


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The header and the tensors, the version checked."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise JobError(f"no such model file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[KEY])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise JobError(f"{path} is no model file of rl-tuner") from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if version != FORMAT_VERSION:
        raise JobError(f"{path} has format version {version!r}; this rl-tuner reads {FORMAT_VERSION}")
    return header, tensors


def _build(path: Path, architecture: Mapping[str, Any]) -> nn.Module:
    kind = architecture["kind"]
    if kind not in ("network", "mlp"):
        raise JobError(
            f"{path} holds the weights of a model that {architecture.get('name', 'own code')} built: "
            "build it and give load_model(path, model)"
        )
    with torch_seed(0):  # the weights are overwritten; the caller's generator is to stay as it is
        if kind == "network":
            shape = from_dict(DataShape, architecture["shape"])
            return build_network(architecture["name"], shape, architecture["dropout"])
        return mlp(
            architecture["inputs"], architecture["hidden"], architecture["outputs"], architecture["dropout"]
        )
