"""Short sounds in noise: (n, 1, 256) in [-1, 1] in eight classes each, so that one network fits all of them.

A sound lasts 32 ms, 256 samples at 8 kHz. How much noise there is, how far a class spreads and how much the
loudness differs vary with the generator.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.samples import Samples

LENGTH = 256
RATE = 8000.0
"""Samples a second."""
CLASSES = 8
SOUNDS = 2000
LOWEST, HIGHEST = 200.0, 3200.0
"""Frequencies of the tones, in Hz: four octaves."""
VOWELS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "heed": ((270, 2290, 3010), (310, 2790, 3310)),
    "hid": ((390, 1990, 2550), (430, 2480, 3070)),
    "head": ((530, 1840, 2480), (610, 2330, 2990)),
    "had": ((660, 1720, 2410), (860, 2050, 2850)),
    "hod": ((730, 1090, 2440), (850, 1220, 2810)),
    "hawed": ((570, 840, 2410), (590, 920, 2710)),
    "hood": ((440, 1020, 2240), (470, 1160, 2680)),
    "who'd": ((300, 870, 2240), (370, 950, 2670)),
}
"""The first three resonances (formants) of American vowels, in Hz, of men and of women, on average: Peterson
and Barney, Control Methods Used in a Study of the Vowels, J. Acoust. Soc. Am. 24, 1952, table II."""
BANDWIDTHS = (60.0, 90.0, 150.0)
"""Of the three resonances, in Hz: usual values of synthesis by rule, as in Klatt 1980."""
PITCHES = (132.0, 223.0)
"""Of men and of women, in Hz, on average: Peterson and Barney 1952, table II."""
SWEEPS = (350.0, 700.0, 1400.0, 2800.0)
"""How far chirps go from beginning to end, in Hz."""
BEATS = (2.5, 4.5, 8.0, 14.5)
"""How many beats of a rhythm a sound has."""

Array = NDArray[np.float64]
Classes = NDArray[np.int64]


def _even_classes(rng: np.random.Generator) -> Classes:
    """Class numbers (`SOUNDS`,), as many of each, shuffled."""
    return rng.permutation(np.arange(SOUNDS) % CLASSES)


def _in_noise(rng: np.random.Generator, clean: Array, classes: Classes, names: tuple[str, ...]) -> Samples:
    """Samples of sounds (n, 256) under white noise, each as loud as it happens to be.

    The ratio of signal to noise is drawn for the set, from -4 dB to 24 dB, and within 3 dB for each sound.
    """
    ratio = rng.uniform(-4, 24) + rng.uniform(-3, 3, (len(clean), 1))
    quietest = rng.uniform(0.1, 1)
    clean = clean / clean.std(axis=1, keepdims=True)
    noisy = clean + 10 ** (-ratio / 20) * rng.standard_normal(clean.shape)
    noisy *= rng.uniform(quietest, 1, (len(clean), 1)) / np.abs(noisy).max(axis=1, keepdims=True)
    return Samples("sound", noisy[:, None].astype(np.float32), classes, classes=names)


def _phases(rng: np.random.Generator) -> Array:
    return rng.uniform(0, 2 * np.pi, (SOUNDS, 1))


def tones(rng: np.random.Generator) -> Samples:
    """A class is a band of half an octave from 200 to 3,200 Hz. Overtones are as loud as it happens."""
    overlap, overtone = rng.uniform(0, 0.5), rng.uniform(0, 0.8)
    classes = _even_classes(rng)
    band = classes + rng.uniform(-overlap, 1 + overlap, SOUNDS)
    pitch = LOWEST * (HIGHEST / LOWEST) ** (np.clip(band, 0, CLASSES) / CLASSES)
    turns = 2 * np.pi * pitch[:, None] * np.arange(LENGTH) / RATE
    second = rng.uniform(0, overtone, (SOUNDS, 1)) * (2 * pitch[:, None] < RATE / 2)
    clean = np.sin(turns + _phases(rng)) + second * np.sin(2 * turns + _phases(rng))
    edges = LOWEST * (HIGHEST / LOWEST) ** (np.arange(CLASSES + 1) / CLASSES)
    names = tuple(f"{low:.0f}-{high:.0f} Hz" for low, high in pairwise(edges))
    return _in_noise(rng, clean, classes, names)


def chirps(rng: np.random.Generator) -> Samples:
    """A class is a direction, up or down, and one of four `SWEEPS`; the middle lies anywhere."""
    spread = rng.uniform(0, 0.4)
    classes = _even_classes(rng)
    sweep = np.take(SWEEPS, classes // 2) * np.exp(rng.uniform(-spread, spread, SOUNDS))
    sweep = np.minimum(sweep, 3200.0)
    room = (RATE / 2 - 400 - sweep) / 2  # keeps it 200 Hz off zero and off half the rate
    middle = RATE / 4 + room * rng.uniform(-1, 1, SOUNDS)
    time = (np.arange(LENGTH) - (LENGTH - 1) / 2) / RATE
    slope = sweep * (1 - 2 * (classes % 2)) * RATE / LENGTH
    turns = 2 * np.pi * (middle[:, None] * time + slope[:, None] / 2 * time**2)
    names = tuple(f"{way} {size:.0f} Hz" for size in SWEEPS for way in ("up", "down"))
    return _in_noise(rng, np.sin(turns + _phases(rng)), classes, names)


def formants(rng: np.random.Generator) -> Samples:
    """Vowels: pulses of a voice, a man's or a woman's, through the three resonances of `VOWELS`.

    Voices differ in pitch, in the length of the throat, which scales all resonances, and in brightness.
    """
    throat, accent = rng.uniform(0, 0.12), rng.uniform(0, 0.12)
    classes = _even_classes(rng)
    woman = rng.integers(2, size=SOUNDS)
    pitch = np.take(PITCHES, woman) * np.exp(rng.uniform(-0.3, 0.3, SOUNDS))
    centres = np.array(list(VOWELS.values()), dtype=np.float64)[classes, woman]  # (n, 3)
    centres *= np.exp(throat * rng.standard_normal((SOUNDS, 1)) + accent * rng.standard_normal((SOUNDS, 3)))
    settle = LENGTH // 2  # until resonances have filled up
    phase = np.arange(settle + LENGTH + 2)[:, None] * pitch / RATE + rng.uniform(0, 1, SOUNDS)
    pulses = np.diff(np.floor(phase), axis=0)  # (time, n): one where a pulse begins
    # A pulse is round, and lips pass on its change: Klatt's RGP and radiation characteristic.
    signal = np.diff(resonate(pulses, np.zeros(SOUNDS), rng.uniform(100, 800, SOUNDS)), axis=0)
    for number, width in enumerate(BANDWIDTHS):
        signal = resonate(signal, np.minimum(centres[:, number], 0.45 * RATE), np.full(SOUNDS, width))
    return _in_noise(rng, signal[settle:].T, classes, tuple(VOWELS))


def resonate(signal: Array, centres: Array, widths: Array) -> Array:
    """The digital resonator of Klatt (Software for a Cascade/Parallel Formant Synthesizer, 1980), eq. 1-2.

    y[t] = a x[t] + b y[t - 1] + c y[t - 2], with gain 1 at frequency 0.

    Args:
        signal: Shape (time, n).
        centres: Frequencies of the n resonances, in Hz.
        widths: Their bandwidths, in Hz.
    """
    c = -np.exp(-2 * np.pi * widths / RATE)
    b = 2 * np.exp(-np.pi * widths / RATE) * np.cos(2 * np.pi * centres / RATE)
    sounding = (1 - b - c) * signal
    sounding[1] += b * sounding[0]
    for t in range(2, len(sounding)):
        sounding[t] += b * sounding[t - 1] + c * sounding[t - 2]
    return sounding


def rhythms(rng: np.random.Generator) -> Samples:
    """A class is one of four tempos and how a beat sounds: struck, or swelling and cut off.

    What sounds is noise or a tone, and beats may be even or uneven in strength.
    """
    spread, uneven = rng.uniform(0, 0.3), rng.uniform(0, 0.6)
    classes = _even_classes(rng)
    beats = np.take(BEATS, classes // 2) * np.exp(rng.uniform(-spread, spread, SOUNDS))
    at = np.arange(LENGTH) / LENGTH * beats[:, None] + rng.uniform(0, 1, (SOUNDS, 1))
    within = at % 1
    decay = np.exp(-rng.uniform(2, 6, (SOUNDS, 1)) * np.where(classes[:, None] % 2, 1 - within, within))
    strengths = 1 - uneven * rng.uniform(0, 1, (SOUNDS, int(at.max()) + 1))
    envelope = decay * np.take_along_axis(strengths, at.astype(np.int64), axis=1)
    turns = 2 * np.pi * rng.uniform(0.05, 0.4, (SOUNDS, 1)) * np.arange(LENGTH)
    tone, hiss = np.sqrt(2) * np.sin(turns + _phases(rng)), rng.standard_normal((SOUNDS, LENGTH))
    carrier = np.where(rng.random((SOUNDS, 1)) < 0.5, tone, hiss)
    names = tuple(f"{kind} {count:g}" for count in BEATS for kind in ("struck", "swelling"))
    return _in_noise(rng, envelope * carrier, classes, names)


SOUND_SETS: dict[str, Callable[[np.random.Generator], Samples]] = {
    "tones": tones,
    "chirps": chirps,
    "formants": formants,
    "rhythms": rhythms,
}
"""Functions from a generator to a set, by name."""
