"""The model shapes that suites and commands build."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def mlp(inputs: int, hidden: Sequence[int], outputs: int, dropout: float | None = None) -> nn.Sequential:
    """A multilayer perceptron with ReLU units.

    Args:
        inputs: Input columns.
        hidden: Units of each hidden layer.
        outputs: Output columns; 1 gives outputs of shape (n,), for regression.
        dropout: Rate after each hidden layer, in [0, 1); None builds no dropout layers.
    """
    layers: list[nn.Module] = []
    width = inputs
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        if dropout is not None:
            layers.append(nn.Dropout(dropout))
        width = units
    layers.append(nn.Linear(width, outputs))
    if outputs == 1:
        layers.append(nn.Flatten(0))
    return nn.Sequential(*layers)


def digits_cnn(classes: int = 10, dropout: float = 0.0) -> nn.Sequential:
    """A small convolutional network for 8×8 images given as rows of 64 numbers."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(128, classes),
    )
