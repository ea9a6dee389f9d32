"""Folders of images: pixels, sizes, colours, and the image that is named when one is broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import own_files
import pytest
from PIL import Image

from rl_tuner import ConfigError, DatasetError
from rl_tuner.envs import image_folders
from rl_tuner.envs.image_folders import load_image_folder

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 5, 4), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)


def folder(pixels: np.ndarray, form: str = "png") -> Path:
    files = {f"f/{'ab'[i % 2]}/{i:02}.{form}": own_files.png(p, form.upper()) for i, p in enumerate(pixels)}
    return own_files.write(files)


def test_folders_are_classes_and_pixels_lie_in_0_to_1() -> None:
    samples = load_image_folder(folder(COLOUR))
    assert samples.classes == ("a", "b")
    assert samples.targets.tolist() == [0] * 6 + [1] * 6
    expected = np.moveaxis(COLOUR[[*range(0, 12, 2), *range(1, 12, 2)]], 3, 1) / 255
    np.testing.assert_allclose(samples.inputs, expected, rtol=1e-6)
    assert samples.inputs.dtype == np.float32


def test_grey_images_have_one_channel_and_one_in_colour_makes_all_have_three() -> None:
    path = folder(GREY)
    assert load_image_folder(path).inputs.shape == (12, 1, 5, 4)
    (path / "a" / "more.bmp").write_bytes(own_files.png(COLOUR[0], "BMP"))
    samples = load_image_folder(path)
    assert samples.inputs.shape == (13, 3, 5, 4)
    np.testing.assert_array_equal(samples.inputs[0, 0], samples.inputs[0, 2])
    assert load_image_folder(path, channels=1).inputs.shape == (13, 1, 5, 4)


def test_images_come_to_the_most_common_size_or_the_one_asked_for() -> None:
    path = folder(GREY)
    (path / "b" / "large.png").write_bytes(own_files.png(np.full((50, 40), 51, np.uint8)))
    samples = load_image_folder(path)
    assert samples.inputs.shape == (13, 1, 5, 4)
    np.testing.assert_allclose(samples.inputs[-1], 0.2, atol=1e-6)
    assert load_image_folder(path, size=7).inputs.shape == (13, 1, 7, 7)
    assert load_image_folder(path, size=(3, 8)).inputs.shape == (13, 1, 3, 8)


def test_sixteen_bits_keep_their_range() -> None:
    path = folder(GREY)
    deep = np.array([[0, 65535], [32896, 257]], np.uint16)
    Image.fromarray(deep).save(path / "a" / "deep.png")
    samples = load_image_folder(path, size=2)
    found = samples.inputs[int(np.flatnonzero(samples.targets == 0)[-1]), 0]
    np.testing.assert_allclose(found, deep / 65535, atol=1 / 255)


@pytest.mark.parametrize("form", ["png", "bmp", "gif", "webp", "ppm", "jpeg"])
def test_every_format_is_read(form: str) -> None:
    smooth = np.add.outer(np.arange(16) * 8, np.arange(16) * 7).astype(np.uint8)
    samples = load_image_folder(folder(np.stack([smooth] * 12), form))
    np.testing.assert_allclose(samples.inputs[3].mean(0), smooth / 255, atol=0.03)  # some lose a little


def test_other_files_and_hidden_ones_are_passed_over() -> None:
    path = folder(GREY)
    own_files.write({"f/a/notes.txt": b"x", "f/a/.x.png": b"x", "f/.git/x.png": b"x", "f/list.png": b"x"})
    assert len(load_image_folder(path)) == 12


def test_a_broken_image_is_named() -> None:
    path = folder(GREY)
    whole = (path / "a" / "04.png").read_bytes()
    for content in (whole[:40], whole[:60], b"hello", own_files.png(COLOUR[0], "TIFF")):
        (path / "a" / "04.png").write_bytes(content)
        with pytest.raises(DatasetError, match=r"f/a/04.png is no image that can be read"):
            load_image_folder(path)


def test_an_image_of_too_many_pixels_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(GREY)
    monkeypatch.setattr(image_folders, "MOST_PIXELS", 19)
    with pytest.raises(DatasetError, match=r"f/a/00\.png has 5 × 4 pixels: at most 19 are read"):
        load_image_folder(path)


def test_large_images_are_not_trained_on_unless_a_size_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(GREY)
    monkeypatch.setattr(image_folders, "MOST_SIDE", 4)
    with pytest.raises(DatasetError, match=r"have 5 × 4 pixels, at most 4 a side.*--size"):
        load_image_folder(path)
    assert load_image_folder(path, size=4).inputs.shape == (12, 1, 4, 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 2}, "channels must be 1 or 3"),
        ({"size": 0}, "size must be >= 1"),
        ({"size": 9999}, "<= 1024"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_image_folder(folder(GREY), **options)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"f/x.png": b""}, "holds no folder: it must hold one for each class"),
        ({"f/a/x.txt": b"", "f/b/1.png": b""}, "f/a holds no file that can be read"),
        ({"f/a/1.png": b"", "f/b/1.png": b""}, "f holds 2 files .*at least 10"),
        ({f"f/a/{i}.png": b"" for i in range(12)}, "is a in every row"),
        ({f"f/{i}/1.png": b"" for i in range(12)}, "12 distinct values in 12 rows"),
        ({f"f/{'ab'[i % 2]}/{i}.png": b"" for i in range(12)}, "f/a/0.png is empty"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(files: own_files.Files, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_image_folder(own_files.write(files))


def test_what_is_no_folder_is_named() -> None:
    Path("file").write_text("x")
    with pytest.raises(DatasetError, match="file is not a folder"):
        load_image_folder("file")
    with pytest.raises(DatasetError, match="no such file: absent"):
        load_image_folder("absent")
