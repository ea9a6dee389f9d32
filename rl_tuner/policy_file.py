"""The policy file: one safetensors file whose JSON header says all that its tensors mean.

Nothing in it is ever executed. Layout: tensors, and under the metadata key ``rl_tuner`` a JSON object with
``format_version``, ``kind`` ("mlp", "ensemble" or "q-table"), ``search_space``, ``feature_names``,
``actions``, ``config``, ``network`` and ``provenance``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rl_tuner.binning import Binning
from rl_tuner.config import from_dict, to_dict
from rl_tuner.course_config import CourseConfig
from rl_tuner.ensemble_policy import EnsemblePolicy
from rl_tuner.errors import ConfigError, PolicyError
from rl_tuner.files import plain, write_bytes
from rl_tuner.policies import MLPPolicy, QTablePolicy
from rl_tuner.policy import LearnedPolicy, Policy
from rl_tuner.rails import Rails
from rl_tuner.space import SearchSpace

if TYPE_CHECKING:
    import torch

    _Layer: TypeAlias = tuple[torch.Tensor, torch.Tensor]

FORMAT_VERSION = 1
SUFFIX = ".safetensors"
SHIPPED = Path(__file__).parent / "policies"
_KEYS = frozenset(
    ("format_version", "kind", "search_space", "feature_names", "actions", "config", "network", "provenance")
)
_MALFORMED = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)
"""What a malformed header raises on the way: a number in place of an object, a list in place of a name."""


def save_policy(policy: Policy, path: str | Path) -> Path:
    """Writes a learned policy as one file, whole or not at all.

    Args:
        policy: An `MLPPolicy`, an `EnsemblePolicy` or a `QTablePolicy`.
        path: Where; its folder must exist.

    Returns:
        The path.

    Raises:
        PolicyError: The policy is of a kind that has no file (a schedule), or the file cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    if isinstance(policy, MLPPolicy):
        kind, tensors, network = "mlp", *_mlp_parts(policy)
    elif isinstance(policy, EnsemblePolicy):
        kind, tensors, network = "ensemble", *_ensemble_parts(policy)
    elif isinstance(policy, QTablePolicy):
        kind, tensors, network = "q-table", *_table_parts(policy)
    else:
        raise PolicyError(f"a {type(policy).__name__} is not learned: there is nothing to save")
    header = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "search_space": policy.space.to_dict(),
        "feature_names": list(policy.feature_names),
        "actions": policy.actions.kind,
        "config": to_dict(policy.config),
        "network": network,
        "provenance": plain(policy.provenance),
    }
    try:
        write_bytes(path, save(tensors, metadata={"rl_tuner": json.dumps(header)}))
    except OSError as error:
        raise PolicyError(f"cannot write the policy to {path}: {error.strerror or error}") from error
    return path


def shipped_policies() -> tuple[str, ...]:
    """The names of the policies that come with rl-tuner."""
    return tuple(sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}")))


def policy_path(name: str | Path) -> Path:
    """Where a policy's file lies (or would lie): a shipped name's, or the path itself."""
    return SHIPPED / f"{name}{SUFFIX}" if str(name) in shipped_policies() else Path(name)


def load_policy(name: str | Path) -> Policy:
    """Loads a policy. Nothing from the file is executed.

    Args:
        name: A shipped name ("default"), a schedule's name ("constant", "cosine", "plateau"), or a path.

    Raises:
        PolicyError: There is no such policy, or the file is damaged, of an unknown version, or reads a
            feature that this version does not compute.
    """
    from rl_tuner.schedules import SCHEDULES

    if str(name) in SCHEDULES:
        return SCHEDULES[str(name)]()
    path = policy_path(name)
    if not path.is_file():
        known = (*shipped_policies(), *SCHEDULES)
        raise PolicyError(f"no policy {str(name)!r}: neither a file nor one of {', '.join(known)}")
    header, tensors = _read(path)
    try:
        policy = _build(header, tensors)
    except (ConfigError, PolicyError, *_MALFORMED) as error:
        raise PolicyError(f"{path}: {_say(error)}") from error
    if path.parent == SHIPPED:
        policy.provenance["name"] = path.stem
    return policy


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The header and the tensors, the version checked."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        header = json.loads(metadata["rl_tuner"])
    except (SafetensorError, OSError) as error:
        raise PolicyError(f"{path} is no policy file: {error}") from error
    except KeyError as error:
        raise PolicyError(f"{path} is a safetensors file, but not a policy of rl-tuner") from error
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{path}: its header is not JSON: {error}") from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if version != FORMAT_VERSION:
        raise PolicyError(f"{path} has format version {version!r}; this rl-tuner reads {FORMAT_VERSION}")
    missing = sorted(_KEYS - set(header))
    if missing:
        raise PolicyError(f"{path}: its header lacks {', '.join(missing)}")
    return header, tensors


