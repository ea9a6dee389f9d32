"""Learned policies with random weights, for the tests of policies and their files."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from rl_tuner.binning import Binning
from rl_tuner.course_config import CourseConfig
from rl_tuner.ensemble_policy import EnsemblePolicy
from rl_tuner.features import FeatureSet
from rl_tuner.policies import MLPPolicy, QTablePolicy
from rl_tuner.policy import LearnedPolicy
from rl_tuner.rails import Rails
from rl_tuner.space import search_space

PROVENANCE = {"name": "sample", "suite": "quick", "seeds": [0, 1], "scores": {"mean": 1.25}}


def network(
    kind: str = "continuous", seed: int = 0, names: tuple[str, ...] | None = None, memory: int = 1
) -> MLPPolicy:
    """An MLP over lr and dropout."""
    space = search_space(["lr", "dropout"])
    names = names or FeatureSet(space).names
    outputs = 8 if kind == "discrete" else 2
    generator = torch.Generator().manual_seed(seed)
    sizes = [memory * len(names), 16, 16, outputs]
    layers = [
        (torch.randn(b, a, generator=generator), torch.randn(b, generator=generator))
        for a, b in pairwise(sizes)
    ]
    config = CourseConfig(decisions=12, reward="best_improvement", rails=Rails(rescues=2), patience=4)
    return MLPPolicy(space, kind, config, names, PROVENANCE, layers, "tanh", memory)


def ensemble(kind: str = "continuous", members: int = 3, memory: int = 1) -> EnsemblePolicy:
    """Networks of one form over lr and dropout, with weights of their own."""
    return EnsemblePolicy([network(kind, seed, memory=memory) for seed in range(members)], PROVENANCE)


def tables(seed: int = 0) -> QTablePolicy:
    """Tables over lr and batch size."""
    space = search_space(["lr", "batch_size"])
    names = FeatureSet(space).names
    rng = np.random.default_rng(seed)
    binnings = [
        Binning(
            (0, names.index("val_vs_last"), names.index("lr_in_bounds")),
            (np.array([0.3]), np.array([-0.1, 0.1]), np.array([0.0])),
        ),
        Binning(
            (names.index("val_vs_last"), names.index("batch_size_in_bounds")), (np.array([0.0]), np.empty(0))
        ),
    ]
    values = [
        rng.normal(size=(b.rows, len(h.choices)))
        for b, h in zip(binnings, space.hyperparameters, strict=True)
    ]
    return QTablePolicy(space, CourseConfig(rails=False), PROVENANCE, binnings, values, names)


SAMPLES = {
    "mlp-continuous": lambda: network("continuous"),
    "mlp-discrete": lambda: network("discrete"),
    "mlp-memory": lambda: network("continuous", memory=3),
    "ensemble-continuous": lambda: ensemble("continuous"),
    "ensemble-discrete": lambda: ensemble("discrete"),
    "ensemble-memory": lambda: ensemble("continuous", memory=3),
    "q-table": tables,
}


def random_observations(policy: LearnedPolicy, n: int = 100) -> np.ndarray:
    """Shape (n, F), as an environment of the policy's search space would give."""
    shape = (n, len(FeatureSet(policy.space)))
    return np.random.default_rng(9).normal(size=shape).astype(np.float32)
