"""Suites: splits that share nothing, seeded sampling, jobs that travel as JSON."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
import torch

from rl_tuner import ConfigError
from rl_tuner.config import from_dict, to_dict
from rl_tuner.envs import JobSpec, Suite, load_suite
from rl_tuner.envs.suites import DATASETS, SANE_LR, SPLITS, SUITES, real_table

SPEC = JobSpec("digits", (32, 16), "adam", 6000, 3, 1e-3, 64, 1e-4, 0.9, 0.1)


def samples(split: str, n: int = 300, seed: int = 0) -> list[JobSpec]:
    rng = np.random.default_rng(seed)
    return [load_suite("quick").family(split).sample(rng) for _ in range(n)]


@pytest.mark.parametrize("name", SUITES)
def test_splits_share_no_dataset_and_no_architecture(name: str) -> None:
    families = [SUITES[name].family(split) for split in SPLITS]
    for one, other in combinations(families, 2):
        assert not set(one.datasets) & set(other.datasets)
        assert not set(one.architectures) & set(other.architectures)


@pytest.mark.parametrize("split", SPLITS)
def test_sampling_follows_the_generator(split: str) -> None:
    assert samples(split, 20) == samples(split, 20)
    assert samples(split, 20) != samples(split, 20, seed=1)
    assert len(set(samples(split, 200))) == 200


def test_start_learning_rates_spread_evenly_over_the_stated_decades() -> None:
    family = load_suite("quick").family("train")
    low, high = family.lr_decades
    decades = np.array([np.log10(s.lr / SANE_LR[s.optimizer]) for s in samples("train", 2000)])
    assert decades.min() >= low
    assert decades.max() <= high
    assert high - low >= 3
    share = np.histogram(decades, bins=4, range=(low, high))[0] / 2000
    np.testing.assert_allclose(share, 0.25, atol=0.04)


def test_every_listed_value_is_drawn_and_no_other() -> None:
    family = load_suite("quick").family("train")
    drawn = samples("train", 600)
    assert {s.dataset for s in drawn} == set(family.datasets)
    assert {s.hidden for s in drawn} == set(family.architectures)
    assert {s.dropout for s in drawn} == set(family.dropouts)
    assert {s.batch_size for s in drawn} == set(family.batch_sizes)
    assert {s.optimizer for s in drawn} == set(family.optimizers)
    assert all(family.budget[0] <= s.budget <= family.budget[1] for s in drawn)


@pytest.mark.parametrize("spec", [SPEC, *samples("test", 5), *samples("train", 5)])
def test_a_specification_travels_as_json(spec: JobSpec) -> None:
    assert from_dict(JobSpec, json.loads(json.dumps(to_dict(spec)))) == spec


def test_a_specification_with_a_typo_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'batchsize'.*'batch_size'"):
        from_dict(JobSpec, {**to_dict(SPEC), "batchsize": 3})
    with pytest.raises(ConfigError, match="momentum"):
        from_dict(JobSpec, {k: v for k, v in to_dict(SPEC).items() if k != "momentum"})


@pytest.mark.parametrize("split", SPLITS)
def test_a_sampled_job_is_built_as_specified(split: str) -> None:
    for spec in samples(split, 12):
        job = spec.build()
        model = job.build_model(0)
        widths = [p.shape[0] for name, p in model.named_parameters() if name.endswith("weight")]
        assert tuple(widths[:-1]) == spec.hidden
        assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {spec.dropout or 0.0}
        assert set(job.fixed) == {*spec.fixed, *(["dropout"] if spec.dropout is None else [])}
        assert job.start["lr"] == spec.lr
        assert (job.budget, job.name) == (spec.budget, spec.name)
        pool = job.pool("validation")
        assert pool is not None
        inputs, targets = next(iter(pool.batches([np.arange(3)])))
        assert torch.isfinite(job.loss_function(model(inputs), targets))


@pytest.mark.parametrize("dataset", DATASETS)
def test_real_tables_are_split_once_by_seed_and_shared(dataset: str) -> None:
    table = real_table(dataset, 0)
    assert table is real_table(dataset, 0)
    assert not torch.equal(table.train[0], real_table(dataset, 1).train[0])
    assert table.task == ("regression" if dataset == "diabetes" else "classification")


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown suite 'quik'.*'quick'"):
        load_suite("quik")
    with pytest.raises(ConfigError, match=r"unknown split 'val'.*validation"):
        load_suite("quick").family("val")
    with pytest.raises(ConfigError, match=r"unknown dataset 'iris'"):
        real_table("iris", 0)
    with pytest.raises(ConfigError, match=r"suite 'half' must have splits"):
        Suite("half", "", {"train": load_suite("quick").family("train")})
