"""PyTorch's learning rate schedulers as policies: those that know only progress."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rl_tuner.config import require_range
from rl_tuner.errors import ConfigError
from rl_tuner.schedule import GRID, TorchSchedule, require_factor, require_whole

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

WARMUP_START = 1e-3
"""Where a warmup begins: torch refuses 0, and lower than this the learning rate's reach does not go."""


class Step(TorchSchedule):
    """Divides the learning rate by ten at 1/2 and 3/4 of the budget.

    Torch's `MultiStepLR`. The defaults are those of He et al., 2016, "Deep Residual Learning for Image
    Recognition", section 4.2: after 32k and 48k of 64k iterations. Each drop but the first falls in the
    middle of what is left.

    Args:
        first: Share of the budget at which the learning rate first drops, in (0, 1).
        drops: How often it drops, 1 to 6.
        reduction: What it is multiplied by then, in [1e-6, 1).

    Raises:
        ConfigError: A value is out of range.
    """

    name = "step"
    jumps = True

    def __init__(self, first: float = 0.5, drops: int = 2, reduction: float = 0.1) -> None:
        super().__init__()
        left = 1 - require_range("first", first, 0, 1 - 1e-9, above=True)
        self.drops_at = tuple(1 - left / 2**k for k in range(require_whole("drops", drops, 1, 6)))
        self._reduction = require_factor("reduction", reduction)

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """`MultiStepLR`."""
        from torch.optim.lr_scheduler import MultiStepLR

        milestones = [round(GRID * share) for share in self.drops_at]
        return MultiStepLR(optimizer, milestones, gamma=self._reduction)


class Exponential(TorchSchedule):
    """Falls by the same factor at each step, to a hundredth at last.

    Torch's `ExponentialLR`. How far it should fall is nobody's standard; two decades are our choice.

    Args:
        floor: The factor at the end, in [1e-6, 1).

    Raises:
        ConfigError: A value is out of range.
    """

    name = "exponential"

    def __init__(self, floor: float = 0.01) -> None:
        super().__init__()
        self._floor = require_factor("floor", floor)

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """`ExponentialLR`."""
        from torch.optim.lr_scheduler import ExponentialLR

        return ExponentialLR(optimizer, gamma=self._floor ** (1 / GRID))


class Cosine(TorchSchedule):
    """Half a cosine from the start value to (nearly) zero.

    Torch's `CosineAnnealingLR`. Loshchilov & Hutter, 2017, "SGDR: Stochastic Gradient Descent with Warm
    Restarts", equation 5, without restarts: ``floor + (1 - floor) (1 + cos(π progress)) / 2``.

    Args:
        floor: The factor at the end, in [0, 1).

    Raises:
        ConfigError: A value is out of range.
    """

    name = "cosine"

    def __init__(self, floor: float = 0.0) -> None:
        super().__init__()
        self._floor = require_factor("floor", floor, zero=True)

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """`CosineAnnealingLR`."""
        from torch.optim.lr_scheduler import CosineAnnealingLR

        return CosineAnnealingLR(optimizer, GRID, eta_min=self._floor)


class CosineRestarts(TorchSchedule):
    """Half a cosine after the other, each twice as long.

    Torch's `CosineAnnealingWarmRestarts`. Loshchilov & Hutter, 2017, "SGDR: Stochastic Gradient Descent with
    Warm Restarts", equation 5, with T_mult = 2. The last cosine ends with the budget.

    Args:
        cycles: How many, 1 to 8.
        growth: How many times as long as the one before each of them is, 1 to 4.
        floor: The factor at the end of each, in [0, 1).

    Raises:
        ConfigError: A value is out of range, or the first cycle is shorter than a thousandth of the budget.
    """

    name = "cosine-restarts"
    jumps = True

    def __init__(self, cycles: int = 3, growth: int = 2, floor: float = 0.0) -> None:
        super().__init__()
        self._growth = require_whole("growth", growth, 1, 4)
        lengths = sum(self._growth**k for k in range(require_whole("cycles", cycles, 1, 8)))
        if lengths > 1000:
            raise ConfigError(
                f"of {cycles} cycles that grow {growth}-fold the first is below a thousandth of the budget: "
                "lower cycles or growth"
            )
        self._first = math.ceil(GRID / lengths)  # rounded up: no restart right at the end
        self._floor = require_factor("floor", floor, zero=True)

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """`CosineAnnealingWarmRestarts`."""
        from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

        return CosineAnnealingWarmRestarts(optimizer, self._first, self._growth, eta_min=self._floor)


