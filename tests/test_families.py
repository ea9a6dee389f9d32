"""Job families: what is drawn and how often, jobs as specified, and that all train, on both engines alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rl_tuner import ConfigError
from rl_tuner.envs import JobFamily, JobSpec, TrainingJob, TuningEnv, load_suite
from rl_tuner.envs.architectures import build_network
from rl_tuner.envs.batched_engine import BatchedEngine
from rl_tuner.envs.datasets import load_split
from rl_tuner.envs.difficulty import Difficulty
from rl_tuner.envs.families import SANE_LR, START
from rl_tuner.envs.job_specs import base_weights
from rl_tuner.envs.jobs import OPTIMIZERS
from rl_tuner.envs.regularizers import REGULARIZERS
from rl_tuner.envs.seats import BatchedSeat
from rl_tuner.seeding import Streams
from rl_tuner.space import STANDARD
from rl_tuner.trials import run_trials
from tests.side_by_side import double

WIDE: dict[str, Any] = {
    "datasets": ("iris", "wine"),
    "architectures": ("mlp-4", "linear", "mlp-3x3"),
    "optimizers": tuple(OPTIMIZERS),
    "budget": (100, 10_000),
    "lr_decades": (-1.0, 3.0),
    "start": {
        "batch_size": (8, 16),
        "weight_decay": (0.0, 0.1),
        "momentum": (0.5, 0.7),
        "dropout": (None, 0.2),
        "l1": (None, 0.01),
        "l2": (0.1, 0.2),
        "label_smoothing": (None,),
        "max_grad_norm": (1.0, None, 3.0),
    },
    "data": {
        "samples": (0, 30),
        "noise": (0.0, 0.5),
        "label_noise": (0.1, 0.2),
        "imbalance": (1.0, 2.0),
        "scale": (0.5,),
    },
    "pretraining": (0.0, 0.5),
    "data_seeds": (5, 8),
    "name": "wide",
}
SPEC = JobSpec("iris", "mlp-8", "adam", 500, 3, 1e-3, 16, 1e-4, 0.9, 0.1)


def drawn(n: int, seed: int = 0, **changes: Any) -> list[JobSpec]:
    family = JobFamily(**{**WIDE, **changes})
    rng = np.random.default_rng(seed)
    return [family.sample(rng) for _ in range(n)]


def part(job: TrainingJob, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of a split."""
    inputs, targets = getattr(job, split)
    return inputs, targets


# What is drawn


def test_every_value_is_drawn_as_often_as_the_others_and_no_other_is() -> None:
    specs = drawn(3000)
    wanted = {
        "dataset": WIDE["datasets"],
        "architecture": WIDE["architectures"],
        "optimizer": WIDE["optimizers"],
        "data_seed": (5, 6, 7),
        "pretraining": WIDE["pretraining"],
        **{name: values for name, values in WIDE["start"].items() if name != "momentum"},
        **WIDE["data"],
    }
    for name, values in wanted.items():
        found = Counter(getattr(spec, name) for spec in specs)
        assert set(found) == set(values), name
        for count in found.values():
            # Five standard deviations of a binomial count.
            share = 1 / len(values)
            assert abs(count - 3000 * share) <= 5 * np.sqrt(3000 * share * (1 - share)), name


