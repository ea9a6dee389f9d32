"""Variants of the recipe: each changes what it says, and nothing else."""

from __future__ import annotations

from dataclasses import fields

import pytest

from rl_tuner.config import to_dict
from rl_tuner.envs.suites import SUITES
from rl_tuner.errors import ConfigError
from rl_tuner.features import FEATURE_GROUPS
from rl_tuner.variants import AGAIN, BASE, VARIANTS, RecipeConfig, variants_of
from tests.tiny import TINY


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)


def recipe(**changes: object) -> RecipeConfig:
    plain = {"reward": "log_improvement", "actions": "continuous", "memory": 1}  # whatever is the best now
    return RecipeConfig(agent="grpo", suite="tiny", steps=1000, **{**plain, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in (BASE, AGAIN)])
def test_a_variant_changes_what_it_names_and_leaves_the_rest(name: str) -> None:
    base = recipe()
    found = variants_of(base, [name]).get(name, base)
    changed = {f.name for f in fields(base) if getattr(found, f.name) != getattr(base, f.name)}
    assert changed <= set(VARIANTS[name])
    assert {f: getattr(found, f) for f in VARIANTS[name]} == dict(VARIANTS[name])
    assert found.num_envs == base.num_envs  # equal throughput of jobs, whatever the agent's own number


def test_every_part_asked_for_has_a_variant() -> None:
    names = set(variants_of(recipe()))
    assert names >= {f"without-{group}" for group in FEATURE_GROUPS}
    assert names >= {"reward-best", "reward-final", "actions-discrete", "actions-anchored", "memory-3", "es"}
    assert names >= {"intervals-uniform", "gae", "gae-privileged", "rails-off", "group-8", "group-32"}
    assert names >= {"lr", "lr-decay", "lr-decay-dropout", "lr-decay-dropout-batch", "decisions-10"}


def test_what_is_the_recipe_already_is_not_run_twice_but_for_the_control() -> None:
    assert {"memory-1", "actions-continuous", "reward-log"}.isdisjoint(variants_of(recipe()))
    other = variants_of(recipe(memory=3, actions="anchored"))
    assert {"memory-1", "actions-continuous", BASE, AGAIN} <= set(other)
    assert {"memory-3", "actions-anchored"}.isdisjoint(other)


def test_without_groups_the_recipe_keeps_all_its_settings_but_those_of_advantages() -> None:
    found = variants_of(recipe(), ["gae", "gae-privileged"])
    base, gae, privileged = (found[name].agent_options() for name in (BASE, "gae", "gae-privileged"))
    assert [base.pop(name) for name in ("advantages", "gae_lambda", "gae_lambda_end")] == [
        "group_gae",
        1.0,
        0.5,
    ]
    assert gae == base
    assert privileged == {**base, "privileged": True}


def test_some_variants_come_with_the_recipe_itself() -> None:
    assert list(variants_of(recipe(), ["rails-off"])) == [BASE, "rails-off"]
    with pytest.raises(ConfigError, match="unknown variant 'rails'"):
        variants_of(recipe(), ["rails"])


def test_a_recipe_s_options_stand_in_its_settings() -> None:
    assert to_dict(recipe(options={"n_epochs": 2}))["options"] == {"n_epochs": 2}
    assert recipe(options={"n_epochs": 2}).agent_options()["n_epochs"] == 2
