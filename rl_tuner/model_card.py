"""A policy's model card: what it is for, how it was learned, how it scored, and what it was not tried on.

After Mitchell et al., 2019, "Model Cards for Model Reporting". Everything in it comes from the policy's file
and from the suite that the file names; nothing is trained or scored for it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_tuner.config import to_dict
from rl_tuner.ensemble_policy import EnsemblePolicy
from rl_tuner.envs.architectures import ARCHITECTURES, parse_architecture
from rl_tuner.envs.datasets import DATASETS
from rl_tuner.envs.jobs import OPTIMIZERS
from rl_tuner.envs.samples import KINDS
from rl_tuner.envs.suites import load_suite, suite_names
from rl_tuner.policies import MLPPolicy, NetworkPolicy, QTablePolicy
from rl_tuner.policy import LearnedPolicy
from rl_tuner.policy_file import FORMAT_VERSION

TRAINING = ("agent", "command", "suite", "split", "seed", "seeds", "steps", "episodes", "versions")
"""What a provenance says of the learning."""
EVALUATION = ("validation", "test", "scores")
"""What it says of how the policy did."""
CARD = "card"
"""Where it holds what its author says: {"intended": text, "limits": text, "results": {…}}."""


def model_card(policy: LearnedPolicy, path: Path) -> dict[str, Any]:
    """What is to be known of a policy, JSON-able.

    Args:
        policy: Which.
        path: Its file.

    Returns:
        What the file holds (``kind``, ``network``, ``hyperparameters``, ``features``, ``memory``, …), and of
        the card ``intended_use``, ``training``, ``evaluation`` and ``limits``, a list of sentences.
    """
    said = policy.provenance
    author = _mapping(said.get(CARD))
    evaluation = {key: said[key] for key in EVALUATION if key in said} | _mapping(author.get("results"))
    training = {key: said[key] for key in TRAINING if key in said}
    if isinstance(policy, EnsemblePolicy):
        training["members"] = [str(m.provenance.get("command", m.name)) for m in policy.members]
    jobs = training_jobs(said.get("suite"))
    return {
        "name": policy.name,
        **_network(policy),
        "path": str(path),
        "bytes": path.stat().st_size,
        "format_version": FORMAT_VERSION,
        "actions": policy.actions.kind,
        "config": to_dict(policy.config),
        "hyperparameters": policy.space.to_dict()["hyperparameters"],
        "features": list(policy.feature_names),
        "memory": policy.memory if isinstance(policy, NetworkPolicy) else 1,
        "intended_use": _text(author.get("intended")) or _intended(policy),
        "training": training | ({"jobs": jobs} if jobs else {}),
        "evaluation": evaluation,
        "limits": [*filter(None, [_text(author.get("limits"))]), *_limits(jobs, evaluation)],
        "provenance": said,
    }


def training_jobs(suite: object) -> dict[str, Any]:
    """What the jobs of a suite's train split are drawn from, as this rl-tuner has it.

    Args:
        suite: A name; whatever else a file may hold is no suite that is known here, nor is a path.

    Returns:
        ``description``, ``data`` (kinds), ``datasets``, ``architectures``, ``optimizers``, ``budget`` (the
        smallest and the largest, in samples) and ``lr_decades`` (of the start lr around a sane one); {} if it
        is unknown.
    """
    if not isinstance(suite, str) or suite not in suite_names():
        return {}
    found = load_suite(suite)
    parts = found.splits["train"].parts
    datasets = list(dict.fromkeys(name for part in parts for name in part.datasets))
    return {
        "description": found.description,
        "data": sorted({DATASETS[name].kind for name in datasets if name in DATASETS}, key=KINDS.index),
        "datasets": datasets,
        "architectures": list(dict.fromkeys(name for part in parts for name in part.architectures)),
        "optimizers": list(dict.fromkeys(name for part in parts for name in part.optimizers)),
        "budget": [min(p.budget[0] for p in parts), max(p.budget[1] for p in parts)],
        "lr_decades": [min(p.lr_decades[0] for p in parts), max(p.lr_decades[1] for p in parts)],
    }


def is_estimate(value: object) -> bool:
    """Whether a JSON value is a mean with its interval, all of them finite numbers."""
    if not isinstance(value, Mapping):
        return False
    numbers = [value.get(key) for key in ("mean", "low", "high")]
    return all(isinstance(n, int | float) and abs(n) <= sys.float_info.max for n in numbers)


def _network(policy: LearnedPolicy) -> dict[str, Any]:
    """The kind of policy, and its size."""
    if isinstance(policy, MLPPolicy):
        return {"kind": "mlp", "network": _layers(policy)}
    if isinstance(policy, EnsemblePolicy):
        one, number = _layers(policy.members[0]), len(policy.members)
        network = one | {"members": number, "parameters": number * one["parameters"]}
        return {"kind": "ensemble", "network": network}
    if isinstance(policy, QTablePolicy):
        tables = {
            h.name: {
                "bins": {
                    policy.feature_names[column]: bins
                    for column, bins in zip(binning.columns, binning.shape, strict=True)
                },
                "choices": len(h.choices),
            }
            for h, binning in zip(policy.space.hyperparameters, policy.binnings, strict=True)
        }
        values = sum(t.size for t in policy.tables)
        return {"kind": "q-table", "network": {"tables": tables, "values": values}}
    return {"kind": type(policy).__name__, "network": {}}


def _layers(policy: MLPPolicy) -> dict[str, Any]:
    sizes = [policy.memory * len(policy.feature_names), *(len(bias) for _, bias in policy.layers)]
    parameters = sum(weight.numel() + bias.numel() for weight, bias in policy.layers)
    return {"layers": sizes, "activation": policy.activation, "parameters": parameters}


def _intended(policy: LearnedPolicy) -> str:
    """What a policy is for, where its author does not say."""
    times = "once" if policy.config.decisions == 1 else f"{policy.config.decisions} times"
    times += " an attempt" if policy.config.restarts else ""
    return (
        f"Changes {_listed(policy.space.names)} of a training run {times} while it trains, for a low "
        "validation loss within a budget that is known beforehand; those of them that the run lacks are left "
        "out. For runs like those it was trained on."
    )


def _limits(jobs: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[str]:
    """What the file and its suite leave open, a sentence each."""
    found = _beyond(jobs) if jobs else ["The file does not say, in terms known here, what it was trained on."]
    if not evaluation:
        found.append("The file holds no scores.")
    elif set(evaluation) == {"validation"}:
        found.append(
            "The scores are of validation jobs of its own suite alone; rl-tuner compare scores it on others."
        )
    difference = _mapping(_mapping(evaluation.get("validation")).get("difference"))
    if is_estimate(difference) and difference["low"] <= 0:
        found.append("Its validation scores do not show it to be better than it was before learning.")
    return found


def _beyond(jobs: Mapping[str, Any]) -> list[str]:
    """What no training job was like."""
    forms = {parse_architecture(name).form for name in jobs["architectures"]}
    never = {
        "on data of the kinds": [kind for kind in KINDS if kind not in jobs["data"]],
        "on the architectures": [form for form in ARCHITECTURES if form not in forms],
        "with the optimizers": [name for name in OPTIMIZERS if name not in jobs["optimizers"]],
    }
    lacking = "; ".join(f"{what} {', '.join(names)}" for what, names in never.items() if names)
    (shortest, longest), (slowest, fastest) = jobs["budget"], jobs["lr_decades"]
    return [
        *([f"Never trained {lacking}."] if lacking else []),
        f"Trained on budgets of {shortest:,} to {longest:,} samples and on start learning rates of "
        f"{10**slowest:g} to {10**fastest:g} times a usual one; beyond these it is not known what it does.",
    ]


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _mapping(value: object) -> dict[str, Any]:
    """The value if it is an object; a file may hold anything in its place."""
    return {str(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}
