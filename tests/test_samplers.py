from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.exceptions import ExperimentalWarning

from rl_tuner.errors import ConfigError
from rl_tuner.samplers import (
    SAMPLERS,
    Ask,
    batch_of,
    cma_population,
    gp_startup,
    make_sampler,
    narrowed,
    population,
    quiet,
)
from rl_tuner.settings import Setting, SettingSpace
from tests.quadratic import quadratic_job

OPTUNAS = [name for name in SAMPLERS if name != "pbt"]
JOB = quadratic_job(start={"lr": 0.1, "batch_size": 8.0, "momentum": 0.5})
LR = SettingSpace.of(JOB, ("lr",), ("constant",))
WIDE = SettingSpace.of(JOB, ("lr", "momentum", "weight_decay"), ("constant", "cosine", "linear"))
OPTIONS = replace(WIDE, schedule_options=True)


def bowl(setting: Setting) -> float:
    """Lowest at lr 0.3, momentum 0.5 and "cosine"."""
    start = setting.start
    misses = [math.log(start["lr"] / 0.3), start.get("momentum", 0.5) - 0.5]
    return sum(miss**2 for miss in misses) + (setting.schedule != "cosine")


def drive(
    name: str,
    space: SettingSpace,
    trials: int,
    seed: int = 0,
    value: Callable[[Setting], float] = bowl,
) -> list[Setting]:
    """The settings that a sampler chooses, told the value of each batch before the next."""
    with quiet():
        study = optuna.create_study(study_name="test")
        space = narrowed(name, space, trials)
        found: list[Setting] = []
        while len(found) < trials:
            batch = []
            for index in range(len(found), min(len(found) + batch_of(name, space, trials), trials)):
                trial = study.ask()
                study.sampler = make_sampler(name, Ask(seed, index, trials, space))
                found.append(space.suggest(trial))
                for spare in SAMPLERS[name].spare(space):
                    trial.suggest_float(spare, 0.0, 1.0)
                batch.append((trial, found[-1]))
            for trial, setting in batch:
                study.tell(trial, value(setting))
    return found


@pytest.mark.usefixtures("untouched_rng")
@pytest.mark.parametrize("space", [LR, WIDE, OPTIONS], ids=["lr", "wide", "options"])
@pytest.mark.parametrize("name", OPTUNAS)
def test_a_seed_decides_what_is_chosen_and_nothing_is_chosen_twice(name: str, space: SettingSpace) -> None:
    settings = drive(name, space, 9, seed=3)
    assert settings == drive(name, space, 9, seed=3)
    assert len({repr(setting) for setting in settings}) == 9
    lr = space.dimensions[0]
    assert all(lr.low <= setting.start["lr"] <= lr.high for setting in settings)
    if name != "grid":
        assert not {repr(s) for s in settings[:4]} & {repr(s) for s in drive(name, space, 9, seed=4)[:4]}


def test_a_random_choice_depends_on_its_number_alone() -> None:
    with quiet():
        study = optuna.create_study()
        alone = study.ask()
        study.sampler = make_sampler("random", Ask(3, 7, 12, WIDE))
        assert WIDE.suggest(alone) == drive("random", WIDE, 12, seed=3)[7]


def test_the_grid_is_gone_through_point_by_point() -> None:
    learning_rates = [setting.start["lr"] for setting in drive("grid", LR, 8)]
    assert learning_rates == pytest.approx([10 ** (-2.75 + k / 2) for k in range(8)])


@pytest.mark.parametrize("name", ["tpe", "gp", "cma-es", "genetic"])
def test_what_looks_at_the_past_ends_nearer_to_the_optimum_than_it_began(name: str) -> None:
    """The mean of the last quarter of 32 against the first, over seeds 0 and 1."""
    first, last = [], []
    for seed in range(2):
        values = [bowl(setting) for setting in drive(name, WIDE, 32, seed)]
        first += values[:8]
        last += values[-8:]
    assert np.mean(last) < 0.5 * np.mean(first)


def test_crashes_do_not_choke_a_sampler() -> None:
    for name in ("tpe", "gp", "cma-es", "genetic"):
        assert len(drive(name, WIDE, 12, value=lambda setting: 3.0)) == 12


@pytest.mark.parametrize(
    ("space", "expected"),
    [(LR, ("spare_0",)), (WIDE, ()), (replace(WIDE, dimensions=()), ("spare_0", "spare_1"))],
)
def test_cma_es_has_two_dimensions_at_least(space: SettingSpace, expected: tuple[str, ...]) -> None:
    assert SAMPLERS["cma-es"].spare(space) == expected
    assert all(SAMPLERS[name].spare(space) == () for name in OPTUNAS if name != "cma-es")


def test_cma_es_samples_from_its_own_distribution_from_the_first_trial_on() -> None:
    """Its first generation is drawn around the middle of the range with a sixth of it as deviation."""
    found = [math.log10(s.start["lr"]) for seed in range(40) for s in drive("cma-es", LR, 4, seed)]
    assert np.mean(found) == pytest.approx(-1, abs=4 * (4 / 6) / math.sqrt(160))
    assert np.std(found) == pytest.approx(4 / 6, rel=0.2)  # drawn evenly, it would be 4 / √12 = 1.15


@pytest.mark.parametrize(
    ("name", "trials", "expected"),
    [
        ("random", 100, 100),
        ("grid", 3, 3),
        ("tpe", 16, 4),
        ("tpe", 2, 2),
        ("gp", 40, 4),
        ("cma-es", 16, 4),
        ("genetic", 16, 4),
        ("genetic", 100, 10),
        ("halving", 16, 8),
        ("hyperband", 3, 3),
    ],
)
def test_batches(name: str, trials: int, expected: int) -> None:
    assert batch_of(name, WIDE, trials) == expected


def test_sizes_of_populations() -> None:
    assert [population(trials) for trials in (1, 40, 55, 200)] == [4, 4, 5, 20]
    # Hansen's 4 + floor(3 log d): 6 for two dimensions, 7 for three, 8 for five.
    assert [cma_population(1000, d) for d in (1, 2, 3, 5, 20)] == [6, 6, 7, 8, 12]
    assert [cma_population(40, d) for d in (2, 3, 5, 20)] == [4, 4, 4, 6]
    assert [gp_startup(trials) for trials in (4, 16, 40)] == [4, 4, 10]


def test_optuna_is_quiet_inside_and_as_it_was_outside(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("optuna")
    before, filters = logger.level, list(warnings.filters)
    with quiet():
        optuna.create_study()
        warnings.warn("new", ExperimentalWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="other"):
            warnings.warn("other", UserWarning, stacklevel=1)
    assert (logger.level, list(warnings.filters)) == (before, filters)
    with pytest.raises(RuntimeError, match="inside"), quiet():
        raise RuntimeError("inside")
    assert logger.level == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "message"), [("tpu", "unknown sampler 'tpu'.*'tpe'"), ("pbt", "none of Opt")]
)
def test_what_is_no_sampler_of_a_study_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_sampler(name, Ask(0, 0, 4, LR))


def test_each_sampler_says_what_it_is() -> None:
    descriptions: list[Any] = [sampler.description for sampler in SAMPLERS.values()]
    assert len({*descriptions}) == len(SAMPLERS)
    assert all(0 < len(line) < 80 for line in descriptions)
