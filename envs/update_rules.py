"""The optimizers as update rules on rows: many jobs' parameters in one tensor, each with its own settings.

A row of a (rows, P) tensor is one job: all of its parameters, flattened. A rule does to each row what the
`torch.optim` class of the same name does to one model, in place and in few passes over memory. A row's own
numbers are columns of shape (rows, 1), worked out in float64 and rounded once: in float32 a bias correction
1 - 0.999 ** t would lose five digits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

import torch

from rl_tuner.envs.row_settings import Columns, Hyperparameters

Tensor: TypeAlias = torch.Tensor
Scratch: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Two tensors of shape (rows, P) that a rule may overwrite. The second one is touched only where needed."""


class _Rows(NamedTuple):
    """What `UpdateRule.apply` was given to write on."""

    theta: Tensor
    first: Tensor
    second: Tensor
    scratch: Scratch


@dataclass(frozen=True, slots=True)
class UpdateRule(ABC):
    """An optimizer's update of many rows at once.

    An update's coefficients depend on settings and on the number of updates done, not on gradients: `columns`
    gives those of many updates ahead at once, and `apply` does an update with them. `step` is both for one.

    Fields of a rule are the constants that nothing tunes, under torch's names.

    Attributes:
        uses_first: Whether the rule keeps something in `first`; else that tensor is never touched.
        uses_second: Likewise for `second`.
        decoupled: Whether weight decay shrinks the weights directly instead of joining the gradient.
    """

    uses_first: ClassVar[bool] = False
    uses_second: ClassVar[bool] = False
    decoupled: ClassVar[bool] = False

    @property
    def second_start(self) -> float:
        """What `second` is filled with when a job starts; `first` starts at 0 always."""
        return 0.0

    def step(
        self,
        theta: Tensor,
        grad: Tensor,
        first: Tensor,
        second: Tensor,
        steps: Tensor,
        settings: Hyperparameters,
        scratch: Scratch,
    ) -> None:
        """Does one update of each row, in place.

        Args:
            theta: See `apply`.
            grad: See `apply`.
            first: See `apply`.
            second: See `apply`.
            steps: Updates done before, float64 of shape (rows, 1); one is added.
            settings: The rows' hyperparameters.
            scratch: See `apply`.
        """
        columns = self.columns(steps, settings, 1, theta.dtype)[0]
        steps.add_(1)
        self.apply(theta, grad, first, second, columns, scratch)

    def columns(
        self, steps: Tensor, settings: Hyperparameters, updates: int, dtype: torch.dtype
    ) -> list[Columns]:
        """The coefficients of the next `updates` updates under the same settings.

        Keep it out of what `torch.compile` sees: inductor would work the powers out for each parameter.

        Args:
            steps: Updates done before, float64 of shape (rows, 1); left as they are.
            settings: The rows' hyperparameters.
            updates: How many, at least 1.
            dtype: Of the parameters.
        """
        count = torch.arange(1, updates + 1, dtype=steps.dtype, device=steps.device)
        lr, eps = self._corrected(steps + count[:, None, None], settings)
        decay, momentum = settings.weight_decay, settings.momentum
        rest = (
            (1 - settings.lr * decay if self.decoupled else decay).to(dtype),
            momentum.to(dtype),
            (1 - momentum).to(dtype),
            (momentum != 0).to(dtype),
        )
        each = zip(lr.to(dtype).unbind(), eps.to(dtype).unbind(), strict=True)
        return [Columns(rate, *rest, root_eps, settings) for rate, root_eps in each]

    def apply(
        self, theta: Tensor, grad: Tensor, first: Tensor, second: Tensor, columns: Columns, scratch: Scratch
    ) -> None:
        """Does one update of each row, in place.

        It branches on the host's flags alone and reads no value back, so that it can be traced by
        `torch.compile` and captured in a CUDA graph. In a compiled function make the scratch tensors inside
        of it: there they vanish.

        Args:
            theta: Parameters, float32 or float64 of shape (rows, P).
            grad: Gradients, shaped and typed alike; left as they are.
            first: Momentum buffers, mean gradients, or Adadelta's mean squared changes; alike.
            second: Means or sums of squared gradients; alike.
            columns: The coefficients, of as many rows.
            scratch: Two tensors to overwrite, alike.
        """
        if columns.settings.any_decay and self.decoupled:
            theta.mul_(columns.decay)
        elif columns.settings.any_decay:
            grad = torch.addcmul(grad, theta, columns.decay, out=scratch[0])
        self._update(_Rows(theta, first, second, scratch), grad, columns)

    @abstractmethod
    def _update(self, rows: _Rows, grad: Tensor, columns: Columns) -> None:
        """The update after weight decay. `grad` may lie in `scratch[0]`: write there when it is done with."""

    def _corrected(self, number: Tensor, settings: Hyperparameters) -> tuple[Tensor, Tensor]:
        """`Columns.lr` and `.eps` in float64; `number` counts updates from 1: shape (updates, rows, 1)."""
        return settings.lr.expand_as(number), torch.zeros_like(number)


