"""The second way of running a group: chunks of jobs in a program of static shapes, which can be compiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rl_tuner.averaging import newest_share
from rl_tuner.envs.arena import Arena
from rl_tuner.envs.block import BlockInputs, BlockOutputs, BlockState
from rl_tuner.envs.dropout import update_keys
from rl_tuner.envs.measures import measure, norms
from rl_tuner.envs.plan import Work
from rl_tuner.envs.programs import Programs
from rl_tuner.envs.regularizers import stacked_columns, used_in
from rl_tuner.envs.row_settings import Hyperparameters
from rl_tuner.envs.rows import AVERAGE, STATE, Rows
from rl_tuner.envs.ticks import Chunk, in_order, make_chunks
from rl_tuner.history import Interval

Tensor = torch.Tensor


class UniformRun:
    """One interval of some jobs, as `rl_tuner.envs.rounds.Run`, with the same results to rounding.

    Args:
        programs: Of their group.
        arena: Where their samples are.
        rows: Their storage.
        works: What each is to do.

    Attributes:
        index: Their rows, in the order of what `play` returns.
    """

    def __init__(self, programs: Programs, arena: Arena, rows: Rows, works: Sequence[Work]) -> None:
        self._programs, self._arena, self._rows = programs, arena, rows
        sizes = programs.uniform
        works = in_order(works, sizes.micro_batch)
        self._chunks = make_chunks(works, sizes.micro_batch, sizes.capacity, sizes.unrolled)
        self.index = np.array([work.row for work in works])
        self._updates = np.array([work.updates for work in works])
        # Places without a job repeat the last one: whatever they hold is sound, and is thrown away.
        spare = sizes.capacity * len(self._chunks) - len(works)
        self._all = np.concatenate([self.index, np.repeat(self.index[-1:], spare)])
        self._kinds = rows.kinds[self._all]
        place = rows.index(self._all)
        self._theta, self._first, self._second, self._steps = (
            rows.tensors[name].index_select(0, place) for name in STATE
        )
        self._average = rows.tensors[AVERAGE].index_select(0, place) if rows.averaging else None
        self._device = self._theta.device
        self._settings = {name: values[self._all] for name, values in rows.settings.items()}
        self._rates = torch.from_numpy(rows.rates(self._all)).to(self._theta)
        self._regularizers = stacked_columns(self._settings, self._theta)
        programs.admit(self._kinds.tolist(), used_in(self._settings))
        self._losses = np.zeros((int(self._updates.max()), len(works)))
        self._norms: list[list[Tensor]] = []
        self._room: tuple[Tensor, Tensor] | None = None

    def play(self) -> Interval:
        """Trains, writes the state back, and returns what was measured; arrays in the order of `index`."""
        paces, columns = self._columns()
        for chunk in self._chunks:
            self._play(chunk, paces, columns)
        n, place = len(self.index), self._rows.index(self.index)
        self._steps[:n] += torch.from_numpy(self._updates).to(self._steps)[:, None]
        for name, packed in zip(STATE, (self._theta, self._first, self._second, self._steps), strict=True):
            self._rows.tensors[name].index_copy_(0, place, packed[:n])
        if self._average is not None:
            self._rows.tensors[AVERAGE].index_copy_(0, place, self._average[:n])
        self._rows.drawn[self.index] += self._updates
        found = (torch.cat(kind)[:n].double().cpu().numpy() for kind in zip(*self._norms, strict=True))
        return measure(self._losses, self._updates, *found)

    def _columns(self) -> tuple[Tensor, Tensor]:
        """Coefficients of all rules and jobs: (updates, R, 2, N) that change and (R, 4, N, 1) that do not."""
        lr, decay, momentum = (self._settings[name] for name in ("lr", "weight_decay", "momentum"))
        hyperparameters = Hyperparameters.of(lr, decay, momentum, self._device)
        paces, columns = [], []
        for kind in self._programs.kinds:
            rule = self._programs.rules[kind]
            each = rule.columns(self._steps, hyperparameters, len(self._losses), self._theta.dtype)
            some = each[0]
            pace = [torch.stack([c.lr for c in each]), torch.stack([c.eps for c in each])]
            paces.append(torch.stack(pace, 1).squeeze(-1))
            columns.append(torch.stack([some.decay, some.momentum, some.blend, some.moving]))
        return torch.stack(paces, 1), torch.stack(columns)

    def _play(self, chunk: Chunk, paces: Tensor, columns: Tensor) -> None:
        """Trains a chunk of jobs."""
        sizes, capacity = self._programs.uniform, self._programs.uniform.capacity
        here = slice(chunk.first, chunk.first + capacity)
        theta, first, second = self._theta[here], self._first[here], self._second[here]
        gradient = torch.zeros_like(theta) if chunk.accumulates else theta.new_zeros(())
        average = theta.new_zeros(()) if self._average is None else self._average[here]
        state = BlockState(theta, first, second, gradient, average)
        given = self._tensors(chunk, here, paces)
        # A compiled program takes one layout only.
        columns, regularizers = columns[:, :, here].contiguous(), self._regularizers[:, here].contiguous()
        places = torch.from_numpy(chunk.places).to(self._device)
        told = []
        for tick in range(0, len(places), sizes.unrolled):
            now = slice(tick, tick + sizes.unrolled)
            inputs, targets = self._gather(places[now])
            counts, whole, starts, updates, pace, keys, offsets, shares = (tensor[now] for tensor in given)
            ticks = (inputs, targets, counts, whole, starts, updates, pace)
            data = BlockInputs(*ticks, columns, keys, offsets, self._rates[here], regularizers, shares)
            program = self._programs.find(chunk.accumulates, (*state, *data))
            outputs = BlockOutputs(*program(*state, *data))
            told.append(outputs.losses)
        change = theta - outputs.before
        self._norms.append(
            [norms(matrix, self._programs.model.sizes) for matrix in (outputs.gradient, change, theta)]
        )
        self._note(chunk, torch.cat(told))

    def _gather(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """The samples of a block, always in the same memory: a fresh piece of it costs as much again."""
        if self._room is None:
            self._room = self._arena.gather(places)
        else:
            for room, samples in zip(self._room, (self._arena.inputs, self._arena.targets), strict=True):
                torch.index_select(samples, 0, places.view(-1), out=room.view(-1, *samples.shape[1:]))
        return self._room

    def _tensors(self, chunk: Chunk, here: slice, paces: Tensor) -> list[Tensor]:
        """What `BlockInputs` wants of the ticks besides samples, all ticks at once, in its order."""
        kinds = np.array(self._programs.kinds)
        updates = chunk.ends[:, None] & (self._kinds[here] == kinds[:, None])
        number = torch.from_numpy(chunk.updates).to(self._device)[:, None, None]
        found = paces[..., here].gather(0, number.expand(-1, *paces.shape[1:3], -1))
        keys = np.zeros(chunk.updates.shape, np.int32)
        if "dropout" in self._programs.uses:
            rows = self._all[here]
            keys = update_keys(self._rows.seeds[rows], self._rows.drawn[rows] + chunk.updates)
        columns = (
            torch.from_numpy(chunk.counts).to(self._theta),
            torch.from_numpy(chunk.sizes).to(self._theta),
            torch.from_numpy(chunk.starts).to(self._device),
            torch.from_numpy(updates).to(self._device),
            found,
            torch.from_numpy(chunk.offsets.astype(np.int32)).to(self._device),
        )
        counts, sizes, starts, updated, found, offsets = (column.unsqueeze(-1) for column in columns)
        found_keys = torch.from_numpy(keys).to(self._device)
        return [counts, sizes, starts, updated, found, found_keys, offsets, self._shares(chunk, here)]

    def _shares(self, chunk: Chunk, here: slice) -> Tensor:
        """How much the weights after each tick count in their average, (T, C, 1); unused without averages."""
        if self._average is None:
            return self._theta.new_zeros((len(chunk.ends), 1, 1))
        steps = self._steps[here].T + torch.from_numpy(chunk.updates + 1).to(self._steps)
        ends = torch.from_numpy(chunk.ends).to(self._device)
        return torch.where(ends, newest_share(steps), 0.0).to(self._theta).unsqueeze(-1)

    def _note(self, chunk: Chunk, losses: Tensor) -> None:
        """Adds the ticks' losses up to those of the jobs' updates; each job's last one is in the last row."""
        jobs = np.arange(chunk.first, chunk.first + chunk.jobs)
        number = chunk.updates[:, : chunk.jobs] + len(self._losses) - self._updates[jobs]
        real = chunk.counts[:, : chunk.jobs] > 0
        where = number[real], np.broadcast_to(jobs, number.shape)[real]
        np.add.at(self._losses, where, losses[:, : chunk.jobs].double().cpu().numpy()[real])
