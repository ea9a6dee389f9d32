"""Small grey images: (n, 1, 8, 8) in [0, 1] in ten classes each, so that one network fits all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.samples import Samples

SIDE = 8
CLASSES = 10
IMAGES = 2000
STRIPS = CLASSES // 2
SHAPES = ("disc", "ring", "square", "frame", "triangle", "cross", "bar", "corner", "half", "pair")
TEXTURES = (
    *("bars 0", "bars 45", "bars 90", "bars 135", "fine checks", "coarse checks"),
    *("few blobs", "many blobs", "white noise", "pink noise"),
)

Array = NDArray[np.float64]


def _images(pixels: Array, classes: NDArray[np.int64], names: tuple[str, ...]) -> Samples:
    """Samples of pixels (n, 8, 8), cut off at 0 and 1."""
    return Samples("image", np.clip(pixels, 0, 1)[:, None].astype(np.float32), classes, classes=names)


def digits(_rng: np.random.Generator) -> Samples:
    """Handwritten digits: scikit-learn's 1,797 from the UCI repository. The same whatever the generator."""
    return _digits()


@lru_cache(maxsize=1)
def _digits() -> Samples:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    names = tuple(str(name) for name in bunch.target_names)
    return _images(np.asarray(bunch.images) / 16, np.asarray(bunch.target, dtype=np.int64), names).frozen()


def patches(_rng: np.random.Generator) -> Samples:
    """Where a patch was cut from: 2,080 of scikit-learn's two sample photographs, at half their size.

    Classes are five vertical strips of each photograph. The same whatever the generator.
    """
    return _patches()