def _build(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> LearnedPolicy:
    space = SearchSpace.from_dict(header["search_space"])
    config, names = _config(header["config"]), header["feature_names"]
    network, provenance = header["network"], header["provenance"]
    if header["kind"] in ("mlp", "ensemble"):
        layers = [
            (tensors[f"{i}.weight"].float(), tensors[f"{i}.bias"].float()) for i in range(network["layers"])
        ]
        activation, memory = network["activation"], network.get("memory", 1)
        if header["kind"] == "mlp":
            return MLPPolicy(space, header["actions"], config, names, provenance, layers, activation, memory)
        members = [
            MLPPolicy(space, header["actions"], config, names, said, own, activation, memory)
            for said, own in zip(network["members"], _unstacked(layers), strict=True)
        ]
        return EnsemblePolicy(members, provenance)
    if header["kind"] == "q-table":
        binnings, tables = [], []
        for h in space.hyperparameters:
            columns = tuple(names.index(feature) for feature in network["columns"][h.name])
            edges = tuple(
                tensors[f"{h.name}.edges.{i}"].numpy().astype(np.float64) for i in range(len(columns))
            )
            binnings.append(Binning(columns, edges))
            tables.append(tensors[f"{h.name}.values"].numpy().astype(np.float64))
        return QTablePolicy(space, config, provenance, binnings, tables, names)
    raise PolicyError(f"unknown kind {header['kind']!r}: this rl-tuner knows mlp, ensemble and q-table")


def _config(data: Mapping[str, Any]) -> CourseConfig:
    rails = data.get("rails")
    config = from_dict(CourseConfig, {**data, "rails": True} if isinstance(rails, dict) else data)
    return replace(config, rails=from_dict(Rails, rails)) if isinstance(rails, dict) else config


def _mlp_parts(policy: MLPPolicy) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors = {}
    for i, (weight, bias) in enumerate(policy.layers):
        tensors[f"{i}.weight"], tensors[f"{i}.bias"] = weight.contiguous(), bias.contiguous()
    network = {"layers": len(policy.layers), "activation": policy.activation}
    # Absent without a memory, so that such files stay as they were. An rl-tuner that does not know of it
    # refuses a file that has one, for its first layer then reads more than there are features.
    return tensors, network | ({"memory": policy.memory} if policy.memory > 1 else {})


def _ensemble_parts(policy: EnsemblePolicy) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """As of one network, the members' weights stacked along a first axis, and where each one comes from."""
    import torch

    parts = [_mlp_parts(member) for member in policy.members]
    tensors = {key: torch.stack([own[key] for own, _ in parts]) for key in parts[0][0]}
    return tensors, parts[0][1] | {"members": [plain(member.provenance) for member in policy.members]}


def _unstacked(layers: Sequence[_Layer]) -> list[tuple[_Layer, ...]]:
    """The layers of each member."""
    split = [zip(weight.unbind(), bias.unbind(), strict=True) for weight, bias in layers]
    return list(zip(*split, strict=True))


def _table_parts(policy: QTablePolicy) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    import torch

    tensors, columns = {}, {}
    for name, binning, table in zip(policy.space.names, policy.binnings, policy.tables, strict=True):
        tensors[f"{name}.values"] = torch.from_numpy(np.ascontiguousarray(table))
        for i, edges in enumerate(binning.edges):
            tensors[f"{name}.edges.{i}"] = torch.from_numpy(edges.copy())
        columns[name] = [policy.feature_names[c] for c in binning.columns]
    return tensors, {"columns": columns}


def _say(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the file lacks {error.args[0]!r}"
    return str(error)
