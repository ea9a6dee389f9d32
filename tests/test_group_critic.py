"""The critic of groups: it finds what differences foretell, and forgets what is long past."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from rl_tuner.agents.group_critic import RIDGE, ROLLOUTS, GroupCritic, differences
from rl_tuner.agents.groups import Groups
from rl_tuner.errors import ConfigError

T, N, SIZE = 4, 400, 4
STARTS = np.zeros((T, N), np.bool_)
STARTS[0] = True
GROUPS = Groups(STARTS, np.ones(N, np.bool_), SIZE)


def rollout(seed: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Facts, of which the second decides what is to come, by a law that differs from decision to decision."""
    rng = np.random.default_rng(seed)
    facts = rng.normal(0, [1.0, 3.0, 0.0], (T, N, 3))
    law = slope * np.array([1.0, 2.0, 3.0, 4.0])[:, None]
    return facts, law * facts[..., 1] + rng.normal(0, 1, (T, N))


def taught(rollouts: int, slope: float = 1.0, critic: GroupCritic | None = None) -> GroupCritic:
    critic = critic or GroupCritic(T, 3)
    for seed in range(rollouts):
        facts, targets = rollout(seed, slope)
        critic.learn(facts, GROUPS.decision, GROUPS.compared, targets)
    return critic


def foretold(critic: GroupCritic, slope: float = 1.0) -> float:
    """The share of the variance that it explains in a rollout of its own."""
    facts, targets = rollout(99, slope)
    values = critic.values(facts, GROUPS.decision, GROUPS.compared)
    return 1 - float(((targets - values) ** 2).mean() / (targets**2).mean())


def test_it_finds_the_law_of_each_decision_and_forgets_an_old_one() -> None:
    critic = taught(6)
    assert foretold(critic) > 0.8
    assert foretold(critic, slope=-1.0) < 0
    assert foretold(taught(20, slope=-1.0, critic=critic), slope=-1.0) > 0.8


def test_it_is_silent_until_it_has_seen_enough() -> None:
    assert not taught(ROLLOUTS - 1).ready
    assert taught(ROLLOUTS).ready


def test_it_is_ridge_regression_of_scaled_facts() -> None:
    """Against scikit-learn's, with one decision and one rollout: whitened facts, a penalty in decisions."""
    rng = np.random.default_rng(3)
    starts = np.ones((1, N), np.bool_)
    groups = Groups(starts, starts[0], SIZE)
    facts, targets = rng.normal(0, [[[0.1, 5.0]]], (1, N, 2)), rng.normal(0, 1, (1, N))
    critic = GroupCritic(1, 2)
    critic.learn(facts, groups.decision, groups.compared, targets)
    scale = np.sqrt((facts[0] ** 2).mean(0))
    scaled = np.clip(facts[0] / scale, -5, 5)
    ridge = Ridge(alpha=RIDGE, fit_intercept=False).fit(scaled, targets[0])
    (found,) = critic.values(facts, groups.decision, groups.compared)
    np.testing.assert_allclose(found, ridge.predict(scaled), rtol=2e-2, atol=1e-4)


def test_what_is_not_compared_is_neither_learned_nor_valued() -> None:
    facts, targets = rollout(0, 1.0)
    seen = np.zeros((T, N), np.bool_)
    seen[:, : N // 2] = True
    one, other = GroupCritic(T, 3), GroupCritic(T, 3)
    one.learn(facts, GROUPS.decision, seen, targets)
    other.learn(facts, GROUPS.decision, seen, np.where(seen, targets, 1e6))
    values = one.values(facts, GROUPS.decision, seen)
    np.testing.assert_array_equal(values, other.values(facts, GROUPS.decision, seen))
    assert values[seen].all()
    assert not values[~seen].any()


def test_its_state_is_all_that_it_knows() -> None:
    critic, other = taught(3), GroupCritic(T, 3)
    other.set_state(critic.get_state())
    assert foretold(other) == foretold(critic)
    assert foretold(taught(2, critic=other)) == foretold(taught(2, critic=critic))
    with pytest.raises(ConfigError, match="the critic's state is of shape"):
        GroupCritic(T, 4).set_state(critic.get_state())


def test_differences_are_what_a_run_has_its_group_has_not() -> None:
    observations = np.arange(2 * 4 * 1, dtype=float).reshape(2, 4, 1)
    rewards = np.array([[1.0, 3.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]])
    starts = np.array([[True] * 4, [False] * 4])
    found = differences(Groups(starts, np.ones(4, np.bool_), 2), observations, rewards)
    assert found.shape == (2, 4, 4)
    assert found[1, :, 0].tolist() == [-1.0, 1.0, 0.0, 0.0]  # the return so far
    assert found[1, :, 2].tolist() == [-4.0, 4.0, 0.0, 0.0]  # its square
    assert found[0, :, 1].tolist() == [-0.5, 0.5, -0.5, 0.5]  # the observation
