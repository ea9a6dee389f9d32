"""Your own job for ``rl-tuner apply``: any module, any data, any optimizer.

Run it from this folder:

    rl-tuner apply own_job:digits --policy cosine
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

from rl_tuner.envs import TrainingJob


def network() -> nn.Module:
    """A small convolutional network for 8×8 images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(16 * 4 * 4, 10),
    )


def digits() -> TrainingJob:
    """Handwritten digits, split into 1,000 images to train on, 400 to validate and the rest to test."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images, labels = data.images[order, None] / 16, data.target[order]
    return TrainingJob(
        network,
        train=(images[:1000], labels[:1000]),
        validation=(images[1000:1400], labels[1000:1400]),
        test=(images[1400:], labels[1400:]),
        optimizer="adam",
        start={"lr": 3e-3, "batch_size": 64},
        epochs=10,
        name="digits",
    )
