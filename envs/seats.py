"""The places of a batched engine: what a slot's job needs besides its group, or instead of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from rl_tuner.envs.arena import CPU, Arena, Lease
from rl_tuner.envs.engine import ReferenceEngine
from rl_tuner.envs.evaluation import outputs_of, scores
from rl_tuner.envs.group import Group
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.plan import Work
from rl_tuner.errors import JobError
from rl_tuner.sampling import TunedBatchSampler
from rl_tuner.seeding import Streams, TorchStream
from rl_tuner.trainee import Kept


@dataclass(slots=True, eq=False)
class BatchedSeat:
    """A job that trains as a row of a group.

    Attributes:
        job: The job.
        start: Its hyperparameters at the start.
        usual_lr: The usual learning rate of its optimizer (`rl_tuner.usual_lr`); NaN if it is not known.
        budget: Training samples it may use.
        group: Where it trains.
        row: Its row there.
        sampler: Draws its batches.
        train: Where its training samples are.
        validation: Where its validation samples are; None if it has none.
        test: Where its test samples are; None if it has none, or their loss is not measured.
        streams: Seeds of its initial weights.
        second_start: What its optimizer's second buffer is filled with before the first update.
        used: Training samples used so far.
        val_samples: Validation samples evaluated so far.
    """

    job: TrainingJob
    start: dict[str, float]
    usual_lr: float
    budget: int
    group: Group
    row: int
    sampler: TunedBatchSampler
    train: Lease
    validation: Lease | None
    test: Lease | None
    streams: Streams
    second_start: float
    used: int = 0
    val_samples: int = 0

    def work(self, end: int) -> Work:
        """The training until `end` samples are used, at least one update; its samples count as used."""
        size = self.sampler.batch_size
        indices, last = self.sampler.draw_interval(max(end - self.used, 1))
        self.used += len(indices)
        kind = int(self.group.rows.kinds[self.row])
        return Work(self.row, kind, size, last, indices + self.train.start)

    def held(self, split: str) -> Lease | None:
        """Where its samples of "validation" or "test" are; None if none are held."""
        return self.validation if split == "validation" else self.test

    @property
    def parameters(self) -> int:
        """Number of the network's weights."""
        return self.group.model.width

    def release(self) -> None:
        """Gives row and samples back."""
        self.group.rows.release(self.row)
        Arena.release(self.train)
        for lease in (self.validation, self.test):
            if lease is not None:
                Arena.release(lease)

    def begin_again(self, attempt: int) -> None:
        """See `rl_tuner.envs.engine.ReferenceEngine.begin_again`."""
        model = self.job.build_model(self.streams.attempt(attempt).seed_of("init")).to(CPU)
        self.group.rows.begin_again(self.row, self.group.model.row(model), self.second_start)

    def module(self) -> nn.Module:
        """A copy of the network as it stands."""
        return self.group.module(self.row)

    def evaluate(self, split: str) -> dict[str, float]:
        """The present weights' loss and metrics on a split.

        Raises:
            JobError: The job has no such split.
        """
        pool = self.job.pool_to_score(split, CPU)
        with TorchStream(0):
            return scores(self.job.loss_function, self.job.task, outputs_of(self.module().cpu(), pool))

    def restore_best(self) -> None:
        """Puts the best weights back."""
        self.group.rows.restore_best(self.row)

    def get_state(self) -> dict[str, Any]:
        """What training changes, copied; `set_state` continues from it."""
        return {
            "row": self.group.rows.get_row(self.row),
            "sampler": self.sampler.get_state(),
            "used": self.used,
            "val_samples": self.val_samples,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave in a seat of the same job.

        Raises:
            JobError, ConfigError: It is of another job.
        """
        if "row" not in state:
            raise JobError("the state is of a job that was not batched, this one is")
        self.group.rows.set_row(self.row, state["row"])
        self.sampler.set_state(state["sampler"])
        self.used, self.val_samples = state["used"], state["val_samples"]


@dataclass(slots=True, eq=False)
class ReferenceSeat:
    """A job that cannot be batched, on a reference engine of its own.

    Attributes:
        engine: Trains it.
        start: Its hyperparameters at the start.
        usual_lr: See `BatchedSeat`.
        good: Its last good state.
        best: Its best weights.
    """

    engine: ReferenceEngine
    start: dict[str, float]
    usual_lr: float
    good: Kept
    best: Kept

    @classmethod
    def of(
        cls, job: TrainingJob, streams: Streams, averaging: bool = False, tested: bool = False
    ) -> ReferenceSeat:
        """A seat for a job that has not trained yet.

        Args:
            job: The job.
            streams: Seeds of initial weights, batch order and dropout.
            averaging: Whether an average of the weights is kept.
            tested: Whether test losses are measured.

        Raises:
            JobError, ConfigError, DatasetError: The job cannot be built.
        """
        engine = ReferenceEngine(job, streams, averaging, tested)
        kept = engine.trainee.keep()
        return cls(engine, engine.trainee.read(), engine.trainee.usual_lr(), kept, kept)

    @property
    def job(self) -> TrainingJob:
        """The job."""
        return self.engine.job

    @property
    def budget(self) -> int:
        """Training samples it may use."""
        return self.engine.budget

    @property
    def used(self) -> int:
        """Training samples used so far."""
        return self.engine.used

    @property
    def val_samples(self) -> int:
        """Validation samples evaluated so far."""
        return self.engine.val_samples

    @property
    def sampler(self) -> TunedBatchSampler:
        """Draws its batches."""
        return self.engine.sampler

    @property
    def parameters(self) -> int:
        """Number of the network's weights."""
        return sum(weights.numel() for weights in self.engine.model.parameters())

    def release(self) -> None:
        """Nothing is shared."""

    def module(self) -> nn.Module:
        """The network as it stands: the live one."""
        return self.engine.model

    def evaluate(self, split: str) -> dict[str, float]:
        """The present weights' loss and metrics on a split.

        Raises:
            JobError: The job has no such split.
        """
        return self.engine.evaluate(split)

    def mean_loss(self, split: str) -> float:
        """`ReferenceEngine.validate` for "validation", `ReferenceEngine.test` for "test"."""
        return self.engine.validate() if split == "validation" else self.engine.test()

    def keep(self, good: bool, best: bool, averaged: bool = False) -> None:
        """Keeps the present state as the last good one, as the best one, or as both.

        Args:
            good: As the last good one.
            best: As the best one.
            averaged: The average of the weights as the best ones.
        """
        trainee = self.engine.trainee
        if good or best:
            kept = trainee.keep()
            self.good = kept if good else self.good
            self.best = kept if best else self.best
        if averaged:
            self.best = trainee.keep_average()

    def begin_again(self, attempt: int) -> None:
        """See `rl_tuner.envs.engine.ReferenceEngine.begin_again`."""
        self.engine.begin_again(attempt)
        self.good = self.engine.trainee.keep()

    def restore(self) -> None:
        """Puts the last good state back."""
        self.engine.trainee.restore(self.good)

    def restore_best(self) -> None:
        """Puts the best weights back."""
        self.engine.trainee.restore_weights(self.best)

    def take_over(self, other: ReferenceSeat) -> None:
        """Takes over another seat's weights, optimizer state and best weights, but not its hyperparameters.

        Raises:
            JobError: It is of another job.
        """
        trainee = self.engine.trainee
        values = trainee.read()
        trainee.restore(other.engine.trainee.keep())
        trainee.write(values)
        self.good, self.best = other.good, other.best

    def get_state(self) -> dict[str, Any]:
        """What training changes, copied; `set_state` continues from it."""
        return {"engine": self.engine.get_state(), "good": self.good, "best": self.best}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave in a seat of the same job.

        Raises:
            JobError: It is of another job.
        """
        if "engine" not in state:
            raise JobError("the state is of a job that was batched, this one is not")
        self.engine.set_state(state["engine"])
        self.good, self.best = state["good"], state["best"]


Seat = BatchedSeat | ReferenceSeat
