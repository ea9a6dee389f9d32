"""Finds each job of a batched engine its place: the group of its architecture, a row there, its samples."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import nn

from rl_tuner.envs.arena import CPU, Arena
from rl_tuner.envs.data import TensorPool
from rl_tuner.envs.engine import make_sampler
from rl_tuner.envs.group import Group
from rl_tuner.envs.jobs import TrainingJob
from rl_tuner.envs.losses import LOSSES, require_probabilities
from rl_tuner.envs.programs import Uniform
from rl_tuner.envs.row_losses import ROW_LOSSES
from rl_tuner.envs.sample_cache import JobSamples, NotBatchedError, SampleCache
from rl_tuner.envs.seats import BatchedSeat
from rl_tuner.envs.stacked import StackedModel, dropout_layers, signature
from rl_tuner.envs.torch_rules import rule_of
from rl_tuner.envs.update_rules import UpdateRule
from rl_tuner.errors import JobError
from rl_tuner.seeding import Streams
from rl_tuner.trainee import Trainee

IDLE = 16
"""So many groups without a job are kept for jobs to come."""
REFUSED = 64
"""So many architectures are remembered as ones that cannot be batched."""
MOST_RULES = 64
"""So many different update rules are numbered; each stays for as long as the allocator does."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A group, and the network it was made for: its signature may name objects that it holds."""

    group: Group
    model: nn.Module
    classes: float


class Allocator:
    """Groups, and what their jobs share: rules of optimizers, pools and arenas of samples.

    A job can be batched if its loss is one of `LOSSES`, its data are tensors or arrays, its optimizer has an
    update rule (`rule_of`), and its network can be stacked (`StackedModel`, `StackedModel.check`).

    What nobody uses any more is kept for a while, and bounded in number.

    Args:
        slots: The most jobs at a time.
        device: Where the groups' tensors are.
        uniform: How the groups run: see `Group`.
        averaging: Whether averages of the weights are kept.
        tested: Whether test samples are held beside those of validation.
    """

    def __init__(
        self,
        slots: int,
        device: torch.device,
        uniform: Uniform | None = None,
        averaging: bool = False,
        tested: bool = False,
    ) -> None:
        self.device = device
        self._uniform, self._averaging, self._tested = uniform, averaging, tested
        self._groups: dict[Hashable, _Entry] = {}
        self._arenas: WeakValueDictionary[Hashable, Arena] = WeakValueDictionary()
        self._rules: list[UpdateRule] = []
        self._samples = SampleCache((3 if tested else 2) * slots + IDLE)  # splits in use, and some
        self._refused: dict[Hashable, str] = {}

    @property
    def groups(self) -> list[Group]:
        """All groups, those without a job included."""
        return [entry.group for entry in self._groups.values()]

    def place(self, job: TrainingJob, streams: Streams) -> BatchedSeat:
        """A seat for a job that has not trained yet.

        Args:
            job: What to train.
            streams: Seeds of initial weights, batch order and dropout.

        Raises:
            NotBatchedError: The job cannot be batched.
            JobError, ConfigError, DatasetError: The job cannot be built.
        """
        loss = job.loss_name
        if loss is None:
            raise NotBatchedError("its loss is its own")
        train, validation, test = self._find_samples(job)
        if loss == "bce":
            require_probabilities(*train.targets)
        model = job.build_model(streams.seed_of("init"))
        if torch.device(job.device) != CPU:
            model = model.to(CPU)
        optimizer = job.build_optimizer(model)
        rule = _require_rule(optimizer, model)
        rates = np.array([layer.p for layer in dropout_layers(model)])
        if (rates >= 1).any():
            raise NotBatchedError("it has a dropout rate of 1")
        group = self._group(model, loss, [s for s in (train, validation, test) if s is not None])
        sampler, budget = make_sampler(job, len(train.pool), streams)
        trainee = Trainee(optimizer, model, sampler, job.regularizers)
        trainee.write(dict(job.start))
        start, usual = trainee.read(), trainee.usual_lr()
        row = group.rows.take(
            group.model.row(model),
            start,
            kind=self._number(rule),
            second=rule.second_start,
            ratios=rates / rates.max() if rates.any() else np.ones_like(rates),
            seed=streams.seed_of("dropout"),
        )
        arena = group.arena
        return BatchedSeat(
            job,
            start,
            usual,
            budget,
            group,
            row,
            sampler,
            train=arena.take(train.pool),
            validation=None if validation is None else arena.take(validation.pool),
            test=None if test is None else arena.take(test.pool),
            streams=streams,
            second_start=rule.second_start,
        )

    def _find_samples(self, job: TrainingJob) -> tuple[JobSamples, JobSamples | None, JobSamples | None]:
        """A job's train, validation and test samples; the last only where they are measured."""
        train, validation = self._samples.find(job, "train"), self._samples.find(job, "validation")
        if train is None:
            raise JobError("a job needs training samples")
        test = self._samples.find(job, "test") if self._tested else None
        for name, samples in (("validation", validation), ("test", test)):
            if samples is not None and samples.kind != train.kind:
                raise NotBatchedError(
                    f"its {name} samples have another shape or type than those it trains on"
                )
        return train, validation, test

    def _number(self, rule: UpdateRule) -> int:
        if rule not in self._rules:
            if len(self._rules) >= MOST_RULES:
                raise NotBatchedError(f"more than {MOST_RULES} different optimizers' settings were seen")
            self._rules.append(rule)
        return self._rules.index(rule)

    def _group(self, model: nn.Module, loss: str, splits: list[JobSamples]) -> Group:
        """The group of an architecture and a loss."""
        key = (signature(model), loss, splits[0].kind)
        if key in self._refused:
            raise NotBatchedError(self._refused[key])
        entry = self._groups.get(key)
        if entry is None:
            entry = self._make_group(key, model, loss, splits[0])
        if loss == "cross_entropy":
            for samples in splits:
                samples.require_classes(entry.classes)
        return entry.group

    def _make_group(self, key: Hashable, model: nn.Module, loss: str, samples: JobSamples) -> _Entry:
        pool = samples.pool
        few = TensorPool(pool.inputs[:3].to(self.device), torch.zeros_like(pool.targets[:3]).to(self.device))
        there = model if self.device == CPU else copy.deepcopy(model).to(self.device)
        try:
            stacked = StackedModel(there)
            stacked.check(there, few.inputs)
            outputs = _checked_outputs(stacked, there, loss, few)
        except JobError as error:
            if len(self._refused) >= REFUSED:
                self._refused.clear()
            self._refused[key] = str(error)
            raise NotBatchedError(str(error)) from error
        self._drop_idle()
        arena = self._arenas.setdefault(samples.kind, Arena(pool, self.device))
        group = Group(stacked, loss, arena, self._rules, self.device, self._uniform, self._averaging)
        self._groups[key] = _Entry(group, model, outputs.shape[1] if outputs.ndim > 1 else 1)
        return self._groups[key]

    def _drop_idle(self) -> None:
        """Forgets the oldest groups without a job, if there are many."""
        idle = [key for key, entry in self._groups.items() if not entry.group.rows.used]
        for key in idle[: max(len(idle) - IDLE, 0)]:
            del self._groups[key]


