"""The samplers of searches by name: Optuna's, set up for a few dozen trials."""

from __future__ import annotations

import logging
import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rl_tuner.config import choose
from rl_tuner.errors import ConfigError

if TYPE_CHECKING:
    import optuna

    from rl_tuner.settings import SettingSpace

BATCH = 4
"""Trials side by side where the next ones depend on them."""
HALVING_SLOTS = 8
MIN_STEPS, REDUCTION = 2, 3
"""Decisions before a trial may be pruned, and the share that goes on at each rung: one in three."""
MUTATION = 5.0
"""Distribution index of the polynomial mutation: steps of a tenth of the range are usual."""
SPARE = "spare"
"""What the spare parameters of `Sampler.dimensions` are called."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a sampler is asked: to choose one trial of a search.

    Attributes:
        seed: Of what it draws.
        index: The trial's number in the search, from 0.
        trials: How many the search has.
        space: What it varies, see `narrowed`.
    """

    seed: int
    index: int
    trials: int
    space: SettingSpace


@dataclass(frozen=True, slots=True)
class Sampler:
    """How a search chooses what to try.

    Attributes:
        description: One line for people.
        make: Builds Optuna's sampler; None where there is none of Optuna's.
        batch: How many trials run side by side; None for as many as there is room for.
        waits: Whether a whole batch ends before the next is chosen.
        pruner: Builds Optuna's pruner from the decisions of a trial; None where every trial runs to its end.
        dimensions: Numeric parameters it needs at least; spare ones that change nothing make up for lacking.
    """

    description: str
    make: Callable[[Ask], optuna.samplers.BaseSampler] | None
    batch: Callable[[int, int], int] | int | None = None
    waits: bool = False
    pruner: Callable[[int], optuna.pruners.BasePruner] | None = None
    dimensions: int = 0

    def spare(self, space: SettingSpace) -> tuple[str, ...]:
        """Names of the spare parameters, drawn from [0, 1], that this sampler needs on a space."""
        return tuple(f"{SPARE}_{i}" for i in range(self.dimensions - len(space.dimensions)))


def gp_startup(trials: int) -> int:
    """Random trials before a Gaussian process chooses."""
    return max(BATCH, trials // 4)


def population(trials: int) -> int:
    """Size of a genetic algorithm's population: ten generations, of four at least."""
    return max(4, trials // 10)


def cma_population(trials: int, dimensions: int) -> int:
    """Size of a generation of CMA-ES: Hansen's default, halved if that leaves fewer than ten generations.

    Hansen, 2016, "The CMA Evolution Strategy: A Tutorial", table 1: ``4 + floor(3 log dimensions)``.
    """
    usual = 4 + math.floor(3 * math.log(max(dimensions, 2)))
    return usual if trials >= 10 * usual else max(4, usual // 2)


def _random(ask: Ask) -> optuna.samplers.BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(ask.seed)


def _grid(ask: Ask) -> optuna.samplers.BaseSampler:
    from optuna.samplers import PartialFixedSampler

    points = ask.space.grid(ask.trials)[1]
    return PartialFixedSampler(points[ask.index % len(points)], _random(ask))


def _tpe(ask: Ask) -> optuna.samplers.BaseSampler:
    from optuna.samplers import TPESampler

    # Parameters of a chosen schedule are there in some trials only: groups keep these apart.
    return TPESampler(
        n_startup_trials=BATCH,  # more random ones find less, even of 40 trials
        seed=ask.seed,
        multivariate=True,
        group=ask.space.schedule_options,
    )


def _gp(ask: Ask) -> optuna.samplers.BaseSampler:
    from optuna.samplers import GPSampler

    return GPSampler(seed=ask.seed, n_startup_trials=gp_startup(ask.trials), warn_independent_sampling=False)


def _cma_es(ask: Ask) -> optuna.samplers.BaseSampler:
    from rl_tuner.optuna_samplers import KnownSpaceCmaEs

    spare = SAMPLERS["cma-es"].spare(ask.space)
    size = cma_population(ask.trials, len(ask.space.dimensions) + len(spare))
    return KnownSpaceCmaEs(ask.space, spare, ask.seed, size)


def _genetic(ask: Ask) -> optuna.samplers.BaseSampler:
    from optuna.samplers import NSGAIISampler
    from optuna.samplers.nsgaii import BLXAlphaCrossover, PolynomialMutation

    return NSGAIISampler(
        population_size=population(ask.trials),
        crossover=BLXAlphaCrossover(),
        mutation=PolynomialMutation(MUTATION),
        seed=ask.seed,
    )


def _halving(decisions: int) -> optuna.pruners.BasePruner:
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min(MIN_STEPS, decisions), REDUCTION)


def _hyperband(decisions: int) -> optuna.pruners.BasePruner:
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(min(MIN_STEPS, decisions), decisions, REDUCTION)


SAMPLERS: dict[str, Sampler] = {
    "grid": Sampler("a grid, finest in the learning rate", _grid),
    "random": Sampler("settings drawn at random", _random),
    "tpe": Sampler("tree-structured Parzen estimator", _tpe, BATCH, waits=True),
    "gp": Sampler("Bayesian optimization with a Gaussian process", _gp, BATCH, waits=True),
    "cma-es": Sampler("covariance matrix adaptation", _cma_es, cma_population, waits=True, dimensions=2),
    "genetic": Sampler("genetic algorithm", _genetic, lambda trials, _: population(trials), waits=True),
    "halving": Sampler(
        "random, unpromising trials ended early (successive halving)", _random, HALVING_SLOTS, pruner=_halving
    ),
    "hyperband": Sampler(
        "random, unpromising trials ended early by several rules", _random, HALVING_SLOTS, pruner=_hyperband
    ),
    "pbt": Sampler("population-based training: members copy the best ones as they train", None),
}
"""How a search can choose what to try."""


def narrowed(name: str, space: SettingSpace, trials: int) -> SettingSpace:
    """What a sampler varies of a space with so many trials: all of it, but for a grid."""
    return space.grid(trials)[0] if name == "grid" else space


def batch_of(name: str, space: SettingSpace, trials: int) -> int:
    """How many trials of a search a sampler has run side by side, if there is room."""
    sampler = SAMPLERS[name]
    batch = sampler.batch
    if callable(batch):
        batch = batch(trials, len(space.dimensions) + len(sampler.spare(space)))
    return trials if batch is None else min(batch, trials)


def make_sampler(name: str, ask: Ask) -> optuna.samplers.BaseSampler:
    """The sampler that chooses one trial.

    Each trial has a sampler of its own, so that what it chooses depends on the seed, on the trial's number
    and on what the study holds, not on how many others this process has chosen: a resumed study goes on as
    it would have.

    Args:
        name: One of `SAMPLERS` but "pbt".
        ask: What it is to choose.

    Raises:
        ConfigError: The sampler is none of Optuna's.
    """
    make = SAMPLERS[choose("sampler", name, SAMPLERS)].make
    if make is None:
        raise ConfigError(f"the sampler {name!r} is none of Optuna's: it has no study")
    sequence = np.random.SeedSequence([ask.seed, zlib.crc32(name.encode()), ask.index])
    return make(replace(ask, seed=int(sequence.generate_state(1)[0])))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna from logging what is no error, and from warning of what it calls experimental."""
    from optuna.exceptions import ExperimentalWarning

    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(max(level, logging.ERROR))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        logger.setLevel(level)
