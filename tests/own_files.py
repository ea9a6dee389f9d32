"""Small files of every format that the loaders read, as bytes, for tests that break them."""

from __future__ import annotations

import gzip
import io
import struct
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

Files = dict[str, bytes]
"""Contents by path; the first path, or its top folder, is what a loader is given."""


def write(files: Mapping[str, bytes], root: Path = Path()) -> Path:
    """Writes the files, and returns what a loader is given."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root / Path(next(iter(files))).parts[0]


def idx(values: np.ndarray) -> bytes:
    """An array of unsigned bytes as an IDX file, by the format's definition."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def png(pixels: np.ndarray, form: str = "PNG") -> bytes:
    """Pixels (H, W) or (H, W, 3) as an image file."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form)
    return data.getvalue()


def wav(samples: np.ndarray, rate: int = 8000) -> bytes:
    """Samples (n,) or (n, channels) of 16 bits as a wav file, by the standard library."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return data.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    """Arrays as an archive that is packed."""
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)  # type: ignore[arg-type]
    return data.getvalue()


def table() -> Files:
    lines = [f"{i / 3:.3f},{i * i % 7},{['red', 'blue'][i % 2]},{'ab'[i % 3 % 2]}" for i in range(24)]
    return {"table.csv": "\n".join(["size,weight,colour,kind", *lines]).encode()}


def ratings() -> Files:
    lines = [f"u{i % 5},i{i % 7},{1 + i % 4}" for i in range(30)]
    return {"ratings.csv": "\n".join(["user,item,rating", *lines]).encode()}


def archive() -> Files:
    rng = np.random.default_rng(0)
    return {"data.npz": npz(x=rng.normal(size=(20, 2, 3)), size=np.arange(20.0), kind=np.arange(20) % 2)}


def images() -> Files:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 5, 4), dtype=np.uint8)
    return {
        "some-images-idx3-ubyte": idx(pixels),
        "some-labels-idx1-ubyte": idx(np.arange(20, dtype=np.uint8) % 3),
    }


def packed_images() -> Files:
    return {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in images().items()}


def pictures() -> Files:
    rng = np.random.default_rng(0)
    forms = ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP")
    return {
        f"pictures/{'ab'[i % 2]}/{i}.{form.lower()}": png(
            rng.integers(0, 256, (6, 5, 3), dtype=np.uint8), form
        )
        for i, form in enumerate(2 * forms)
    }


def sounds() -> Files:
    rng = np.random.default_rng(0)
    return {
        f"sounds/{'ab'[i % 2]}/{i}.wav": wav(rng.integers(-3000, 3000, 40 + i), (8000, 16000)[i % 2])
        for i in range(10)
    }


def text() -> Files:
    return {"book.txt": ("It was the best of times, it was the worst of times, “so far”.\r\n" * 20).encode()}


FORMATS = {
    "table": table,
    "ratings": ratings,
    "npz": archive,
    "idx": images,
    "packed idx": packed_images,
    "image folder": pictures,
    "wav folder": sounds,
    "text": text,
}
TARGETS = {"table": "kind", "npz": "kind"}
"""Which column of theirs is to be predicted."""
