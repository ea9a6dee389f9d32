"""The inner loop of the batched engine: rounds of updates over a packed copy of the jobs' state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rl_tuner.averaging import newest_share
from rl_tuner.envs.arena import Arena
from rl_tuner.envs.dropout import Drop, Masks, update_keys
from rl_tuner.envs.measures import measure, norms
from rl_tuner.envs.plan import MOST_ROUNDS, Phase, Plan
from rl_tuner.envs.regularizers import RowRegularizers, stacked_columns, used_in
from rl_tuner.envs.row_losses import RowLoss, smoothed
from rl_tuner.envs.row_settings import Columns, Hyperparameters
from rl_tuner.envs.rows import AVERAGE, STATE, Rows
from rl_tuner.envs.stacked import StackedModel
from rl_tuner.envs.update_rules import UpdateRule
from rl_tuner.history import Interval

_CHUNK = 1 << 19
"""Numbers of input, or of a dropout mask, gathered at once: about what a processor's cache holds."""
_LIKELY_UNITS = 64


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """A phase's tensors, n jobs on R rows.

    Attributes:
        jobs: n.
        places: See `Phase.places`.
        weights: See `Phase.weights`.
        theta: Weights of each row, (R, P): part of the run's own, or a copy renewed in each round.
        leaves: See `StackedModel.leaves`.
        loss: The loss of the rows, labels smoothed where some row's are.
        regularizers: Those of the n jobs; None if there are none.
        source: Position of each row's job; None where theta is part of the run's.
        extra: Owners of the rows beyond the first n; None if there are none.
        room: Where the rows' gradients are put together, (R, P).
        updates: What updates the jobs of each rule, given the gradients and the round.
        averagers: What takes the new weights of each rule's jobs into their averages, given the round.
    """

    jobs: int
    places: torch.Tensor
    weights: torch.Tensor
    theta: torch.Tensor
    leaves: list[torch.Tensor]
    loss: RowLoss
    regularizers: RowRegularizers | None
    source: torch.Tensor | None
    extra: torch.Tensor | None
    room: torch.Tensor
    updates: list[Callable[[torch.Tensor, int], None]]
    averagers: list[Callable[[int], object]]


