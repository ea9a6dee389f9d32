"""The weights that the fine-tuning family starts from: ``python -m rl_tuner.base_weights`` makes them anew.

Each file holds the body of a network that was trained on one data set: its head, whatever depends on the
number of classes, is left out, so that it is fresh in every job.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from rl_tuner._version import __version__
from rl_tuner.envs.architectures import build_network
from rl_tuner.envs.data import DataShape
from rl_tuner.envs.datasets import load_split
from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.job_specs import JobSpec, weights_folder
from rl_tuner.envs.jobs import SPLITS
from rl_tuner.envs.suites import load_suite
from rl_tuner.envs.tuning_env import TuningEnv
from rl_tuner.envs.weights import body_names
from rl_tuner.files import write_bytes
from rl_tuner.rollout import run_episode
from rl_tuner.schedules import Cosine

DATA_SEED = 9_000
"""Apart from the data seeds of all suites."""
BUDGET = 60_000
SEED = 0


def wanted(suite: str) -> list[tuple[str, str]]:
    """Data set and architecture of all base weights that a suite's jobs start from."""
    families = [part for split in SPLITS for part in load_suite(suite).family(split).parts]
    pairs = {(weights, a) for f in families for weights in f.weights if weights for a in f.architectures}
    return sorted(pairs)


def train_base(dataset: str, architecture: str, folder: Path) -> dict[str, float]:
    """Trains a network under a cosine schedule and writes its body's weights; returns its test scores."""
    spec = JobSpec(
        dataset, architecture, "adam", BUDGET, DATA_SEED, SANE_LR["adam"], 64, 1e-4, 0.9, dropout=0.1
    )
    policy = Cosine()
    env = TuningEnv.for_policy(policy, spec.build())
    episode = run_episode(env, policy, SEED)
    names = body(architecture, load_split(dataset, DATA_SEED).shape)
    tensors = {name: t.contiguous() for name, t in env.engine.model.state_dict().items() if name in names}
    provenance = {
        "dataset": dataset,
        "data_seed": DATA_SEED,
        "architecture": architecture,
        "seed": SEED,
        "budget": BUDGET,
        "policy": policy.name,
        "test": episode.test,
        "versions": {"rl_tuner": __version__, "torch": torch.__version__},
    }
    from safetensors.torch import save

    folder.mkdir(exist_ok=True)
    data = save(tensors, metadata={"provenance": json.dumps(provenance)})
    write_bytes(folder / f"{dataset}-{architecture}.safetensors", data)
    return episode.test


def body(architecture: str, shape: DataShape) -> set[str]:
    """Names of a network's tensors that do not depend on the number of classes."""
    return body_names(
        lambda outputs: build_network(architecture, replace(shape, outputs=outputs), 0.0), shape.outputs
    )


def main() -> None:
    """Makes all base weights of the suite "finetuning"."""
    torch.set_num_threads(1)
    for dataset, architecture in wanted("finetuning"):
        scores = train_base(dataset, architecture, weights_folder())
        print(f"{dataset} {architecture}: test accuracy {scores['accuracy']:.3f}")  # noqa: T201


if __name__ == "__main__":
    main()
