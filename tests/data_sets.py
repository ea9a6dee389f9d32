"""What tests of the data sets share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.samples import Samples

Source = Callable[[np.random.Generator], Samples]


def draw(source: Source, seed: int = 0) -> Samples:
    return source(np.random.default_rng(seed))


def same(a: Samples, b: Samples) -> bool:
    """Whether two sets are equal bit for bit."""
    arrays = (a.inputs.tobytes(), a.targets.tobytes()) == (b.inputs.tobytes(), b.targets.tobytes())
    return arrays and (a.kind, a.classes, a.vocabulary) == (b.kind, b.classes, b.vocabulary)


def require_drawn_by_the_generator_alone(source: Source) -> None:
    """Equal generators give equal sets, others others."""
    assert same(draw(source, 3), draw(source, 3))
    assert not same(draw(source, 3), draw(source, 4))


def held_out_score(model: Any, inputs: NDArray[Any], targets: NDArray[Any]) -> float:
    """The score (accuracy, or R² of a regression) on the last 30 % of a model fitted to the rest."""
    order = np.random.default_rng(0).permutation(len(targets))
    left, out = order[: len(order) * 7 // 10], order[len(order) * 7 // 10 :]
    return float(model.fit(inputs[left], targets[left]).score(inputs[out], targets[out]))


def shuffled(targets: NDArray[Any]) -> NDArray[Any]:
    """Targets that have nothing to do with the inputs: the control that something is learned elsewhere."""
    return np.random.default_rng(1).permutation(targets)


def commonest(targets: NDArray[Any]) -> float:
    """The accuracy of always guessing the most frequent class."""
    return float(np.bincount(targets).max() / len(targets))