@dataclass(frozen=True, slots=True)
class SGD(UpdateRule):
    """Gradient descent, with momentum where a row has some (torch's form of Sutskever et al., 2013).

    b ← μ b + g, then θ ← θ - lr b, or θ - lr (g + μ b) with Nesterov's momentum. A row whose μ is 0 takes
    θ ← θ - lr g and leaves its b as it is, as `torch.optim.SGD` does.
    """

    nesterov: bool = False
    uses_first: ClassVar[bool] = True

    def _update(self, rows: _Rows, grad: Tensor, columns: Columns) -> None:
        direction = _accumulate(rows.first, grad, columns, rows.scratch[1])
        if self.nesterov and columns.settings.any_momentum:
            direction = torch.addcmul(grad, rows.first, columns.momentum, out=rows.scratch[1])
        _descend(rows.theta, direction, columns)


@dataclass(frozen=True, slots=True)
class Adagrad(UpdateRule):
    """s ← s + g², θ ← θ - lr / (1 + (t - 1) lr_decay) · g / (√s + eps) (Duchi et al., 2011)."""

    eps: float = 1e-10
    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    uses_second: ClassVar[bool] = True

    @property
    def second_start(self) -> float:
        """Where the sums of squares start."""
        return self.initial_accumulator_value

    def _update(self, rows: _Rows, grad: Tensor, columns: Columns) -> None:
        rows.second.addcmul_(grad, grad)
        _descend(rows.theta, _over_root(grad, rows.second, self.eps, rows.scratch[1]), columns)

    def _corrected(self, number: Tensor, settings: Hyperparameters) -> tuple[Tensor, Tensor]:
        return settings.lr / (1 + (number - 1) * self.lr_decay), torch.zeros_like(number)


@dataclass(frozen=True, slots=True)
class Adadelta(UpdateRule):
    """Steps as large as past changes were, over as large as past gradients were (Zeiler, 2012).

    s ← ρ s + (1 - ρ) g², d = √(a + eps) / √(s + eps) · g, a ← ρ a + (1 - ρ) d², θ ← θ - lr d.
    """

    rho: float = 0.9
    eps: float = 1e-6
    uses_first: ClassVar[bool] = True
    uses_second: ClassVar[bool] = True

    def _update(self, rows: _Rows, grad: Tensor, columns: Columns) -> None:
        _average_squares(rows.second, grad, self.rho)
        # The gradient is multiplied in first: its place is then free for the denominator.
        delta = torch.add(rows.first, self.eps, out=rows.scratch[1]).sqrt_().mul_(grad)
        delta.div_(torch.add(rows.second, self.eps, out=rows.scratch[0]).sqrt_())
        _average_squares(rows.first, delta, self.rho)
        _descend(rows.theta, delta, columns)


