"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.files import plain, write_bytes, write_json


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    write_bytes(tmp_path / "a.bin", content)
    assert (tmp_path / "a.bin").read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a much longer old content")
    write_bytes(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_others_may_read_the_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.bin", b"x")
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", full) if failing == "fsync" else (Path, "replace", full)))
    with pytest.raises(OSError, match="No space") as caught:
        write_bytes(path, b"new content")
    assert caught.value.filename == str(path)  # not the temporary file's name, and not none
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_an_interrupt_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new content")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_content_is_flushed_to_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    named_when_flushed = []
    fsync = os.fsync

    def spy(handle: int) -> None:
        named_when_flushed.append(path.exists())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    write_bytes(path, b"x")
    assert named_when_flushed == [False]


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "no" / "a.bin", b"x")


def test_json_has_nulls_for_what_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"nan": math.nan, "inf": [math.inf, -math.inf, 1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"nan": None, "inf": [None, None, 1.5]}


def test_json_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    assert (tmp_path / "a.json").read_text().endswith("}\n")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2), [1, 2]),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1.0, np.nan]]), [[1.0, None]]),
        ({1: (2,)}, {"1": [2]}),
        (True, True),
        (None, None),
        (Path("a/b"), "a/b"),
        (10**30, 10**30),
    ],
)
def test_plain_turns_values_into_jsons_own_types(value: object, expected: object) -> None:
    result = plain(value)
    assert result == expected
    assert type(result) is type(expected)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    )
)
def test_whatever_is_plain_is_strict_json(value: object) -> None:
    once = plain(value)
    assert json.loads(json.dumps(once, allow_nan=False)) == once
    assert plain(once) == once
