"""Words for what a policy does: wording, habits, rules and sensitivities."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rl_tuner.binning import Binning
from rl_tuner.course_config import CourseConfig
from rl_tuner.describe import Visits, habits, rules, sensitivities, visit
from rl_tuner.envs.suites import SUITES
from rl_tuner.errors import PolicyError
from rl_tuner.features import FeatureSet
from rl_tuner.policies import MLPPolicy, QTablePolicy
from rl_tuner.space import BATCH_SIZE, DROPOUT, HYPERPARAMETERS, LR, MOMENTUM, search_space
from rl_tuner.wording import advice, condition, feature_words, move
from tests.tiny import TINY

SPACE = search_space(["lr", "dropout"])
NAMES = FeatureSet(SPACE).names
CONFIG = CourseConfig(decisions=6, intervals="uniform")
INF = math.inf


def make_visits(n: int, fractions: NDArray[np.float64] | None = None, **columns: Any) -> Visits:
    """n visits whose job has everything, features 0 unless given."""
    observations = np.zeros((n, len(NAMES)), dtype=np.float32)
    for name, values in {"lr_available": 1, "dropout_available": 1, **columns}.items():
        observations[:, NAMES.index(name)] = values
    moves = np.zeros((n, 2)) if fractions is None else fractions
    return Visits(observations, moves, np.arange(n), np.arange(n) * 3 // n, 1, "nowhere")


def linear(weights: dict[str, tuple[float, float]], kind: str = "continuous") -> MLPPolicy:
    """A network of one layer: (weight on lr, weight on dropout) by feature."""
    outputs = 2 if kind == "continuous" else 8
    weight = torch.zeros(outputs, len(weights))
    for i, values in enumerate(weights.values()):
        weight[: len(values), i] = torch.tensor(values)
    return MLPPolicy(SPACE, kind, CONFIG, list(weights), {}, [(weight, torch.zeros(outputs))])


def table_policy(lr: list[list[float]], dropout: list[list[float]]) -> QTablePolicy:
    """lr by progress (2 bins) and val_vs_last (2 bins), dropout by nothing."""
    binning = Binning((0, 1), (np.array([0.12]), np.array([math.log(0.9)])))
    tables = [np.array(lr), np.array(dropout)]
    return QTablePolicy(SPACE, CONFIG, {}, [binning, Binning((), ())], tables, ["progress", "val_vs_last"])


@pytest.mark.parametrize(
    ("fraction", "words"),
    [(1.0, "× 3.2"), (-1.0, "× 0.32"), (0.25, "× 1.3"), (0.0, "unchanged"), (0.04, "× 1.05")],
)
def test_a_move_of_lr_is_said_as_a_factor(fraction: float, words: str) -> None:
    assert move(LR, fraction) == words


def test_batch_sizes_double_and_probabilities_move_in_odds() -> None:
    assert (move(BATCH_SIZE, 1.0), move(BATCH_SIZE, -1.0)) == ("× 2", "× 0.5")
    assert move(DROPOUT, 1.0) == f"odds × {math.e:.1f}"


def test_a_move_is_told_as_one_would_say_it() -> None:
    assert advice(LR, 1.0) == "multiply lr by 3.2"
    assert (advice(BATCH_SIZE, 1.0), advice(BATCH_SIZE, -1.0)) == ("double batch_size", "halve batch_size")
    # Odds of 0.2 are 1/4: e times them is 0.68, a probability of 0.40.
    assert advice(DROPOUT, 1.0) == "raise dropout (as from 0.2 to 0.4)"
    assert advice(MOMENTUM, -1.0) == "lower momentum (as from 0.9 to 0.85)"


@pytest.mark.parametrize(
    ("name", "low", "high", "words"),
    [
        ("progress", -INF, 0.12, "in the first 12 % of the budget"),
        ("progress", 0.5, INF, "after 50 % of the budget"),
        ("progress", 0.12, 0.5, "from 12 % to 50 % of the budget"),
        ("progress", -INF, 1.0, "in the first 100 % of the budget"),
        ("progress", 0.0, 0.05, "in the first 5 % of the budget"),
        ("val_vs_last", -INF, math.log(0.9), "validation loss > 10 % below its last value"),
        ("val_vs_last", -INF, math.log(1.05), "validation loss < 5 % above its last value"),
        ("val_vs_last", math.log(0.9), INF, "validation loss < 10 % below its last value"),
        ("val_vs_last", math.log(1.05), INF, "validation loss > 5 % above its last value"),
        ("val_vs_last", -INF, 0.0, "validation loss below its last value"),
        ("val_vs_last", 0.0, INF, "validation loss at or above its last value"),
        ("val_vs_best", math.log(0.9), math.log(1.2), "validation loss 90 % to 120 % of its best value"),
        ("val_vs_first", -INF, math.log(0.1), "validation loss < 0.1 × its first value"),
        ("val_vs_first", math.log(2), INF, "validation loss > 100 % above its first value"),
        ("grad_vs_first", math.log(4.5), INF, "gradient norm > 4.5 × its first value"),
        ("update_to_weight", 0.0, 1.0, "updates 0.1 % to 1 % of the weights' size"),
        ("update_to_weight", -INF, 1.0, "updates below 1 % of the weights' size"),
        ("update_to_weight", 1.0, INF, "updates at least 1 % of the weights' size"),
        ("next_interval", -INF, 0.0, "next interval below 10 % of the budget"),
        ("lr_vs_usual", 1.0, INF, "lr > 10 × what is usual for the optimizer"),
        ("lr_vs_usual", -INF, -2.0, "lr < 0.01 × what is usual for the optimizer"),
        ("rescued", 0.5, INF, "just after a rescue by the rails"),
        ("rescued", -INF, 0.5, "no rescue just before"),
        ("no_validation", 1.0, INF, "the job has no validation"),
        ("dropout_available", 0.5, INF, "the job has dropout"),
        ("dropout_available", -INF, 0.5, "the job has no dropout"),
        ("lr_vs_start", -1 / 3, INF, "lr > 0.1 × its start value"),
        ("lr_in_bounds", -INF, 0.0, "lr < 0.001"),
        ("lr_in_bounds", -1.0, 1.0, "lr 1e-07 to 10"),
        ("lr_last_action", 0.25, INF, "last change of lr ≥ +0.25 steps"),
    ],
)
def test_a_bin_is_said_in_plain_words(name: str, low: float, high: float, words: str) -> None:
    assert condition(SPACE, name, low, high) == words


@given(
    name=st.sampled_from(FeatureSet(search_space()).names),
    edges=st.tuples(st.floats(-10, 10), st.floats(-10, 10)).filter(lambda e: e[0] < e[1]),
    side=st.sampled_from(["low", "high", "both"]),
)
def test_every_bin_of_every_feature_has_words(name: str, edges: tuple[float, float], side: str) -> None:
    low = -INF if side == "high" else edges[0]
    high = INF if side == "low" else edges[1]
    words = condition(search_space(), name, low, high)
    assert words
    assert "None" not in words
    assert "inf" not in words


def test_every_feature_has_words_of_its_own() -> None:
    words = [feature_words(search_space(), name) for name in FeatureSet(search_space()).names]
    assert len(set(words)) == len(words)


def test_a_feature_of_no_hyperparameter_is_an_error_that_names_it() -> None:
    with pytest.raises(PolicyError, match=r"'beta_vs_start'.*lr, dropout"):
        condition(SPACE, "beta_vs_start", 0.0, 1.0)


def test_a_tables_rules_are_its_rows_in_words_with_their_worth_and_share() -> None:
    policy = table_policy(
        lr=[[0, 0, 1, 0, 4], [0, 0, 0, 0, 0], [2, 0, 1.5, 0, 0], [9, 0, 0, 0, 0]], dropout=[[0, 0, 0.25]]
    )
    # Three visits in row 0, one in row 2; row 3 is never met, though it has the widest gap.
    visits = make_visits(4, progress=[0.1, 0.1, 0.1, 0.5], val_vs_last=[-1, -1, -1, -1])
    first, second, third = rules(policy, visits)
    assert first.when == ("in the first 12 % of the budget", "validation loss > 10 % below its last value")
    assert (first.action, first.gap, first.share) == ("multiply lr by 3.2", 3.0, 0.75)
    assert (second.when, second.action) == ((), "raise dropout (as from 0.2 to 0.4)")
    assert (second.gap, second.share) == (0.25, 1.0)
    assert third.when == ("after 12 % of the budget", "validation loss > 10 % below its last value")
    assert (third.action, third.gap, third.share) == ("multiply lr by 0.32", 0.5, 0.25)


def test_rows_that_hold_still_are_no_rules() -> None:
    policy = table_policy(lr=[[0, 0, 0, 0, 0]] * 4, dropout=[[-1, 0, -1]])
    assert rules(policy, make_visits(5)) == ()


def test_a_rule_about_what_the_job_lacks_is_not_counted() -> None:
    policy = table_policy(lr=[[0, 0, 0, 0, 0]] * 4, dropout=[[0, 0, 1]])
    visits = make_visits(4, dropout_available=[1, 0, 0, 0])
    (rule,) = rules(policy, visits)
    assert rule.share == 0.25
    assert rules(policy, make_visits(4, dropout_available=0)) == ()


def test_a_linear_networks_sensitivity_is_weight_times_standard_deviation() -> None:
    policy = linear({"progress": (0.2, 0.0), "val_vs_last": (-0.01, 0.3), "train_noise": (0.5, 0.5)})
    visits = make_visits(3, progress=[0.0, 0.5, 1.0], val_vs_last=[-1.0, 0.0, 1.0], train_noise=0.3)
    spread = np.std([0.0, 0.5, 1.0])
    found = {(s.hyperparameter, s.feature): s.slope for s in sensitivities(policy, visits)}
    assert found == {
        ("lr", "progress"): pytest.approx(0.2 * spread, abs=1e-6),
        ("dropout", "progress"): pytest.approx(0.0, abs=1e-6),
        ("lr", "val_vs_last"): pytest.approx(-0.01 * 2 * spread, abs=1e-6),
        ("dropout", "val_vs_last"): pytest.approx(0.3 * 2 * spread, abs=1e-6),
    }  # train_noise never varied: nothing can be said of it


def test_the_strongest_sensitivity_comes_first() -> None:
    policy = linear({"progress": (0.2, -0.7), "val_vs_last": (0.01, 0.3)})
    found = sensitivities(policy, make_visits(2, progress=[0, 1], val_vs_last=[0, 1]))
    assert [(s.hyperparameter, s.feature) for s in found[:2]] == [
        ("dropout", "progress"),
        ("dropout", "val_vs_last"),
    ]
    assert found[0].words == "progress"


def test_an_action_at_its_limit_is_not_sensitive() -> None:
    policy = linear({"progress": (100.0, 0.0)})
    found = sensitivities(policy, make_visits(2, progress=[1.0, 3.0]))
    assert found[0].slope == 0.0


def test_a_discrete_network_is_judged_by_the_mean_of_its_choices() -> None:
    # One logit of lr, the choice +1, is progress itself; its probability is e^x / (4 + e^x).
    policy = linear({"progress": (0.0, 0.0, 0.0, 0.0, 1.0)}, kind="discrete")
    visits = make_visits(2, progress=[0.0, 1.0])

    def mean(x: float) -> float:
        return (math.exp(x) - 1) / (4 + math.exp(x))  # choices -1, -1/4, 0, 1/4, 1

    expected = np.mean([mean(0.25) - mean(-0.25), mean(1.25) - mean(0.75)])
    found = {s.hyperparameter: s.slope for s in sensitivities(policy, visits)}
    assert found["lr"] == pytest.approx(expected, abs=1e-6)
    assert found["dropout"] == pytest.approx(0.0, abs=1e-7)


def test_with_a_memory_the_newest_observation_is_varied_and_the_older_ones_stay() -> None:
    # lr follows progress now plus half of progress before, clipped at 1; columns: before, now.
    weight = torch.tensor([[0.5, 1.0], [0.0, 0.0]])
    policy = MLPPolicy(SPACE, "continuous", CONFIG, ["progress"], {}, [(weight, torch.zeros(2))], memory=2)
    visits = make_visits(4, progress=[0.2, 0.9, 0.2, 0.4])
    visits = replace(visits, decisions=np.array([0, 1, 0, 1]))  # two episodes
    spread = float(np.std([0.2, 0.9, 0.2, 0.4]))
    # Only the second decision, 0.9 after 0.2, comes to the limit: 0.1 + 0.9 is 1.
    expected = np.mean([spread, spread / 2, spread, spread])
    found = {s.hyperparameter: s.slope for s in sensitivities(policy, visits)}
    assert found == {"lr": pytest.approx(expected, abs=1e-6), "dropout": pytest.approx(0.0, abs=1e-7)}


def test_habits_are_shares_and_means_by_stage() -> None:
    fractions = np.array([[1.0, 0], [0.5, 0], [0.0, 0], [0.01, 0], [-1.0, 0], [-0.5, 0]])
    lr, dropout = habits(linear({"progress": (0, 0)}), make_visits(6, fractions))
    assert (lr.raised, lr.held, lr.lowered) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert lr.moves == pytest.approx((0.75, 0.005, -0.75))
    assert lr.text == "early × 2.4, middle × 1.01, late × 0.42"
    assert (dropout.held, dropout.text) == (1.0, "early unchanged, middle unchanged, late unchanged")


def test_a_hyperparameter_that_no_job_had_has_no_habit() -> None:
    _, dropout = habits(linear({"progress": (0, 0)}), make_visits(6, dropout_available=0))
    assert math.isnan(dropout.held)
    assert dropout.text == ""


def test_visits_are_what_the_policy_meets_on_the_suites_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)
    policy = linear({"progress": (0.5, 0.0)})
    done: list[int] = []
    visits = visit(policy, suite="tiny", split="validation", jobs=3, seed=4, on_job=done.append)
    assert done == [1, 2, 3]
    assert visits.where == "suite tiny, validation split"
    np.testing.assert_allclose(visits.fractions[:, 0], 0.5 * visits.observations[:, 0], rtol=1e-6)
    assert visits.decisions.tolist() == [0, 1, 2, 3, 4, 5] * 3
    assert visits.stages.tolist() == [0, 0, 1, 1, 2, 2] * 3
    again = visit(policy, suite="tiny", split="validation", jobs=3, seed=4)
    assert np.array_equal(again.observations, visits.observations)


def test_all_hyperparameters_can_be_said() -> None:
    assert all(move(h, fraction) for h in HYPERPARAMETERS.values() for fraction in h.choices)
