"""A learned policy on a plain PyTorch loop: two lines more than without.

Run with: python examples/plain_loop.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import rl_tuner

EPOCHS = 20


def main() -> None:
    """Trains a small network on handwritten digits from a start value that is far too low."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(x))
    train, val, test = order[:1100], order[1100:1450], order[1450:]

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    sampler = rl_tuner.TunedBatchSampler(len(train), batch_size=64, seed=0)
    loader = DataLoader(TensorDataset(x[train], y[train]), batch_sampler=sampler)

    def val_loss() -> float:
        model.eval()
        with torch.no_grad():
            return nn.functional.cross_entropy(model(x[val]), y[val]).item()

    tuner = rl_tuner.Tuner(
        optimizer,
        total_samples=EPOCHS * len(train),
        policy="default",
        model=model,
        validate=val_loss,
        batch_sampler=sampler,
    )
    model.train()
    while not tuner.finished:
        for inputs, targets in loader:
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            tuner.step(loss)
    tuner.restore_best()

    for record in tuner.records:
        settings = ", ".join(f"{name} {value:.3g}" for name, value in record.values.items())
        print(f"{record.used:6d} samples  validation loss {record.val_loss:.4f}  {settings}")
    model.eval()
    accuracy = (model(x[test]).argmax(1) == y[test]).float().mean().item()
    print(f"test accuracy {accuracy:.3f} from a start learning rate of 1e-5")


if __name__ == "__main__":
    main()
