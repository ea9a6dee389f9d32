"""Artificial tables whose truth is known: a linear map, a random network, a random forest, or clusters.

All have 2,000 rows, 16 columns and five classes or a value, so that one network fits them all. How many
columns matter, how intricate the truth is and how noisy its targets are vary with the generator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.samples import Samples

ROWS = 2000
COLUMNS = 16
CLASSES = 5
LEAST_COLUMNS = 3
"""How many columns matter, at least."""
ACCURACIES = (0.6, 0.99)
"""Range of the accuracy that the truth itself reaches on noisy labels: the Bayes accuracy."""
EXPLAINED = (0.4, 0.99)
"""Range of the share of the variance of noisy values that the truth explains."""
LEAST_SHARE = 0.04
"""Of the rows, for which each class should be the truth; a small tree, say, may have no leaf for one."""
REDRAWS = 20
"""How often another teacher is tried for that."""
BISECTIONS = 40

Array = NDArray[np.float64]
Teacher = Callable[[np.random.Generator, Array, int], Array]
"""(generator, inputs (n, d), outputs) → scores (n, outputs)."""


def linear(rng: np.random.Generator, inputs: Array, outputs: int) -> Array:
    """Scores that are linear in the inputs."""
    return inputs @ rng.standard_normal((inputs.shape[1], outputs))


def network(rng: np.random.Generator, inputs: Array, outputs: int) -> Array:
    """Scores of a random MLP: one to three layers of 4 to 64 tanh units, weights up to twice the usual."""
    width, gain = int(2 ** rng.uniform(2, 6)), rng.uniform(1, 2)
    hidden = inputs
    for _ in range(rng.integers(1, 4)):
        weights = rng.standard_normal((hidden.shape[1], width)) * gain / np.sqrt(hidden.shape[1])
        hidden = np.tanh(hidden @ weights + rng.standard_normal(width))
    return hidden @ rng.standard_normal((width, outputs))


def forest(rng: np.random.Generator, inputs: Array, outputs: int) -> Array:
    """Scores of one to eight random decision trees, 2 to 5 splits deep, each split on one column."""
    depth = int(rng.integers(2, 6))
    scores = np.zeros((len(inputs), outputs))
    rows = np.arange(len(inputs))
    for _ in range(int(2 ** rng.uniform(0, 3.17))):
        columns = rng.integers(inputs.shape[1], size=2**depth)
        thresholds = 0.7 * rng.standard_normal(2**depth)
        leaves = rng.standard_normal((2**depth, outputs))
        node = np.ones(len(inputs), dtype=np.int64)  # the root; children of i are 2 i and 2 i + 1
        for _ in range(depth):
            node = 2 * node + (inputs[rows, columns[node]] > thresholds[node])
        scores += leaves[node - 2**depth]
    return scores


def taught_classes(teacher: Teacher, rng: np.random.Generator) -> Samples:
    """A table whose classes a teacher scores, with noise up to a Bayes accuracy drawn from `ACCURACIES`."""
    matters = rng.standard_normal((ROWS, _informative(rng)))
    for _ in range(REDRAWS):
        scores = _standard(teacher(rng, matters, CLASSES))
        if np.bincount(scores.argmax(axis=1), minlength=CLASSES).min() >= LEAST_SHARE * ROWS:
            break
    classes = noisy_classes(rng, scores, rng.uniform(*ACCURACIES))
    return Samples("table", hide(rng, matters), classes, tuple(map(str, range(CLASSES))))


def taught_values(teacher: Teacher, rng: np.random.Generator) -> Samples:
    """A table whose values a teacher gives, with noise; in a quarter of the sets the noise has outliers."""
    matters = rng.standard_normal((ROWS, _informative(rng)))
    values = _standard(teacher(rng, matters, 1))[:, 0]
    heavy = rng.random() < 0.25
    # Student's t with 3 degrees of freedom has variance 3.
    noise = rng.standard_t(3, ROWS) / np.sqrt(3) if heavy else rng.standard_normal(ROWS)
    return Samples("table", hide(rng, matters), values + noise * np.sqrt(1 / rng.uniform(*EXPLAINED) - 1))


def noisy_classes(rng: np.random.Generator, scores: Array, accuracy: float) -> NDArray[np.int64]:
    """Classes drawn with probabilities softmax(scores / temperature).

    Args:
        rng: Draws the classes.
        scores: Shape (n, classes).
        accuracy: How often the class of the highest score is drawn, on average, in (1 / classes, 1); it
            decides the temperature.
    """
    gaps = scores - scores.max(axis=1, keepdims=True)
    low, high = -10.0, 10.0  # log of the inverse temperature; the accuracy grows with it
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        reached = (1 / np.exp(gaps * np.exp(middle)).sum(axis=1)).mean()
        low, high = (middle, high) if reached < accuracy else (low, middle)
    noisy = scores * np.exp(high) + rng.gumbel(size=scores.shape)  # its argmax is a draw from the softmax
    return np.asarray(noisy.argmax(axis=1), dtype=np.int64)


def clusters(rng: np.random.Generator) -> Samples:
    """One to three Gaussian clusters a class, stretched alike; how far they overlap varies."""
    columns, per_class = _informative(rng), int(rng.integers(1, 4))
    distance = rng.uniform(2.5, 7)  # between two centres, in deviations of a cluster
    centres = rng.standard_normal((CLASSES, per_class, columns)) * distance / np.sqrt(2 * columns)
    classes = rng.permutation(np.arange(ROWS) % CLASSES)
    points = centres[classes, rng.integers(per_class, size=ROWS)] + rng.standard_normal((ROWS, columns))
    stretched = points @ rng.standard_normal((columns, columns))
    return Samples("table", hide(rng, stretched), classes, tuple(map(str, range(CLASSES))))


def hide(rng: np.random.Generator, matters: Array) -> Array:
    """Columns that matter among others, in any order: shape (n, `COLUMNS`).

    Some of the others are redundant, noisy mixtures of those that matter, the rest is noise.
    """
    left = COLUMNS - matters.shape[1]
    redundant = int(rng.integers(left + 1))
    mixtures = _standard(matters @ rng.standard_normal((matters.shape[1], redundant)))
    mixtures += rng.uniform(0.1, 1) * rng.standard_normal(mixtures.shape)
    noise = rng.standard_normal((len(matters), left - redundant))
    return np.concatenate([matters, mixtures, noise], axis=1)[:, rng.permutation(COLUMNS)]


def _informative(rng: np.random.Generator) -> int:
    """How many columns matter: few as often as many."""
    return int(np.exp(rng.uniform(np.log(LEAST_COLUMNS), np.log(COLUMNS + 1))))


def _standard(columns: Array) -> Array:
    """Columns with mean 0 and deviation 1."""
    return np.asarray((columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-12))


TEACHERS: dict[str, Callable[[np.random.Generator], Samples]] = {
    "linear-classes": partial(taught_classes, linear),
    "linear-values": partial(taught_values, linear),
    "network-classes": partial(taught_classes, network),
    "network-values": partial(taught_values, network),
    "forest-classes": partial(taught_classes, forest),
    "forest-values": partial(taught_values, forest),
    "clusters": clusters,
}
"""Functions from a generator to a set, by name."""
