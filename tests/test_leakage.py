"""Data leakage: the same samples are found under another name, and the suites that come along share none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rl_tuner.envs.datasets import open_samples
from rl_tuner.envs.families import JobFamily
from rl_tuner.envs.leakage import Leak, find_leaks, rows_in_common
from rl_tuner.envs.samples import Samples
from rl_tuner.envs.suites import Mixture, Suite, load_suite


def table(inputs: np.ndarray) -> Samples:
    return Samples("table", inputs, np.arange(len(inputs)) % 2, ("a", "b"))


def ratings(rows: list[tuple[int, int, float]]) -> Samples:
    array = np.array(rows)
    return Samples("ratings", array[:, :2].astype(np.int64), array[:, 2], vocabulary=(9, 20))


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_what_a_suite_holds_out_shares_no_row_with_its_other_splits(name: str) -> None:
    assert find_leaks(load_suite(name)) == []


def test_the_digits_are_found_as_images_and_as_a_table() -> None:
    images, rows = open_samples("digit-images", 0), open_samples("digits", 3)
    assert rows_in_common(images, rows) == rows_in_common(rows, images) == len(load_digits().target)


def test_a_suite_that_holds_out_its_training_images_as_a_table_leaks() -> None:
    held = JobFamily(("digits",), ("mlp-8",), unseen=("dataset",))
    train, other = JobFamily(("digit-images", "shapes"), ("mlp-4",)), JobFamily(("iris",), ("mlp-4",))
    suite = Suite(
        "s", "", {"train": Mixture((train,)), "validation": Mixture((other,)), "test": Mixture((held,))}
    )
    assert find_leaks(suite) == [Leak("test", "digits", "train", "digit-images", 1797)]


@pytest.mark.parametrize(
    "dataset", ["shapes", "tones", "markov", "brackets", "clusters", "low-rank", "stars"]
)
def test_an_artificial_set_of_another_seed_is_another_set(dataset: str) -> None:
    one = open_samples(dataset, 0)
    assert rows_in_common(one, open_samples(dataset, 2000)) == 0
    assert rows_in_common(one, one) > 150  # the control


def test_scaled_and_shifted_rows_are_the_same_and_noisy_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 12))
    moved = (rows * rng.uniform(0.1, 9, (50, 1)) + rng.normal(size=(50, 1)))[rng.permutation(50)]
    assert (
        rows_in_common(table(rows), table(np.concatenate([moved[:20], rng.standard_normal((9, 12))]))) == 20
    )
    assert rows_in_common(table(rows), table(rows + 1e-3 * rng.standard_normal(rows.shape))) == 0
    assert rows_in_common(table(rows), table(rows[:, :11])) == 0
    sound = Samples("sound", rows[:7, None].astype(np.float32), np.zeros(7, np.int64), ("a",))
    assert rows_in_common(sound, table(rows)) == 7


def test_short_rows_are_compared_as_they_are() -> None:
    rows = np.random.default_rng(0).standard_normal((30, 2))
    assert rows_in_common(table(rows), table(rows[::2])) == 15
    assert rows_in_common(table(rows), table(2 * rows)) == 0


def test_constant_rows_are_not_taken_for_each_other() -> None:
    rows = np.repeat(np.arange(5.0)[:, None], 10, axis=1)
    assert rows_in_common(table(rows), table(rows)) == 0


def test_tokens_are_compared_window_by_window() -> None:
    one = open_samples("markov", 0)
    assert rows_in_common(one.take(np.arange(40)), one.take(np.arange(30, 90))) == 10
    shifted = replace(one, inputs=np.roll(one.inputs, 1, axis=1))
    assert rows_in_common(one, shifted) < 20
    assert rows_in_common(one, open_samples("digits", 0)) == 0


def test_a_users_ratings_are_found_under_another_number() -> None:
    first = [(0, item, item / 2) for item in range(6)]
    second = [(1, item, 3.0) for item in range(4)]
    renumbered = [(7, item, value) for _, item, value in reversed(first)]
    assert rows_in_common(ratings(first + second), ratings(second + renumbered)) == 1
    assert rows_in_common(ratings(first), ratings([(0, item, 1.0) for item in range(6)])) == 0
