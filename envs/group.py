"""The jobs of one architecture, trained side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rl_tuner.envs.arena import Arena, Lease
from rl_tuner.envs.measures import MEASURED
from rl_tuner.envs.plan import Work, make_plan
from rl_tuner.envs.programs import Programs, Uniform
from rl_tuner.envs.rounds import Run
from rl_tuner.envs.row_losses import ROW_LOSSES
from rl_tuner.envs.rows import Rows
from rl_tuner.envs.stacked import StackedModel, dropout_layers
from rl_tuner.envs.uniform import UniformRun
from rl_tuner.envs.update_rules import UpdateRule
from rl_tuner.history import Interval

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MOST_WEIGHTS = 320_000
"""Parameters of all jobs in one program on a CPU: more leave its caches (measured on the bench's models)."""
LEAST_JOBS = 8
"""Jobs that a program may hold however large they are: calls are shared at least."""
EVALUATION_SAMPLES, EVALUATION_NUMBERS = 8192, 1 << 19
"""Samples evaluated in one pass over all jobs at most, and numbers of input: more leave the processor's
caches."""
TOKEN_NUMBERS = 32
"""What a token counts for: it becomes a vector at once."""


class Group:
    """Trains jobs of one architecture, loss and kind of data, a row each.

    Args:
        model: The architecture, on the device.
        loss: A name of `ROW_LOSSES`.
        arena: Where the samples are.
        rules: The optimizers' rules by number; the list may grow.
        device: Where the tensors are.
        uniform: Run in programs of static shapes, of these sizes; None: in rounds.
        averaging: Whether averages of the weights are kept.

    Attributes:
        rows: What each job's training changes.
        loss: The loss by rows.
    """

    def __init__(
        self,
        model: StackedModel,
        loss: str,
        arena: Arena,
        rules: Sequence[UpdateRule],
        device: torch.device,
        uniform: Uniform | None = None,
        averaging: bool = False,
    ) -> None:
        self.model, self.arena, self.rules = model, arena, rules
        self.rows = Rows(model.width, model.dropouts, model.dtype, device, averaging)
        self.loss = ROW_LOSSES[loss]
        self._device = device
        self._programs = None
        if uniform is not None:
            self._programs = Programs(model, self.loss, rules, uniform, averaging)

    def train(self, works: Sequence[Work]) -> tuple[Ints, Interval]:
        """Trains some rows until their next decisions.

        Returns:
            The rows in the order of the interval's arrays, and the interval (validation not measured).
        """
        if self._programs is not None:
            uniform = UniformRun(self._programs, self.arena, self.rows, works)
            return uniform.index, uniform.play()
        many = self._most_jobs(len(works))
        if len(works) > many:  # those with most updates together
            works = sorted(works, key=lambda work: -work.updates)
        rows, intervals = [], []
        for first in range(0, len(works), many):
            plan = make_plan(works[first : first + many])
            run = Run(self.model, self.loss, self.arena, self.rules, self.rows, plan)
            rows.append(run.index)
            intervals.append(run.play())
        return np.concatenate(rows), _joined(intervals)

    def _most_jobs(self, jobs: int) -> int:
        """How many jobs a program should hold, so that all programs hold about as many."""
        if self._device.type != "cpu":
            return jobs
        fitting = max(LEAST_JOBS, MOST_WEIGHTS // self.model.width)
        return -(-jobs // -(-jobs // fitting))

    def mean_losses(self, rows: Sequence[int], leases: Sequence[Lease], weights: str = "theta") -> Floats:
        """Mean loss of each row's weights over its pool, in evaluation mode; shape (len(rows),).

        Args:
            rows: Which rows.
            leases: Their pools.
            weights: Which of their weights: "theta", the present ones, or `rl_tuner.envs.rows.AVERAGE`.
        """
        losses = np.empty(len(rows))
        for part in _passes(np.array([len(lease) for lease in leases]), self._evaluated):
            theta = self.rows.tensors[weights].index_select(0, self.rows.index([rows[i] for i in part]))
            losses[part] = self._mean_losses(theta, [leases[i] for i in part])
        return losses

    @torch.no_grad()
    def _mean_losses(self, theta: torch.Tensor, leases: Sequence[Lease]) -> Floats:
        """`mean_losses` over pools of similar length, a stretch of each at a time."""
        views = self.model.views(theta)
        places, filled = self.arena.everything(leases)
        weights = torch.from_numpy(filled / filled.sum(1, keepdims=True)).to(views[0])
        index = torch.from_numpy(places).to(self._device)
        total = torch.zeros(len(theta), dtype=torch.float64, device=self._device)
        step = max(1, self._evaluated // len(theta))
        for stretch, weight in zip(torch.split(index, step, 1), torch.split(weights, step, 1), strict=True):
            inputs, targets = self.arena.gather(stretch.contiguous())
            total += self.loss(self.model.forward(views, inputs, None), targets, weight)[0]
        losses: Floats = total.cpu().numpy()
        return losses

    @property
    def _evaluated(self) -> int:
        """Samples that one pass evaluates."""
        if self._device.type != "cpu":
            return EVALUATION_SAMPLES
        inputs = self.arena.inputs
        numbers = inputs.shape[1:].numel() * (1 if inputs.is_floating_point() else TOKEN_NUMBERS)
        return max(1, min(EVALUATION_SAMPLES, EVALUATION_NUMBERS // max(1, numbers)))

    def module(self, row: int) -> nn.Module:
        """A copy of a row's network, on the group's device."""
        module = self.model.module(self.rows.tensors["theta"][row])
        for layer, rate in zip(dropout_layers(module), self.rows.rates([row])[0], strict=True):
            cast("nn.Dropout", layer).p = float(rate)
        return module


def _passes(lengths: Ints, samples: int) -> Iterator[Ints]:
    """Which pools to evaluate together: as many as fit one pass, none less than half as long as another."""
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        longest = lengths[order[0]]
        many = max(1, samples // int(longest))
        many = int((2 * lengths[order[:many]] >= longest).sum())
        yield order[:many]
        order = order[many:]


def _joined(intervals: Sequence[Interval]) -> Interval:
    """The arrays of several intervals, end to end."""
    if len(intervals) == 1:
        return intervals[0]
    return replace(
        intervals[0],
        **{name: np.concatenate([getattr(i, name) for i in intervals]) for name in MEASURED},
    )
