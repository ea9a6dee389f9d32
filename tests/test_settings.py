from __future__ import annotations

import json
import pickle
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.job_specs import JobSpec
from rl_tuner.envs.jobs import Phase, TrainingJob
from rl_tuner.errors import ConfigError
from rl_tuner.files import plain
from rl_tuner.samplers import quiet
from rl_tuner.schedules import SCHEDULE_OPTIONS, SCHEDULES
from rl_tuner.search_dimensions import RANGES, Dimension, dimensions_of, free_hyperparameters
from rl_tuner.seeding import Streams
from rl_tuner.settings import FINEST, Setting, SettingSpace
from tests.phased import phased_job
from tests.quadratic import ROWS, quadratic_job
from tests.tiny import TINY

SPEC = replace(
    TINY.family("train").sample(Streams(0).numpy("data")),
    optimizer="adam", momentum=0.9, dropout=0.1, weight_decay=0.0, batch_size=32, fixed=(),
)  # fmt: skip
FULL = SettingSpace.of(SPEC)


def fixed(values: dict[str, Any]) -> optuna.trial.FixedTrial:
    return optuna.trial.FixedTrial(values)


# --- a setting ---


def test_a_setting_replaces_a_specs_start_values() -> None:
    setting = Setting(
        {"lr": 0.02, "batch_size": 64.0, "momentum": 0.5, "dropout": 0.25, "weight_decay": 1e-3}
    )
    job = setting.apply(SPEC)
    assert isinstance(job, JobSpec)
    expected = replace(SPEC, lr=0.02, batch_size=64, momentum=0.5, dropout=0.25, weight_decay=1e-3)
    assert job == expected
    assert isinstance(job.batch_size, int)
    assert job.build().start == expected.build().start


def test_what_a_setting_does_not_name_stays_the_jobs_own() -> None:
    assert Setting().apply(SPEC) == SPEC
    job = Setting({"lr": 0.5}).apply(quadratic_job())
    assert isinstance(job, TrainingJob)
    assert dict(job.start) == {"lr": 0.5, "batch_size": ROWS}


def test_later_phases_take_the_values_that_their_own_start_names() -> None:
    setting = Setting({"lr": 0.5, "batch_size": 4.0, "weight_decay": 0.01})
    job = setting.apply(phased_job())
    assert isinstance(job, TrainingJob)
    trained = nn.Linear(1, 1)
    assert dict(job.start) == {"lr": 0.5, "batch_size": 4.0, "weight_decay": 0.01, "momentum": 0.9}
    assert dict(job.then[0].job(trained).start) == {"lr": 0.5, "batch_size": 4.0, "momentum": 0.8}
    assert job.then[0].budget == phased_job().then[0].budget


def test_a_phase_that_makes_no_job_is_left_to_who_asks_for_it() -> None:
    no_job: Any = len
    job = Setting({"lr": 0.5}).apply(phased_job(then=None))
    assert isinstance(job, TrainingJob)
    broken = Setting({"lr": 0.5}).apply(replace(job, then=(Phase(no_job, 5),)))
    assert isinstance(broken, TrainingJob)
    made: object = broken.then[0].job(nn.Sequential(nn.ReLU()))
    assert made == 1


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(1e-6, 1.0), st.sampled_from([8, 64, 512]))
def test_a_setting_survives_json_and_pickle(schedule: str, lr: float, batch_size: int) -> None:
    options = {name: (r.low * r.high) ** 0.5 for name, r in SCHEDULE_OPTIONS[schedule].items()}
    setting = Setting({"lr": lr, "batch_size": float(batch_size)}, schedule, options)
    assert Setting.from_dict(json.loads(json.dumps(plain(setting.to_dict())))) == setting
    assert pickle.loads(pickle.dumps(setting)) == setting


def test_its_policy_is_the_schedule_with_its_options() -> None:
    policy = Setting({}, "wsd", {"decay": 0.4}).policy()
    assert policy.name == "wsd"
    assert vars(policy).keys() == vars(Setting({}, "wsd").policy()).keys()
    observation = np.zeros(len(policy.feature_names), np.float32)
    observation[policy.feature_names.index("progress")] = 0.7  # after 0.6, before 0.8
    assert policy.act(observation) < Setting({}, "wsd").policy().act(observation)
    assert Setting({}, "wsd").policy() is not Setting({}, "wsd").policy()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"start": {"lr_": 0.1}}, "unknown hyperparameter 'lr_'"),
        ({"start": {"lr": -0.1}}, "lr must be above 0"),
        ({"start": {"lr": True}}, "lr must be a number, got True"),
        ({"start": {"lr": "0.1"}}, "lr must be a number, got '0.1'"),
        ({"start": [0.1]}, "start of a setting must be values by name"),
        ({"schedule": "cosinus"}, "unknown schedule 'cosinus'.*did you mean 'cosine'"),
        ({"schedule": "cosine", "options": {"flor": 0.1}}, "unknown option of the schedule 'cosine' 'flor'"),
        ({"schedule": "cosine", "options": {"floor": 2.0}}, "floor must be"),
        ({"shedule": "cosine"}, "unknown Setting key 'shedule'"),
    ],
)
def test_a_typo_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Setting.from_dict(values)


