"""Tuning-free optimizers: they need no schedule, or set the learning rate themselves.

They are rivals of a policy, and for use in their own right: `tuning_free` gives any job such an optimizer and
leaves everything else as the job has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn

from rl_tuner.config import choose
from rl_tuner.envs.families import SANE_LR
from rl_tuner.envs.hypergradient import SGDHD, AdamHD
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.tuning_setup import Source
from rl_tuner.errors import ConfigError
from rl_tuner.trainee import Trainee

Optimizer = torch.optim.Optimizer
Groups = list[dict[str, Any]]
OWNED = ("lr", "weight_decay", "momentum")
"""Start values that go into the optimizer as it is made; the job itself no longer names them."""
HYPERGRAD_LR = 0.2
"""Chosen on the suites' train splits, where 0.02 to 0.1 did less and 0.5 little more: jobs start up to two
decades off a good learning rate, and have some hundred updates."""
BETA1 = 0.9
"""Momentum of an optimizer that needs some, where the job has none."""
RESCALED: dict[type[Optimizer], str] = {torch.optim.Adagrad: "adagrad", torch.optim.Adadelta: "adadelta"}
"""Optimizers whose learning rates lie on another scale than Adam's, and their names in `SANE_LR`."""


@dataclass(frozen=True, slots=True)
class TuningFree:
    """A kind of tuning-free optimizer.

    Attributes:
        make: Makes it of a job's own optimizer, which is set to the job's start values.
        fixed: Hyperparameters that are its own business: nobody tunes them.
        package: Python package that it needs; "" for none.
        description: A line for lists.
    """

    make: Callable[[Optimizer], Optimizer]
    fixed: tuple[str, ...]
    package: str
    description: str


def tuning_free(name: str, job: Source) -> TrainingJob:
    """A job with a tuning-free optimizer instead of its own, in all its phases.

    Data, model, budget, batch size, dropout and regularizers are the job's own, weight decay and momentum (or
    β1) are taken over. Its learning rate too, where the optimizer starts from one; Adagrad's and Adadelta's
    are put on Adam's scale, so that one that was ten times too large stays so. Such a job is not batched: it
    trains on a reference engine of its own.

    Args:
        name: A name of `TUNING_FREE`.
        job: The job. The one made can be pickled if it can.

    Raises:
        ConfigError: The name is unknown, the optimizer's package is missing, or the job cannot be built.
        DatasetError: The job's data cannot be loaded.
    """
    kind = require_tuning_free(name)
    own = job.build()
    return replace(
        own,
        optimizer=partial(_build, name, replace(own, then=())),
        start={k: value for k, value in own.start.items() if k not in OWNED},
        fixed=tuple(dict.fromkeys((*own.fixed, *kind.fixed))),
        then=tuple(replace(phase, job=partial(_next_job, name, phase.job)) for phase in own.then),
    )


def _next_job(name: str, make: Callable[[nn.Module], TrainingJob], trained: nn.Module) -> TrainingJob:
    job = make(trained)
    return tuning_free(name, job) if isinstance(job, TrainingJob) else job  # which the episode complains of


def _build(name: str, job: TrainingJob, parameters: Iterable[nn.Parameter]) -> Optimizer:
    own = job.build_optimizer(nn.ParameterList(parameters))
    Trainee(own).write({k: value for k, value in job.start.items() if k in OWNED})
    return TUNING_FREE[name].make(own)


def schedule_free(own: Optimizer) -> Optimizer:
    """Schedule-Free SGD, or AdamW, at the job's learning rate.

    Defazio et al., 2024, "The Road Less Scheduled". β, which interpolates between the two sets of weights, is
    the job's momentum μ; it does not lengthen steps as a heavy ball does, so SGD's learning rate becomes
    lr / (1 - μ). Weight decay is decoupled, as the authors have it. Batch normalization keeps the statistics
    of the weights that are trained.

    Args:
        own: The job's optimizer.

    Raises:
        ConfigError: The package schedulefree is missing.
    """
    package = _package("schedulefree")
    if isinstance(own, torch.optim.SGD):
        return _made(package.SGDScheduleFree, own, momentum=_momentum, lr=_step)
    return _made(package.AdamWScheduleFree, own, betas=_betas)


