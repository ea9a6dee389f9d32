"""Text files as windows of characters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rl_tuner import ConfigError, DatasetError
from rl_tuner.envs import text_files
from rl_tuner.envs.samples import Samples
from rl_tuner.envs.text_files import OTHER, is_text, load_text

TEXT = "the quick brown fox £ jumps over the lazy dog\n" * 20


def write(text: str | bytes) -> Path:
    Path("t.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return Path("t.txt")


def spelled(samples: Samples, row: int) -> tuple[str, str]:
    names = np.array(samples.classes)
    return "".join(names[samples.inputs[row]]), "".join(names[samples.targets[row]])


def test_each_target_is_the_next_character_and_no_character_is_in_two_windows() -> None:
    samples = load_text(write(TEXT), length=9)
    assert samples.inputs.shape == samples.targets.shape == (len(TEXT) // 10, 9)
    for row in range(len(samples)):
        window = TEXT[10 * row : 10 * row + 10]
        assert spelled(samples, row) == (window[:-1], window[1:])


def test_the_vocabulary_is_the_files_characters_and_the_network_predicts_at_every_position() -> None:
    samples = load_text(write(TEXT))
    assert samples.classes == tuple(sorted(set(TEXT)))
    assert samples.vocabulary == (len(set(TEXT)),)
    assert samples.shape.every_position
    assert samples.shape.sample == (64,)
    assert samples.shape.outputs == len(set(TEXT))


def test_the_rarest_characters_beyond_the_cap_become_one_symbol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "MOST_SYMBOLS", 4)
    samples = load_text(write("aaaabbbbccdcé" * 20), length=12)
    assert samples.classes == ("a", "b", "c", OTHER)
    names = np.array(samples.classes)
    assert names[samples.inputs[0]].tolist() == [*"aaaabbbbcc", OTHER, "c"]
    assert names[samples.targets[0]][-1] == OTHER


def test_line_ends_and_a_byte_order_mark_do_not_matter() -> None:
    plain = load_text(write(TEXT))
    windows = load_text(write(TEXT.replace("\n", "\r\n").encode("utf-8-sig")))
    assert windows.classes == plain.classes
    np.testing.assert_array_equal(windows.inputs, plain.inputs)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t.txt is empty"),
        (b"caf\xe9 " * 300, r"not UTF-8 text \(byte 3\)"),
        (TEXT.encode("utf-16"), "not UTF-8 text|NUL bytes"),
        (b"a\0b" * 300, "NUL bytes"),
        (b"short", r"has 5 characters, at least 10 windows of 65 .*--length"),
        (b"a" * 1000, "is 'a' throughout: there is nothing to learn"),
    ],
)
def test_what_is_no_text_to_learn_from_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_text(write(content))


def test_a_text_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "MOST_CHARACTERS", 800)
    with pytest.raises(DatasetError, match="has 920 characters: at most 800 are read"):
        load_text(write(TEXT))


@pytest.mark.parametrize("length", [0, -3, 5000, 2.5])
def test_a_length_out_of_range_is_refused(length: int) -> None:
    with pytest.raises(ConfigError, match="length"):
        load_text(write(TEXT), length)


def test_a_file_is_known_for_text_by_its_beginning() -> None:
    assert is_text(write("é" * 5000))  # the 4096 bytes that are looked at may end inside of a character
    assert is_text(write("x" + "é" * 5000))
    assert not is_text(write(b"\x89PNG\r\n\x1a\n"))
    assert not is_text(write(b"abc\0"))