def test_what_a_family_does_not_say_is_drawn_from_the_usual_values() -> None:
    specs = drawn(300, start={}, data={}, pretraining=(0.0,))
    for name in ("batch_size", "weight_decay", "dropout", *REGULARIZERS):
        assert {getattr(spec, name) for spec in specs} == set(START[name])
    assert {spec.difficulty for spec in specs} == {Difficulty()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_start_learning_rates_spread_evenly_over_decades_around_the_optimizers_usual_one(
    optimizer: str,
) -> None:
    lrs = [spec.lr for spec in drawn(1500, optimizers=(optimizer,))]
    decades = np.log10(np.array(lrs) / SANE_LR[optimizer])
    share = np.histogram(decades, bins=4, range=(-1, 3))[0] / 1500
    assert share.sum() == pytest.approx(1)
    np.testing.assert_allclose(share, 0.25, atol=0.05)


def test_budgets_spread_evenly_in_their_logarithm() -> None:
    budgets = np.array([spec.budget for spec in drawn(2000)])
    assert budgets.min() >= 100
    assert budgets.max() <= 10_000
    np.testing.assert_allclose(np.mean(budgets < 1000), 0.5, atol=0.05)


@pytest.mark.parametrize(
    ("optimizer", "momenta"),
    [
        *((name, {0.5, 0.7}) for name in ("momentum", "nesterov", "adam", "adamw")),
        *((name, {0.0}) for name in ("sgd", "rmsprop")),
        *((name, {None}) for name in ("adagrad", "adadelta")),
    ],
)
def test_momentum_starts_where_the_optimizer_has_it(optimizer: str, momenta: set[float | None]) -> None:
    specs = drawn(50, optimizers=(optimizer,), pretraining=(0.0,))
    assert {spec.momentum for spec in specs} == momenta
    job = specs[0].build()
    assert ("momentum" in job.start) == (momenta != {None})
    job.build_optimizer(job.build_model(0))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_each_hyperparameter_but_the_lr_is_fixed_with_the_stated_chance(share: float) -> None:
    specs = drawn(2000, fixed_share=share)
    has = Counter[str]()
    fixed = Counter[str]()
    for spec in specs:
        own = [*STANDARD, *(name for name in REGULARIZERS if getattr(spec, name) is not None)]
        has.update(own)
        fixed.update(spec.fixed)
        assert set(spec.fixed) <= set(own)
    assert fixed["lr"] == 0
    for name in (*STANDARD[1:], "l1", "l2", "max_grad_norm"):
        assert fixed[name] / has[name] == pytest.approx(share, abs=0.06), name


def test_the_same_generator_draws_the_same_jobs() -> None:
    assert drawn(30) == drawn(30)
    assert drawn(30) != drawn(30, seed=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ()}, "datasets must be a list with at least one value"),
        ({"datasets": "iris"}, "datasets must be a list .* got 'iris'"),
        ({"datasets": ("irsi",)}, "unknown dataset 'irsi'.*'iris'"),
        ({"datasets": ("iris", "shapes")}, None),  # MLPs take both
        ({"architectures": ("gru-4",)}, "'gru-4' fits tokens, not table"),
        ({"architectures": ("mlp",)}, "'mlp' must look like 'mlp-64x32'"),
        ({"optimizers": ("lbfgs",)}, "unknown optimizer 'lbfgs'"),
        ({"budget": (0, 5)}, "the first of budget must be >= 1"),
        ({"lr_decades": (2.0, 1.0)}, "the last of lr_decades must be >= 2"),
        ({"data_seeds": (4, 4)}, "the last of data_seeds must be > 4"),
        ({"start": {"lr": (0.1,)}}, "unknown start value 'lr'"),
        ({"start": {"momentum": (None,)}}, "start.momentum cannot be none"),
        ({"start": {"momentum": (1.0,)}}, "momentum must be"),
        ({"data": {"smaples": (3,)}}, "unknown difficulty 'smaples'.*'samples'"),
        ({"data": {"imbalance": (0.5,)}}, "imbalance must be >= 1"),
        ({"pretraining": (0.95,)}, "pretraining must be >= 0 and <= 0.9"),
        ({"fixed_share": -0.1}, "fixed_share must be >= 0"),
        ({"weight": 0.0}, "weight must be > 0"),
    ],
)
def test_a_family_that_could_draw_what_cannot_be_built_is_refused(
    changes: dict[str, Any], message: str | None
) -> None:
    if message is None:
        JobFamily(**{**WIDE, **changes})
        return
    with pytest.raises(ConfigError, match=message):
        JobFamily(**{**WIDE, **changes})


