"""Folders of wav files: every width of samples, one rate, one length."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import own_files
import pytest
from scipy.io import wavfile

from rl_tuner import ConfigError, DatasetError
from rl_tuner.envs.wav_folders import load_wav_folder, read_wav

WAY = np.array([0.0, 0.5, -0.5, 0.25, -1.0, 0.75])
"""A sound that every width holds exactly."""


def tone(n: int, rate: int, hertz: float = 100.0) -> np.ndarray:
    return np.round(20_000 * np.sin(2 * np.pi * hertz * np.arange(n) / rate)).astype(np.int16)


def folder(*sounds: tuple[np.ndarray, int]) -> Path:
    return own_files.write(
        {f"f/{'ab'[i % 2]}/{i:02}.wav": own_files.wav(s, rate) for i, (s, rate) in enumerate(sounds)}
    )


def stored(values: np.ndarray) -> Path:
    data = io.BytesIO()
    wavfile.write(data, 8000, values)
    Path("s.wav").write_bytes(data.getvalue())
    return Path("s.wav")


@pytest.mark.parametrize(
    "values",
    [
        np.round(128 + 128 * WAY).astype(np.uint8),
        (32768 * WAY).astype(np.int16),
        (2**31 * WAY).astype(np.int32),
        WAY.astype(np.float32),
        WAY.astype(np.float64),
    ],
    ids=lambda values: str(values.dtype),
)
def test_samples_of_every_width_are_the_same_sound(values: np.ndarray) -> None:
    rate, sound = read_wav(stored(values))
    assert rate == 8000
    assert sound.dtype == np.float32
    np.testing.assert_allclose(sound, WAY, atol=1e-6)


def test_samples_of_24_bits_are_read() -> None:
    whole = (2**23 * WAY).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
    with wave.open("s.wav", "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(8000)
        file.writeframes(whole.tobytes())
    np.testing.assert_allclose(read_wav(Path("s.wav"))[1], WAY, atol=1e-6)


def test_channels_are_averaged() -> None:
    stereo = np.stack([16384 * WAY, -8192 * WAY], axis=1).astype(np.int16)
    Path("s.wav").write_bytes(own_files.wav(stereo))
    np.testing.assert_allclose(read_wav(Path("s.wav"))[1], WAY * (0.5 - 0.25) / 2, atol=1e-4)


def test_sounds_are_cut_to_the_median_length_and_end_in_silence() -> None:
    lengths = [50, 60, 70, 80, 90] * 2
    samples = load_wav_folder(folder(*((np.full(n, 16384), 8000) for n in lengths)))
    assert samples.kind == "sound"
    assert samples.inputs.shape == (10, 1, 70)
    assert samples.classes == ("a", "b")
    ends = (samples.inputs[:, 0] != 0).sum(1)
    assert sorted(ends) == sorted(min(n, 70) for n in lengths)
    assert load_wav_folder("f", length=33).inputs.shape == (10, 1, 33)


@pytest.mark.parametrize(("rate", "wanted"), [(16_000, 8000), (44_100, 8000), (8000, 16_000)])
def test_a_tone_stays_the_same_tone_at_another_rate(rate: int, wanted: int) -> None:
    path = folder(*((tone(rate // 4, rate), rate) for _ in range(10)))
    samples = load_wav_folder(path, rate=wanted)
    n = wanted // 4
    assert samples.inputs.shape == (10, 1, n)
    expected = tone(n, wanted) / 32768
    inside = slice(n // 10, -n // 10)  # the filter rings at the ends
    np.testing.assert_allclose(samples.inputs[3, 0, inside], expected[inside], atol=0.02)


def test_the_most_common_rate_counts_where_none_is_said() -> None:
    path = folder(*((tone(800, 8000), 8000) for _ in range(8)), *((tone(1600, 16_000), 16_000),) * 4)
    samples = load_wav_folder(path)
    assert samples.inputs.shape == (12, 1, 800)
    np.testing.assert_allclose(samples.inputs[-1, 0, 100:700], samples.inputs[0, 0, 100:700], atol=0.02)


def test_cutting_before_resampling_changes_nothing() -> None:
    path = folder(*((tone(32_000, 16_000, 50 + i), 16_000) for i in range(10)))
    long = load_wav_folder(path, rate=11_025, length=20_000).inputs[:, :, :500]
    np.testing.assert_allclose(load_wav_folder(path, rate=11_025, length=500).inputs, long, atol=1e-6)


def test_rates_that_no_filter_brings_together_are_refused() -> None:
    path = folder(*((tone(500, 44_100), 44_100) for _ in range(10)), (tone(500, 44_101), 44_101))
    with pytest.raises(
        DatasetError, match=r"f/a/10.wav has a rate of 44101 Hz.*ratio 44100/44101 is too odd"
    ):
        load_wav_folder(path)


def test_values_that_are_no_numbers_or_none_at_all_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"s\.wav holds values that are no numbers"):
        read_wav(stored(np.array([0.0, np.nan], np.float32)))
    with pytest.raises(DatasetError, match=r"s\.wav holds no sound"):
        read_wav(stored(np.zeros(0, np.int16)))


def test_a_file_that_is_cut_short_is_named() -> None:
    path = folder(*((tone(500, 8000), 8000) for _ in range(10)))
    content = (path / "b" / "03.wav").read_bytes()
    (path / "b" / "03.wav").write_bytes(content[:-100])
    with pytest.raises(DatasetError, match=r"f/b/03\.wav is cut short"):
        load_wav_folder(path)


@pytest.mark.parametrize("name", ["length", "rate"])
@pytest.mark.parametrize("value", [0, 1.5, 10**9])
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        load_wav_folder("f", **{name: value})  # type: ignore[arg-type]
