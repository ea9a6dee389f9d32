"""Learned policies, in torch and NumPy alone: what a policy file holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.binning import Binning
from rl_tuner.course_config import CourseConfig
from rl_tuner.errors import PolicyError
from rl_tuner.frame_stack import FrameStack
from rl_tuner.policy import LearnedPolicy
from rl_tuner.space import SearchSpace

if TYPE_CHECKING:
    import torch

ACTIVATIONS = ("tanh", "relu")


class NetworkPolicy(LearnedPolicy):
    """Acts by the outputs of a feed-forward network, or of several: at the mean, or at the likeliest choices.

    With a memory above 1 it reads the last decisions' observations, so that `act` is to be called once a
    decision, and `reset` at an episode's start.

    Args:
        space: See `LearnedPolicy`.
        kind: See `LearnedPolicy`.
        config: See `LearnedPolicy`.
        feature_names: See `LearnedPolicy`.
        provenance: See `LearnedPolicy`.
        memory: How many of the last observations are read, >= 1. The network's input is their features
            oldest first, zeros for those before the episode's start.

    Raises:
        PolicyError: The memory is below 1.
    """

    def __init__(
        self,
        space: SearchSpace,
        kind: str,
        config: CourseConfig,
        feature_names: Sequence[str],
        provenance: Mapping[str, Any],
        memory: int = 1,
    ) -> None:
        super().__init__(space, kind, config, feature_names, provenance)
        if not isinstance(memory, int) or isinstance(memory, bool) or memory < 1:
            raise PolicyError(f"memory must be a whole number of observations >= 1, got {memory!r}")
        self.memory = memory
        self._frames = FrameStack(memory, len(self.feature_names))

    @abstractmethod
    def forward(self, stacked: NDArray[np.float32]) -> NDArray[np.float32]:
        """The outputs, shape (…, outputs), for what the network reads, shape (…, memory x features).

        Means of the action, one a hyperparameter, or logits of the choices, one hyperparameter's after the
        other's.

        Raises:
            PolicyError: The input is of another width.
        """

    def act(self, observation: NDArray[np.float32]) -> NDArray[Any]:
        """The action, shape (…, D), for observations of shape (…, F).

        Raises:
            PolicyError: It has a memory, and the batch is not of the shape that it remembers.
        """
        out = self.forward(self._frames.push(self.read(observation).astype(np.float32, copy=False)))
        if self.actions.kind != "discrete":
            return np.clip(out, -1.0, 1.0)
        logits = np.split(out, np.cumsum(self.actions.counts)[:-1], axis=-1)
        return np.stack([choice.argmax(-1) for choice in logits], axis=-1)

    def reset(self, seed: int | None = None) -> None:  # noqa: ARG002 (it has no randomness of its own)
        """Forgets the episode, or the batch of episodes."""
        self._frames.clear()

    def forget(self, mask: NDArray[np.bool_]) -> None:
        """Forgets single episodes of a batch: those of a vector environment whose slot begins a new one.

        Args:
            mask: Which rows, bool, shape (N,).

        Raises:
            PolicyError: The mask is not of bools, or not of the batch's shape.
        """
        self._frames.forget(mask)

    def get_state(self) -> dict[str, Any]:
        """The observations remembered, as plain lists; empty without a memory."""
        return self._frames.get_state() if self.memory > 1 else {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues with a memory that `get_state` gave.

        Raises:
            PolicyError: It is of another form or shape.
        """
        if self.memory > 1:
            self._frames.set_state(state)
        else:
            super().set_state(state)


