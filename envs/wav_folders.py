"""Reads a folder of wav files, one sub-folder a class."""

from __future__ import annotations

import io
import struct
import warnings
from collections import Counter
from math import ceil, gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import require_counts, require_range
from rl_tuner.envs.class_folders import class_files
from rl_tuner.envs.reading import read_bytes, require_samples
from rl_tuner.envs.samples import Samples
from rl_tuner.errors import DatasetError

SUFFIXES = (".wav", ".wave")
MOST_FILE = 2**27
"""Bytes of one file: 128 MiB are 12 minutes of stereo at 48 kHz, 16 bits."""
MOST_LENGTH = 2**17
"""Of the sounds as they are trained on, in samples: 8 s at 16 kHz."""
MOST_RATE = 768_000
"""In Hz: the highest that recorders offer."""
MOST_FACTOR = 1000
"""Rates are brought to another by a ratio of whole numbers up to this: 44.1 to 48 kHz is 160/147. The filter
for 44,100 to 44,101 Hz would have a million weights; such files are refused."""
MARGIN = 64
"""Samples beyond the cut, for the filter that resamples."""

Sound = NDArray[np.float32]


def load_wav_folder(folder: str | Path, length: int | None = None, rate: int | None = None) -> Samples:
    """Sounds of kind "sound", one channel, the folders' names their classes.

    Args:
        folder: It holds a folder for each class. PCM of 8 to 32 bits, or floats; channels are averaged.
        length: Samples of a sound: longer ones are cut, shorter ones end in silence. None for the median.
        rate: Samples per second: sounds of another rate are resampled. None for the most common one.

    Raises:
        ConfigError: `length` or `rate` is out of range.
        DatasetError: See `class_files`; or a file is broken, or of a rate that cannot be brought to the
            common one; the message names it.
    """
    folder = Path(folder)
    for name, value, most in (("length", length, MOST_LENGTH), ("rate", rate, MOST_RATE)):
        if value is not None:
            require_counts({name: value})
            require_range(name, value, 1, most)
    files, numbers, classes = class_files(folder, SUFFIXES)
    if length is None or rate is None:
        found = [(r, len(sound)) for r, sound in map(read_wav, files)]
        counts = Counter(r for r, _ in found)
        rate = rate or min(counts, key=lambda r: (-counts[r], r))
        length = length or _usual_length(folder, [n * rate / r for r, n in found])
    require_samples(folder, len(files), len(files) * length)
    sounds = np.zeros((len(files), 1, length), np.float32)
    for i, file in enumerate(files):
        sound = _resample(file, *read_wav(file), rate, length)
        sounds[i, 0, : len(sound)] = sound
    return Samples("sound", sounds, np.array(numbers, np.int64), classes)


def read_wav(file: Path) -> tuple[int, Sound]:
    """The rate of a wav file in Hz, and its sound, channels averaged, in [-1, 1].

    Raises:
        DatasetError: The file cannot be read, is broken or cut short, or of a kind that is not read.
    """
    from scipy.io import wavfile

    data = read_bytes(file)
    if len(data) > MOST_FILE:
        raise DatasetError(f"{file} has {len(data):,} bytes: at most {MOST_FILE:,} are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", "Reached EOF")  # cut short
            rate, values = wavfile.read(
                io.BytesIO(data)
            )  # from memory: reads what is there, not what is said
    except wavfile.WavFileWarning as error:
        raise DatasetError(f"{file} is cut short: {error}") from error
    except (ValueError, TypeError, ArithmeticError, EOFError, struct.error, NameError) as error:
        raise DatasetError(f"{file} is no wav file that can be read: {error}") from error
    if not 1 <= rate <= MOST_RATE:
        raise DatasetError(f"{file} has a rate of {rate} Hz: it must be from 1 to {MOST_RATE:,}")
    if values.size == 0:
        raise DatasetError(f"{file} holds no sound")
    sound = _scale(values)
    if not np.isfinite(sound).all():
        raise DatasetError(f"{file} holds values that are no numbers")
    return int(rate), sound


def _scale(values: NDArray[np.generic]) -> Sound:
    """Samples of any type, shape (n,) or (n, channels), as floats in [-1, 1], shape (n,)."""
    kind, width = values.dtype.kind, values.dtype.itemsize
    with np.errstate(over="ignore", invalid="ignore"):
        sound = values.astype(np.float32)
        if kind == "u":
            sound = (sound - np.float32(128)) / np.float32(128)
        elif kind == "i":
            sound = sound / np.float32(2.0 ** (8 * width - 1))
        mixed = sound.mean(axis=1) if sound.ndim > 1 else sound
    return np.asarray(np.clip(mixed, -1, 1), np.float32)


def _usual_length(folder: Path, lengths: list[float]) -> int:
    median = max(1, round(float(np.median(lengths))))
    if median > MOST_LENGTH:
        raise DatasetError(
            f"the sounds in {folder} have {median:,} samples at the median, at most {MOST_LENGTH:,} are "
            "trained on: say to what they are to be cut (--length), or a lower rate (--rate)"
        )
    return median


def _resample(file: Path, rate: int, sound: Sound, wanted: int, length: int) -> Sound:
    """A sound at the rate wanted, cut to a length; shorter ones stay shorter."""
    if rate != wanted:
        from scipy.signal import resample_poly

        up, down = wanted // gcd(wanted, rate), rate // gcd(wanted, rate)
        if max(up, down) > MOST_FACTOR:
            raise DatasetError(
                f"{file} has a rate of {rate} Hz, which cannot be brought to {wanted} Hz (the ratio "
                f"{up}/{down} is too odd): resample the file"
            )
        needed = ceil(length * down / up) + MARGIN * max(1, ceil(down / up))
        sound = np.asarray(resample_poly(sound[:needed], up, down), np.float32)
    return np.clip(sound[:length], -1, 1)
