"""A training job: anybody's model, data and optimizer, with a budget."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch
from torch import nn

from rl_tuner.config import choose, require_counts, require_range
from rl_tuner.envs.data import Data, Pool, make_pool
from rl_tuner.envs.losses import LOSSES, TASK_LOSSES, Loss, name_of
from rl_tuner.envs.regularizers import REGULARIZERS
from rl_tuner.envs.weights import Weights, load_weights, require_weights
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.seeding import torch_seed
from rl_tuner.space import HYPERPARAMETERS

SPLITS = ("train", "validation", "test")
MOST_EPOCHS, MOST_BUDGET = 1e9, 2**53
"""Nobody trains as long; larger counts of samples would overflow, or not be exact."""


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


OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "adagrad": (torch.optim.Adagrad, {}),
    "adadelta": (torch.optim.Adadelta, {}),
}


@dataclass(frozen=True, slots=True)
class Phase:
    """What follows a job in the same episode, under the same policy: fine-tuning after pretraining.

    Args:
        job: Makes the phase's job from the network of the phase before (a fresh copy with its best weights;
            `rl_tuner.envs.weights.load_weights` takes what fits of them). It is called again to continue from
            a snapshot, and must return the same job then.
        budget: Training samples that the phase may use, whatever the job says; the policy sees progress
            through all phases, so this is known from the beginning.

    Raises:
        ConfigError: The job is no function, or the budget out of range.
    """

    job: Callable[[nn.Module], TrainingJob]
    budget: int

    def __post_init__(self) -> None:
        if not callable(self.job):
            raise ConfigError(f"a phase's job must be a function of the trained network, got {self.job!r}")
        require_counts({"budget of a phase": self.budget})
        require_range("budget of a phase", self.budget, 1, MOST_BUDGET)


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
            what is not named starts at the optimizer's or the model's own value, batch_size at 64. A job
            has "l1", "l2", "label_smoothing" and "max_grad_norm" only if they are named: see
            `rl_tuner.envs.regularizers`.
        task: "classification" or "regression": which metrics, and which loss if none is given.
        loss: A name of `rl_tuner.envs.losses.LOSSES` that fits the task, or a function (outputs, targets) →
            mean loss over the batch, >= 0; None for the task's own, "cross_entropy" or "mse".
        budget: Training samples the job may use; None for `epochs` times the train split.
        epochs: See `budget`.
        fixed: Hyperparameters that must stay at their start values, as if the job lacked them.
        device: Where the job runs.
        name: For logs and tables.
        weights: What the model starts from: a file, or tensors by name. What fits by name and shape is
            loaded into the fresh model, so that a head of another shape stays fresh; see
            `rl_tuner.envs.weights`.
        then: The phases that follow in the same episode, in order.

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
    loss: str | Loss | None = None
    budget: int | None = None
    epochs: float = 20.0
    fixed: tuple[str, ...] = ()
    device: str | torch.device = "cpu"
    name: str = "job"
    weights: Weights | None = None
    then: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        self._require_loss(choose("task", self.task, TASK_LOSSES))
        if isinstance(self.optimizer, str):
            choose("optimizer", self.optimizer, OPTIMIZERS)
        if not callable(self.model):
            raise ConfigError(f"model must be a module or a function, got {type(self.model).__name__}")
        require_range("epochs", self.epochs, 0, MOST_EPOCHS, above=True)
        for name, value in self.start.items():
            given: object = value
            hyperparameter = HYPERPARAMETERS[choose("start value", name, HYPERPARAMETERS)]
            if not isinstance(given, Real):
                raise ConfigError(f"{name} must be a number, got {value!r}")
            hyperparameter.coordinate(value)
        if "label_smoothing" in self.start and self.loss_name != "cross_entropy":
            raise ConfigError(
                f"label_smoothing needs the loss 'cross_entropy', the job's is {self.loss_name or 'its own'}"
            )
        for name in self.fixed:
            choose("fixed hyperparameter", name, HYPERPARAMETERS)
        if self.budget is not None:
            require_range("budget", self.budget, 1, MOST_BUDGET)
        if self.weights is not None:
            require_weights(self.weights)
        if not isinstance(self.then, tuple) or not all(isinstance(phase, Phase) for phase in self.then):
            raise ConfigError(f"then must be a tuple of Phase, got {self.then!r}")

    def build_model(self, seed: int) -> nn.Module:
        """A fresh model on the job's device, its random initial weights drawn from `seed`.

        Raises:
            JobError: The function built no module, or the given weights cannot be loaded into it.
        """
        if isinstance(self.model, nn.Module):
            model = copy.deepcopy(self.model)
        else:
            with torch_seed(seed):
                model = self.model()
        if not isinstance(model, nn.Module):
            raise JobError(f"the job's model function must return a torch module, got {type(model).__name__}")
        if self.weights is not None:
            load_weights(model, self.weights)
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
    def loss_name(self) -> str | None:
        """The loss's name in `rl_tuner.envs.losses.LOSSES`; None for any other function."""
        if self.loss is None:
            return TASK_LOSSES[self.task][0]
        return self.loss if isinstance(self.loss, str) else name_of(self.loss)

    @property
    def loss_function(self) -> Loss:
        """The loss given or named, or the task's own."""
        if self.loss is None or isinstance(self.loss, str):
            return LOSSES[str(self.loss_name)]
        return self.loss

    @property
    def regularizers(self) -> dict[str, float]:
        """Start values of those that the job has: see `rl_tuner.envs.regularizers`."""
        return {name: float(self.start[name]) for name in REGULARIZERS if name in self.start}

    def _require_loss(self, task: str) -> None:
        """Checks that a named loss is one of the task's, and that any other is a function.

        Raises:
            ConfigError: It is not.
        """
        if isinstance(self.loss, str):
            fitting = TASK_LOSSES[task]
            if choose("loss", self.loss, LOSSES) not in fitting:
                raise ConfigError(
                    f"the loss {self.loss!r} does not fit a {task}: choose from {', '.join(fitting)}"
                )
        elif self.loss is not None and not callable(self.loss):
            raise ConfigError(f"loss must be a name or a function, got {type(self.loss).__name__}")

    def build(self) -> TrainingJob:
        """The job itself; so a job stands wherever a recipe of one does."""
        return self