# Jobs as specified


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_drawn_job_is_built_as_specified(split: str) -> None:
    rng = np.random.default_rng(1)
    for name in load_suite("standard").families:
        spec = load_suite(name).family(split).sample(rng)
        job = spec.build()
        phase = job if not job.then else job.then[0].job(job.build_model(0))
        data = load_split(spec.dataset, spec.data_seed, spec.difficulty)
        assert (phase.train, phase.validation, phase.test) == (data.train, data.validation, data.test)
        assert phase.optimizer == job.optimizer == spec.optimizer
        assert sum([job.budget or 0, *(later.budget for later in job.then)]) == spec.budget
        network = build_network(spec.architecture, data.shape, spec.dropout or 0.0)
        shapes = {key: t.shape for key, t in phase.build_model(0).state_dict().items()}
        assert shapes == {key: t.shape for key, t in network.state_dict().items()}
        start = {key: value for key, value in phase.start.items() if key != "dropout"}
        wanted = dict(spec.start)
        if not data.classes:
            wanted.pop("label_smoothing", None)
        assert start == wanted


def test_a_job_without_dropout_has_the_layers_and_a_fixed_rate_of_zero() -> None:
    job = replace(SPEC, dropout=None).build()
    rates = [m.p for m in job.build_model(0).modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.0]
    assert "dropout" in job.fixed
    assert job.start["dropout"] == 0.0
    tuned = SPEC.build()
    assert [m.p for m in tuned.build_model(0).modules() if isinstance(m, nn.Dropout)] == [0.1]
    assert "dropout" not in tuned.fixed


def test_labels_are_smoothed_where_there_are_some() -> None:
    spec = replace(SPEC, label_smoothing=0.1, l1=1e-4)
    assert spec.build().regularizers == {"label_smoothing": 0.1, "l1": 1e-4}
    assert replace(spec, dataset="diabetes").build().regularizers == {"l1": 1e-4}


def test_difficulty_reaches_the_data() -> None:
    plain, hard = SPEC.build(), replace(SPEC, samples=20, label_noise=0.5, noise=1.0).build()
    assert len(part(hard, "train")[0]) == 20
    (mine, same), (other, labels) = part(hard, "validation"), part(plain, "validation")
    assert torch.equal(same, labels)
    assert not torch.equal(mine, other)


def test_pretraining_comes_before_the_job_on_all_of_the_train_part() -> None:
    spec = replace(SPEC, dataset="digits", samples=20, pretraining=0.3, label_smoothing=0.1)
    job = spec.build()
    assert job.loss == "masked_mse"
    assert job.budget == 150
    (phase,) = job.then
    assert phase.budget == 350
    assert "label_smoothing" not in job.start
    everything = load_split("digits", spec.data_seed).train[0]
    assert len(job.train[0]) % len(everything) == 0
    assert job.train[0].shape[1] == everything.shape[1]
    trained = job.build_model(4)
    tuned = phase.job(trained)
    assert len(tuned.train[0]) == 20
    assert tuned.start["label_smoothing"] == 0.1
    body, fresh = tuned.build_model(0).state_dict(), trained.state_dict()
    first, last = next(iter(body)), list(body)[-1]
    assert torch.equal(body[first], fresh[first])
    assert body[last].shape == (10,)
    assert fresh[last].shape == (64,)


def test_finetuning_starts_from_the_weights_that_come_along_under_a_fresh_head() -> None:
    spec = replace(SPEC, dataset="digit-images", architecture="cnn-8x16", weights="shapes")
    model = spec.build().build_model(0).state_dict()
    base = load_file(base_weights("shapes", "cnn-8x16"))
    assert base
    for name, tensor in base.items():
        assert torch.equal(model[name], tensor)
    fresh = replace(spec, weights="").build().build_model(0).state_dict()
    head = set(model) - set(base)
    assert head
    assert all(torch.equal(model[name], fresh[name]) for name in head)
    assert any(not torch.equal(model[name], fresh[name]) for name in base)


def test_weights_that_do_not_come_along_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no weights of 'mlp-9' trained on 'shapes'.*shapes-mlp-9.safe"):
        replace(SPEC, dataset="digits", architecture="mlp-9", weights="shapes").build()
    with pytest.raises(ConfigError, match="trained on 'digits'"):
        base_weights("digits", "mlp-64")


