"""Reads a folder of images, one sub-folder a class."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import require_counts, require_range
from rl_tuner.envs.class_folders import class_files
from rl_tuner.envs.reading import require_file, require_samples
from rl_tuner.envs.samples import Samples
from rl_tuner.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM")
"""What Pillow may take a file for, whatever its name. It would hand others to outside programs or libraries
with a history of holes (Ghostscript, libtiff)."""
MOST_PIXELS = 2**24
"""Of one image, 4096 × 4096: a file of a few kilobytes can unpack to gigabytes."""
MOST_SIDE = 1024
"""Of the images as they are trained on."""
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "F")


def load_image_folder(
    folder: str | Path, size: int | tuple[int, int] | None = None, channels: int | None = None
) -> Samples:
    """Images of kind "image", the folders' names their classes.

    Args:
        folder: It holds a folder for each class. Of moving images the first picture counts; transparency is
            left out.
        size: Height and width, or one number for both; None for the most common one among the images.
        channels: 1 for grey, 3 for red, green and blue; None for grey if all images are.

    Raises:
        ConfigError: `size` or `channels` is out of range.
        DatasetError: See `class_files`, or an image is broken or too large; the message names it.
    """
    folder = Path(folder)
    files, numbers, classes = class_files(folder, SUFFIXES)
    if channels not in (None, 1, 3):
        raise ConfigError(f"channels must be 1 or 3, got {channels!r}")
    seen = [_look(file) for file in files] if size is None or channels is None else []
    height, width = image_size(folder, size, Counter(found for found, _ in seen))
    channels = channels or (1 if all(grey for _, grey in seen) else 3)
    require_samples(folder, len(files), len(files) * channels * height * width)
    images = np.empty((len(files), channels, height, width), np.float32)
    for i, file in enumerate(files):
        images[i] = _load(file, (height, width), channels)
    return Samples("image", images, np.array(numbers, np.int64), classes)


def image_pixels(image: Image, size: tuple[int, int], channels: int) -> NDArray[np.float32]:
    """An image's pixels, shape (channels, H, W), in [0, 1].

    Args:
        image: Of any mode.
        size: Height and width.
        channels: 1 or 3.
    """
    from PIL.Image import Resampling, fromarray

    if image.mode[0] in "IF":  # 16 bits, or floats; Pillow's own way to 8 bits cuts them off at 255
        deep = np.asarray(image, np.float32) / (65535 if image.mode[0] == "I" else 1)
        image = fromarray((np.clip(deep, 0, 1) * 255).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != size[::-1]:
        image = image.resize(size[::-1], Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32) / np.float32(255)
    return pixels[None] if channels == 1 else np.moveaxis(pixels, 2, 0)


def image_size(
    what: object, size: int | tuple[int, int] | None, seen: Counter[tuple[int, int]]
) -> tuple[int, int]:
    """Height and width to bring images to: as given, or the most common ones, the smallest of those.

    Args:
        what: For messages.
        size: See `load_image_folder`.
        seen: How often images of each height and width were seen.

    Raises:
        ConfigError: `size` is out of range.
        DatasetError: The most common size is larger than `MOST_SIDE`.
    """
    if size is None:
        height, width = min(seen, key=lambda found: (-seen[found], found))
        if max(height, width) > MOST_SIDE:
            raise DatasetError(
                f"most images in {what} have {height} × {width} pixels, at most {MOST_SIDE} a side are "
                "trained on: say to which size they are to be brought (--size)"
            )
        return height, width
    height, width = (size, size) if isinstance(size, int) else size
    require_counts({"size": height, "size's width": width})
    require_range("size", max(height, width), 1, MOST_SIDE)
    return height, width


def _look(file: Path) -> tuple[tuple[int, int], bool]:
    """Height and width of an image by its header, and whether it is grey."""
    with _opened(file) as image:
        return (image.height, image.width), image.mode in GREY_MODES


def _load(file: Path, size: tuple[int, int], channels: int) -> NDArray[np.float32]:
    with _opened(file) as image:
        return image_pixels(image, size, channels)


@contextmanager
def _opened(file: Path) -> Iterator[Image]:
    """An image of a size that is read; whatever Pillow raises in the block becomes one clear line."""
    from PIL import Image

    require_file(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of palettes, metadata and bombs: those are refused below
            with Image.open(file, formats=FORMATS) as image:
                _require_pixels(file, image)
                yield image
    except DatasetError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        reason = str(error) if str(error).isprintable() else type(error).__name__
        raise DatasetError(
            f"{file} is no image that can be read: {reason or type(error).__name__}"
        ) from error


def _require_pixels(file: Path, image: Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise DatasetError(
            f"{file} has {image.height} × {image.width} pixels: at most {MOST_PIXELS:,} are read"
        )
