"""Masked pretraining, then fine-tuning: the masks, what is learned from them, and what is handed on."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset

from rl_tuner import ConfigError, JobError
from rl_tuner.envs import TrainingJob, TuningEnv, VectorTuningEnv
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.masking import pretrained, pretraining_job
from rl_tuner.envs.models import cnn, mlp
from rl_tuner.envs.seats import BatchedSeat
from rl_tuner.seeding import Streams
from tests.batched import Twins
from tests.contracts import play
from tests.phased import CLASSES, COLUMNS, TEST, TRAIN, VALIDATION, network
from tests.side_by_side import assert_like_single_environments


def make_job(labels: int = 64, **changes: Any) -> TrainingJob:
    """The classes of few samples."""
    options: dict[str, Any] = {
        "model": partial(network, CLASSES),
        "train": (TRAIN[0][:labels], TRAIN[2][:labels]),
        "validation": (VALIDATION[0], VALIDATION[2]),
        "test": (TEST[0], TEST[2]),
        "start": {"lr": 0.01, "batch_size": 16.0},
        "budget": 1000,
        "name": "masked",
    }
    return TrainingJob(**{**options, **changes})


def sides(job: TrainingJob, split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets."""
    inputs, targets = getattr(job, split)
    return inputs, targets


@given(st.integers(2, 12), st.integers(1, 40), st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_each_sample_hides_the_share_and_asks_for_what_it_hides(
    columns: int, samples: int, mask: float, seed: int
) -> None:
    x = torch.randn(samples, columns, generator=torch.Generator().manual_seed(seed)) + 3
    job = make_job(train=(x, torch.zeros(samples)), validation=(x, torch.zeros(samples)))
    for split in ("train", "validation"):
        inputs, targets = sides(pretraining_job(job, network, seed, mask), split)
        assert inputs.shape == targets.shape == (8 * samples, columns)
        hidden = ~targets.isnan()
        assert (hidden.sum(1) == min(max(1, round(mask * columns)), columns - 1)).all()
        assert torch.equal(inputs == 0, hidden)
        whole = torch.where(hidden, targets, inputs)
        assert torch.equal(whole, x.repeat(8, 1))


def test_masks_are_drawn_once_from_the_seed_and_others_for_validation_and_each_copy() -> None:
    same = make_job(validation=(TRAIN[0], TRAIN[2]))
    job, again, other = (pretraining_job(same, network, seed) for seed in (3, 3, 4))
    assert job.train is again.train  # the very samples: one pool for all jobs
    assert not torch.equal(sides(job)[0], sides(other)[0])
    assert not torch.equal(sides(job)[0], sides(job, "validation")[0])
    copies = sides(job)[0].view(8, 64, COLUMNS)
    assert not any(torch.equal(copies[0], later) for later in copies[1:])


@pytest.mark.parametrize(("samples", "copies"), [(1, 8), (128, 8), (300, 4), (1024, 1), (3000, 1)])
def test_few_samples_are_masked_several_times(samples: int, copies: int) -> None:
    job = make_job(train=(torch.ones(samples, COLUMNS), torch.zeros(samples)))
    assert len(sides(pretraining_job(job, network, 0))[0]) == copies * samples


def test_the_callers_inputs_and_global_random_state_stay_as_they_are(untouched_rng: None) -> None:
    before = TRAIN[0].clone()
    pretraining_job(make_job(), network, 0)
    assert torch.equal(TRAIN[0], before)


def test_pretraining_lowers_the_masked_loss_below_that_of_guessing_the_mean() -> None:
    job = replace(pretraining_job(make_job(), network, 0), budget=12_000)
    env = TuningEnv(job, decisions=8)
    _, info = env.reset(seed=0)
    last = play(env, [np.zeros(5)] * 8)[-1][4]
    inputs, targets = sides(job, "validation")
    hidden = ~targets.isnan()
    mean = torch.where(hidden, targets, 0.0).square().sum() / hidden.sum()
    assert last["best_val_loss"] < 0.6 * float(mean)
    assert last["best_val_loss"] < 0.6 * info["val_loss"]
    outputs = env.engine.model.eval()(inputs).detach()
    error = ((outputs - targets)[hidden].view(len(inputs), -1) ** 2).mean()
    assert env.engine.validate() == pytest.approx(float(error))


def test_the_budget_is_divided_by_the_share() -> None:
    job = pretrained(make_job(), network, 0.3, 0)
    assert job.budget == 300
    assert [phase.budget for phase in job.then] == [700]
    epochs = pretrained(make_job(budget=None, epochs=5), network, 0.5, 0)
    assert (epochs.budget, epochs.then[0].budget) == (160, 160)
    smallest = pretrained(make_job(budget=2), network, 0.01, 0)
    assert (smallest.budget, smallest.then[0].budget) == (1, 1)


@pytest.mark.parametrize("outputs", [CLASSES, COLUMNS])
def test_fine_tuning_starts_from_the_pretrained_body_bit_for_bit_under_a_fresh_head(outputs: int) -> None:
    # With as many classes as columns the heads have one shape, and still only the body is handed on.
    job = make_job(model=partial(network, outputs))
    env = TuningEnv(pretrained(job, network, 0.5, 0), decisions=4, hyperparameters=["lr"])
    env.reset(seed=0)
    play(env, [np.zeros(1)] * 2)
    assert env.course.phase == 1
    weight, bias, *_ = env.phase.trained[0].values()
    tuned: Any = env.engine.model
    assert torch.equal(tuned[0].weight, weight)
    assert torch.equal(tuned[0].bias, bias)
    fresh: Any = job.build_model(env.phase.streams.seed_of("init"))
    assert not torch.equal(weight, fresh[0].weight)
    assert torch.equal(tuned[2].weight, fresh[2].weight)
    assert torch.equal(tuned[2].bias, fresh[2].bias)
    assert env.evaluate("test")["loss"] > 0


def test_the_first_phase_is_the_jobs_but_for_what_is_learned() -> None:
    start = {"lr": 0.02, "batch_size": 8.0, "label_smoothing": 0.1}
    job = make_job(optimizer="sgd", start=start, fixed=("momentum",))
    first = pretrained(job, network, 0.5, 0)
    assert (first.optimizer, first.fixed, first.name, first.test) == ("sgd", ("momentum",), "masked", None)
    assert first.start == {"lr": 0.02, "batch_size": 8.0}  # smoothing is of classes
    second = first.then[0].job(first.build_model(0))
    assert (second.start, second.train, second.loss, second.task) == (
        start,
        job.train,
        None,
        "classification",
    )


def test_unlabelled_inputs_take_the_place_of_the_jobs_own_in_pretraining() -> None:
    job = make_job(labels=10)
    first = pretrained(job, network, 0.5, 0, unlabelled=TRAIN[0])
    assert len(sides(first)[0]) == 8 * 64
    assert first.then[0].job(first.build_model(0)).train is job.train
    for wrong in (torch.zeros(5, COLUMNS + 1), torch.zeros(0, COLUMNS), torch.zeros(COLUMNS)):
        with pytest.raises(JobError, match=r"rows like the job's, \(m, 6\)"):
            pretrained(job, network, 0.5, 0, unlabelled=wrong)


def test_pretraining_on_unlabelled_inputs_helps_where_labels_are_few() -> None:
    losses = []
    for seed in range(3):
        job = make_job(labels=12, budget=6000)
        pair = (job, pretrained(job, network, 0.5, 0, unlabelled=TRAIN[0]))
        for each in pair:
            env = TuningEnv(each, decisions=10)
            env.reset(seed=seed)
            losses.append(play(env, [np.zeros(5)] * 10)[-1][4]["best_val_loss"])
    assert np.mean(losses[1::2]) < np.mean(losses[::2])


def test_both_engines_pretrain_alike() -> None:
    jobs = [
        replace(pretraining_job(make_job(optimizer=name), network, seed), budget=900)
        for name, seed in (("adam", 0), ("sgd", 1), ("adagrad", 0))
    ]
    twins = Twins(jobs, 1e-9)
    assert all(isinstance(twins.batched.seat(slot), BatchedSeat) for slot in range(3))
    for ends in ([100, 150, 200], [500] * 3, [900] * 3):
        twins.advance(ends)
    twins.assert_same_weights()


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_both_engines_agree_over_both_phases(mode: AutoresetMode) -> None:
    job = pretrained(make_job(), network, 0.4, 0)
    tuned = ("lr", "batch_size", "weight_decay")
    options: dict[str, Any] = {"job": job, "decisions": 6, "hyperparameters": tuned}
    episodes = assert_like_single_environments(3, 14, 1e-6, mode, scale=0.4, **options)
    assert (episodes >= 2).all()


def test_a_convolutional_network_is_pretrained_on_flat_images() -> None:
    x = torch.randn(40, 32, generator=torch.Generator().manual_seed(0))
    build = partial(cnn, (2, 4, 4), (4,))
    job = make_job(model=partial(build, CLASSES), train=(x, torch.arange(40) % 3), validation=None)
    env = VectorTuningEnv(2, pretrained(job, build, 0.5, 0), decisions=2)
    env.reset(seed=0)
    for phase in (1, 0):
        *_, terminated, _, info = env.step(np.zeros((2, 5), np.float32))
        assert info["phase"].tolist() == [phase] * 2
    assert terminated.all()


def test_a_job_in_phases_is_picklable_and_so_are_its_snapshots() -> None:
    env, other = (TuningEnv(pretrained(make_job(), network, 0.5, 0), decisions=4) for _ in range(2))
    env.reset(seed=0)
    play(env, [np.zeros(5)] * 3)
    other.set_state(pickle.loads(pickle.dumps(env.get_state())))
    assert play(other, [np.zeros(5)])[0][1] == play(env, [np.zeros(5)])[0][1]


class Fetched(Dataset[Any]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> Any:
        return TRAIN[0][i], TRAIN[2][i]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((torch.zeros(5, 6, dtype=torch.long), torch.zeros(5)), r"float inputs .* are torch.int64"),
        ((torch.zeros(5, 1, 2, 3), torch.zeros(5)), r"of shape \(5, 1, 2, 3\)"),
        ((torch.zeros(5, 1), torch.zeros(5)), r"d >= 2.* of shape \(5, 1\)"),
        (Fetched(), "fetched one by one: masking needs tensors"),
    ],
)
def test_inputs_that_cannot_be_masked_are_refused(train: Any, message: str) -> None:
    with pytest.raises(JobError, match=message):
        pretrained(make_job(train=train), network, 0.5, 0)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, (0.0, 0), "share must be > 0 and <= 1, got 0.0"),
        ({}, (1.0, 0), "pretraining on 1 of a budget of 1000 leaves nothing for the job"),
        ({"budget": 1}, (0.5, 0), "pretraining on 0.5 of a budget of 1 leaves nothing"),
        ({}, (0.5, -1), "seed must be >= 0, got -1"),
        ({}, (0.5, 0, 0.0), "mask must be > 0 and < 1, got 0.0"),
        ({}, (0.5, 0, 1.0), "mask must be > 0 and < 1, got 1.0"),
    ],
)
def test_numbers_out_of_range_are_refused(
    changes: dict[str, Any], arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrained(make_job(**changes), network, *arguments)


def test_a_job_that_has_phases_already_is_refused() -> None:
    with pytest.raises(ConfigError, match="the job 'masked' has phases already"):
        pretrained(pretrained(make_job(), network, 0.5, 0), network, 0.5, 0)


def same_whatever(outputs: int) -> nn.Module:
    return mlp(COLUMNS, (4,), COLUMNS).double()


def only_a_head(outputs: int) -> nn.Module:
    return nn.Linear(COLUMNS, outputs).double()


@pytest.mark.parametrize("build", [same_whatever, only_a_head])
def test_a_network_without_body_or_head_is_refused(build: Any) -> None:
    job = pretrained(make_job(model=partial(build, CLASSES)), build, 0.5, 0)
    trained = ReferenceEngine(job, Streams(0)).model
    with pytest.raises(JobError, match="the network of 'masked' must be a body and a head"):
        job.then[0].job(trained)


def test_a_network_that_is_not_the_jobs_is_refused() -> None:
    job = pretrained(make_job(model=partial(mlp, COLUMNS, (7, 7), CLASSES)), network, 0.5, 0)
    env = TuningEnv(job, decisions=2)
    env.reset(seed=0)
    with pytest.raises(JobError, match=r"nothing in the given weights fits the model: 0\.weight is \(7, 6\)"):
        env.step(np.zeros(5))
