"""The recipe of learning with one thing changed: what ablations compare."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from rl_tuner.agent_kinds import RECIPE
from rl_tuner.config import choose
from rl_tuner.features import FEATURE_GROUPS
from rl_tuner.learning_config import LearningConfig

BASE, AGAIN = "base", "base-again"
_OF_GROUPS = ("advantages", "gae_lambda", "gae_lambda_end")
_WITH_CRITIC = {name: value for name, value in RECIPE.items() if name not in _OF_GROUPS}


@dataclass(frozen=True, slots=True)
class RecipeConfig(LearningConfig):
    """A `LearningConfig` with options of the agent's class besides.

    Attributes:
        options: JSON-able, by argument.
    """

    options: Mapping[str, Any] = field(default_factory=dict)

    def agent_options(self) -> dict[str, Any]:
        """See `LearningConfig.agent_options`."""
        return {**LearningConfig.agent_options(self), **self.options}


_WITHOUT_GROUPS = {"agent": "ppo", "group_size": 1}
VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        BASE: {},
        AGAIN: {},
        "reward-log": {"reward": "log_improvement"},
        "reward-best": {"reward": "best_improvement"},
        "reward-final": {"reward": "final_improvement"},
        "reward-relative": {"reward": "relative_improvement"},
        "reward-test": {"reward": "test_improvement"},
        "actions-continuous": {"actions": "continuous"},
        "actions-discrete": {"actions": "discrete"},
        "actions-anchored": {"actions": "anchored"},
        "intervals-geometric": {"intervals": "geometric"},
        "intervals-uniform": {"intervals": "uniform"},
        **{f"without-{group}": {"without": (group,)} for group in FEATURE_GROUPS},
        "memory-1": {"memory": 1},
        "memory-3": {"memory": 3},
        "lr": {"hyperparameters": ("lr",)},
        "lr-decay": {"hyperparameters": ("lr", "weight_decay")},
        "lr-decay-dropout": {"hyperparameters": ("lr", "weight_decay", "dropout")},
        "lr-decay-dropout-batch": {"hyperparameters": ("lr", "batch_size", "weight_decay", "dropout")},
        "gae": {**_WITHOUT_GROUPS, "options": _WITH_CRITIC},
        "gae-privileged": {**_WITHOUT_GROUPS, "options": {**_WITH_CRITIC, "privileged": True}},
        "without-critic": {"options": {"advantages": "group"}},
        "lambda-1": {"options": {"gae_lambda_end": 1.0}},
        "es": {"agent": "es"},
        "rails-off": {"rails": False},
        "averaging-in-learning": {"averaging": True},
        "averaging-off": {"averaging_at_work": False},
        "restarts-off": {"restarts_at_work": False},
        "group-8": {"group_size": 8},
        "group-16": {"group_size": 16},
        "group-32": {"group_size": 32},
        "decisions-10": {"decisions": 10},
        "decisions-20": {"decisions": 20},
        "decisions-40": {"decisions": 40},
    }
)
"""What each variant changes of the recipe; one that changes nothing of it is not run.

A policy is judged as it learned: with as many decisions, and with or without rails.
"""


def variants_of(base: RecipeConfig, only: Collection[str] = ()) -> dict[str, RecipeConfig]:
    """The recipe, and the named variants of it that differ from it; and the recipe again, if asked for.

    Args:
        base: The recipe.
        only: Names of `VARIANTS`; none for all.

    Raises:
        ConfigError: There is no such variant, or one cannot be.
    """
    for name in only:
        choose("variant", name, VARIANTS)
    names = [name for name in VARIANTS if not only or name in only or name == BASE]
    found = {name: replace(base, **VARIANTS[name]) for name in names}
    return {name: c for name, c in found.items() if c != base or name in (BASE, AGAIN)}