@dataclass(frozen=True, slots=True)
class RMSprop(UpdateRule):
    """s ← α s + (1 - α) g², then momentum on g / (√s + eps) (Tieleman & Hinton, 2012; torch's form).

    b ← μ b + g / (√s + eps), θ ← θ - lr b; a row whose μ is 0 as in `SGD`.
    """

    alpha: float = 0.99
    eps: float = 1e-8
    uses_first: ClassVar[bool] = True
    uses_second: ClassVar[bool] = True

    def _update(self, rows: _Rows, grad: Tensor, columns: Columns) -> None:
        _average_squares(rows.second, grad, self.alpha)
        scaled = _over_root(grad, rows.second, self.eps, rows.scratch[1])
        _descend(rows.theta, _accumulate(rows.first, scaled, columns, rows.scratch[0]), columns)


@dataclass(frozen=True, slots=True)
class Adam(UpdateRule):
    """m ← β1 m + (1 - β1) g, v ← β2 v + (1 - β2) g², bias-corrected (Kingma & Ba, 2015, algorithm 1).

    θ ← θ - lr m̂ / (√v̂ + eps) with m̂ = m / (1 - β1ᵗ) and v̂ = v / (1 - β2ᵗ). As at the end of their section 2
    the corrections are moved to the columns: with r = √(1 - β2ᵗ) it is lr r / (1 - β1ᵗ) · m / (√v + eps r).
    β1 is the row's momentum; a β1 that changed is taken to the power of all t updates, as torch does.
    """

    beta2: float = 0.999
    eps: float = 1e-8
    uses_first: ClassVar[bool] = True
    uses_second: ClassVar[bool] = True

    def _update(self, rows: _Rows, grad: Tensor, columns: Columns) -> None:
        rows.first.lerp_(grad, columns.blend)
        _average_squares(rows.second, grad, self.beta2)
        _descend(rows.theta, _over_root(rows.first, rows.second, columns.eps, rows.scratch[0]), columns)

    def _corrected(self, number: Tensor, settings: Hyperparameters) -> tuple[Tensor, Tensor]:
        root = (1 - self.beta2**number).sqrt_()
        return settings.lr * root / (1 - settings.momentum**number), self.eps * root


@dataclass(frozen=True, slots=True)
class AdamW(Adam):
    """Adam whose weight decay is decoupled: first θ ← (1 - lr λ) θ (Loshchilov & Hutter, 2019)."""

    decoupled: ClassVar[bool] = True


def _descend(theta: Tensor, direction: Tensor, columns: Columns) -> None:
    """θ ← θ - lr · direction."""
    theta.addcmul_(direction, columns.lr, value=-1)


def _average_squares(mean: Tensor, values: Tensor, decay: float) -> None:
    """The exponential mean of squares: mean ← decay · mean + (1 - decay) · values²."""
    mean.mul_(decay).addcmul_(values, values, value=1 - decay)


def _over_root(numerator: Tensor, squares: Tensor, eps: float | Tensor, out: Tensor) -> Tensor:
    """Numerator / (√squares + eps), in `out`."""
    torch.sqrt(squares, out=out).add_(eps)
    return torch.div(numerator, out, out=out)


def _accumulate(buffer: Tensor, update: Tensor, columns: Columns, spare: Tensor) -> Tensor:
    """Momentum: buffer ← μ · buffer + update where μ is not 0, and the direction that results.

    It is the buffer where μ is not 0, else the update; it lies in one of the tensors given.
    """
    if not columns.settings.any_momentum:
        return update
    if columns.settings.all_momentum:
        return torch.addcmul(update, buffer, columns.momentum, out=buffer)
    torch.addcmul(update, buffer, columns.momentum, out=spare)  # with μ = 0 the update, bit for bit
    # A weight of 0 or 1 chooses exactly, and three times as fast as torch.where.
    buffer.lerp_(spare, columns.moving)
    return spare