def prodigy(own: Optimizer) -> Optimizer:
    """Prodigy, an Adam that estimates its learning rate: the job's has no influence.

    Mishchenko & Defazio, 2024, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", as its package
    has it, with decoupled weight decay, and Adam's bias correction, which gained on all train splits tried.

    Args:
        own: The job's optimizer.

    Raises:
        ConfigError: The package prodigyopt is missing.
    """
    make = partial(_package("prodigyopt").Prodigy, use_bias_correction=True)
    return _made(make, own, betas=_betas, lr=lambda _: 1.0)


def hypergradient(own: Optimizer) -> Optimizer:
    """SGD, or Adam, whose learning rate descends its own gradient, from the job's learning rate on.

    It moves by the multiplicative rule, for which one `hypergrad_lr` serves all jobs (`HYPERGRAD_LR`); the
    additive rule's would have to be tuned to the scale of each job's gradients. See
    `rl_tuner.envs.hypergradient`.

    Args:
        own: The job's optimizer.
    """
    if isinstance(own, torch.optim.SGD):
        return _made(
            partial(SGDHD, hypergrad_lr=HYPERGRAD_LR),
            own,
            momentum=lambda g: g["momentum"],
            nesterov=lambda g: g["nesterov"],
        )
    return _made(
        partial(AdamHD, hypergrad_lr=HYPERGRAD_LR),
        own,
        betas=lambda g: g.get("betas") or _betas(g),
        decoupled_weight_decay=lambda g: bool(g.get("decoupled_weight_decay")),
    )


TUNING_FREE: dict[str, TuningFree] = {
    "schedulefree": TuningFree(
        schedule_free, ("momentum",), "schedulefree", "Schedule-Free SGD or AdamW at the job's lr"
    ),
    "prodigy": TuningFree(prodigy, ("lr",), "prodigyopt", "Prodigy, an Adam that estimates its lr"),
    "hypergradient": TuningFree(hypergradient, ("lr",), "", "SGD or Adam whose lr descends its own gradient"),
}
"""Tuning-free optimizers by name."""


def _made(
    make: Callable[[Groups], Optimizer], own: Optimizer, **options: Callable[[dict[str, Any]], Any]
) -> Optimizer:
    """An optimizer over the groups of another one, with its learning rates, weight decays and what is named.

    Args:
        make: Its class.
        own: The other one.
        options: What to set of a group of the other one, by name.
    """
    scale = _scale(own)
    groups = []
    for group in own.param_groups:
        values = {"lr": float(group["lr"]) * scale, "weight_decay": float(group.get("weight_decay", 0.0))}
        values.update({name: value(group) for name, value in options.items()})
        groups.append({"params": group["params"], **values})
    return make(groups)


def _scale(own: Optimizer) -> float:
    """What makes a learning rate of this optimizer one of Adam's (of SGD's, where it is SGD)."""
    name = next((name for kind, name in RESCALED.items() if isinstance(own, kind)), "adam")
    return SANE_LR["adam"] / SANE_LR[name]


def _momentum(group: dict[str, Any]) -> float:
    """A group's momentum or β1, above 0."""
    momentum = group["betas"][0] if "betas" in group else group.get("momentum")
    return float(momentum or BETA1)


def _step(group: dict[str, Any]) -> float:
    """The learning rate of SGD without momentum that goes as far in the long run: lr / (1 - μ)."""
    return float(group["lr"]) / (1 - float(group["momentum"]))


def _betas(group: dict[str, Any]) -> tuple[float, float]:
    """Adam's betas with a group's momentum."""
    return _momentum(group), float(group["betas"][1]) if "betas" in group else 0.999


def require_tuning_free(name: str) -> TuningFree:
    """The tuning-free optimizer of that name, if it can be made here.

    Raises:
        ConfigError: The name is unknown, or the optimizer's package is missing.
    """
    kind = TUNING_FREE[choose("tuning-free optimizer", name, TUNING_FREE)]
    if kind.package:
        _package(kind.package)
    return kind


def _package(name: str) -> Any:
    """An optional package.

    Raises:
        ConfigError: It is missing.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"this optimizer needs the package {name}: pip install rl-tuner[optim]") from error
