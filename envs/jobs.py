"""A training job: anybody's model, data and optimizer, with a budget."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from rl_tuner.config import choose, require_range
from rl_tuner.envs.data import Data, Pool, make_pool
from rl_tuner.envs.metrics import TASKS
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.seeding import torch_seed
from rl_tuner.space import HYPERPARAMETERS

SPLITS = ("train", "validation", "test")
MOST_EPOCHS, MOST_BUDGET = 1e9, 2**53
"""Nobody trains as long; larger counts of samples would overflow, or not be exact."""
Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(outputs, targets) → mean loss over the batch."""


def mean_squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean squared error of predictions shaped like the targets.

    Raises:
        JobError: They are shaped otherwise; torch would broadcast (n, 1) on (n,) to a wrong (n, n).
    """
    if outputs.shape != targets.shape:
        raise JobError(
            f"the model's outputs have shape {tuple(outputs.shape)}, the targets {tuple(targets.shape)}: "
            "make them alike (nn.Flatten(0) turns (n, 1) into (n,))"
        )
    return functional.mse_loss(outputs, targets)


def require_device(device: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        ConfigError: There is none, or it cannot be used here.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # torch's own way to say that it has no CUDA
        raise ConfigError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    return found


LOSSES: dict[str, Loss] = {"classification": functional.cross_entropy, "regression": mean_squared_error}
OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "adagrad": (torch.optim.Adagrad, {}),
    "adadelta": (torch.optim.Adadelta, {}),
}


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A training task for `rl_tuner.envs.TuningEnv`.

    Args:
        model: A module, copied for each episode, or a function that builds one from torch's global
            generator (it is seeded, and put back).
        train: Samples trained on: (inputs, targets), or a `Dataset` of such pairs. Its random transforms
            are repeatable if they draw from torch's generator.
        validation: Samples that observations, rewards, the best model and early stopping look at; without
            them these look at the training loss.
        test: Samples that nothing looks at before the end; None if the job has none.
        optimizer: A name of `OPTIMIZERS`, an optimizer class, or a function of the parameters.
        start: Start values by hyperparameter ("lr", "batch_size", "weight_decay", "dropout", "momentum");
            what is not named starts at the optimizer's or the model's own value, batch_size at 64.
        task: "classification" or "regression": which metrics, and which loss if none is given.
        loss: (outputs, targets) → mean loss over the batch, >= 0.
        budget: Training samples the job may use; None for `epochs` times the train split.
        epochs: See `budget`.
        fixed: Hyperparameters that must stay at their start values, as if the job lacked them.
        device: Where the job runs.
        name: For logs and tables.

    Raises:
        ConfigError: A value is unknown or out of range.
    """

    model: nn.Module | Callable[[], nn.Module]
    train: Data
    validation: Data | None = None
    test: Data | None = None
    optimizer: str | Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = "adam"
    start: Mapping[str, float] = field(default_factory=dict)
    task: str = "classification"
    loss: Loss | None = None
    budget: int | None = None
    epochs: float = 20.0
    fixed: tuple[str, ...] = ()
    device: str | torch.device = "cpu"
    name: str = "job"

    def __post_init__(self) -> None:
        choose("task", self.task, TASKS)
        if isinstance(self.optimizer, str):
            choose("optimizer", self.optimizer, OPTIMIZERS)
        if not callable(self.model):
            raise ConfigError(f"model must be a module or a function, got {type(self.model).__name__}")
        require_range("epochs", self.epochs, 0, MOST_EPOCHS, above=True)
        for name, value in self.start.items():
            HYPERPARAMETERS[choose("start value", name, HYPERPARAMETERS)].coordinate(value)
        for name in self.fixed:
            choose("fixed hyperparameter", name, HYPERPARAMETERS)
        if self.budget is not None:
            require_range("budget", self.budget, 1, MOST_BUDGET)

    def build_model(self, seed: int) -> nn.Module:
        """A fresh model on the job's device, its random initial weights drawn from `seed`.

        Raises:
            JobError: The function built no module.
        """
        if isinstance(self.model, nn.Module):
            model = copy.deepcopy(self.model)
        else:
            with torch_seed(seed):
                model = self.model()
        if not isinstance(model, nn.Module):
            raise JobError(f"the job's model function must return a torch module, got {type(model).__name__}")
        return model.to(self.device)

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimizer over the model's trainable parameters.

        Raises:
            JobError: The function built no optimizer or one that needs a closure, or nothing can be trained.
        """
        parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            raise JobError("the model has no parameter that requires a gradient")
        if isinstance(self.optimizer, str):
            cls, defaults = OPTIMIZERS[self.optimizer]
            return cls(parameters, **defaults)
        needs_lr = inspect.isclass(self.optimizer) and "lr" in self.start
        make: Callable[..., Any] = self.optimizer
        optimizer = make(parameters, lr=self.start["lr"]) if needs_lr else make(parameters)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise JobError(f"the job's optimizer function returned a {type(optimizer).__name__}")
        if isinstance(optimizer, torch.optim.LBFGS):
            raise JobError("LBFGS evaluates the loss many times a step: a budget in samples cannot hold it")
        return optimizer

    def pool(self, split: str, device: torch.device | None = None) -> Pool | None:
        """The samples of "train", "validation" or "test"; None for a missing one.

        Args:
            split: Which.
            device: Where they are wanted; None for the job's device.
        """
        data = getattr(self, choose("split", split, SPLITS))
        return None if data is None else make_pool(data, device or torch.device(self.device), split)

    def pool_to_score(self, split: str, device: torch.device | None = None) -> Pool:
        """`pool`, where there must be one.

        Raises:
            JobError: The job has no such split.
        """
        pool = self.pool(split, device)
        if pool is None:
            raise JobError(f"the job has no {split} samples")
        return pool

    @property
    def loss_function(self) -> Loss:
        """The loss given, or the task's own."""
        return self.loss if self.loss is not None else LOSSES[self.task]

    def build(self) -> TrainingJob:
        """The job itself; so a job stands wherever a recipe of one does."""
        return self
