"""Several learned networks that act as one policy: what one run learned badly, the others outvote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.errors import PolicyError
from rl_tuner.policies import MLPPolicy, NetworkPolicy


class EnsemblePolicy(NetworkPolicy):
    """The mean of its members: networks of one recipe, learned from different seeds.

    A uniform mixture of them, as in Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles" (2017), section 2.4: continuous actions are the mean of the members',
    each within its bounds, so that none counts for more than another; the probabilities of discrete choices
    are the mean of the members'.

    Args:
        members: Two or more, which move, read and want to be run alike, of networks of one form.
        provenance: See `LearnedPolicy`; that of each member stays its own.

    Raises:
        PolicyError: There are fewer than two members, or two that are not alike.
    """

    def __init__(self, members: Sequence[MLPPolicy], provenance: Mapping[str, Any]) -> None:
        if len(members) < 2:
            raise PolicyError(f"an ensemble needs two members or more, got {len(members)}")
        first = members[0]
        for number, member in enumerate(members[1:], 1):
            _check_alike(first, member, number)
        names = first.feature_names
        super().__init__(first.space, first.actions.kind, first.config, names, provenance, first.memory)
        self.members = tuple(members)

    def forward(self, stacked: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `NetworkPolicy.forward`; of discrete choices the logarithms of the mean probabilities."""
        outputs = np.stack([member.forward(stacked) for member in self.members])
        if self.actions.kind != "discrete":
            return np.asarray(outputs.clip(-1.0, 1.0).mean(axis=0))
        ends = np.cumsum(self.actions.counts)[:-1]
        mixed = [_mixture(logits) for logits in np.split(outputs, ends, axis=-1)]
        return np.concatenate(mixed, axis=-1)


def _mixture(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithms of the mean over members, the first axis, of the probabilities of choices, the last one."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = (raised / raised.sum(axis=-1, keepdims=True)).mean(axis=0)
    return np.asarray(np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)))


def _check_alike(first: MLPPolicy, other: MLPPolicy, number: int) -> None:
    facts: dict[str, Callable[[MLPPolicy], object]] = {
        "hyperparameters": lambda policy: policy.space.names,
        "bounds and steps": lambda policy: policy.space.to_dict()["hyperparameters"],
        "kind of action": lambda policy: policy.actions.kind,
        "settings": lambda policy: policy.config,
        "features": lambda policy: policy.feature_names,
        "memory": lambda policy: policy.memory,
        "activation": lambda policy: policy.activation,
        "layers": lambda policy: [tuple(weight.shape) for weight, _ in policy.layers],
    }
    for what, of in facts.items():
        if of(first) != of(other):
            raise PolicyError(
                f"members of an ensemble are alike, but {what} of member {number} ({other.name}) and of "
                f"member 0 ({first.name}) differ: {of(other)} and {of(first)}"
            )
