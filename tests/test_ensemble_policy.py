"""An ensemble acts by the mean of its members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from rl_tuner.ensemble_policy import EnsemblePolicy
from rl_tuner.errors import PolicyError
from rl_tuner.policies import MLPPolicy
from rl_tuner.policy import Policy
from rl_tuner.space import Hyperparameter, SearchSpace
from tests.contracts_policies import PolicyContract
from tests.learned_policies import PROVENANCE, ensemble, network, random_observations


class TestContinuousEnsemble(PolicyContract):
    def make(self) -> Policy:
        return ensemble("continuous")


class TestDiscreteEnsemble(PolicyContract):
    def make(self) -> Policy:
        return ensemble("discrete")


class TestEnsembleWithAMemory(PolicyContract):
    has_memory = True

    def make(self) -> Policy:
        return ensemble("continuous", memory=3)


def rebuilt(policy: MLPPolicy, **changes: Any) -> MLPPolicy:
    """The same network but for some arguments."""
    given = {
        "space": policy.space,
        "kind": policy.actions.kind,
        "config": policy.config,
        "feature_names": policy.feature_names,
        "provenance": policy.provenance,
        "layers": policy.layers,
        "activation": policy.activation,
        "memory": policy.memory,
    }
    return MLPPolicy(**{**given, **changes})


def saying(*outputs: float, kind: str = "continuous") -> MLPPolicy:
    """A network that always gives these outputs."""
    plain = network(kind)
    weight = torch.zeros(len(outputs), len(plain.feature_names))
    return rebuilt(plain, layers=[(weight, torch.tensor(outputs))])


def test_it_acts_by_the_mean_of_what_its_members_do() -> None:
    policy = ensemble()
    seen = random_observations(policy)
    alone = [network(seed=seed).act(seen) for seed in range(3)]
    np.testing.assert_allclose(policy.act(seen), np.mean(alone, axis=0), atol=1e-6)
    assert np.abs(policy.act(seen) - alone[0]).max() > 0.1


def test_a_member_beyond_the_bounds_counts_no_more_than_another() -> None:
    policy = EnsemblePolicy([saying(100.0, 0.0), saying(-0.5, 0.2), saying(-0.8, 0.4)], {})
    np.testing.assert_allclose(policy.act(random_observations(policy, 1)[0]), [-0.1, 0.2], atol=1e-6)


def test_the_probabilities_of_choices_are_the_members_mean() -> None:
    policy = ensemble("discrete")
    seen = random_observations(policy)
    outputs = np.stack([member.forward(seen) for member in policy.members]).astype(np.float64)
    lr, dropout = (softmax(part, axis=-1).mean(axis=0) for part in (outputs[..., :5], outputs[..., 5:]))
    np.testing.assert_allclose(np.exp(policy.forward(seen)), np.hstack([lr, dropout]), atol=1e-5)
    np.testing.assert_array_equal(policy.act(seen), np.stack([lr.argmax(1), dropout.argmax(1)], axis=1))


def test_two_that_lean_to_a_choice_outvote_one_that_is_certain_of_another() -> None:
    lean, certain = (2.0, 0, 0, 0, 0, 0, 0, 0), (0, 0, 0, 500.0, 0, 0, 0, 0)
    members = [saying(*outputs, kind="discrete") for outputs in (lean, lean, certain)]
    policy = EnsemblePolicy(members, {})
    seen = random_observations(policy, 1)[0]
    assert np.isfinite(policy.forward(seen)).all()  # of a choice that nobody would make, too
    assert policy.act(seen)[0] == 0  # 2 x 0.65 against 1 of 3; by the mean of logits it would be choice 3


def test_members_of_the_same_weights_act_as_each_of_them() -> None:
    member = network(memory=3)
    policy = EnsemblePolicy([member, rebuilt(member)], {})
    for seen in random_observations(member, 10):
        np.testing.assert_allclose(policy.act(seen), member.act(seen), atol=1e-6)


def test_it_remembers_by_itself_and_leaves_its_members_alone() -> None:
    policy = ensemble(memory=3)
    policy.act(random_observations(policy, 1)[0])
    assert policy.get_state()["past"] is not None
    assert all(member.get_state()["past"] is None for member in policy.members)


def test_it_is_named_by_its_own_provenance_and_members_keep_theirs() -> None:
    members = [rebuilt(network(seed=seed), provenance={"name": f"seed-{seed}"}) for seed in range(2)]
    policy = EnsemblePolicy(members, PROVENANCE)
    assert policy.name == "sample"
    assert [member.name for member in policy.members] == ["seed-0", "seed-1"]


def wider(policy: MLPPolicy) -> MLPPolicy:
    weight, bias = policy.layers[1]
    layers = [
        policy.layers[0],
        (weight.repeat(2, 1), bias.repeat(2)),
        (policy.layers[2][0].repeat(1, 2), policy.layers[2][1]),
    ]
    return rebuilt(policy, layers=layers)


def other_bounds(policy: MLPPolicy) -> MLPPolicy:
    lr, dropout = policy.space.hyperparameters
    changed: tuple[Hyperparameter, ...] = (replace(lr, high=lr.high * 2), dropout)
    return rebuilt(policy, space=SearchSpace(changed))


UNLIKE: dict[str, Callable[[MLPPolicy], MLPPolicy]] = {
    "bounds and steps": other_bounds,
    "kind of action": lambda policy: rebuilt(policy, kind="anchored"),
    "settings": lambda policy: rebuilt(policy, config=replace(policy.config, decisions=13)),
    "features": lambda policy: rebuilt(policy, feature_names=policy.feature_names[::-1]),
    "activation": lambda policy: rebuilt(policy, activation="relu"),
    "layers": wider,
}


@pytest.mark.parametrize("what", UNLIKE)
def test_members_that_are_not_alike_are_refused_by_what_differs(what: str) -> None:
    with pytest.raises(PolicyError, match=rf"{what} of member 2 \(sample\) and of member 0"):
        EnsemblePolicy([network(), network(seed=1), UNLIKE[what](network(seed=2))], {})


def test_members_with_other_hyperparameters_or_memories_are_refused() -> None:
    one = rebuilt(network(names=("progress",)), space=SearchSpace(network().space.hyperparameters[::-1]))
    with pytest.raises(PolicyError, match="hyperparameters of member 1"):
        EnsemblePolicy([network(names=("progress",)), one], {})
    with pytest.raises(PolicyError, match=r"memory of member 1 .* differ: 3 and 1"):
        EnsemblePolicy([network(), network(memory=3)], {})


@pytest.mark.parametrize("members", [0, 1])
def test_one_member_is_no_ensemble(members: int) -> None:
    with pytest.raises(PolicyError, match=f"two members or more, got {members}"):
        EnsemblePolicy([network()] * members, {})