# --- what is varied ---


def names(job: TrainingJob | JobSpec, **options: Any) -> list[str]:
    return [dimension.name for dimension in dimensions_of(job, **options)]


def test_a_search_varies_what_the_job_has_and_does_not_fix() -> None:
    assert names(SPEC) == ["lr", "batch_size", "weight_decay", "dropout", "momentum"]
    assert names(replace(SPEC, fixed=("momentum", "batch_size"))) == ["lr", "weight_decay", "dropout"]
    assert names(replace(SPEC, dropout=None)) == ["lr", "batch_size", "weight_decay", "momentum"]
    adagrad = replace(SPEC, optimizer="adagrad", momentum=None)
    assert names(adagrad) == ["lr", "batch_size", "weight_decay", "dropout"]
    assert names(replace(SPEC, fixed=("lr", "dropout", "momentum"))) == ["batch_size", "weight_decay"]


def test_penalties_are_varied_only_by_name() -> None:
    job = replace(SPEC, l2=1e-4)
    assert "l2" not in names(job)
    assert "l2" in free_hyperparameters(job.build())
    assert names(job, names=("l2", "lr")) == ["lr", "l2"]


@pytest.mark.parametrize("optimizer", sorted(SANE_LR))
def test_the_learning_rate_ranges_over_four_decades_around_the_usual_one(optimizer: str) -> None:
    lr = dimensions_of(quadratic_job(optimizer=optimizer), ("lr",))[0]
    assert (lr.low, lr.high) == pytest.approx((SANE_LR[optimizer] / 100, SANE_LR[optimizer] * 100))
    narrow = dimensions_of(quadratic_job(optimizer=optimizer), ("lr",), (0.0, 0.5))[0]
    assert (narrow.low, narrow.high) == pytest.approx((SANE_LR[optimizer], SANE_LR[optimizer] * 10**0.5))


def test_an_optimizer_that_is_not_known_has_its_learning_rate_around_a_thousandth() -> None:
    lr = dimensions_of(quadratic_job(optimizer=partial(torch.optim.NAdam, lr=0.5)), ("lr",))[0]
    assert (lr.low, lr.high) == pytest.approx((1e-5, 1e-1))


@pytest.mark.parametrize(
    ("samples", "expected"), [(1, None), (3, (1, 2)), (8, (4, 8)), (40, (16, 32)), (5000, (16, 256))]
)
def test_batches_are_no_larger_than_the_data(samples: int, expected: tuple[float, float] | None) -> None:
    job = quadratic_job(train=(torch.zeros(samples, 5).double(), torch.zeros(samples, 1).double()))
    found = dimensions_of(job, ("batch_size",))
    assert ((found[0].low, found[0].high) if found else None) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"names": ("lr", "dropout")},
            "'quadratic' has no hyperparameter 'dropout' to search; it has lr, batch",
        ),
        ({"names": ("lr", "learning_rate")}, "unknown hyperparameter 'learning_rate'"),
        ({"names": "lr"}, "must be a sequence of names"),
        ({"lr_decades": (1.0, 1.0)}, "the range of lr is empty"),
        ({"lr_decades": (0.0, 99.0)}, "lr_decades must be >= -10 and <= 10, got 99"),
    ],
)
def test_what_cannot_be_varied_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dimensions_of(quadratic_job(), **options)


def test_a_fixed_hyperparameter_cannot_be_searched_by_name() -> None:
    with pytest.raises(ConfigError, match="no hyperparameter 'lr' to search"):
        dimensions_of(quadratic_job(fixed=("lr",)), ("lr",))


# --- a dimension ---


def test_points_lie_in_the_middles_of_equal_parts_of_the_scale() -> None:
    assert Dimension("dropout", 0.0, 0.4).points(4) == pytest.approx([0.05, 0.15, 0.25, 0.35])
    assert Dimension("lr", 1e-4, 1.0, "log").points(4) == pytest.approx(
        [10**-3.5, 10**-2.5, 10**-1.5, 10**-0.5]
    )
    assert RANGES["momentum"].points(2) == pytest.approx([10**-1.5, 10**-0.5])  # of 1 - momentum
    assert RANGES["batch_size"].points(5) == [4, 5, 6, 7, 8]
    assert RANGES["batch_size"].points(2) == [5, 7]


@given(st.integers(1, 40))
def test_whole_numbers_are_never_repeated(number: int) -> None:
    found = RANGES["batch_size"].points(number)
    assert len(set(found)) == len(found) == min(number, 5)


