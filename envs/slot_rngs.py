"""The random generators of a vector environment's slots, from which each slot's episodes are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from rl_tuner.errors import ConfigError
from rl_tuner.seeding import Streams

Seeds = int | Sequence[int | None] | NDArray[np.integer[Any]] | None
"""Of many slots: the first one's, one for each, or none."""


class SlotRngs:
    """A generator for each slot; those of a group give the same numbers in the same order.

    Args:
        num: Number of slots, N.
        group_size: Slots side by side that are a group; divides N.
    """

    def __init__(self, num: int, group_size: int = 1) -> None:
        self.num, self.group_size = num, group_size
        self._rngs: list[np.random.Generator] = []

    def __getitem__(self, slot: int) -> np.random.Generator:
        return self._rngs[slot]

    def seed(self, seed: Seeds, mask: NDArray[np.bool_]) -> None:
        """Seeds the masked slots as `gymnasium.Env.reset` seeds an environment.

        Args:
            seed: Slot i gets ``seed + i // group_size``; a sequence gives each slot its own. Without one a
                slot goes on from where it was, or follows its group's first slot where the whole group is
                masked; the first time a group gets an unpredictable one.
            mask: Which slots, shape (N,).

        Raises:
            ConfigError: A seed is no integer >= 0, or there are not as many as slots; nothing was changed.
        """
        seeds = slot_seeds(seed, self.num, self.group_size)
        first_time = not self._rngs
        rngs = list(self._rngs) or [np.random.default_rng(0)] * self.num
        for slot in np.flatnonzero(mask | first_time).tolist():
            leader = slot - slot % self.group_size
            if seeds[slot] is not None or (first_time and slot == leader):
                rngs[slot] = seeding.np_random(seeds[slot])[0]
            elif slot != leader and (first_time or mask[leader : leader + self.group_size].all()):
                rngs[slot] = _in_state(rngs[leader].bit_generator.state)
        self._rngs = rngs

    def get_state(self) -> list[dict[str, Any]]:
        """Where each generator is; `set_state` continues from it."""
        return [dict(rng.bit_generator.state) for rng in self._rngs]

    def set_state(self, state: Sequence[dict[str, Any]]) -> None:
        """Continues from a state that `get_state` gave."""
        self._rngs = [_in_state(saved) for saved in state]


def slot_seeds(seed: Seeds, num: int, group_size: int = 1) -> list[int | None]:
    """A seed for each slot, or None; see `SlotRngs.seed`.

    Raises:
        ConfigError: A seed is no integer >= 0, or there are not as many as slots.
    """
    if seed is None:
        return [None] * num
    if isinstance(seed, Sequence | np.ndarray):
        if len(seed) != num:
            raise ConfigError(f"seeds of {num} slots are wanted, got {len(seed)}")
        return [None if each is None else int(Streams(each).seed) for each in seed]
    return [int(Streams(seed).seed) + slot // group_size for slot in range(num)]


def _in_state(state: Any) -> np.random.Generator:
    rng = np.random.default_rng(0)
    rng.bit_generator.state = state
    return rng
