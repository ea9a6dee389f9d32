"""The samples that jobs bring to a batched engine, made into pools once for all jobs given the same data."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from rl_tuner.envs.arena import CPU
from rl_tuner.envs.data import Data, TensorPool, make_pool
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.errors import JobError


class NotBatchedError(Exception):
    """Why a job cannot be batched."""


@dataclass(frozen=True, slots=True, eq=False)
class JobSamples:
    """A split's samples.

    Attributes:
        data: What the jobs were given; as long as it is held here, nothing else has its id.
        pool: The samples, on the CPU.
        targets: The least and the greatest target.
    """

    data: Data
    pool: TensorPool
    targets: tuple[float, float]

    @property
    def kind(self) -> Hashable:
        """What pools must share to lie in one arena."""
        tensors = (self.pool.inputs, self.pool.targets)
        return tuple((tuple(t.shape[1:]), t.dtype) for t in tensors)

    def require_classes(self, classes: float) -> None:
        """Sees to it that no class number is out of range: it would take down the whole group.

        Raises:
            NotBatchedError: One is below 0; `torch.nn.functional.cross_entropy` passes over some of these.
            JobError: One is above the model's classes.
        """
        least, greatest = self.targets
        if least < 0:
            raise NotBatchedError(f"it has a class number of {least:g}, below 0")
        if greatest >= classes:
            raise JobError(
                f"the targets go up to class {greatest:g}, the model has {classes:g} classes, from 0"
            )


class SampleCache:
    """What was found last stays; what nobody asked for longest goes first.

    Args:
        most: So many splits are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._samples: dict[int, JobSamples] = {}

    def find(self, job: TrainingJob, split: str) -> JobSamples | None:
        """A job's samples of "train", "validation" or "test"; None if it has no such split.

        Raises:
            NotBatchedError: They are fetched one by one.
            DatasetError, JobError: They are no samples.
        """
        data = getattr(job, split)
        if data is None:
            return None
        found = self._samples.pop(id(data), None) or _read(data, split)
        while len(self._samples) >= self._most:
            self._samples.pop(next(iter(self._samples)))
        self._samples[id(data)] = found  # behind all others: the front is what nobody asked for longest
        return found


def _read(data: Data, split: str) -> JobSamples:
    pool = make_pool(data, CPU, split)
    if not isinstance(pool, TensorPool):
        raise NotBatchedError("its data is a Dataset, fetched sample by sample")
    return JobSamples(data, pool, (float(pool.targets.min()), float(pool.targets.max())))