class OneCycle(TorchSchedule):
    """Up to the start value and down to zero, in half cosines.

    Torch's `OneCycleLR`. The job's start value of the learning rate is the cycle's peak, torch's ``max_lr``:
    the cycle begins at a twenty-fifth of it. Smith & Topin, 2018, "Super-Convergence: Very Fast Training of
    Neural Networks Using Large Learning Rates"; beginning and peak are torch's defaults. Momentum is left
    alone.

    Args:
        peak: Share of the budget at which the start value is reached, in (0, 1).
        initial: The factor at the beginning, in [1e-6, 1).
        floor: The factor at the end, in [1e-6, 1).

    Raises:
        ConfigError: A value is out of range.
    """

    name = "onecycle"

    def __init__(self, peak: float = 0.3, initial: float = 0.04, floor: float = 1e-4) -> None:
        super().__init__()
        self._peak = require_range("peak", peak, 0, 1 - 1e-9, above=True)
        self._initial, self._floor = require_factor("initial", initial), require_factor("floor", floor)

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """`OneCycleLR`."""
        from torch.optim.lr_scheduler import OneCycleLR

        steps = GRID + 1  # it counts the first learning rate as one, and refuses to go beyond
        return OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=steps,
            pct_start=(self._peak * GRID + 1) / steps,
            cycle_momentum=False,
            div_factor=1 / self._initial,
            final_div_factor=self._initial / self._floor,
        )


class Linear(TorchSchedule):
    """A straight line from the start value to zero.

    Torch's `LinearLR`. Defazio et al., 2023, "Optimal Linear Decay Learning Rate Schedules and Further
    Refinements": what their theory comes to, and better than the cosine in their trials.

    Args:
        floor: The factor at the end, in [0, 1).

    Raises:
        ConfigError: A value is out of range.
    """

    name = "linear"

    def __init__(self, floor: float = 0.0) -> None:
        super().__init__()
        self._floor = require_factor("floor", floor, zero=True)

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """`LinearLR`."""
        from torch.optim.lr_scheduler import LinearLR

        return LinearLR(optimizer, 1.0, self._floor, total_iters=GRID)


class WarmupStableDecay(TorchSchedule):
    """A short line up, a long constant part, a line down to zero.

    Torch's `SequentialLR` of three. Hu et al., 2024, "MiniCPM: Unveiling the Potential of Small Language
    Models with Scalable Training Strategies"; the linear decay over the last fifth is that of Hägele et al.,
    2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations".

    Args:
        warmup: Share of the budget that the line up takes, in [0, 1).
        decay: Share of the budget that the line down takes, in [0, 1).
        floor: The factor at the end, in [0, 1).

    Raises:
        ConfigError: A value is out of range, or warmup and decay are more than the budget.
    """

    name = "wsd"

    def __init__(self, warmup: float = 0.05, decay: float = 0.2, floor: float = 0.0) -> None:
        super().__init__()
        self._warmup = round(GRID * require_range("warmup", warmup, 0, 1 - 1e-9))
        self._decay = round(GRID * require_range("decay", decay, 0, 1 - 1e-9))
        if self._warmup + self._decay > GRID:
            raise ConfigError(f"warmup and decay must be <= 1 together, got {warmup:g} and {decay:g}")
        self._floor = require_factor("floor", floor, zero=True)

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """`LinearLR`, `ConstantLR` and `LinearLR` in a `SequentialLR`."""
        from torch.optim.lr_scheduler import ConstantLR, LinearLR, SequentialLR

        # A part without steps has no line; one step of it, never taken, keeps torch from dividing by zero.
        up = LinearLR(optimizer, WARMUP_START, 1.0, total_iters=max(self._warmup, 1))
        stable = ConstantLR(optimizer, factor=1.0)
        down = LinearLR(optimizer, 1.0, self._floor, total_iters=max(self._decay, 1))
        return SequentialLR(optimizer, [up, stable, down], [self._warmup, GRID - self._decay])