class MLPPolicy(NetworkPolicy):
    """One feed-forward network.

    Args:
        space: See `LearnedPolicy`.
        kind: See `LearnedPolicy`.
        config: See `LearnedPolicy`.
        feature_names: See `LearnedPolicy`.
        provenance: See `LearnedPolicy`.
        layers: (weight (out, in), bias (out,)) of each layer, float32.
        activation: Between layers, "tanh" or "relu".
        memory: See `NetworkPolicy`.

    Raises:
        PolicyError: The layers do not fit each other, the memory, the features or the actions, or are not
            finite; or the memory is below 1.
    """

    def __init__(
        self,
        space: SearchSpace,
        kind: str,
        config: CourseConfig,
        feature_names: Sequence[str],
        provenance: Mapping[str, Any],
        layers: Sequence[tuple[torch.Tensor, torch.Tensor]],
        activation: str = "tanh",
        memory: int = 1,
    ) -> None:
        super().__init__(space, kind, config, feature_names, provenance, memory)
        if activation not in ACTIVATIONS:
            raise PolicyError(f"unknown activation {activation!r}: known are {', '.join(ACTIVATIONS)}")
        outputs = int(self.actions.counts.sum()) if kind == "discrete" else len(space)
        _check_layers(layers, memory * len(self.feature_names), outputs)
        # Copies, all aligned alike in memory: networks of the same weights then act alike to the last bit.
        self.layers = tuple((weight.clone(), bias.clone()) for weight, bias in layers)
        self.activation = activation

    def forward(self, stacked: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `NetworkPolicy.forward`."""
        import torch

        inputs = self.layers[0][0].shape[1]
        if stacked.shape[-1] != inputs:
            raise PolicyError(f"the network reads {inputs} numbers, got an input of shape {stacked.shape}")

        with torch.no_grad():
            x = torch.from_numpy(np.asarray(stacked, dtype=np.float32))
            out: NDArray[np.float32] = run_layers(self.layers, x, self.activation).numpy()
        return out


class QTablePolicy(LearnedPolicy):
    """A table of action values for each hyperparameter; acts greedily, and holds still where undecided.

    Args:
        space: See `LearnedPolicy`.
        config: See `LearnedPolicy`.
        provenance: See `LearnedPolicy`.
        binnings: For each hyperparameter, how observations of `feature_names` become rows of its table.
        tables: For each hyperparameter its values, shape (rows, choices), float64.
        feature_names: See `LearnedPolicy`.

    Raises:
        PolicyError: The tables do not fit the bins or the choices, or are not finite.
    """

    def __init__(
        self,
        space: SearchSpace,
        config: CourseConfig,
        provenance: Mapping[str, Any],
        binnings: Sequence[Binning],
        tables: Sequence[NDArray[np.float64]],
        feature_names: Sequence[str],
    ) -> None:
        super().__init__(space, "discrete", config, feature_names, provenance)
        if len(binnings) != len(space) or len(tables) != len(space):
            raise PolicyError(f"{len(space)} hyperparameters need as many tables, got {len(tables)}")
        for h, binning, table in zip(space.hyperparameters, binnings, tables, strict=True):
            if any(not 0 <= column < len(feature_names) for column in binning.columns):
                raise PolicyError(
                    f"the table of {h.name} reads the columns {binning.columns} of {len(feature_names)}"
                )
            if table.shape != (binning.rows, len(h.choices)):
                raise PolicyError(
                    f"the table of {h.name} has shape {table.shape}, not {(binning.rows, len(h.choices))}"
                )
            if not np.isfinite(table).all():
                raise PolicyError(f"the table of {h.name} holds values that are not finite")
        self.binnings, self.tables = tuple(binnings), tuple(tables)
        self.orders = tuple(smallest_first(h.choices) for h in space.hyperparameters)

    def act(self, observation: NDArray[np.float32]) -> NDArray[Any]:
        """The greedy choices, shape (D,), for an observation of shape (F,)."""
        seen = self.read(observation)
        return np.array(
            [
                greedy(table[binning.row(seen)], order)
                for binning, table, order in zip(self.binnings, self.tables, self.orders, strict=True)
            ]
        )


def run_layers(
    layers: Sequence[tuple[torch.Tensor, torch.Tensor]], inputs: torch.Tensor, activation: str = "tanh"
) -> torch.Tensor:
    """A feed-forward network's outputs, shape (…, outputs), for inputs of shape (…, inputs).

    Args:
        layers: See `MLPPolicy`.
        inputs: Float32.
        activation: See `MLPPolicy`.
    """
    import torch

    act = torch.tanh if activation == "tanh" else torch.relu
    x = inputs
    for number, (weight, bias) in enumerate(layers, 1):
        x = torch.nn.functional.linear(x, weight, bias)
        x = act(x) if number < len(layers) else x
    return x


def smallest_first(choices: Sequence[float]) -> NDArray[np.int64]:
    """The order in which equal values are settled: the choice of the smallest change first."""
    order: NDArray[np.int64] = np.argsort(np.abs(choices), kind="stable")
    return order


def greedy(values: NDArray[np.float64], order: NDArray[np.int64]) -> int:
    """The choice of highest value; among equals the one that comes first in `order`."""
    return int(order[np.argmax(values[order])])


def _check_layers(layers: Sequence[tuple[torch.Tensor, torch.Tensor]], inputs: int, outputs: int) -> None:
    width = inputs
    for i, (weight, bias) in enumerate(layers):
        if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
            raise PolicyError(
                f"layer {i} has weights {tuple(weight.shape)}, biases {tuple(bias.shape)} on {width} inputs"
            )
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise PolicyError(f"layer {i} holds weights that are not finite")
        width = int(weight.shape[0])
    if not layers or width != outputs:
        raise PolicyError(f"the network has {width if layers else 0} outputs, its actions need {outputs}")
