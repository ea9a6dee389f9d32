"""The reference engine: the plain PyTorch loop, measured. Every other engine is tested against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import nan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_tuner.envs.data import Pool, TensorPool
from rl_tuner.envs.evaluation import mean_loss, outputs_of, scores
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.losses import require_probabilities
from rl_tuner.envs.regularizers import Regularizers
from rl_tuner.errors import JobError
from rl_tuner.history import Interval
from rl_tuner.meter import Meter
from rl_tuner.optimizer_modes import OptimizerModes
from rl_tuner.sampling import TunedBatchSampler
from rl_tuner.seeding import Streams, TorchStream
from rl_tuner.trainee import Trainee

GATHERED = 8
"""Batches gathered from the pool at once."""
START_BATCH_SIZE = 64


class ReferenceEngine:
    """Trains one job: any module, any dataset, any optimizer.

    Between two calls of `advance` the model holds the weights that are to be judged and kept; see
    `rl_tuner.optimizer_modes`.

    Args:
        job: What to train.
        streams: Seeds of initial weights, batch order and dropout.
        averaging: Whether an average of the weights is kept, and validated beside the weights; without
            validation there is none.
        tested: Whether each interval's test loss is measured too, for a reward that asks for it.

    Attributes:
        trainee: The live model, optimizer and sampler.
        used: Training samples used so far.
        val_samples: Validation samples evaluated so far, what decisions cost beyond training.

    Raises:
        JobError, ConfigError, DatasetError: The job cannot be built.
    """

    def __init__(
        self, job: TrainingJob, streams: Streams, averaging: bool = False, tested: bool = False
    ) -> None:
        self.job, self._streams = job, streams
        self.model = job.build_model(streams.seed_of("init"))
        self.optimizer = job.build_optimizer(self.model)
        train = job.pool("train")
        if train is None:
            raise JobError("a job needs training samples")
        self._train, self._validation = train, job.pool("validation")
        self._test = job.pool("test") if tested else None
        if job.loss_name == "bce" and isinstance(train, TensorPool):
            require_probabilities(float(train.targets.min()), float(train.targets.max()))
        self.sampler, self.budget = make_sampler(job, len(train), streams)
        regularizers, averaging = job.regularizers, averaging and self._validation is not None
        self.trainee = Trainee(self.optimizer, self.model, self.sampler, regularizers, averaging)
        self.trainee.write(dict(job.start))
        self._regularizers = Regularizers(_parameters(self.optimizer), regularizers) if regularizers else None
        self._loss = job.loss_function
        self._meter, self._modes = Meter(self.optimizer), OptimizerModes(self.optimizer)
        self._modes.eval()
        self._settings = self.trainee.settings()
        self._zero_grad = _zero_grad(self.optimizer)
        self._device = torch.device(job.device)
        self._dropout = TorchStream(streams.seed_of("dropout"), self._device)
        self._evaluation = TorchStream(0, self._device)
        self._evaluation_start = self._evaluation.get_state()
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
        model, optimizer, meter = self.model, self.optimizer, self._meter
        zero_grad, on_cpu = self._zero_grad, self._device.type == "cpu"
        regularizers, average = self._regularizers, self.trainee.average
        model.train()
        self._modes.train()
        with self._dropout:
            for inputs, targets in self._batches(end):
                size = len(targets)
                zero_grad()
                outputs = model(inputs)
                loss = self._loss(outputs, targets)
                if regularizers is None:
                    loss.backward()  # type: ignore[no-untyped-call]
                else:
                    regularizers.backward(loss, outputs, targets)
                self.used += size
                if self.used >= end:
                    meter.before_step()
                optimizer.step()
                if average is not None:
                    average.update()
                # On the CPU there is nothing to wait for, and numbers are cheaper to keep than tensors.
                meter.record(loss.item() if on_cpu else loss, size)
        meter.after_step()
        self._modes.eval()
        judge = self.trainee.judge_average
        return meter.read(self.validate(), judge(self.validate), self.test(), judge(self.test))

    def _batches(self, end: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches until `end` samples are used, drawn and gathered a few at a time: that is quicker."""
        drawn = self.used
        while drawn < end:
            block: list[NDArray[np.int64]] = []
            while drawn < end and len(block) < GATHERED:
                block.append(self.sampler.draw())
                drawn += len(block[-1])
            yield from self._train.batches(block)

    def validate(self) -> float:
        """Mean validation loss, counted in `val_samples`; inf if not finite, NaN without validation."""
        if self._validation is None:
            return nan
        self.val_samples += len(self._validation)
        return self._mean_loss(self._validation)

    def test(self) -> float:
        """Mean test loss; inf if not finite, NaN if it is not measured or the job has no test samples."""
        return nan if self._test is None else self._mean_loss(self._test)

    def _mean_loss(self, pool: Pool) -> float:
        with self._evaluating():
            loss = mean_loss(self._loss, outputs_of(self.model, pool))
        return loss if np.isfinite(loss) else float("inf")

    def evaluate(self, split: str) -> dict[str, float]:
        """The present weights' loss and metrics on a split.

        Raises:
            JobError: The job has no such split.
        """
        pool = self.job.pool_to_score(split)
        with self._evaluating():
            return scores(self._loss, self.job.task, outputs_of(self.model, pool))

    def _evaluating(self) -> TorchStream:
        """The stream to evaluate in: datasets that transform at random draw alike each time.

        Training's stream is never moved. The model is left in evaluation mode, which `advance` ends.
        """
        self._evaluation.set_state(self._evaluation_start)
        return self._evaluation

    def begin_again(self, attempt: int) -> None:
        """Gives the network the initial weights of another attempt; hyperparameters and the budget used stay.

        Args:
            attempt: Its number, from 1.
        """
        job, values = self.job, self.trainee.read()
        untrained = job.build_model(self._streams.attempt(attempt).seed_of("init"))
        self.model.load_state_dict(untrained.state_dict())
        self.trainee.begin_again(self._settings)
        # What is fixed, the optimizer alone may move: it starts where it did.
        self.trainee.write({name: value for name, value in values.items() if name not in job.fixed})

    def get_state(self) -> dict[str, Any]:
        """Model, optimizer, gradients, sampler and generators, copied; `set_state` continues from it."""
        return {
            "trainee": self.trainee.keep(),
            "values": self.trainee.read(),
            "gradients": self.trainee.gradients(),
            "modes": self._modes.get_state(),
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
        self._modes.set_state(state["modes"])
        self.sampler.set_state(state["sampler"])
        self._dropout.set_state(state["dropout"])
        # After the optimizer's state, which holds older ones. What is fixed, the optimizer alone may move.
        values = {name: v for name, v in state["values"].items() if name not in self.job.fixed}
        self.trainee.write(values)
        self._meter.clear()
        self.used, self.val_samples = state["used"], state["val_samples"]


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _zero_grad(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """What `optimizer.zero_grad` does, without its profiler range, which costs 5 % of a small update."""
    if type(optimizer).zero_grad is not torch.optim.Optimizer.zero_grad:
        return optimizer.zero_grad
    parameters = _parameters(optimizer)

    def clear() -> None:
        for p in parameters:
            p.grad = None

    return clear


def make_sampler(job: TrainingJob, samples: int, streams: Streams) -> tuple[TunedBatchSampler, int]:
    """A job's sampler over so many training samples, and its budget, where the sampler's stream ends."""
    budget = job.budget if job.budget is not None else max(1, round(job.epochs * samples))
    size = int(job.start.get("batch_size", START_BATCH_SIZE))
    sampler = TunedBatchSampler(samples, size, streams.seed_of("batches"))
    sampler.stop_after(budget)
    return sampler, budget
