"""Sound sets: classes sound as they are said to, can be learned, and are hard to varying degrees."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.ensemble import ExtraTreesClassifier

from rl_tuner.envs.samples import Samples
from rl_tuner.envs.sound_sets import (
    BEATS,
    CLASSES,
    HIGHEST,
    LENGTH,
    LOWEST,
    RATE,
    SOUND_SETS,
    SOUNDS,
    SWEEPS,
    VOWELS,
    resonate,
)
from tests.data_sets import (
    Source,
    commonest,
    draw,
    held_out_score,
    require_drawn_by_the_generator_alone,
    shuffled,
)

SETS = pytest.mark.parametrize("source", SOUND_SETS.values(), ids=SOUND_SETS)
CLEAREST = {"tones": 3, "chirps": 1, "formants": 6, "rhythms": 1}


def signals(sounds: Samples) -> np.ndarray:
    return sounds.inputs[:, 0].astype(np.float64)


def loudest(parts: np.ndarray) -> np.ndarray:
    """The frequency, in Hz, of the highest peak of the spectrum of each row."""
    windowed = parts * np.hanning(parts.shape[1])
    spectrum = np.abs(np.fft.rfft(windowed, 4 * LENGTH, axis=1))
    return spectrum.argmax(axis=1) * RATE / (4 * LENGTH)


def envelope(parts: np.ndarray) -> np.ndarray:
    """Loudness over time: the mean absolute value over 8 samples."""
    return np.abs(parts).reshape(len(parts), -1, 8).mean(axis=2)


def features(sounds: Samples) -> np.ndarray:
    """Spectra of the whole and of eighths, and the envelope's own spectrum and skewness of its slopes."""
    parts = signals(sounds)
    parts = parts / parts.std(axis=1, keepdims=True)
    whole = np.abs(np.fft.rfft(parts, axis=1))
    eighths = np.abs(np.fft.rfft(parts.reshape(len(parts), 8, -1) * np.hanning(LENGTH // 8), axis=2))
    loud = envelope(parts)
    beats = np.abs(np.fft.rfft(loud - loud.mean(axis=1, keepdims=True), axis=1))
    slopes = (np.diff(loud, axis=1) ** 3).mean(axis=1, keepdims=True)
    return np.concatenate([whole, eighths.reshape(len(parts), -1), beats, slopes], axis=1)


@SETS
def test_every_set_has_one_shape_and_as_many_sounds_of_each_class(source: Source) -> None:
    for seed in range(3):
        sounds = draw(source, seed)
        assert sounds.kind == "sound"
        assert sounds.inputs.shape == (SOUNDS, 1, LENGTH)
        assert sounds.inputs.dtype == np.float32
        assert np.abs(sounds.inputs).max() <= 1
        assert np.abs(sounds.inputs).max(axis=(1, 2)).min() > 0.05  # none is silent
        assert len(set(sounds.classes)) == CLASSES
        assert np.bincount(sounds.targets).tolist() == [SOUNDS // CLASSES] * CLASSES


@SETS
@pytest.mark.usefixtures("untouched_rng")
def test_a_set_depends_on_its_generator_alone(source: Source) -> None:
    require_drawn_by_the_generator_alone(source)


@pytest.mark.parametrize("seed", range(5))
def test_a_tone_lies_in_the_band_of_its_class(seed: int) -> None:
    tones = draw(SOUND_SETS["tones"], seed)
    band = np.log(loudest(signals(tones)) / LOWEST) / np.log(HIGHEST / LOWEST) * CLASSES
    for number in range(CLASSES):
        off = band[tones.targets == number] - (number + 0.5)
        assert abs(np.median(off)) < 0.3
        assert np.mean(np.abs(off) < 1.15) > 0.6  # half a band, and another half where bands overlap most
    assert tones.classes[0] == "200-283 Hz"


@pytest.mark.parametrize("seed", range(5))
def test_a_chirp_goes_up_or_down_as_far_as_its_class_says(seed: int) -> None:
    chirps = draw(SOUND_SETS["chirps"], seed)
    quarter = LENGTH // 4
    parts = signals(chirps)
    rise = loudest(parts[:, -quarter:]) - loudest(parts[:, :quarter])
    for number, name in enumerate(chirps.classes):
        sweep = SWEEPS[number // 2] * (1 if name.startswith("up") else -1)
        # Between the middles of the first and the last quarter lie three quarters of the sweep.
        assert np.median(rise[chirps.targets == number]) == pytest.approx(0.75 * sweep, abs=0.25 * abs(sweep))


def test_a_resonance_is_the_recursive_filter_of_its_formula() -> None:
    signal = np.random.default_rng(0).standard_normal((100, 2))
    centres, widths = np.array([500.0, 1500.0]), np.array([60.0, 90.0])
    found = resonate(signal.copy(), centres, widths)
    for number in range(2):
        radius = np.exp(-np.pi * widths[number] / RATE)
        poles = [1, -2 * radius * np.cos(2 * np.pi * centres[number] / RATE), radius**2]
        np.testing.assert_allclose(
            found[:, number], lfilter([sum(poles)], poles, signal[:, number]), atol=1e-12
        )


def test_a_resonance_rings_at_its_frequency_and_lets_the_mean_pass() -> None:
    impulse = np.zeros((4096, 2))
    impulse[0] = 1
    response = np.abs(
        np.fft.rfft(resonate(impulse, np.array([500.0, 1500.0]), np.array([50.0, 50.0])), axis=0)
    )
    peaks = response.argmax(axis=0) * RATE / 4096
    np.testing.assert_allclose(peaks, [500, 1500], atol=5)
    np.testing.assert_allclose(response[0], 1, atol=1e-3)


def test_vowels_are_loud_at_their_formants() -> None:
    vowels = draw(SOUND_SETS["formants"], CLEAREST["formants"])
    power = np.abs(np.fft.rfft(signals(vowels) * np.hanning(LENGTH), axis=1)) ** 2
    frequencies = np.fft.rfftfreq(LENGTH, 1 / RATE)
    shares = power / power.sum(axis=1, keepdims=True)

    def level(name: str, low: float, high: float) -> float:
        inside = (frequencies > low) & (frequencies < high)
        return float(np.median(shares[vowels.targets == vowels.classes.index(name)][:, inside].sum(axis=1)))

    assert vowels.classes == tuple(VOWELS)
    assert level("hod", 600, 1300) > 2 * level("heed", 600, 1300)  # between the formants of "heed"
    assert level("heed", 2000, 3000) > 2 * level("who'd", 2000, 3000)
    assert level("heed", 150, 450) > 2 * level("had", 150, 450)
    assert level("had", 600, 1000) > 2 * level("hid", 600, 1000)


def test_struck_beats_begin_suddenly_and_swelling_ones_end_so() -> None:
    rhythms = draw(SOUND_SETS["rhythms"], CLEAREST["rhythms"])
    slopes = np.diff(envelope(signals(rhythms)), axis=1)
    skewed = (slopes**3).sum(axis=1)
    for number, name in enumerate(rhythms.classes[:-2]):  # the fastest leaves two samples of this a beat
        of = skewed[rhythms.targets == number]
        right = of > 0 if name.startswith("struck") else of < 0
        assert right.mean() > 0.8


def test_beats_are_as_many_as_the_class_says() -> None:
    rhythms = draw(SOUND_SETS["rhythms"], CLEAREST["rhythms"])
    loud = envelope(signals(rhythms))
    spectrum = np.abs(np.fft.rfft((loud - loud.mean(axis=1, keepdims=True)) * np.hanning(32), 512, axis=1))
    beats = spectrum.argmax(axis=1) / 512 * 32
    for number in range(1, len(BEATS)):  # of the slowest the window holds too few
        found = np.median(beats[rhythms.targets // 2 == number])
        assert found == pytest.approx(BEATS[number], rel=0.15)


@pytest.mark.parametrize("name", SOUND_SETS)
def test_classes_can_be_learned_and_shuffled_ones_cannot(name: str) -> None:
    sounds = draw(SOUND_SETS[name], CLEAREST[name])
    forest = ExtraTreesClassifier(40, random_state=0)
    heard, chance = features(sounds), commonest(sounds.targets)
    assert held_out_score(forest, heard, sounds.targets) > chance + 0.3
    assert held_out_score(forest, heard, shuffled(sounds.targets)) < chance + 0.06


@SETS
def test_how_hard_the_sounds_are_varies_with_the_seed(source: Source) -> None:
    scores = []
    for seed in range(5):
        sounds = draw(source, seed)
        forest = ExtraTreesClassifier(15, random_state=0)
        scores.append(held_out_score(forest, features(sounds), sounds.targets))
    assert max(scores) - min(scores) > 0.15
