"""What makes a data set harder to learn from: few samples, noise, wrong labels, rare classes, bad scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_tuner.config import require_range

Rows = NDArray[np.int64]
LEAST_OF_A_CLASS = 5
"""So many samples of a rare class stay, if there are as many."""
NOISY_KINDS = ("table", "image", "sound")
MOST_SCALE = 4.0


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How a data set is made harder; nothing is, by default.

    Attributes:
        samples: Training samples at most, >= 1: few make a network overfit.
        noise: Standard deviation of noise added to standardized inputs of all parts, >= 0. Not for tokens
            and ratings.
        label_noise: Of the train part alone: share of class numbers replaced by others, in [0, 1]; of a
            regression the standard deviation of noise on standardized targets.
        imbalance: How many times rarer the rarest class is than the most frequent one, >= 1; the others lie
            evenly between, by logarithm.
        scale: Decades by which columns are scaled up or down, each by another factor, in [0, 4]; of images
            and sounds all by the same.

    Raises:
        ConfigError: A number is out of range.
    """

    samples: int | None = None
    noise: float = 0.0
    label_noise: float = 0.0
    imbalance: float = 1.0
    scale: float = 0.0

    def __post_init__(self) -> None:
        if self.samples is not None:
            require_range("samples", self.samples, 2)
        require_range("noise", self.noise, 0, 100)
        require_range("label_noise", self.label_noise, 0, 1)
        require_range("imbalance", self.imbalance, 1, 1e6)
        require_range("scale", self.scale, 0, MOST_SCALE)


PLAIN = Difficulty()


def balanced_rows(
    targets: NDArray[Any], classes: int, difficulty: Difficulty, rng: np.random.Generator
) -> Rows:
    """The rows that are left when classes are made rare, ascending; all of them for other targets.

    Args:
        targets: Shape (n, ...).
        classes: Number of classes; 0 for regression.
        difficulty: Its `imbalance` counts.
        rng: Draws which classes are rare, and which rows stay.
    """
    if difficulty.imbalance == 1 or classes < 2 or targets.ndim > 1:
        return np.arange(len(targets))
    shares = difficulty.imbalance ** (-np.arange(classes) / (classes - 1))
    kept = []
    for label, share in zip(rng.permutation(classes), shares, strict=True):
        rows = np.flatnonzero(targets == label)
        many = min(len(rows), max(LEAST_OF_A_CLASS, round(share * len(rows))))
        kept.append(rng.permutation(rows)[:many])
    return np.sort(np.concatenate(kept))


def few_rows(rows: Rows, difficulty: Difficulty, rng: np.random.Generator) -> Rows:
    """As many training rows as `samples` allows."""
    if difficulty.samples is None or difficulty.samples >= len(rows):
        return rows
    return rng.permutation(rows)[: difficulty.samples]


def spoil_inputs(
    parts: Sequence[torch.Tensor], kind: str, difficulty: Difficulty, rng: np.random.Generator
) -> list[torch.Tensor]:
    """The parts' inputs, (n, d) each and standardized, with noise added and then scaled.

    Args:
        parts: Train, validation and test part; left as they are.
        kind: Kind of data; tokens and ratings come back as they are.
        difficulty: Its `noise` and `scale` count.
        rng: Draws both.
    """
    if kind not in NOISY_KINDS or not (difficulty.noise or difficulty.scale):
        return list(parts)
    columns = parts[0].shape[1] if kind == "table" else 1
    factors = 10 ** rng.uniform(-difficulty.scale, difficulty.scale, columns)
    noisy = [part.numpy() + difficulty.noise * rng.standard_normal(part.shape) for part in parts]
    return [torch.from_numpy((part * factors).astype(np.float32)) for part in noisy]


def spoil_targets(
    targets: torch.Tensor, classes: int, difficulty: Difficulty, rng: np.random.Generator
) -> torch.Tensor:
    """The train part's targets with some of them wrong.

    Args:
        targets: Class numbers, or standardized values; left as they are.
        classes: Number of classes; 0 for regression.
        difficulty: Its `label_noise` counts.
        rng: Draws which ones, and what they become.
    """
    share = difficulty.label_noise
    if not share:
        return targets
    if not classes:
        return targets + torch.from_numpy(share * rng.standard_normal(targets.shape)).to(targets)
    shape = tuple(targets.shape)
    others = (targets + torch.from_numpy(rng.integers(1, max(classes, 2), shape))) % classes
    return torch.where(torch.from_numpy(rng.random(shape) < share), others, targets)
