"""Data sets by name: splits that are made once and kept within a bound, a user's own files among them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer

from rl_tuner import ConfigError, DatasetError
from rl_tuner.envs import TrainingJob, load_suite
from rl_tuner.envs.datasets import (
    DATASETS,
    MOST_BYTES,
    SplitCache,
    is_data_reference,
    kind_of,
    load_split,
    open_samples,
    split_cache,
)
from rl_tuner.envs.difficulty import PLAIN, Difficulty
from rl_tuner.envs.jobs import SPLITS
from tests import own_files

IRIS = 150 * (4 + 2) * 4
"""Bytes of the iris split: four float32 columns and an int64 class a row."""


def parts_of(split: object) -> list[torch.Tensor]:
    return [tensor for name in SPLITS for tensor in getattr(split, name)]


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_data_set_is_of_its_kind_and_follows_its_seed(dataset: str) -> None:
    samples = open_samples(dataset, 1)
    assert samples.kind == kind_of(dataset)
    split, again = SplitCache().get(dataset, 1, PLAIN), SplitCache().get(dataset, 1, PLAIN)
    assert split is not again
    for one, other in zip(parts_of(split), parts_of(again), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(split.train[0], SplitCache().get(dataset, 2, PLAIN).train[0])
    assert sum(len(getattr(split, name)[0]) for name in SPLITS) == len(samples)


def test_a_real_set_is_the_same_whatever_the_seed_and_the_librarys_own() -> None:
    one, other = open_samples("breast_cancer", 0), open_samples("breast_cancer", 5)
    np.testing.assert_array_equal(one.inputs, other.inputs)
    np.testing.assert_array_equal(one.inputs, load_breast_cancer().data)
    assert one.classes == ("malignant", "benign")


def test_samples_that_callers_share_cannot_be_changed() -> None:
    for dataset in ("iris", "shapes", "markov"):
        samples = open_samples(dataset, 0)
        assert samples is open_samples(dataset, 0)
        with pytest.raises(ValueError, match="read-only"):
            samples.inputs[0] = 0


def test_a_split_is_made_once_for_what_it_is_made_of() -> None:
    split = load_split("iris", 3)
    assert load_split("iris", 3, Difficulty()) is split
    for other in (("iris", 4, PLAIN), ("wine", 3, PLAIN), ("iris", 3, Difficulty(noise=0.1))):
        assert load_split(*other) is not split


def test_the_split_asked_for_longest_ago_goes_first() -> None:
    cache = SplitCache(3 * IRIS)
    first, second, third = (cache.get("iris", seed, PLAIN) for seed in range(3))
    assert (len(cache), cache.nbytes) == (3, 3 * IRIS)
    assert cache.get("iris", 0, PLAIN) is first  # now the second is the oldest
    cache.get("iris", 3, PLAIN)
    assert (len(cache), cache.nbytes) == (3, 3 * IRIS)
    assert cache.get("iris", 0, PLAIN) is first
    assert cache.get("iris", 2, PLAIN) is third
    again = cache.get("iris", 1, PLAIN)
    assert again is not second
    assert torch.equal(again.train[0], second.train[0])


def test_a_split_beyond_the_bound_is_kept_alone() -> None:
    cache = SplitCache(IRIS)
    cache.get("iris", 0, PLAIN)
    large = cache.get("wine", 0, PLAIN)
    assert (len(cache), cache.nbytes) == (1, large.nbytes)
    assert large.nbytes > IRIS
    assert cache.get("wine", 0, PLAIN) is large


def test_what_cannot_be_read_leaves_the_cache_as_it_is() -> None:
    cache = SplitCache()
    with pytest.raises(DatasetError):
        cache.get("./nothing.csv#kind", 0, PLAIN)
    assert (len(cache), cache.nbytes) == (0, 0)


@pytest.mark.parametrize("form", ["table", "ratings", "idx", "image folder", "wav folder", "text", "npz"])
def test_a_users_own_data_are_a_data_set(tmp_path: Path, form: str) -> None:
    path = own_files.write(own_files.FORMATS[form](), tmp_path)
    target = own_files.TARGETS.get(form)
    reference = str(path) if target is None else f"{path}#{target}"
    assert is_data_reference(reference)
    samples = open_samples(reference, 0)
    assert kind_of(reference) == samples.kind
    split = load_split(reference, 1)
    assert split.shape == samples.shape
    assert load_split(reference, 1) is split


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown dataset 'digit'.*'digits'"):
        load_split("digit", 0)
    with pytest.raises(ConfigError, match=r"unknown dataset 'irsi'.*'iris'"):
        kind_of("irsi")
    with pytest.raises(ConfigError, match=f"unknown dataset '{'x' * 5000}'"):  # longer than a file's name
        kind_of("x" * 5000)
    with pytest.raises(DatasetError, match=r"no such file: nothing\.csv"):
        kind_of("nothing.csv#kind")


def unique_bytes(jobs: Iterable[TrainingJob]) -> int:
    """Memory of all samples of some jobs, each tensor counted once."""
    pools = [data for job in jobs for data in (job.train, job.validation, job.test) if data is not None]
    tensors = {tensor.data_ptr(): tensor.nbytes for pool in pools for tensor in pool}  # type: ignore[union-attr]
    return sum(tensors.values())


@pytest.mark.parametrize("split", SPLITS)
def test_the_standard_suites_data_stay_below_a_gibibyte(split: str) -> None:
    rng = np.random.default_rng(0)
    mixture = load_suite("standard").family(split)
    live: list[TrainingJob] = []
    most = 0
    for _ in range(160):
        live = [*live[-127:], mixture.sample(rng).build()]  # as in 128 environments side by side
        most = max(most, split_cache().nbytes)
    assert len(live) == 128
    assert most <= MOST_BYTES
    assert unique_bytes(live) + MOST_BYTES < 2**30
