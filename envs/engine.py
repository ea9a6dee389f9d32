"""The reference engine: the plain PyTorch loop, measured. Every other engine is tested against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rl_tuner.envs.data import Pool
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.metrics import metrics
from rl_tuner.errors import JobError
from rl_tuner.history import Interval
from rl_tuner.meter import Meter
from rl_tuner.sampling import TunedBatchSampler
from rl_tuner.seeding import Streams, TorchStream
from rl_tuner.trainee import Trainee

EVALUATION_BATCH = 1024
START_BATCH_SIZE = 64


class ReferenceEngine:
    """Trains one job: any module, any dataset, any optimizer.

    Args:
        job: What to train.
        streams: Seeds of initial weights, batch order and dropout.

    Attributes:
        trainee: The live model, optimizer and sampler.
        used: Training samples used so far.
        val_samples: Validation samples evaluated so far, what decisions cost beyond training.

    Raises:
        JobError, ConfigError, DatasetError: The job cannot be built.
    """

    def __init__(self, job: TrainingJob, streams: Streams) -> None:
        self.job = job
        self.model = job.build_model(streams.seed_of("init"))
        self.optimizer = job.build_optimizer(self.model)
        train, validation = job.pool("train"), job.pool("validation")
        if train is None or validation is None:
            raise JobError("a job in an environment needs train and validation samples")
        self._train, self._validation = train, validation
        self.budget = job.budget if job.budget is not None else max(1, round(job.epochs * len(train)))
        start = dict(job.start)
        self.sampler = TunedBatchSampler(
            len(train), int(start.get("batch_size", START_BATCH_SIZE)), streams.seed_of("batches")
        )
        self.sampler.stop_after(self.budget)
        self.trainee = Trainee(self.optimizer, self.model, self.sampler)
        self.trainee.write(start)
        self._loss = job.loss_function
        self._meter = Meter(self.optimizer)
        self._dropout = TorchStream(streams.seed_of("dropout"), torch.device(job.device))
        self.used = self.val_samples = 0

    def advance(self, end: int) -> Interval:
        """Trains until `end` samples are used, at least one update, then validates.

        Args:
            end: In training samples since the start.

        Raises:
            JobError: The budget is already spent.
        """
        if self.used >= self.budget:
            raise JobError(f"the job's budget of {self.budget} samples is spent")
        model, optimizer, meter, sampler = self.model, self.optimizer, self._meter, self.sampler
        model.train()
        with self._dropout:
            while self.used < end:
                size = sampler.next_size()
                if self.used + size >= end:
                    meter.arm()
                inputs, targets = self._train.batch(sampler.draw())
                optimizer.zero_grad()
                loss = self._loss(model(inputs), targets)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                meter.record(loss, size)
                self.used += size
        return meter.read(self.validate())

    def validate(self) -> float:
        """Mean validation loss, counted in `val_samples`; inf where it is not finite."""
        loss, _, _ = self._evaluate(self._validation)
        self.val_samples += len(self._validation)
        return loss if np.isfinite(loss) else float("inf")

    def evaluate(self, split: str) -> dict[str, float]:
        """The present weights' loss and metrics on a split.

        Raises:
            JobError: The job has no such split.
        """
        pool = self.job.pool(split)
        if pool is None:
            raise JobError(f"the job has no {split} samples")
        loss, outputs, targets = self._evaluate(pool)
        return {"loss": loss, **metrics(self.job.task, outputs, targets)}

    def _evaluate(self, pool: Pool) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Mean loss, outputs and targets over a pool, in evaluation mode."""
        self.model.eval()
        outputs, targets = [], []
        with torch.no_grad():
            for first in range(0, len(pool), EVALUATION_BATCH):
                inputs, truth = pool.batch(np.arange(first, min(first + EVALUATION_BATCH, len(pool))))
                outputs.append(self.model(inputs))
                targets.append(truth)
            sizes = [len(truth) for truth in targets]
            losses = [float(self._loss(o, t)) for o, t in zip(outputs, targets, strict=True)]
        self.model.train()
        return float(np.average(losses, weights=sizes)), torch.cat(outputs), torch.cat(targets)

    def get_state(self) -> dict[str, Any]:
        """Model, optimizer, gradients, sampler and generators, copied; `set_state` continues from it."""
        return {
            "trainee": self.trainee.keep(),
            "values": self.trainee.read(),
            "gradients": self.trainee.gradients(),
            "sampler": self.sampler.get_state(),
            "dropout": self._dropout.get_state(),
            "used": self.used,
            "val_samples": self.val_samples,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave, bit for bit.

        Raises:
            JobError: The state is of another model.
        """
        self.trainee.restore(state["trainee"])
        self.trainee.set_gradients(state["gradients"])
        self.sampler.set_state(state["sampler"])
        self._dropout.set_state(state["dropout"])
        self.trainee.write(state["values"])  # after the optimizer's state, which holds older ones
        self._meter.clear()
        self.used, self.val_samples = state["used"], state["val_samples"]
