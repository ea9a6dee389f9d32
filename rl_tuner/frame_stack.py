"""The last observations of an episode side by side: the memory of a policy that is a feed-forward network.

As Stable-Baselines3's ``VecFrameStack`` gives them to an agent that learns: oldest first along the last axis,
zeros for what lies before the episode's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.errors import PolicyError


class FrameStack:
    """Remembers the last observations, of one episode or of a batch of episodes.

    Args:
        size: How many are stacked, the newest one included; 1 remembers nothing and takes any batch.
        width: Number of features of each, F.
    """

    def __init__(self, size: int, width: int) -> None:
        self.size, self.width = size, width
        self._past: NDArray[np.float32] | None = None

    def push(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Adds the newest observation; never changes what was given.

        Args:
            seen: Shape (…, F), float32; batch dimensions as in the first push after `clear`.

        Returns:
            Shape (…, size x F).

        Raises:
            PolicyError: The batch is of another shape than the one remembered.
        """
        if self.size == 1:
            return seen
        batch = seen.shape[:-1]
        if self._past is None:
            self._past = np.zeros((*batch, self.size - 1, self.width), np.float32)
        if self._past.shape[:-2] != batch:
            raise PolicyError(
                f"the policy remembers episodes of batch shape {self._past.shape[:-2]}, got observations of "
                f"batch shape {batch}: reset() it before other episodes"
            )
        frames = np.concatenate([self._past, seen[..., None, :]], axis=-2)
        self._past = frames[..., 1:, :]
        return frames.reshape(*batch, self.size * self.width)

    def clear(self) -> None:
        """Forgets everything: the next push begins an episode, or a batch of them."""
        self._past = None

    def forget(self, mask: NDArray[np.bool_]) -> None:
        """Forgets some rows of a batch, whose next push begins an episode.

        Args:
            mask: Which, bool, shape (N,).

        Raises:
            PolicyError: The mask is not of bools, or not of the batch's shape.
        """
        mask = np.asarray(mask)
        if mask.dtype != np.bool_:
            raise PolicyError(f"the rows to forget must be marked by bools, got {mask.dtype}")
        if self._past is None:
            return
        if mask.shape != self._past.shape[:-2]:
            raise PolicyError(
                f"the policy remembers episodes of batch shape {self._past.shape[:-2]}, the mask of those to "
                f"forget has shape {mask.shape}"
            )
        self._past = np.where(mask[..., None, None], np.float32(0), self._past)

    def get_state(self) -> dict[str, Any]:
        """What is remembered, oldest first, as plain lists."""
        return {"past": None if self._past is None else self._past.tolist()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues with a memory that `get_state` gave.

        Raises:
            PolicyError: It is of another form or shape, or holds what is not finite.
        """
        if set(state) != {"past"}:
            raise PolicyError(
                f"the policy remembers {self.size - 1} observations: its state holds 'past' and nothing "
                f"else, got {', '.join(map(str, state)) or 'nothing'}"
            )
        self._past = None if state["past"] is None else self._checked(state["past"])

    def _checked(self, past: Any) -> NDArray[np.float32]:
        try:
            with np.errstate(over="ignore"):
                frames = np.array(past, np.float64).astype(np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise PolicyError(f"the memory of the policy is not an array of numbers: {error}") from error
        if frames.shape[-2:] != (self.size - 1, self.width):
            raise PolicyError(
                f"the memory has shape {frames.shape}, the policy's is (…, {self.size - 1}, {self.width})"
            )
        if not np.isfinite(frames).all():
            raise PolicyError("the memory of the policy holds values that are not finite")
        return frames
