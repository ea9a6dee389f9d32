"""A block: some ticks of many jobs as one function of tensors, of static shapes and without branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from rl_tuner.envs.dropout import Drop
from rl_tuner.envs.regularizers import RowRegularizers
from rl_tuner.envs.row_losses import RowLoss, smoothed
from rl_tuner.envs.row_settings import Columns, Hyperparameters
from rl_tuner.envs.stacked import StackedModel
from rl_tuner.envs.update_rules import UpdateRule

Tensor = torch.Tensor


class BlockState(NamedTuple):
    """What a block changes, in place; shapes (C, P).

    Attributes:
        theta: The parameters.
        first: The optimizers' first buffers.
        second: The second ones.
        gradient: Sums of gradients over the ticks of a batch, where some batch takes several; else unused.
        average: Averages of the weights, where such are kept; else unused.
    """

    theta: Tensor
    first: Tensor
    second: Tensor
    gradient: Tensor
    average: Tensor


STATES = len(BlockState._fields)


class BlockInputs(NamedTuple):
    """What a block reads. K ticks, C jobs, m samples a tick, R rules, L dropout layers.

    Attributes:
        inputs: Samples, shape (K, C, m, ...).
        targets: Shape (K, C, m, ...).
        counts: How many of the m samples count, shape (K, C, 1), the parameters' dtype.
        sizes: Samples of their batch, likewise.
        starts: Whether a batch starts, shape (K, C, 1), bool.
        updates: Whether a rule updates a job, shape (K, R, C, 1), bool.
        paces: `Columns.lr` and `Columns.eps` of each rule, shape (K, R, 2, C, 1).
        columns: The other columns, `decay`, `momentum`, `blend` and `moving`, shape (R, 4, C, 1).
        keys: Dropout's key of the update, shape (K, C), int32.
        offsets: Place of the first sample in its batch, shape (K, C, 1), int32.
        rates: Dropout rates, shape (C, L).
        regularizers: See `RowRegularizers.of`, shape (4, C, 1).
        shares: How much the weights after the tick count in their average, shape (K, C, 1); else unused.
    """

    inputs: Tensor
    targets: Tensor
    counts: Tensor
    sizes: Tensor
    starts: Tensor
    updates: Tensor
    paces: Tensor
    columns: Tensor
    keys: Tensor
    offsets: Tensor
    rates: Tensor
    regularizers: Tensor
    shares: Tensor


class BlockOutputs(NamedTuple):
    """What a block tells.

    Attributes:
        losses: Weighted losses of the ticks, shape (K, C): a batch's loss is the sum over its ticks.
        gradient: Gradients of the batch that the last tick ends, regularized, shape (C, P).
        before: Parameters before the last tick, shape (C, P).
    """

    losses: Tensor
    gradient: Tensor
    before: Tensor


@dataclass(frozen=True, slots=True)
class Block:
    """The function; everything that a compiler takes as fixed is a field.

    Attributes:
        model: The architecture.
        loss: The loss.
        rules: The optimizers that some job may have.
        accumulates: Whether some batch may take more than one tick.
        uses: Which of dropout and the regularizers some job may use: see `used_in`.
        averaging: Whether averages of the weights are kept.
    """

    model: StackedModel
    loss: RowLoss
    rules: tuple[UpdateRule, ...]
    accumulates: bool
    uses: frozenset[str]
    averaging: bool = False

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Runs the ticks.

        Args:
            *tensors: Those of `BlockState`, changed in place, and then those of `BlockInputs`.

        Returns:
            Those of `BlockOutputs`.
        """
        state, data = BlockState(*tensors[:STATES]), BlockInputs(*tensors[STATES:])
        regularizers = RowRegularizers.of(data.regularizers, self.uses)
        loss_function = (
            self.loss if regularizers.label_smoothing is None else smoothed(regularizers.label_smoothing)
        )
        losses, last = [], len(data.inputs) - 1
        before = state.theta
        for k in range(last + 1):
            if k == last:
                before = state.theta.clone()
            loss, gradient = self._gradient(state.theta, data, k, loss_function)
            losses.append(loss)
            if self.accumulates:
                # Chosen, not multiplied: what an idle tick left there may be no number.
                gradient = torch.where(data.starts[k], gradient, state.gradient + gradient)
                state.gradient.copy_(gradient)
            if regularizers.act:
                gradient = gradient.clone()  # what is summed up further stays the loss's
                regularizers.apply(gradient, state.theta, torch.empty_like(gradient))
            for number, rule in enumerate(self.rules):
                _update(rule, state, gradient, _columns(data, k, number), data.updates[k, number])
            if self.averaging:
                state.average.copy_(torch.lerp(state.average, state.theta, data.shares[k]))
        return torch.stack(losses), gradient, before

    def _gradient(self, theta: Tensor, data: BlockInputs, k: int, loss: RowLoss) -> tuple[Tensor, Tensor]:
        """Losses (C,) and gradients (C, P) of a tick."""
        drop = None
        place = torch.arange(data.targets.shape[2], dtype=torch.int32, device=theta.device)
        if "dropout" in self.uses:
            drop = Drop.of(data.rates, data.keys[k], data.offsets[k] + place)
        weights = torch.where(place < data.counts[k], 1 / data.sizes[k], 0.0)
        with torch.enable_grad():
            samples = data.inputs[k], data.targets[k]
            return self.model.gradient(self.model.leaves(theta.detach()), loss, samples, weights, drop)


def _columns(data: BlockInputs, k: int, number: int) -> Columns:
    """A rule's coefficients in a tick; the flags say nothing, so that one program serves all settings."""
    lr, eps = data.paces[k, number]
    decay, momentum, blend, moving = data.columns[number]
    settings = Hyperparameters(lr, decay, momentum, any_decay=True, any_momentum=True, all_momentum=False)
    return Columns(lr, decay, momentum, blend, moving, eps, settings)


def _update(rule: UpdateRule, state: BlockState, gradient: Tensor, columns: Columns, chosen: Tensor) -> None:
    """Updates the chosen jobs; the rule works on copies, which a compiler does away with."""
    new: Sequence[Tensor] = [tensor.clone() for tensor in state[:3]]
    scratch = torch.empty_like(gradient), torch.empty_like(gradient)
    rule.apply(new[0], gradient, new[1], new[2], columns, scratch)
    used = (True, rule.uses_first, rule.uses_second)
    for old, tensor, changed in zip(state[:3], new, used, strict=True):
        if changed:
            old.copy_(torch.where(chosen, tensor, old))
