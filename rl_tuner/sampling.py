"""Batches whose size may change between two of them: the sampler of the engine and of users' loops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_tuner.config import require_range
from rl_tuner.errors import ConfigError
from rl_tuner.seeding import Streams


class TunedBatchSampler:
    """Draws batches of indices without replacement, epoch after epoch, at a batch size that may change.

    Use it as a `torch.utils.data.DataLoader`'s ``batch_sampler`` and hand it to
    `rl_tuner.Tuner(batch_sampler=…)`. One iteration is one epoch; a batch that straddles two epochs is
    filled from the next shuffle, so every batch is full and each sample is seen once per shuffle. With
    loader workers, batches already prefetched keep the size they were drawn with.

    Args:
        size: Number of samples in the dataset, >= 1.
        batch_size: Samples a batch, >= 1; more than `size` counts as `size`.
        seed: Seed of the shuffles, >= 0.

    Attributes:
        drawn: Samples drawn in all.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(self, size: int, batch_size: int = 64, seed: int = 0) -> None:
        self.size = int(require_range("dataset size", size, 1))
        self._batch_size = 1
        self.batch_size = batch_size
        self._shuffles = Streams(seed).numpy("batches")
        self._order = self._shuffles.permutation(self.size)
        self._used = 0
        self._left: int | None = None
        self.drawn = 0

    @property
    def batch_size(self) -> int:
        """Samples in the next batch, between 1 and the dataset's size."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, value: float) -> None:
        self._batch_size = min(int(require_range("batch_size", value, 1)), self.size)

    def stop_after(self, samples: int) -> None:
        """Ends the stream after so many more samples: the last batch is cut to fit."""
        self._left = int(require_range("samples", samples, 0))

    def next_size(self) -> int:
        """How many samples the next batch will hold; 0 at the end of the stream."""
        if self._left is None:
            return self._batch_size
        size = min(self._batch_size, self._left)
        # A last batch of one sample would break batch normalization: the batch before takes it along.
        return size + 1 if self._left - size == 1 else size

    def draw(self) -> NDArray[np.int64]:
        """The next batch of indices, shape (next_size(),), not to be written to; empty at the end."""
        size = self._batch_size
        if self._left is not None:
            size = self.next_size()
            self._left -= size
        return self._take(size)

    def draw_interval(self, samples: int) -> tuple[NDArray[np.int64], int]:
        """The batches until at least so many samples are drawn, end to end, as `draw` would give them.

        All but the last hold `batch_size` samples.

        Args:
            samples: At least 1.

        Returns:
            The indices, and how many of them are the last batch; both are empty at the end of the stream.
        """
        size = self._batch_size
        total = -(-samples // size) * size
        last = size
        if self._left is not None:
            if self._left - total <= 1:  # the stream ends here
                total, last = self._left, _last_size(self._left, size)
            self._left -= total
        return self._take(total), last

    def _take(self, size: int) -> NDArray[np.int64]:
        """The next samples of the shuffles."""
        self.drawn += size
        parts = [self._order[self._used : self._used + size]]
        self._used += len(parts[0])
        missing = size - len(parts[0])
        while missing:
            self._order = self._shuffles.permutation(self.size)
            self._used = min(missing, self.size)
            missing -= self._used
            parts.append(self._order[: self._used])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __iter__(self) -> Iterator[list[int]]:
        """One epoch of batches: until every sample of a shuffle's worth has been drawn."""
        drawn = 0
        while drawn < self.size and self.next_size():
            batch = self.draw()
            drawn += len(batch)
            yield batch.tolist()

    def __len__(self) -> int:
        """Batches in one epoch at the present batch size."""
        return -(-self.size // self._batch_size)

    def get_state(self) -> dict[str, Any]:
        """The position in the stream, as plain types and one array; `set_state` continues from it."""
        return {
            "size": self.size,
            "batch_size": self._batch_size,
            "shuffles": self._shuffles.bit_generator.state,
            "order": self._order.copy(),
            "used": self._used,
            "left": self._left,
            "drawn": self.drawn,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a state that `get_state` gave.

        Raises:
            ConfigError: The state is of a dataset of another size.
        """
        if state["size"] != self.size:
            raise ConfigError(
                f"the sampler's state is of {state['size']} samples, the dataset has {self.size}"
            )
        self._batch_size = state["batch_size"]
        self._shuffles.bit_generator.state = state["shuffles"]
        self._order = state["order"].copy()
        self._used, self._left = state["used"], state["left"]
        self.drawn = state["drawn"]


def _last_size(left: int, size: int) -> int:
    """How many samples the last batch of a stream holds, by the rule of `TunedBatchSampler.next_size`."""
    if left <= size:
        return left
    if size == 1:
        return 2
    return left % size if left % size > 1 else size + left % size
