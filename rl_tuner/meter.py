"""Measures training between two decisions without slowing it: no device sync, no cost per update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite, nan, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.hooks import RemovableHandle

from rl_tuner.errors import ConfigError
from rl_tuner.history import Interval

ALIVE = 1e-6
"""A tensor has a gradient if the gradient's norm exceeds this share of the tensor's own norm."""
_CHUNK = 256
"""Loss tensors are joined in chunks of so many, to bound memory on long intervals."""


class Meter:
    """Collects the losses of an interval, and gradient and update norms at one armed update.

    The norms cost about as much as an update, so only the interval's last update is measured: `arm`
    before it. Two optimizer hooks then take the norms around `optimizer.step`, and are removed again.

    Args:
        optimizer: The optimizer under tuning; its parameters are the ones measured.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._losses: list[torch.Tensor | float] = []
        self._chunks: list[torch.Tensor | NDArray[np.float64]] = []
        self._hooks: list[RemovableHandle] = []
        self._before: list[torch.Tensor] = []
        self._gradients: torch.Tensor | None = None
        self._norms: torch.Tensor | None = None
        self.samples = 0
        self.updates = 0

    def record(self, loss: torch.Tensor | float, samples: int) -> None:
        """Notes one update: its loss (a tensor of one element, not synchronized, or a float) and size.

        Raises:
            ConfigError: The loss has more than one element.
        """
        self.samples += samples
        self.updates += 1
        if isinstance(loss, torch.Tensor):
            if loss.numel() != 1:
                raise ConfigError(f"loss must be a tensor of one element, got shape {tuple(loss.shape)}")
            loss = loss.detach()
        self._losses.append(loss)
        if len(self._losses) >= _CHUNK:
            self._join()

    def arm(self) -> None:
        """Measures the next `optimizer.step`; once, however often it is called."""
        if not self._hooks:
            self._hooks = [
                self._optimizer.register_step_pre_hook(self.before_step),
                self._optimizer.register_step_post_hook(self.after_step),
            ]

    @property
    def armed(self) -> bool:
        """Whether the next `optimizer.step` will be measured."""
        return bool(self._hooks)

    def disarm(self) -> None:
        """Removes the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def read(
        self,
        val_loss: float,
        averaged_loss: float = nan,
        test_loss: float = nan,
        averaged_test_loss: float = nan,
    ) -> Interval:
        """The interval's figures, and a fresh start for the next one. This is the one device sync.

        Args:
            val_loss: Validation loss, or NaN for none (a validation that came out NaN must be given as inf).
            averaged_loss: That of the averaged weights, likewise.
            test_loss: Test loss, likewise.
            averaged_test_loss: That of the averaged weights, likewise.
        """
        losses = self._all_losses()
        half = len(losses) // 2
        early, late = losses[: max(half, 1)], losses[half:]
        grad_norm, alive, update, weights = self._all_norms()
        with np.errstate(all="ignore"):
            mean = late.sum() / late.size if late.size else nan
            deviations = late - mean
            noise = sqrt(deviations @ deviations / late.size) / (abs(mean) + 1e-12) if late.size else nan
            ratio = update / (weights + 1e-12)
            interval = Interval(
                samples=self.samples,
                updates=self.updates,
                train_early=float(early.sum() / early.size) if early.size else nan,
                train_late=float(mean),
                train_noise=float(noise),
                val_loss=val_loss,
                averaged_loss=averaged_loss,
                test_loss=test_loss,
                averaged_test_loss=averaged_test_loss,
                grad_norm=float(grad_norm),
                grad_alive=float(alive),
                update_ratio=float(ratio),
                finite=bool(isfinite(losses.sum()) and (self._norms is None or isfinite(weights))),
            )
        self.clear()
        return interval

    def clear(self) -> None:
        """Forgets what was collected."""
        self.disarm()
        self._losses, self._chunks = [], []
        self._before, self._gradients, self._norms = [], None, None
        self.samples = self.updates = 0

    def get_state(self) -> dict[str, Any]:
        """What was collected so far, copied; `set_state` continues from it."""
        return {
            "losses": self._all_losses(),
            "samples": self.samples,
            "updates": self.updates,
            "norms": self._norms,
            "armed": self.armed,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state that `get_state` gave."""
        self.clear()
        self._chunks = [state["losses"].copy()]
        self.samples, self.updates, self._norms = state["samples"], state["updates"], state["norms"]
        if state["armed"]:
            self.arm()

    def _join(self) -> None:
        if all(isinstance(loss, torch.Tensor) for loss in self._losses):
            tensors = [loss for loss in self._losses if isinstance(loss, torch.Tensor)]
            self._chunks.append(torch.stack([t if t.ndim == 0 else t.reshape(()) for t in tensors]))
        else:
            self._chunks.append(np.array([float(loss) for loss in self._losses]))
        self._losses = []

    def _all_losses(self) -> NDArray[np.float64]:
        if self._losses:
            self._join()
        chunks = [c.cpu().double().numpy() if isinstance(c, torch.Tensor) else c for c in self._chunks]
        return chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0), *chunks])

    def _all_norms(self) -> tuple[float, float, float, float]:
        """Gradient norm, share of tensors with a gradient, update norm, weight norm; NaN if not measured."""
        if self._norms is None:
            return (nan,) * 4
        gradients, updates, weights = self._norms.cpu().double().numpy()
        with np.errstate(invalid="ignore", over="ignore"):
            alive = np.count_nonzero(gradients > ALIVE * weights) / len(gradients)
            gradient, update, weight = (sqrt(norms @ norms) for norms in (gradients, updates, weights))
        return gradient, alive, update, weight

    def _parameters(self) -> Iterable[torch.Tensor]:
        for group in self._optimizer.param_groups:
            yield from group["params"]

    @torch.no_grad()
    def before_step(self, *_: object) -> None:
        """Notes weights and gradients. `arm` has it called; a loop of our own calls it before the step."""
        moving = [p for p in self._parameters() if p.grad is not None]
        self._before = [p.detach().clone() for p in moving]
        # Taken now: some optimizers overwrite the gradients (Schedule-Free does).
        self._gradients = _norms([p.grad for p in moving if p.grad is not None]) if moving else None

    @torch.no_grad()
    def after_step(self, *_: object) -> None:
        """Takes the norms of the weights and of what the step changed."""
        moved = [p for p in self._parameters() if p.grad is not None]
        if self._gradients is not None and len(moved) == len(self._before):
            updates = torch._foreach_sub(moved, self._before)
            self._norms = torch.cat([self._gradients, _norms([*updates, *moved])]).view(3, -1)
        self._before, self._gradients = [], None
        if self._hooks:
            self.disarm()


def _norms(tensors: list[torch.Tensor]) -> torch.Tensor:
    """The L2 norm of each tensor, shape (len(tensors),), on one device."""
    dense = [t.coalesce().values() if t.is_sparse else t for t in tensors]
    norms = torch._foreach_norm(dense)
    device = norms[0].device
    if all(n.dtype == torch.float32 and n.device == device for n in norms):
        return torch.stack(norms)
    return torch.stack([n.float().to(device) for n in norms])