@given(st.sampled_from(sorted(RANGES)), st.floats(0, 1))
def test_a_dimension_gives_values_of_its_range_on_its_scale(name: str, where: float) -> None:
    dimension = RANGES[name]
    space = dimension.distribution
    drawn: float = space.low + where * (space.high - space.low)
    drawn = round(drawn) if dimension.scale == "log2" else min(drawn, space.high)
    value = dimension.suggest(fixed({dimension.parameter: drawn}))
    assert dimension.low - 1e-12 <= value <= dimension.high + 1e-12
    expected = {"log2": 2.0**drawn, "complement": 1 - drawn}.get(dimension.scale, drawn)
    assert value == expected
    Setting({name: value})  # its scale can hold it


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown scale 'cubic'"):
        Dimension("lr", 0.1, 1.0, "cubic")


# --- the space ---


def test_a_space_suggests_settings_of_the_job() -> None:
    values = {
        "lr": 0.01, "log2_batch_size": 6, "weight_decay": 1e-3, "dropout": 0.2, "one_minus_momentum": 0.25,
        "schedule": "cosine",
    }  # fmt: skip
    assert FULL.suggest(fixed(values)) == Setting(
        {"lr": 0.01, "batch_size": 64.0, "weight_decay": 1e-3, "dropout": 0.2, "momentum": 0.75}, "cosine"
    )
    assert FULL.parameters == tuple(values)


def test_only_the_chosen_schedules_parameters_are_asked_for() -> None:
    space = SettingSpace.of(quadratic_job(), ("lr",), ("constant", "wsd", "cosine"), schedule_options=True)
    wsd = {"lr": 0.1, "schedule": "wsd", "wsd.warmup": 0.1, "wsd.decay": 0.3}
    assert space.suggest(fixed(wsd)).options == {"warmup": 0.1, "decay": 0.3}
    assert space.suggest(fixed({"lr": 0.1, "schedule": "constant"})).options == {}
    one = SettingSpace.of(quadratic_job(), (), ("cosine",), schedule_options=True)
    assert one.parameters == ("cosine.floor",)
    assert one.suggest(fixed({"cosine.floor": 0.1})) == Setting({}, "cosine", {"floor": 0.1})


@pytest.mark.parametrize("seed", range(3))
def test_every_setting_drawn_can_be_built_and_run(seed: int) -> None:
    space = SettingSpace.of(SPEC, schedules=tuple(SCHEDULES), schedule_options=True)
    with quiet():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
        settings = [space.suggest(study.ask()) for _ in range(40)]
    assert len({setting.schedule for setting in settings}) > 5
    for setting in settings:
        job = setting.apply(SPEC)
        assert job.build().start["lr"] == setting.start["lr"]
        assert setting.policy().name == setting.schedule


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"hyperparameters": (), "schedules": ("cosine",)},
            "nothing to search: .* the one schedule 'cosine'",
        ),
        ({"hyperparameters": (), "schedules": ("constant",), "schedule_options": True}, "nothing to search"),
        ({"schedules": ()}, "at least one schedule"),
        ({"schedules": ("cosine", "cosine")}, "different names"),
        ({"schedules": ("cosinus",)}, "unknown schedule 'cosinus'"),
    ],
)
def test_a_space_with_nothing_to_vary_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SettingSpace.of(quadratic_job(), **options)


# --- its grid ---


@given(st.integers(1, 200))
def test_a_grid_has_as_many_points_as_asked_for_and_none_twice(points: int) -> None:
    space, grid = FULL.grid(points)
    assert len(grid) == points
    assert len({tuple(sorted(point.items())) for point in grid}) == points
    assert {*grid[0]} == {*space.parameters}
    learning_rates = len({point["lr"] for point in grid})
    assert learning_rates >= min(points, FINEST)
    assert space.grid(points) == (space, grid)  # what is left has the same grid
    assert all(
        space.suggest(fixed(point)).start.keys() == {d.name for d in space.dimensions} for point in grid
    )


@pytest.mark.parametrize(
    ("points", "parameters"),
    [
        (15, ("lr",)),
        (16, ("lr", "schedule")),
        (31, ("lr", "schedule")),
        (32, ("lr", "log2_batch_size", "schedule")),
        (64, ("lr", "log2_batch_size", "weight_decay", "schedule")),
    ],
)
def test_a_grid_keeps_its_points_for_the_learning_rate(points: int, parameters: tuple[str, ...]) -> None:
    assert FULL.grid(points)[0].parameters == parameters


def test_a_grid_without_hyperparameters_is_the_schedules() -> None:
    schedules = SettingSpace.of(quadratic_job(), (), ("constant", "cosine", "linear"))
    assert schedules.grid(2) == (schedules, [{"schedule": "constant"}, {"schedule": "cosine"}])
    alone = SettingSpace.of(quadratic_job(), (), ("cosine",), schedule_options=True)
    with pytest.raises(ConfigError, match="a grid needs a hyperparameter, or several schedules"):
        alone.grid(4)


def test_a_phased_job_is_varied_in_what_its_first_phase_has() -> None:
    assert names(phased_job()) == ["lr", "batch_size", "weight_decay", "momentum"]
