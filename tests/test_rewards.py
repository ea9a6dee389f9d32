from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.errors import ConfigError
from rl_tuner.history import BEST, WORST, Interval, Track
from rl_tuner.rewards import REWARDS, crash_return, crash_reward, reward_function, reward_unit

CURVES = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=12)


def rewards(name: str, curve: list[Any]) -> list[Any]:
    """The rewards of an episode whose criterion takes these values, the first before training."""
    track, given_out = Track.begin(curve[0]), []
    for i, value in enumerate(curve[1:], start=1):
        after = track.accept(Interval(val_loss=value))
        given_out.append(reward_function(name)(track, after, i == len(curve) - 1))
        track = after
    return given_out


def level(value: float, first: float) -> float:
    return min(max(math.log(value / first), BEST), WORST)


@given(CURVES)
def test_log_improvement_telescopes_to_first_over_last(curve: list[float]) -> None:
    assert sum(rewards("log_improvement", curve)) == pytest.approx(-level(curve[-1], curve[0]), abs=1e-9)


@given(CURVES)
def test_best_improvement_telescopes_to_first_over_best_and_is_never_negative(curve: list[float]) -> None:
    given_out = rewards("best_improvement", curve)
    assert sum(given_out) == pytest.approx(-level(min(curve), curve[0]), abs=1e-9)
    assert all(r >= 0 for r in given_out)


@given(CURVES)
def test_final_improvement_pays_all_at_the_end(curve: list[float]) -> None:
    given_out = rewards("final_improvement", curve)
    assert all(r == 0 for r in given_out[:-1])
    assert given_out[-1] == pytest.approx(-level(min(curve), curve[0]), abs=1e-9)


@given(CURVES)
def test_relative_improvement_telescopes_to_the_share_of_the_first_loss_that_is_gone(
    curve: list[float],
) -> None:
    given_out = rewards("relative_improvement", curve)
    assert sum(given_out) == pytest.approx(1 - math.exp(level(min(curve), curve[0])), abs=1e-9)
    assert all(0 <= r <= 1 for r in given_out)


def test_a_loss_near_zero_that_falls_by_half_is_worth_a_nat_but_hardly_a_share() -> None:
    curve = [1.0, 0.02, 0.01]
    assert rewards("best_improvement", curve)[1] == pytest.approx(math.log(2))
    assert rewards("relative_improvement", curve)[1] == pytest.approx(0.01)


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_every_reward_says_what_it_is_counted_in(name: str) -> None:
    assert reward_unit(name) == ("shares of the first loss" if name.startswith("relative") else "nats")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log_improvement", [math.log(2), -math.log(1.5), math.log(3)]),
        ("best_improvement", [math.log(2), 0.0, math.log(2)]),
        ("final_improvement", [0.0, 0.0, math.log(4)]),
        ("relative_improvement", [0.5, 0.0, 0.25]),
    ],
)
def test_rewards_of_a_curve_computed_by_hand(name: str, expected: list[float]) -> None:
    assert rewards(name, [4.0, 2.0, 3.0, 1.0]) == pytest.approx(expected)


def test_log_improvement_between_two_decisions_is_the_difference_of_their_logs() -> None:
    assert rewards("log_improvement", [7.0, 5.0, 3.0])[1] == pytest.approx(math.log(5) - math.log(3))


def test_the_worst_episode_that_ends_is_one_nat_better_than_a_crash() -> None:
    assert rewards("log_improvement", [1.0, math.inf]) == [crash_return() + 1] == [-3.0]


@given(st.sampled_from(sorted(REWARDS)), st.lists(st.floats(allow_nan=False), min_size=2, max_size=6))
def test_a_crash_returns_less_than_any_episode_that_ends(name: str, curve: list[float]) -> None:
    finished = sum(rewards(name, curve))
    assert math.isfinite(finished)
    assert finished > crash_return()


@given(st.sampled_from(sorted(REWARDS)), CURVES)
def test_the_last_reward_of_a_crash_brings_the_return_down_to_the_stated_one(
    name: str, curve: list[float]
) -> None:
    earned = sum(rewards(name, curve)[:-1])
    assert earned + crash_reward(earned) == pytest.approx(crash_return())


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_a_rejected_interval_is_worth_nothing_before_the_end(name: str) -> None:
    track = Track.begin(4.0).accept(Interval(val_loss=2.0))
    assert reward_function(name)(track, track, False) == 0


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_without_validation_and_with_nothing_accepted_the_reward_is_zero(name: str) -> None:
    assert reward_function(name)(Track.begin(math.nan), Track.begin(math.nan), True) == 0


def test_without_validation_the_first_reward_counts_from_the_first_training_losses() -> None:
    before = Track.begin(math.nan)
    after = before.accept(Interval(train_early=4.0, train_late=1.0))
    assert reward_function("log_improvement")(before, after, False) == pytest.approx(math.log(4))
    assert reward_function("best_improvement")(before, after, False) == pytest.approx(math.log(4))


@given(st.sampled_from(sorted(REWARDS)), st.lists(CURVES, min_size=3, max_size=3))
def test_jobs_side_by_side_are_paid_like_one_by_one(name: str, curves: list[list[float]]) -> None:
    length = min(len(c) for c in curves)
    curves = [c[:length] for c in curves]
    together = rewards(name, list(np.array(curves).T))
    alone = [rewards(name, curve) for curve in curves]
    np.testing.assert_array_equal(np.array(together).T, alone)


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_jobs_side_by_side_may_end_at_different_times(name: str) -> None:
    reward, shown = reward_function(name), [2.0, math.inf, 8.0]
    before = Track.begin(np.full(3, 4.0))
    after = before.accept(Interval(val_loss=np.array(shown)))
    together = reward(before, after, np.array([True, False, True]))
    alone = [
        reward(Track.begin(4.0), Track.begin(4.0).accept(Interval(val_loss=value)), last)
        for value, last in zip(shown, [True, False, True], strict=True)
    ]
    np.testing.assert_array_equal(together, alone)


def test_an_unknown_reward_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown reward 'accuracy': choose from log_improvement, best_"):
        reward_function("accuracy")


@pytest.mark.parametrize("phases", [1, 2, 5])
def test_a_crash_is_priced_one_below_the_worst_that_all_phases_can_end_with(phases: int) -> None:
    worst = sum(sum(rewards("log_improvement", [1e-3, 1e9])) for _ in range(phases))
    assert crash_return(phases) == pytest.approx(worst - 1)
    assert 2.5 + crash_reward(2.5, phases) == pytest.approx(crash_return(phases))
