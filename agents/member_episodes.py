"""One episode in every slot of a vector environment, each slot acting with a network of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from rl_tuner.agents.feature_selection import FeatureSelection
from rl_tuner.agents.member_networks import ActionHead, Layers, forward
from rl_tuner.frame_stack import FrameStack


class EndedEpisode(NamedTuple):
    """An episode that ended.

    Attributes:
        slot: Where it ran.
        return_: Undiscounted sum of its rewards.
        length: Its steps.
        crashed: Whether the environment said so (``info["crashed"]``).
        steps: Those of all first episodes so far, this one's last step and its slots' neighbours' included.
    """

    slot: int
    return_: float
    length: int
    crashed: bool
    steps: int


def first_episodes(
    venv: VectorEnv[Any, Any, Any],
    seed: int | Sequence[int],
    layers: Layers,
    head: ActionHead,
    memory: int,
    selection: FeatureSelection,
) -> Iterator[EndedEpisode]:
    """Resets all slots and plays each one's first episode, told as they end; what follows it is ignored.

    Args:
        venv: N slots, that reset in the step that ends an episode, or not at all if N = 1.
        seed: For `VectorEnv.reset`: of the first slot, the others counting on; or one for each slot.
        layers: The slots' networks (see `forward`); inputs are `memory` observations.
        head: What reads their outputs.
        memory: Observations that are seen, oldest first; those before the episode are zeros.
        selection: What is seen of each.
    """
    observations, _ = venv.reset(seed=seed if isinstance(seed, int) else list(seed))  # type: ignore[arg-type]
    frames = FrameStack(memory, selection.width)
    returns, running, steps, length = np.zeros(venv.num_envs), np.ones(venv.num_envs, np.bool_), 0, 0
    while running.any():
        seen = selection.of(observations).astype(np.float32)
        inputs = torch.from_numpy(frames.push(seen))
        observations, rewards, terminated, truncated, infos = venv.step(head.actions(forward(layers, inputs)))
        returns[running] += rewards[running]
        length, steps = length + 1, steps + int(running.sum())
        ended = running & (terminated | truncated)
        running &= ~ended
        crashed = _crashed(infos, venv.num_envs)
        for slot in np.flatnonzero(ended).tolist():
            yield EndedEpisode(slot, float(returns[slot]), length, bool(crashed[slot]), steps)


def _crashed(infos: dict[str, Any], slots: int) -> NDArray[np.bool_]:
    """Which episodes that ended did so by a crash."""
    final = infos.get("final_info", infos)  # without a reset the info is still the last episode's own
    crashed: NDArray[np.bool_] = np.asarray(final.get("crashed", np.zeros(slots)), dtype=np.bool_)
    return crashed
