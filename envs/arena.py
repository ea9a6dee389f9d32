"""Data of many jobs in one place: pools of like samples end to end in one tensor, indexed, never per job."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rl_tuner.envs.data import TensorPool

CPU = torch.device("cpu")
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class Lease:
    """A pool's place in an arena; it may move while the lease is held.

    Attributes:
        pool: The samples, as they were when they were taken or changed since.
        start: Where they begin.
        holders: How many jobs hold it.
    """

    pool: TensorPool
    start: int = 0
    holders: int = 0

    def __len__(self) -> int:
        return len(self.pool)


class Arena:
    """Pools whose samples have one shape and type, gathered from by one index.

    A pool is kept once, however many jobs hold it, and for a while after the last one let go of it: the next
    job likely wants it again. There is room for at most twice the most samples held at a time.

    Args:
        like: Any such pool.
        device: Where the samples are wanted.

    Attributes:
        inputs: Shape (room, ...).
        targets: Shape (room, ...).
    """

    def __init__(self, like: TensorPool, device: torch.device) -> None:
        self._leases: dict[Hashable, Lease] = {}
        self._end = 0
        self.inputs = like.inputs.new_empty((0, *like.inputs.shape[1:]), device=device)
        self.targets = like.targets.new_empty((0, *like.targets.shape[1:]), device=device)

    def take(self, pool: TensorPool) -> Lease:
        """Holds a pool's samples until `release`.

        They are copied when they are first taken: this lease keeps the old ones if they are changed in place
        later, but who takes the pool after that gets the new ones. (Changes that torch does not count, those
        of a NumPy array that shares the memory or of tensors made in inference mode, are not noticed.)
        """
        # The lease keeps the pool, and so its memory: an address names nothing else while the key is here.
        key = tuple((t.data_ptr(), t.shape, t.stride(), _version(t)) for t in (pool.inputs, pool.targets))
        lease = self._leases.get(key)
        if lease is None:
            if self._end + len(pool) > len(self.inputs):
                self._make_room(len(pool))
            lease = self._leases[key] = Lease(pool)
            self._place(lease, pool)
        lease.holders += 1
        return lease

    @staticmethod
    def release(lease: Lease) -> None:
        """Lets go of samples that `take` gave."""
        lease.holders -= 1

    def gather(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets at the places in `index`, any shape: (*index.shape, ...) each."""
        flat = index.view(-1)
        return (
            self.inputs.index_select(0, flat).view(*index.shape, *self.inputs.shape[1:]),
            self.targets.index_select(0, flat).view(*index.shape, *self.targets.shape[1:]),
        )

    @staticmethod
    def everything(leases: Sequence[Lease]) -> tuple[Ints, Bools]:
        """Places of all samples of some pools, a row each.

        Returns:
            The places, shape (len(leases), longest), and which of them count: a shorter pool's row is filled
            up with its first sample.
        """
        starts = np.array([lease.start for lease in leases])[:, None]
        lengths = np.array([len(lease) for lease in leases])[:, None]
        places = np.arange(lengths.max())
        filled = places < lengths
        return starts + np.where(filled, places, 0), filled

    @property
    def pools(self) -> int:
        """So many pools are here, those that nobody holds any more included."""
        return len(self._leases)

    @property
    def samples(self) -> int:
        """So many samples there is room for."""
        return len(self.inputs)

    def _make_room(self, needed: int) -> None:
        """Drops what nobody holds, moves the rest together, and sees that half of the room is free."""
        self._leases = {key: lease for key, lease in self._leases.items() if lease.holders}
        old = TensorPool(self.inputs, self.targets)
        room = 2 * (sum(len(lease) for lease in self._leases.values()) + needed)
        if room > len(self.inputs):
            self.inputs = self.inputs.new_empty((room, *self.inputs.shape[1:]))
            self.targets = self.targets.new_empty((room, *self.targets.shape[1:]))
        self._end = 0
        for lease in self._leases.values():  # in the order of their starts: none is written over too early
            held = slice(lease.start, lease.start + len(lease))
            # Not from the lease's pool, which may have been changed; cloned, as the places may overlap.
            self._place(lease, TensorPool(old.inputs[held].clone(), old.targets[held].clone()))

    def _place(self, lease: Lease, samples: TensorPool) -> None:
        lease.start, self._end = self._end, self._end + len(lease)
        self.inputs[lease.start : self._end] = samples.inputs
        self.targets[lease.start : self._end] = samples.targets


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor, or what shares its memory, was changed in place; 0 where torch does not count."""
    return 0 if tensor.is_inference() else tensor._version
