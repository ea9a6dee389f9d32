"""A model for your own table: train it under a policy, load it again, predict.

The same from the command line:

    rl-tuner apply wine.csv --target cultivar --policy cosine --epochs 60
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_wine

from rl_tuner.applying import ApplyConfig, load_model, prepare


def main() -> None:
    """Writes a table, trains on it, and asks the saved model about its first rows."""
    wine = load_wine(as_frame=True)
    table = wine.data.assign(cultivar=[f"cultivar {label}" for label in wine.target])
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "wine.csv"
        table.to_csv(data, index=False)
        config = ApplyConfig(str(data), target="cultivar", policy="cosine", epochs=60)
        applied = prepare(config).run(Path(folder) / "run")
        print(f"test accuracy {applied.episode.test['accuracy']:.3f}")

        model, metadata = load_model(applied.path / "model.safetensors")
    if metadata.preprocessing is not None:
        rows = table[list(metadata.preprocessing.columns)].to_numpy(dtype=np.float64)[:3]
        with torch.no_grad():
            outputs = model(metadata.preprocessing.inputs(rows))
        print("first rows:", ", ".join(metadata.preprocessing.predictions(outputs)))


if __name__ == "__main__":
    main()
