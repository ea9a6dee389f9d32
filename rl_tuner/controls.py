"""Controls: is a learned policy better because it reacts, or would a lucky schedule do as well?

Three stand beside every learned policy of a comparison, each made from it and run just as it is:

- *untrained*: the same network with fresh weights, as learning began with;
- *blind*: the policy itself, but what it reads of losses and gradients is replaced by their mean over jobs of
  the train split at the same share of the budget: it sees the clock and its own knobs only;
- *replay*: the mean of what it had done on those jobs at that share, played back without looking.

A policy that beats all three with intervals that exclude zero reacts to the job at hand. (Jobs in phases of
different lengths blur the means: to beat them shows less there.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.ensemble_policy import EnsemblePolicy
from rl_tuner.errors import PolicyError
from rl_tuner.features import CLOCK, HYPERPARAMETER_FEATURES
from rl_tuner.habits import Habits, WrappedPolicy, habits
from rl_tuner.policies import MLPPolicy, QTablePolicy
from rl_tuner.policy import LearnedPolicy, Policy
from rl_tuner.seeding import Streams

if TYPE_CHECKING:
    import torch

CONTROLS = ("untrained", "blind", "replay")
"""Their names, put behind a policy's."""
KNOBS = tuple(name for name in HYPERPARAMETER_FEATURES if name != "vs_best")
"""What a blind policy still sees of its hyperparameters: all but where the loss was best."""
HIDDEN_GAIN, OUTPUT_GAIN = float(np.sqrt(2)), 0.01
"""Of orthogonal weights: what Stable-Baselines3's PPO starts with."""


class BlindPolicy(WrappedPolicy):
    """A policy that sees the clock and its own hyperparameters, and of everything else a mean.

    Args:
        policy: Which.
        habits: Its means.
    """

    def __init__(self, policy: Policy, habits: Habits) -> None:
        super().__init__(policy, policy.actions.kind)
        own = {f"{name}_{feature}" for name in policy.space.names for feature in KNOBS}
        self._sees = np.array([name in own.union(CLOCK) for name in self.feature_names])
        self._habits = habits

    @property
    def name(self) -> str:
        """The policy's, "-blind" behind it."""
        return f"{self._policy.name}-blind"

    def act(self, observation: NDArray[np.float32]) -> NDArray[Any]:
        """What the policy would do if losses and gradients were as they are on average."""
        mean = self._habits.seen(float(observation[self.clock]))
        return self._policy.act(np.where(self._sees, observation, mean))


class ReplayPolicy(WrappedPolicy):
    """The mean of what a policy had done by then, whatever the job.

    Args:
        policy: Which.
        habits: Its means.
    """

    def __init__(self, policy: Policy, habits: Habits) -> None:
        super().__init__(policy, "anchored")
        self._habits = habits

    @property
    def name(self) -> str:
        """The policy's, "-replay" behind it."""
        return f"{self._policy.name}-replay"

    def act(self, observation: NDArray[np.float32]) -> NDArray[Any]:
        """The places of the hyperparameters, shape (D,), as fractions of their reach."""
        return self._habits.done(float(observation[self.clock]))


def untrained(policy: LearnedPolicy, seed: int = 0) -> LearnedPolicy:
    """The same policy as it was before learning: fresh orthogonal weights, or tables of zeros.

    Args:
        policy: Which.
        seed: Of the weights.

    Raises:
        PolicyError: It is of a kind that is not known here.
    """
    provenance = {**policy.provenance, "name": f"{policy.name}-untrained"}
    if isinstance(policy, QTablePolicy):
        tables = [np.zeros_like(table) for table in policy.tables]
        return QTablePolicy(
            policy.space, policy.config, provenance, policy.binnings, tables, policy.feature_names
        )
    import torch

    generator = torch.Generator().manual_seed(Streams(seed).seed_of("init"))
    if isinstance(policy, EnsemblePolicy):
        members = [_untrained_network(member, member.provenance, generator) for member in policy.members]
        fresh = EnsemblePolicy(members, provenance)
        fresh.config = policy.config  # which may have been changed since it was made of its members
        return fresh
    if isinstance(policy, MLPPolicy):
        return _untrained_network(policy, provenance, generator)
    raise PolicyError(f"nobody knows what a {type(policy).__name__} is before it has learned")


def _untrained_network(
    policy: MLPPolicy, provenance: Mapping[str, Any], generator: torch.Generator
) -> MLPPolicy:
    import torch

    layers = []
    for number, (weight, bias) in enumerate(policy.layers):
        gain = OUTPUT_GAIN if number == len(policy.layers) - 1 else HIDDEN_GAIN
        fresh = torch.nn.init.orthogonal_(torch.empty_like(weight), gain, generator=generator)
        layers.append((fresh, torch.zeros_like(bias)))
    return MLPPolicy(
        policy.space,
        policy.actions.kind,
        policy.config,
        policy.feature_names,
        provenance,
        layers,
        policy.activation,
        policy.memory,
    )


def controls_of(
    policy: LearnedPolicy, suite: str, seed: int = 0, on_job: Callable[[], object] | None = None
) -> dict[str, Policy]:
    """The three controls of a policy, by what is to be put behind its name.

    Args:
        policy: Which.
        suite: Whose train split the means are taken over.
        seed: Of jobs and weights.
        on_job: Called after each of `JOBS` jobs.

    Raises:
        ConfigError: The suite is unknown.
        PolicyError: See `untrained`.
    """
    means = habits(policy, suite, seed=seed, on_job=on_job)
    return {
        "untrained": untrained(policy, seed),
        "blind": BlindPolicy(policy, means),
        "replay": ReplayPolicy(policy, means),
    }