def test_all_weights_that_a_standard_job_starts_from_come_along() -> None:
    standard = load_suite("standard")
    for split in ("train", "validation", "test"):
        for part in standard.family(split).parts:
            for dataset, architecture in ((d, a) for d in part.weights if d for a in part.architectures):
                assert base_weights(dataset, architecture).is_file()


def test_a_name_says_what_a_job_is() -> None:
    assert SPEC.name == "iris-mlp-8-adam"
    assert replace(SPEC, pretraining=0.5).name == "iris-masked-mlp-8-adam"
    assert replace(SPEC, weights="shapes").name == "iris-tuned-mlp-8-adam"


def test_a_users_own_file_is_a_family_of_jobs(tmp_path: Path) -> None:
    from tests import own_files

    path = own_files.write(own_files.ratings(), tmp_path)
    family = JobFamily((str(path),), ("factors-2",), budget=(60, 90))
    job = family.sample(np.random.default_rng(0)).build()
    assert job.task == "regression"
    inputs, targets = part(job, "train")
    assert torch.isfinite(job.loss_function(job.build_model(0)(inputs), targets))
    with pytest.raises(ConfigError, match="'mlp-3' fits table, image, sound, not ratings"):
        JobFamily((str(path),), ("mlp-3",))


# Training

SANE: dict[str, Any] = {
    "batch_size": 16,
    "weight_decay": 0.0,
    "dropout": None,
    "budget": 1600,
    "samples": 0,
    "noise": 0.0,
    "label_noise": 0.0,
    "imbalance": 1.0,
    "scale": 0.0,
    **dict.fromkeys(REGULARIZERS),
}
MOMENTA: dict[str, float | None] = {"sgd": 0.0, "rmsprop": 0.0, "adagrad": None, "adadelta": None}
GENTLE = {"momentum": 0.01, "nesterov": 0.01}
"""Learning rates at which rounding does not grow, where the usual one is not such."""
FAMILIES = [
    (part.name, architecture)
    for part in load_suite("standard").family("train").parts
    for architecture in part.architectures
]


def sane_jobs(family: str, architecture: str) -> list[JobSpec]:
    """A job of the family for each optimizer, at a setting that trains."""
    (mine,) = load_suite(family).family("train").parts
    spec = mine.sample(np.random.default_rng(0))
    return [
        replace(
            spec,
            dataset=mine.datasets[0],
            architecture=architecture,
            optimizer=optimizer,
            lr=GENTLE.get(optimizer, SANE_LR[optimizer]),
            momentum=MOMENTA.get(optimizer, 0.9),
            **SANE,
        )
        for optimizer in OPTIMIZERS
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "architecture"), FAMILIES)
def test_every_family_trains_with_every_optimizer_alike_on_both_engines(
    family: str, architecture: str
) -> None:
    # In double precision, but for what later phases build themselves: rounding grows from machine to machine.
    built = [spec.build() for spec in sane_jobs(family, architecture)]
    jobs = [job if job.then else double(job) for job in built]
    batched = run_trials(jobs, range(len(jobs)), decisions=4)  # a job left to the reference engine warns
    for seed, (job, trial) in enumerate(zip(jobs, batched, strict=True)):
        env = TuningEnv(decisions=4, rails=False)
        env.reset(seed=seed, options={"job": job})
        over = False
        while not over:
            over = env.step(np.zeros(len(env.space), np.float32))[2]
        assert not trial.crashed
        assert env.records[-1].val_loss < env.course.track.first, job.name  # of the last phase
        for one, other in zip(env.records, trial.records, strict=True):
            assert other.val_loss == pytest.approx(one.val_loss, rel=1e-5), job.name


@pytest.mark.parametrize("family", load_suite("standard").families)
def test_no_family_falls_back_to_the_reference_engine(family: str) -> None:
    suite, engine = load_suite(family), BatchedEngine(1)
    for split in ("train", "validation", "test"):
        for part in suite.family(split).parts:
            for architecture in part.architectures:
                spec = replace(part.sample(np.random.default_rng(0)), architecture=architecture)
                assert isinstance(engine.start(0, spec.build(), Streams(0)), BatchedSeat)
