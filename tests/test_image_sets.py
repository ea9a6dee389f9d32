"""Image sets: pixels are what they are said to be, can be learned, and are hard to varying degrees."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images
from sklearn.ensemble import ExtraTreesClassifier

from rl_tuner.envs.image_sets import CLASSES, IMAGE_SETS, IMAGES, SHAPES, SIDE, TEXTURES, shapes, textures
from rl_tuner.envs.samples import Samples
from tests.data_sets import (
    commonest,
    draw,
    held_out_score,
    require_drawn_by_the_generator_alone,
    same,
    shuffled,
)

DRAWN = ["shapes", "textures"]
READ = ["digit-images", "patches"]


def rows(images: Samples) -> np.ndarray:
    return images.inputs.reshape(len(images), -1)


def of_class(images: Samples, name: str) -> np.ndarray:
    return images.inputs[images.targets == images.classes.index(name), 0].astype(np.float64)


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_every_set_has_one_shape_and_ten_classes(name: str) -> None:
    images = draw(IMAGE_SETS[name])
    assert images.kind == "image"
    assert images.inputs.shape[1:] == (1, SIDE, SIDE)
    assert images.inputs.dtype == np.float32
    assert images.inputs.min() >= 0
    assert images.inputs.max() <= 1
    assert images.targets.dtype == np.int64
    assert len(set(images.classes)) == CLASSES
    assert len(np.unique(images.targets)) == CLASSES


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.usefixtures("untouched_rng")
def test_a_drawn_set_depends_on_its_generator_alone_and_its_classes_are_even(name: str) -> None:
    require_drawn_by_the_generator_alone(IMAGE_SETS[name])
    assert np.bincount(draw(IMAGE_SETS[name]).targets).tolist() == [IMAGES // CLASSES] * CLASSES


@pytest.mark.parametrize("name", READ)
def test_a_set_that_is_read_is_the_same_for_all_and_nobody_can_change_it(name: str) -> None:
    images = draw(IMAGE_SETS[name], 0)
    assert same(images, draw(IMAGE_SETS[name], 1))
    for array in (images.inputs, images.targets):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert images.take(np.arange(3)).inputs.flags.writeable


def test_digits_are_scikit_learns() -> None:
    images, bunch = draw(IMAGE_SETS["digit-images"]), load_digits()
    np.testing.assert_array_equal(images.inputs[:, 0] * 16, bunch.images)
    np.testing.assert_array_equal(images.targets, bunch.target)
    assert images.classes == tuple("0123456789")


def test_patches_are_squares_of_the_photographs_at_half_their_size() -> None:
    patches = draw(IMAGE_SETS["patches"])
    temple, flower = load_sample_images().images
    down, across = temple.shape[0] // 16, temple.shape[1] // 16

    def square(photo: np.ndarray, row: int, column: int) -> np.ndarray:
        region = photo[16 * row : 16 * row + 16, 16 * column : 16 * column + 16].astype(np.float64)
        return np.array(
            [[region[i : i + 2, j : j + 2].mean() for j in range(0, 16, 2)] for i in range(0, 16, 2)]
        )

    assert len(patches) == 2 * down * across
    for number, photo, row, column, name in (
        (0, temple, 0, 0, "temple 1"),
        (across - 1, temple, 0, across - 1, "temple 5"),
        (across, temple, 1, 0, "temple 1"),
        (down * across + 2 * across + across // 2, flower, 2, across // 2, "flower 3"),
        (len(patches) - 1, flower, down - 1, across - 1, "flower 5"),
    ):
        np.testing.assert_allclose(patches.inputs[number, 0] * 255, square(photo, row, column), atol=1e-3)
        assert patches.classes[patches.targets[number]] == name
    shares = np.bincount(patches.targets) / len(patches)
    assert shares.min() > 0.09
    assert shares.max() < 0.11


def test_shapes_cover_as_much_as_their_geometry_says() -> None:
    # Ink above the background, with the least noisy generator of some; full shapes cover more than outlines.
    images = min((shapes(np.random.default_rng(seed)) for seed in range(10)), key=_roughness)

    def covered(name: str) -> float:
        pixels = of_class(images, name)
        ink = (pixels - pixels.min(axis=(1, 2), keepdims=True)) / np.ptp(pixels, axis=(1, 2), keepdims=True)
        return float(np.median(ink.mean(axis=(1, 2))))

    area = {name: covered(name) for name in SHAPES}
    assert area["square"] > area["frame"] > area["bar"]
    assert area["disc"] > area["half"] > area["pair"]
    assert area["disc"] > area["triangle"]
    assert area["disc"] > area["ring"] > area["pair"]
    assert area["cross"] > area["bar"]


def _roughness(images: Samples) -> float:
    """How much neighbouring pixels differ in the corner, where shapes are rare."""
    return float(np.abs(images.inputs[:, 0, 0, 0] - images.inputs[:, 0, 0, 1]).mean())


def test_bars_run_in_their_direction_and_noise_has_its_spectrum() -> None:
    images = textures(np.random.default_rng(2))

    def change(name: str, down: int, across: int) -> float:
        """How much pixels differ from those so many rows and columns away, against how much they vary."""
        pixels = of_class(images, name)
        moved = np.roll(pixels, (-down, -across), axis=(1, 2))
        inner = (moved - pixels)[:, 1 : SIDE - 1, 1 : SIDE - 1]
        return float((inner**2).mean() / pixels.var(axis=(1, 2)).mean())

    assert change("bars 0", 1, 0) < change("bars 0", 0, 1) / 2  # upright: the same from row to row
    assert change("bars 90", 0, 1) < change("bars 90", 1, 0) / 2
    assert change("bars 45", 1, -1) < change("bars 45", 1, 1) / 2
    assert change("bars 135", 1, 1) < change("bars 135", 1, -1) / 2
    assert change("fine checks", 0, 1) > change("fine checks", 0, 2) + 1
    assert change("coarse checks", 0, 2) > change("coarse checks", 0, 1)
    assert change("many blobs", 0, 1) > change("few blobs", 0, 1)
    assert change("white noise", 0, 1) == pytest.approx(2, abs=0.3)  # neighbours are independent
    assert change("pink noise", 0, 1) < 1.5
    assert images.classes == TEXTURES


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_classes_can_be_learned_and_shuffled_ones_cannot(name: str) -> None:
    images = draw(IMAGE_SETS[name])
    forest = ExtraTreesClassifier(40, random_state=0)
    chance = commonest(images.targets)
    assert held_out_score(forest, rows(images), images.targets) > chance + 0.2
    assert held_out_score(forest, rows(images), shuffled(images.targets)) < chance + 0.06


@pytest.mark.parametrize("name", DRAWN)
def test_how_hard_a_drawn_set_is_varies_with_the_seed(name: str) -> None:
    scores = []
    for seed in range(6):
        images = draw(IMAGE_SETS[name], seed)
        scores.append(held_out_score(ExtraTreesClassifier(20, random_state=0), rows(images), images.targets))
    assert max(scores) - min(scores) > 0.12
