"""What every policy promises: a test class to inherit from."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod

import numpy as np
import pytest

from rl_tuner.envs import JobSpec, TuningEnv
from rl_tuner.errors import PolicyError
from rl_tuner.features import FeatureSet
from rl_tuner.policy import Policy
from rl_tuner.schedules import Schedule

SMALL_JOB = JobSpec("iris", "mlp-4", "adam", 1600, 0, 1e-2, 16, 0.0, 0.9, None)
"""A hundred updates at its start values, one a decision."""


def observations(policy: Policy, n: int, seed: int = 0) -> np.ndarray:
    """Observations as an episode might give them: progress rises, everything else is noise."""
    names = FeatureSet(policy.space).names
    seen = np.random.default_rng(seed).normal(0, 1, (n, len(names))).astype(np.float32)
    seen[:, names.index("progress")] = np.linspace(0, 1, n, endpoint=False)
    return seen


class PolicyContract(ABC):
    """Inherit, and say how to make the policy."""

    has_memory = False

    @abstractmethod
    def make(self) -> Policy:
        """A fresh policy."""

    def episode(self, policy: Policy, n: int = 40, seed: int = 0) -> np.ndarray:
        return np.stack([policy.act(o) for o in observations(policy, n, seed)])

    def test_actions_fit_the_action_space(self) -> None:
        policy = self.make()
        space = policy.actions.gym_space
        for action in self.episode(policy):
            assert action.shape == (len(policy.space),)
            assert action.astype(space.dtype) in space

    def test_extreme_observations_give_valid_actions(self) -> None:
        policy = self.make()
        n = len(FeatureSet(policy.space))
        for value in (-10.0, 0.0, 10.0):
            fraction = policy.actions.fraction(policy.act(np.full(n, value, dtype=np.float32)))
            assert (np.abs(fraction) <= 1).all()

    def test_two_of_a_kind_act_the_same(self) -> None:
        np.testing.assert_array_equal(self.episode(self.make()), self.episode(self.make()))

    def test_reset_forgets_the_episode(self) -> None:
        policy = self.make()
        fresh = self.episode(policy)
        self.episode(policy, seed=1)
        policy.reset(5)
        np.testing.assert_array_equal(self.episode(policy), fresh)

    def test_a_state_continues_identically(self) -> None:
        whole, first, second = self.make(), self.make(), self.make()
        seen = observations(whole, 60)
        expected = np.stack([whole.act(o) for o in seen])
        begun = [first.act(o) for o in seen[:25]]
        second.set_state(first.get_state())
        continued = np.stack(begun + [second.act(o) for o in seen[25:]])
        np.testing.assert_array_equal(continued, expected)

    def test_acting_leaves_the_observation_alone(self) -> None:
        policy = self.make()
        seen = observations(policy, 1)[0]
        before = seen.copy()
        policy.act(seen)
        np.testing.assert_array_equal(seen, before)

    def test_it_has_a_memory_or_refuses_one(self) -> None:
        policy = self.make()
        if self.has_memory:
            assert policy.get_state()
            return
        with pytest.raises(PolicyError, match="velocity"):
            policy.set_state({"velocity": 1})

    def test_it_has_a_name(self) -> None:
        assert self.make().name


class ScheduleContract(PolicyContract):
    """What every schedule promises besides: it goes to worker processes, and trains the whole budget."""

    job = SMALL_JOB
    stops_early = False

    @abstractmethod
    def make(self) -> Schedule:
        """A fresh schedule."""

    def test_it_runs_as_anybody_runs_it(self) -> None:
        schedule = self.make()
        config = schedule.config
        assert schedule.actions.kind == "anchored"
        assert (config.decisions, config.intervals, config.rails) == (100, "uniform", False)
        assert schedule.space.names[0] == "lr"

    def test_it_goes_on_in_another_process_as_it_would_have_here(self) -> None:
        schedule = self.make()
        seen = observations(schedule, 60)
        for o in seen[:25]:
            schedule.act(o)
        sent = pickle.loads(pickle.dumps(schedule))
        np.testing.assert_array_equal([sent.act(o) for o in seen[25:]], [schedule.act(o) for o in seen[25:]])

    def test_its_factor_never_leads_above_the_start_value(self) -> None:
        schedule = self.make()
        factors = [schedule.factor(o) for o in observations(schedule, 200)]
        assert all(0 <= factor <= 1 + 1e-9 for factor in factors)

    def test_without_a_memory_it_acts_on_what_it_sees_now_alone(self) -> None:
        if self.has_memory:
            pytest.skip("it has a memory")
        used, seen = self.make(), observations(self.make(), 30)
        late = [used.act(o) for o in seen][-1]
        np.testing.assert_array_equal(late, self.make().act(seen[-1]))

    def test_an_episode_uses_its_whole_budget_or_stops_early(self) -> None:
        schedule = self.make()
        env = TuningEnv.for_policy(schedule)
        seen, info = env.reset(seed=3, options={"job": self.job})
        over = False
        while not over:
            seen, _, over, _, info = env.step(schedule.act(seen))
        assert not info["crashed"]
        assert info["samples"] < self.job.budget if self.stops_early else info["samples"] == self.job.budget
