"""IDX files: the format's own definition, labels found beside the images, and what is said of others."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import own_files
import pytest

from rl_tuner import DatasetError
from rl_tuner.envs.idx_files import find_labels, load_idx, read_idx

PIXELS = np.arange(20 * 3 * 2, dtype=np.uint8).reshape(20, 3, 2) * 2
LABELS = np.arange(20, dtype=np.uint8) % 4 + 5


def write(images: str, labels: str, pixels: np.ndarray = PIXELS, numbers: np.ndarray = LABELS) -> None:
    for name, values in ((images, pixels), (labels, numbers)):
        content = own_files.idx(values)
        Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        ("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte.gz"),
        ("own-images-idx3-ubyte.gz", "own-labels-idx1-ubyte"),
    ],
)
def test_images_are_in_0_to_1_and_the_labels_beside_them_are_found(images: str, labels: str) -> None:
    write(images, labels)
    samples = load_idx(images)
    assert samples.kind == "image"
    assert samples.inputs.dtype == np.float32
    np.testing.assert_allclose(samples.inputs, PIXELS[:, None] / 255, rtol=1e-7)
    assert samples.classes == ("5", "6", "7", "8")
    np.testing.assert_array_equal(samples.targets, np.arange(20) % 4)


def test_labels_of_any_name_can_be_given() -> None:
    write("pictures", "truth")
    assert load_idx("pictures", "truth").classes == ("5", "6", "7", "8")
    with pytest.raises(DatasetError, match=r"no labels beside pictures: .*--labels"):
        load_idx("pictures")


def test_a_file_of_labels_is_never_its_own_label_file() -> None:
    write("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    with pytest.raises(DatasetError, match=r"train-labels-idx1-ubyte holds \(20,\) of type u1, not images"):
        load_idx("train-labels-idx1-ubyte")
    with pytest.raises(DatasetError, match="no labels beside"):
        find_labels(Path("train-labels-idx1-ubyte"))


def test_colours_lie_in_the_last_dimension() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), dtype=np.uint8)
    write("c-images-idx4-ubyte", "c-labels-idx1-ubyte", colours)
    samples = load_idx("c-images-idx4-ubyte")
    assert samples.inputs.shape == (20, 3, 4, 5)
    assert samples.inputs[7, 2, 3, 4] == pytest.approx(colours[7, 3, 4, 2] / 255)
    write("c-images-idx4-ubyte", "c-labels-idx1-ubyte", colours.reshape(20, 4, 3, 5))
    with pytest.raises(DatasetError, match="must be 1, 3 or 4 channels"):
        load_idx("c-images-idx4-ubyte")


@pytest.mark.parametrize("code", [0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E])
def test_numbers_of_every_type_are_read_with_the_most_significant_byte_first(code: int) -> None:
    form = {0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i", 0x0D: "f", 0x0E: "d"}[code]
    values = [1, 2, 3, 100, 0, 7]
    header = struct.pack(">BBBBII", 0, 0, code, 2, 2, 3)
    Path("numbers").write_bytes(header + struct.pack(f">6{form}", *values))
    assert read_idx(Path("numbers")).tolist() == [values[:3], values[3:]]


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (PIXELS, LABELS[:19], "holds 20 images, but there are 19 labels"),
        (PIXELS[:8], LABELS[:8], "has 8 samples: at least 10"),
        (PIXELS, LABELS * 0, "is 0 in every row: there is nothing to learn"),
        (PIXELS, np.arange(20, dtype=np.uint8), "20 distinct values in 20 rows"),
        (PIXELS, LABELS.reshape(4, 5), r"holds \(4, 5\) of type uint8, not labels"),
        (PIXELS.reshape(20, 6), LABELS, r"holds \(20, 6\) of type u1, not images"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(
    pixels: np.ndarray, labels: np.ndarray, message: str
) -> None:
    write("t-images-idx3-ubyte", "t-labels-idx1-ubyte", pixels, labels)
    with pytest.raises(DatasetError, match=message):
        load_idx("t-images-idx3-ubyte")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "a file of its size holds|is cut short"),
        (lambda data: data + b"x", "goes on behind"),
        (lambda data: b"\1" + data[1:], r"is no IDX file: it begins with 01 00 08 03"),
        (lambda data: data[:9], "is cut short in its header"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_longer_or_shorter_than_its_header_says_is_refused(
    change: object, message: str, packed: bool
) -> None:
    write("t-images-idx3-ubyte", "t-labels-idx1-ubyte")
    content = change(Path("t-images-idx3-ubyte").read_bytes())  # type: ignore[operator]
    Path("t-images-idx3-ubyte").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DatasetError, match=message):
        load_idx("t-images-idx3-ubyte")


def test_a_packed_file_that_is_cut_short_says_so() -> None:
    write("t-images-idx3-ubyte.gz", "t-labels-idx1-ubyte.gz")
    path = Path("t-images-idx3-ubyte.gz")
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DatasetError, match=r"t-images-idx3-ubyte\.gz is cut short or damaged"):
        load_idx(path)