def _require_rule(optimizer: torch.optim.Optimizer, model: nn.Module) -> UpdateRule:
    """The update rule of an optimizer of all of a model's parameters.

    Raises:
        NotBatchedError: There is none, or it leaves a parameter out.
    """
    rule = rule_of(optimizer)
    if rule is None:
        raise NotBatchedError(f"there is no update rule for its {type(optimizer).__name__}")
    owned = {id(p) for p in optimizer.param_groups[0]["params"]}
    if owned != {id(p) for p in model.parameters()}:
        raise NotBatchedError("its optimizer does not update every parameter of its model")
    return rule


def _checked_outputs(stacked: StackedModel, model: nn.Module, loss: str, pool: TensorPool) -> torch.Tensor:
    """A row's outputs on some samples, whose loss as computed by rows was found to be the plain one.

    Raises:
        JobError: It is not.
    """
    views = stacked.views(stacked.row(model)[None])
    outputs = stacked.forward(views, pool.inputs[None], None).detach()
    weights = torch.full((1, len(pool)), 1 / len(pool), dtype=outputs.dtype, device=outputs.device)
    plain = outputs[0].clone().requires_grad_()
    try:
        found, pull = ROW_LOSSES[loss](outputs, pool.targets[None], weights)
        expected = LOSSES[loss](plain, pool.targets)
        (gradient,) = torch.autograd.grad(expected, plain)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise JobError(f"its loss fails on its targets: {str(error).splitlines()[0]}") from error
    alike = ((found[0], expected), (pull[0], gradient))
    if any(a.dtype != b.dtype or not torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in alike):
        raise JobError("its loss differs when it is computed by rows")
    return plain
