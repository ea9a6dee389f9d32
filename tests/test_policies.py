"""Learned policies act as their networks and tables say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rl_tuner.binning import Binning
from rl_tuner.course_config import CourseConfig
from rl_tuner.errors import PolicyError
from rl_tuner.features import FeatureSet
from rl_tuner.policies import MLPPolicy, QTablePolicy, greedy, smallest_first
from rl_tuner.policy import Policy
from rl_tuner.space import search_space
from tests.contracts_policies import PolicyContract
from tests.learned_policies import network, random_observations, tables

SPACE = search_space(["lr", "dropout"])
NAMES = FeatureSet(SPACE).names


class TestContinuousNetwork(PolicyContract):
    def make(self) -> Policy:
        return network("continuous")


class TestDiscreteNetwork(PolicyContract):
    def make(self) -> Policy:
        return network("discrete")


class TestNetworkWithAMemory(PolicyContract):
    has_memory = True

    def make(self) -> Policy:
        return network("continuous", memory=3)


class TestTables(PolicyContract):
    def make(self) -> Policy:
        return tables()


def torch_twin(policy: MLPPolicy) -> torch.nn.Sequential:
    """The same network, of torch's own modules."""
    modules: list[torch.nn.Module] = []
    for weight, bias in policy.layers:
        linear = torch.nn.utils.skip_init(torch.nn.Linear, weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        modules += [linear, torch.nn.Tanh() if policy.activation == "tanh" else torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_network_is_torchs_own(activation: str) -> None:
    sample = network()
    policy = MLPPolicy(SPACE, "continuous", CourseConfig(), NAMES, {}, sample.layers, activation)
    seen = random_observations(policy)
    with torch.no_grad():
        expected = torch_twin(policy)(torch.from_numpy(seen)).numpy()
    np.testing.assert_allclose(policy.forward(seen), expected, atol=1e-5)
    np.testing.assert_allclose(policy.act(seen), expected.clip(-1, 1), atol=1e-5)


def test_a_discrete_network_makes_the_likeliest_choice_of_each_part() -> None:
    policy = network("discrete")
    seen = random_observations(policy)
    logits = policy.forward(seen)  # 5 choices of lr, then 3 of dropout
    expected = np.stack([logits[:, :5].argmax(1), logits[:, 5:].argmax(1)], axis=1)
    np.testing.assert_array_equal(policy.act(seen), expected)
    assert len(np.unique(expected, axis=0)) > 3


def test_many_observations_at_once_give_the_same_as_one_by_one() -> None:
    for kind in ("continuous", "discrete"):
        policy = network(kind)
        seen = random_observations(policy)
        np.testing.assert_allclose(policy.act(seen), np.stack([policy.act(o) for o in seen]), atol=1e-5)


def test_features_are_read_by_name_whatever_their_order() -> None:
    policy = network()
    order = np.random.default_rng(0).permutation(len(NAMES))
    weight, bias = policy.layers[0]
    layers = [(weight[:, torch.from_numpy(order)], bias), *policy.layers[1:]]
    shuffled = MLPPolicy(SPACE, "continuous", CourseConfig(), [NAMES[i] for i in order], {}, layers)
    seen = random_observations(policy)
    np.testing.assert_allclose(shuffled.act(seen), policy.act(seen), atol=1e-5)


def test_features_that_are_not_read_do_not_matter() -> None:
    policy = network(names=("progress", "val_vs_last"))
    seen = random_observations(policy)
    changed = seen.copy()
    changed[:, [i for i, name in enumerate(NAMES) if name not in policy.feature_names]] += 1
    np.testing.assert_array_equal(policy.act(changed), policy.act(seen))
    changed[:, NAMES.index("progress")] += 1
    assert (policy.act(changed) != policy.act(seen)).any()


def test_a_table_acts_greedily_by_the_row_it_falls_in() -> None:
    space = search_space(["batch_size"])
    names = FeatureSet(space).names
    values = np.array([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    policy = QTablePolicy(space, CourseConfig(), {}, [Binning((0,), (np.array([0.5]),))], [values], names)
    early, late = np.zeros(len(names)), np.zeros(len(names))
    late[0] = 0.5
    assert (policy.act(early)[0], policy.act(late)[0]) == (2, 0)


def test_undecided_tables_hold_still() -> None:
    policy = tables()
    for table in policy.tables:
        table[:] = 1.5
    fractions = [policy.actions.fraction(policy.act(o)) for o in random_observations(policy)]
    assert not np.any(fractions)


def test_equal_values_are_settled_by_the_smallest_change() -> None:
    order = smallest_first([-1.0, -0.25, 0.0, 0.25, 1.0])
    assert order.tolist() == [2, 1, 3, 0, 4]
    assert greedy(np.array([5.0, 5.0, 1.0, 5.0, 5.0]), order) == 1
    assert greedy(np.array([5.0, 1.0, 1.0, 1.0, 5.0]), order) == 0
    assert greedy(np.array([0.0, 0.0, 0.0, 0.0, 1e-12]), order) == 4


def test_the_name_is_the_provenances_or_the_kind() -> None:
    assert network().name == "sample"
    assert MLPPolicy(SPACE, "continuous", CourseConfig(), NAMES, {}, network().layers).name == "MLPPolicy"


def layers(*shapes: tuple[int, int], value: float = 0.0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.full(shape, value), torch.zeros(shape[0])) for shape in shapes]


N = len(NAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": layers((4, N + 1), (2, 4))}, rf"layer 0 has weights \(4, {N + 1}\), .* on {N} inputs"),
        ({"layers": layers((4, N), (2, 5))}, "layer 1"),
        ({"layers": layers((4, N), (3, 4))}, "3 outputs, its actions need 2"),
        ({"layers": []}, "0 outputs"),
        ({"layers": [(torch.zeros(2, N), torch.zeros(3))]}, "layer 0"),
        ({"layers": [(torch.zeros(N), torch.zeros(2))]}, "layer 0"),
        ({"layers": layers((2, N), value=float("nan"))}, "layer 0 holds weights that are not finite"),
        ({"layers": [(torch.zeros(2, N), torch.full((2,), float("inf")))]}, "layer 0 holds"),
        ({"activation": "exec"}, "unknown activation 'exec'"),
        ({"memory": 2}, rf"layer 0 has weights \(2, {N}\), .* on {2 * N} inputs"),
        ({"memory": 2, "layers": layers((2, 3 * N))}, rf"on {2 * N} inputs"),
        ({"memory": 0}, "memory must be a whole number of observations >= 1, got 0"),
        ({"memory": -1}, "got -1"),
        ({"memory": 2.0}, r"got 2\.0"),
        ({"memory": True}, "got True"),
        ({"memory": None}, "got None"),
        ({"feature_names": [*NAMES[:-1], "moon_phase"]}, "'moon_phase'"),
        ({"kind": "discrete", "layers": layers((2, N))}, "2 outputs, its actions need 8"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "space": SPACE,
        "kind": "continuous",
        "config": CourseConfig(),
        "feature_names": NAMES,
        "provenance": {},
        "layers": layers((2, N)),
    }
    MLPPolicy(**arguments)
    with pytest.raises(PolicyError, match=message):
        MLPPolicy(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([np.zeros((2, 5))], "2 hyperparameters need as many tables, got 1"),
        ([np.zeros((2, 5)), np.zeros((2, 5))], r"table of dropout has shape \(2, 5\), not \(2, 3\)"),
        ([np.zeros((3, 5)), np.zeros((2, 3))], "table of lr has shape"),
        ([np.full((2, 5), np.nan), np.zeros((2, 3))], "table of lr holds values that are not finite"),
    ],
)
def test_tables_that_do_not_fit_are_refused(values: list[np.ndarray], message: str) -> None:
    binning = Binning((0,), (np.zeros(1),))
    with pytest.raises(PolicyError, match=message):
        QTablePolicy(SPACE, CourseConfig(), {}, [binning] * 2, values, NAMES)


def test_a_table_over_a_feature_that_is_not_there_is_refused() -> None:
    binning = Binning((len(NAMES),), (np.zeros(1),))
    with pytest.raises(PolicyError, match=rf"table of lr reads the columns \({len(NAMES)},\)"):
        QTablePolicy(SPACE, CourseConfig(), {}, [binning] * 2, [np.zeros((2, 5)), np.zeros((2, 3))], NAMES)
