"""A sampler of our own in Optuna's form. Importing this imports Optuna."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import CmaEsSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from rl_tuner.settings import SettingSpace


class KnownSpaceCmaEs(CmaEsSampler):
    """CMA-ES over the numeric parameters of a space, from the first trial on.

    Optuna's own looks for its space in finished trials, so that the first generation would be lost to it
    where a generation runs side by side. What is no number (a schedule) or not in every trial (its
    parameters) is chosen by TPE.

    Args:
        space: What is varied.
        spare: Names of further parameters, in [0, 1]: CMA-ES needs two.
        seed: Its own.
        population_size: Trials in a generation.
    """

    def __init__(self, space: SettingSpace, spare: Sequence[str], seed: int, population_size: int) -> None:
        super().__init__(
            seed=seed,
            popsize=population_size,
            n_startup_trials=0,
            independent_sampler=TPESampler(seed=seed, n_startup_trials=population_size, multivariate=False),
            warn_independent_sampling=False,
        )
        self._known: dict[str, BaseDistribution] = {d.parameter: d.distribution for d in space.dimensions}
        self._known |= {name: FloatDistribution(0.0, 1.0) for name in spare}

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002 (Optuna's signature)
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """All numeric parameters."""
        return dict(self._known)
