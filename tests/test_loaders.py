"""The front door: which loader a reference leads to, and which options it takes."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import own_files
import pytest

from rl_tuner import ConfigError, DatasetError
from rl_tuner.envs.loaders import load_samples

KINDS = {
    "table": "table",
    "ratings": "ratings",
    "npz": "table",
    "idx": "image",
    "packed idx": "image",
    "image folder": "image",
    "wav folder": "sound",
    "text": "tokens",
}


def made(name: str) -> str:
    return str(own_files.write(own_files.FORMATS[name]()))


@pytest.mark.parametrize("name", KINDS)
def test_every_format_is_known_and_splits_into_finite_parts(name: str) -> None:
    samples = load_samples(made(name), own_files.TARGETS.get(name))
    assert samples.kind == KINDS[name]
    split = samples.split(0)
    assert all(tensor.isfinite().all() for part in (split.train, split.validation) for tensor in part)


@pytest.mark.parametrize("name", KINDS)
def test_the_same_file_gives_the_same_samples(name: str, untouched_rng: None) -> None:
    target = own_files.TARGETS.get(name)
    first, second = load_samples(made(name), target), load_samples(made(name), target)
    np.testing.assert_array_equal(first.inputs, second.inputs)
    np.testing.assert_array_equal(first.targets, second.targets)


def test_a_reference_may_carry_its_target() -> None:
    path = made("table")
    plain = load_samples(path, "kind")
    for reference in (f"{path}#kind", f"{path}#-1", f"./{path}#kind"):
        np.testing.assert_array_equal(load_samples(reference).inputs, plain.inputs)
    np.testing.assert_array_equal(load_samples(f"{path}#kind", "kind").inputs, plain.inputs)
    with pytest.raises(ConfigError, match="names the target 'kind', but 'size' is given too"):
        load_samples(f"{path}#kind", "size")


def test_a_name_with_a_hash_is_a_file_where_there_is_one() -> None:
    Path("table#1.csv").write_bytes(own_files.table()["table.csv"])
    assert load_samples("table#1.csv", "kind").classes == ("a", "b")
    assert load_samples("table#1.csv#kind").classes == ("a", "b")


def test_a_file_of_ratings_is_a_table_where_a_target_is_named() -> None:
    path = made("ratings")
    assert load_samples(path).kind == "ratings"
    assert load_samples(path, "rating").columns[:2] == ("user=u0", "user=u1")


def test_images_and_text_are_known_by_their_beginning_not_their_name() -> None:
    for name, content in own_files.images().items():
        Path(name.replace("-ubyte", ".dat")).write_bytes(gzip.compress(content))
    samples = load_samples("some-images-idx3.dat", labels="some-labels-idx1.dat")
    assert samples.kind == "image"
    Path("poem.verse").write_bytes(own_files.text()["book.txt"])
    assert load_samples("poem.verse", length=20).shape.sample == (20,)


@pytest.mark.parametrize("name", ["text", "table"])
def test_a_packed_file_of_another_format_is_refused_for_being_packed(name: str) -> None:
    path = Path(made(name))
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DatasetError, match=r"is packed with gzip, .*: unpack it"):
        load_samples(str(packed), own_files.TARGETS.get(name))


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("text", {"impute": True}, r"book.txt is a text file, which takes no impute .it takes length"),
        ("idx", {"size": 8}, "is images in IDX format, which takes no size"),
        ("table", {"length": 3}, "is a table, which takes no length .it takes impute, task, header, encode"),
        ("ratings", {"task": "regression"}, "is a csv of ratings, which takes no task .it takes no options"),
        (
            "image folder",
            {"rate": 8000},
            "is a folder of images, which takes no rate .it takes size, channels",
        ),
        (
            "wav folder",
            {"labels": "x"},
            "is a folder of wav files, which takes no labels .it takes length, rate",
        ),
        ("table", {"lenght": 3}, "unknown option 'lenght' .did you mean 'length'"),
    ],
)
def test_an_option_of_another_format_is_refused_and_never_passed_over(
    name: str, option: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load_samples(made(name), own_files.TARGETS.get(name), **option)  # type: ignore[arg-type]


def test_options_that_are_none_count_as_not_given() -> None:
    assert load_samples(made("text"), impute=None, size=None, length=None).shape.sample == (64,)


def test_a_target_is_asked_for_where_one_is_needed_and_refused_where_none_is() -> None:
    with pytest.raises(ConfigError, match=r"--target is missing: which column of table\.csv"):
        load_samples(made("table"))
    with pytest.raises(ConfigError, match=r"book\.txt is a text file, which takes no target: got 'kind'"):
        load_samples(made("text"), "kind")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("absent.csv", r"no such file: absent\.csv"),
        ("absent", "no such file: absent"),
        ("nul\0.csv", "cannot read 'nul"),
        ("x" * 5000, "cannot read|no such file"),
        ("folder", "must hold a folder for each class"),
        ("folder.csv", "must hold a folder for each class"),
        ("pipe.csv", "pipe.csv is not a file"),
        ("sheet.xlsx", r"sheet\.xlsx is none of what can be read: a table"),
        ("noise.gz", r"noise\.gz is none of what can be read"),
        ("empty.txt", r"empty\.txt is empty"),
        ("", "must hold a folder"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(reference: str, message: str) -> None:
    for name in ("folder", "folder.csv"):
        Path(name).mkdir()
    os.mkfifo("pipe.csv")
    Path("sheet.xlsx").write_bytes(b"PK\3\4\0\0")
    Path("noise.gz").write_bytes(gzip.compress(b"\1\2\3\0"))
    Path("empty.txt").touch()
    with pytest.raises(DatasetError, match=message) as caught:
        load_samples(reference, "kind" if reference.endswith(".csv") and reference[0] != "f" else None)
    assert "\n" not in str(caught.value)


def test_a_name_in_the_file_that_holds_a_line_end_leaves_the_message_one_line() -> None:
    Path("t.csv").write_text('"two\nlines",b\n' + "\n".join(f"{i},x" for i in range(12)))
    with pytest.raises(DatasetError, match="it has two lines, b") as caught:
        load_samples("t.csv", "kind")
    assert "\n" not in str(caught.value)