@lru_cache(maxsize=1)
def _patches() -> Samples:
    from sklearn.datasets import load_sample_images

    pixels, classes = [], []
    for photo, image in enumerate(load_sample_images().images):
        rows, columns = image.shape[0] // (2 * SIDE), image.shape[1] // (2 * SIDE)
        grey = image[: rows * 2 * SIDE, : columns * 2 * SIDE].mean(axis=2) / 255
        half = grey.reshape(rows * SIDE, 2, columns * SIDE, 2).mean(axis=(1, 3))
        pixels.append(half.reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE))
        classes.append(np.tile(photo * STRIPS + np.arange(columns) * STRIPS // columns, rows))
    names = tuple(f"{photo} {strip}" for photo in ("temple", "flower") for strip in range(1, STRIPS + 1))
    return _images(np.concatenate(pixels), np.concatenate(classes), names).frozen()


def _even_classes(rng: np.random.Generator) -> NDArray[np.int64]:
    """Class numbers (`IMAGES`,), as many of each, shuffled."""
    return rng.permutation(np.arange(IMAGES) % CLASSES)


def shapes(rng: np.random.Generator) -> Samples:
    """Ten shapes at a place, in a size, turn, thickness and contrast of their own.

    How far they turn, how small and pale they get and how much noise there is vary with the generator.
    """
    turn, smallest, palest = rng.uniform(0, np.pi), rng.uniform(1.6, 2.8), rng.uniform(0.2, 0.8)
    noise = rng.uniform(0, 0.3)
    classes = _even_classes(rng)
    radius = rng.uniform(smallest, 3.5, IMAGES)
    room = np.maximum(SIDE / 2 - radius, 0)
    x, y = _grid(room * rng.uniform(-1, 1, IMAGES), room * rng.uniform(-1, 1, IMAGES))
    angle = rng.uniform(-turn, turn, IMAGES)[:, None, None]
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    scale = radius[:, None, None]
    thick = rng.uniform(0.1, 0.28, IMAGES)[:, None, None]
    outside = _distances(u / scale, v / scale, thick, classes) * scale
    contrast = rng.uniform(palest, 1, IMAGES)[:, None, None]
    ink = np.clip(0.5 - outside, 0, 1) * contrast + rng.uniform(0, 1 - contrast)
    return _images(ink + noise * rng.standard_normal(ink.shape), classes, SHAPES)


def _grid(x: Array, y: Array) -> tuple[Array, Array]:
    """Each pixel's place (n, 8, 8) from centres (n,) that lie off the images' middle."""
    at = np.arange(SIDE) - (SIDE - 1) / 2
    across = np.broadcast_to(at[None, None, :] - x[:, None, None], (len(x), SIDE, SIDE))
    return across, np.broadcast_to(at[None, :, None] - y[:, None, None], (len(x), SIDE, SIDE))


def _distances(u: Array, v: Array, thick: Array, classes: NDArray[np.int64]) -> Array:
    """How far outside of its shape a point is, in radii; negative inside. About right off corners.

    Args:
        u: Places across, (n, 8, 8), in the shape's own turn, in radii.
        v: Places down, likewise.
        thick: Half the thickness of lines, (n, 1, 1), in radii.
        classes: Shape (n,).
    """
    across, along, radius = np.abs(u), np.abs(v), np.hypot(u, v)
    square = np.maximum(across, along)
    distances = {
        "disc": radius - 1,
        "ring": np.abs(radius - 0.8) - thick,
        "square": square - 0.85,
        "frame": np.abs(square - 0.75) - thick,
        "triangle": np.maximum(v, across * math.sqrt(3) / 2 - v / 2) - 0.5,
        "cross": np.maximum(square - 1, np.minimum(across, along) - thick),
        "bar": np.maximum(across - 1, along - thick),
        "corner": np.maximum(square - 0.9, np.minimum(u, v) + 0.9 - 2 * thick),
        "half": np.maximum(radius - 1, v),
        "pair": np.hypot(across - 0.65, v) - 0.35,
    }
    return np.stack([distances[name] for name in SHAPES])[classes, np.arange(len(classes))]


def textures(rng: np.random.Generator) -> Samples:
    """Bars in four directions, checks, blobs and noise, in a contrast of their own.

    How much the bars' direction and width vary, how pale they get and how much noise there is vary with
    the generator.
    """
    wobble, spread, palest = rng.uniform(0, 0.25), rng.uniform(0, 0.5), rng.uniform(0.05, 0.3)
    noise = rng.uniform(0, 0.15)
    drawn = (
        *(partial(_bars, angle=k * np.pi / 4, wobble=wobble, spread=spread) for k in range(4)),
        *(partial(_checks, cell=cell) for cell in (1, 2)),
        *(partial(_blobs, blobs=blobs, width=width) for blobs, width in ((2, 1.6), (8, 0.7))),
        *(partial(_noise, slope=slope) for slope in (0.0, 1.0)),
    )
    classes = _even_classes(rng)
    pixels = np.empty((IMAGES, SIDE, SIDE))
    for number, draw in enumerate(drawn):
        of = classes == number
        pixels[of] = draw(rng, int(of.sum()))
    pixels -= pixels.mean(axis=(1, 2), keepdims=True)
    pixels /= pixels.std(axis=(1, 2), keepdims=True)
    contrast = rng.uniform(palest, 0.35, (IMAGES, 1, 1))
    pixels = 0.5 + contrast * pixels + noise * rng.standard_normal(pixels.shape)
    return _images(pixels, classes, TEXTURES)


def _bars(rng: np.random.Generator, n: int, *, angle: float, wobble: float, spread: float) -> Array:
    """Sine gratings: the direction within some `wobble` (radians), the frequency within e^±spread."""
    x, y = _grid(np.zeros(n), np.zeros(n))
    turned = (angle + wobble * rng.standard_normal(n))[:, None, None]
    cycles = (0.22 * np.exp(rng.uniform(-spread, spread, n)))[:, None, None]  # a pixel
    phase = rng.uniform(0, 2 * np.pi, n)[:, None, None]
    return np.sin(2 * np.pi * cycles * (x * np.cos(turned) + y * np.sin(turned)) + phase)


def _checks(rng: np.random.Generator, n: int, *, cell: int) -> Array:
    x, y = _grid(*rng.integers(2 * cell, size=(2, n)))
    # The grid lies half a pixel off whole numbers.
    return (((x + SIDE) // cell + (y + SIDE) // cell) % 2).astype(np.float64)


def _blobs(rng: np.random.Generator, n: int, *, blobs: int, width: float) -> Array:
    field = np.zeros((n, SIDE, SIDE))
    for _ in range(blobs):
        x, y = _grid(*rng.uniform(-SIDE / 2, SIDE / 2, (2, n)))
        field += np.exp(-(x**2 + y**2) / (2 * width**2))
    return field


def _noise(rng: np.random.Generator, n: int, *, slope: float) -> Array:
    """Noise whose amplitude falls with frequency as f^-slope: 0 is white, 1 is pink."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    frequency[0, 0] = 1.0  # the mean, which is taken off anyway
    spectrum = np.fft.rfft2(rng.standard_normal((n, SIDE, SIDE))) * frequency**-slope
    return np.fft.irfft2(spectrum, s=(SIDE, SIDE))


IMAGE_SETS: dict[str, Callable[[np.random.Generator], Samples]] = {
    "digit-images": digits,
    "patches": patches,
    "shapes": shapes,
    "textures": textures,
}
"""Functions from a generator to a set, by name."""
