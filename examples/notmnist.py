"""A convolutional network on the letters of notMNIST, at its best constant setting.

It expects the test part of notMNIST in MNIST's format: a file of 10,000 grey images of 28 × 28 pixels,
letters A to J, and the file of their labels beside it (t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz,
made by github.com/davidflanagan/notMNIST-to-MNIST). It trains on 6,000 of them, keeps the best epoch by
2,000, and prints the accuracy on the other 2,000; that takes a minute or two on one core.

Run with: python examples/notmnist.py t10k-images-idx3-ubyte.gz
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from rl_tuner import load_policy
from rl_tuner.envs import TrainingJob, TuningEnv
from rl_tuner.envs.architectures import build_network
from rl_tuner.envs.loaders import load_samples
from rl_tuner.history import Record
from rl_tuner.rollout import run_episode

ARCHITECTURE, DROPOUT, BATCH_SIZE, EPOCHS = "cnn-16x32", 0.3, 64, 10
LR = 4e-3
"""The best of 1e-3, 2e-3 and 4e-3 by the validation loss; all three end near 92 %."""


def notmnist_job(images: str, lr: float = LR, epochs: int = EPOCHS, seed: int = 0) -> TrainingJob:
    """The images split by a seed, and the network."""
    split = load_samples(images).split(seed)
    return TrainingJob(
        lambda: build_network(ARCHITECTURE, split.shape, DROPOUT),
        split.train,
        split.validation,
        split.test,
        optimizer="adam",
        start={"lr": lr, "batch_size": BATCH_SIZE},
        epochs=epochs,
        name="notmnist",
    )


def main() -> None:
    """Trains, and prints how it goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", help="file of images in IDX format, packed or not")
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.set_num_threads(1)
    policy = load_policy("constant")
    policy.config = replace(
        policy.config, decisions=options.epochs
    )  # one look at the validation loss an epoch

    def show(record: Record) -> None:
        print(f"{record.used:6d} samples  validation loss {record.val_loss:.4f}", flush=True)

    job = notmnist_job(options.images, options.lr, options.epochs, options.seed)
    episode = run_episode(TuningEnv.for_policy(policy, job), policy, options.seed, on_decision=show)
    print(f"test accuracy {episode.test['accuracy']:.4f}")


if __name__ == "__main__":
    main()