class Run:
    """One interval of some jobs: their state packed in the plan's order, trained, and written back.

    Args:
        model: Their architecture.
        loss: Their loss.
        arena: Where their samples are.
        rules: Optimizers' rules by number.
        rows: Their storage.
        plan: Who trains when.

    Attributes:
        index: Their rows, in the plan's order.
    """

    def __init__(
        self,
        model: StackedModel,
        loss: RowLoss,
        arena: Arena,
        rules: Sequence[UpdateRule],
        rows: Rows,
        plan: Plan,
    ) -> None:
        self._model, self._loss, self._arena, self._rules = model, loss, arena, rules
        self._rows, self._plan = rows, plan
        self.index = np.array([work.row for work in plan.works])
        self._place = rows.index(self.index)
        self._theta, self._first, self._second, self._steps = (
            rows.tensors[name].index_select(0, self._place) for name in STATE
        )
        self._average = rows.tensors[AVERAGE].index_select(0, self._place) if rows.averaging else None
        self._device = self._theta.device
        self._settings = {name: values[self.index] for name, values in rows.settings.items()}
        self._scratch, self._scratch2 = torch.empty_like(self._theta), torch.empty_like(self._theta)
        self._room = torch.empty_like(self._theta)
        self._losses = np.empty((plan.rounds, len(self.index)))
        self._norms: list[torch.Tensor] = []
        self._columns: dict[int, list[Columns]] = {}
        self._used = used_in(self._settings)
        self._drops = "dropout" in self._used
        self._regularizers = stacked_columns(self._settings, self._theta)
        self._rates = torch.from_numpy(rows.rates(self.index)).to(self._theta)

    def play(self) -> Interval:
        """Trains, writes the state back, and returns what was measured; arrays in the plan's order."""
        for phase in self._plan.phases:
            self._play(phase)
        self._steps += torch.from_numpy(self._plan.updates).to(self._steps)[:, None]
        for name, packed in zip(STATE, (self._theta, self._first, self._second, self._steps), strict=True):
            self._rows.tensors[name].index_copy_(0, self._place, packed)
        if self._average is not None:
            self._rows.tensors[AVERAGE].index_copy_(0, self._place, self._average)
        self._rows.drawn[self.index] += self._plan.updates
        gradients, changes, weights = torch.stack(self._norms).double().cpu().numpy()
        return measure(self._losses, self._plan.updates, gradients, changes, weights)

    def _play(self, phase: Phase) -> None:
        """Trains through a phase, a few rounds' samples and dropout masks at a time."""
        stage = self._stage(phase)
        rows, m = phase.places.shape[1:]
        width = max(self._arena.inputs.shape[1:].numel(), _LIKELY_UNITS if self._drops else 1)
        together = max(1, _CHUNK // (rows * m * width))
        losses = []
        for first in range(0, phase.rounds, together):
            part = slice(first, first + together)
            samples = zip(*(t.unbind() for t in self._arena.gather(stage.places[part])), strict=True)
            drops = self._drop(phase, part)
            for number, sample in enumerate(samples):
                loss, gradient = self._gradient(stage, sample, drops[number] if drops else None)
                losses.append(loss)
                measured = phase.first + first + number == self._plan.rounds - 1
                before = self._theta.clone() if measured else None
                for update in stage.updates:
                    update(gradient, first + number)
                for average in stage.averagers:
                    average(first + number)
                if before is not None:
                    self._measure(gradient, before)
        filled = slice(phase.first, phase.first + phase.rounds)
        self._losses[filled, phase.jobs] = torch.stack(losses).double().cpu().numpy()

    def _stage(self, phase: Phase) -> _Stage:
        """Prepares a phase's tensors."""
        n, owner = len(phase.jobs), phase.owner
        since = phase.first % MOST_ROUNDS
        if not since:
            self._plan_columns(phase.first)
        # One optimizer's jobs, a row each, stand together: the weights need no copy.
        alone = len(phase.segments) == 1 and len(owner) == n
        source = None if alone else torch.from_numpy(phase.jobs[owner]).to(self._device)
        width = self._theta.shape[1]
        if alone:
            _, first, end, *_ = phase.segments[0]
            theta = self._theta[first:end]
        else:
            theta = self._theta.new_empty((len(owner), width))
        fits = len(owner) <= len(self._room)
        loss, regularizers = self._regularizing(torch.from_numpy(phase.jobs), torch.from_numpy(owner))
        return _Stage(
            jobs=n,
            places=torch.from_numpy(phase.places).to(self._device),
            weights=torch.from_numpy(phase.weights).to(self._theta),
            theta=theta,
            leaves=self._model.leaves(theta),
            loss=loss,
            regularizers=regularizers,
            source=source,
            extra=torch.from_numpy(owner[n:]).to(self._device) if len(owner) > n else None,
            room=self._room[: len(owner)] if fits else torch.empty_like(theta),
            updates=[self._updater(*segment, since, phase.rounds) for segment in phase.segments],
            averagers=self._averagers(phase),
        )

    def _regularizing(
        self, jobs: torch.Tensor, owner: torch.Tensor
    ) -> tuple[RowLoss, RowRegularizers | None]:
        """The loss of a phase's rows, and the regularizers of its jobs."""
        if self._used <= {"dropout"}:
            return self._loss, None
        columns = self._regularizers.index_select(1, jobs.to(self._device))
        found = RowRegularizers.of(columns, self._used)
        if found.label_smoothing is None:
            return self._loss, found
        return smoothed(found.label_smoothing.index_select(0, owner.to(self._device))), found

    def _gradient(
        self, stage: _Stage, samples: tuple[torch.Tensor, torch.Tensor], drop: Drop | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss (n,) and gradient (n, P) of the jobs that take part, each on its own batch."""
        n = stage.jobs
        if stage.source is not None:
            torch.index_select(self._theta, 0, stage.source, out=stage.theta)
        loss, gradient = self._model.gradient(
            stage.leaves, stage.loss, samples, stage.weights, drop, stage.room
        )
        if stage.extra is not None:
            loss = loss[:n].index_add(0, stage.extra, loss[n:])
            gradient = gradient[:n].index_add_(0, stage.extra, gradient[n:])
        if stage.regularizers is not None:
            stage.regularizers.apply(gradient, stage.theta[:n], self._scratch[:n])
        return loss, gradient

    def _updater(
        self, rule: int, first: int, end: int, start: int, stop: int, since: int, rounds: int
    ) -> Callable[[torch.Tensor, int], None]:
        """What updates the jobs of one rule in a phase, given all jobs' gradients and the round."""
        part = slice(first, end)
        columns = Columns.first_rows(self._columns[rule][since : since + rounds], end - first)
        theta, state = self._theta[part], (self._first[part], self._second[part])
        scratch, apply = (self._scratch[part], self._scratch2[part]), self._rules[rule].apply

        def update(gradient: torch.Tensor, number: int) -> None:
            apply(theta, gradient[start:stop], *state, columns[number], scratch)

        return update

    def _averagers(self, phase: Phase) -> list[Callable[[int], object]]:
        """What takes weights into their averages in a phase, given the round; empty without averages."""
        if self._average is None:
            return []
        plan, found = self._plan, []
        rounds = torch.arange(1, phase.rounds + 1).to(self._steps)[:, None, None]
        for _, first, end, *_ in phase.segments:
            part = slice(first, end)
            done = torch.from_numpy(phase.first - (plan.rounds - plan.updates[part])).to(self._steps)
            shares = newest_share(self._steps[part] + done[:, None] + rounds).to(self._theta)
            found.append(_averager(self._average[part], self._theta[part], shares))
        return found

    def _plan_columns(self, first: int) -> None:
        """Works out each rule's coefficients in the rounds from `first` on, as many as a phase can have.

        Those of rounds before a job joined are never read.
        """
        plan = self._plan
        rounds = min(MOST_ROUNDS, plan.rounds - first)
        done = torch.from_numpy(first - (plan.rounds - plan.updates)).to(self._steps)[:, None]
        for rule, start, end, *_ in plan.phases[-1].segments:
            part = slice(start, end)
            lr, decay, momentum = (self._settings[name][part] for name in ("lr", "weight_decay", "momentum"))
            settings = Hyperparameters.of(lr, decay, momentum, self._device)
            steps = self._steps[part] + done[part]
            self._columns[rule] = self._rules[rule].columns(steps, settings, rounds, self._theta.dtype)

    def _measure(self, gradient: torch.Tensor, before: torch.Tensor) -> None:
        """Notes the norms of the last update; `before` holds the weights as they were, and is overwritten."""
        sizes = self._model.sizes
        torch.sub(self._theta, before, out=before)
        self._norms = [norms(matrix, sizes) for matrix in (gradient, before, self._theta)]

    def _drop(self, phase: Phase, part: slice) -> list[Drop]:
        """What the dropout layers need in some of a phase's rounds; empty if nothing is dropped."""
        if not self._drops:
            return []
        rows, plan = self._rows, self._plan
        jobs = phase.jobs[phase.owner]
        index = self.index[jobs]
        # The number of each job's update in a round, counted over its whole life.
        joined = plan.rounds - plan.updates[jobs]
        rounds = np.arange(phase.rounds)[part, None] + phase.first
        keys = update_keys(rows.seeds[index], rows.drawn[index] + rounds - joined)
        within = torch.from_numpy(phase.within.astype(np.int32)).to(self._device)
        rates = self._rates.index_select(0, torch.from_numpy(jobs).to(self._device))
        return Masks.of(rates, torch.from_numpy(keys).to(self._device), within).rounds()


def _averager(average: torch.Tensor, theta: torch.Tensor, shares: torch.Tensor) -> Callable[[int], object]:
    """What takes weights (n, P) into their average, by their shares of it in each round, (rounds, n, 1)."""
    return lambda number: average.lerp_(theta, shares[number])
