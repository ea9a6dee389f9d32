"""What an update needs to know of each row besides its gradient: columns of shape (rows, 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from rl_tuner.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The present settings of each row, and what the host knows of them: rules skip passes by it.

    A flag may say less than the columns do (those of all rows serve a part of them): a flag changes the
    passes taken, never the numbers.

    Attributes:
        lr: Learning rates, float64 of shape (rows, 1).
        weight_decay: Shape (rows, 1), likewise.
        momentum: Momentum, or β1 of Adam and AdamW, in [0, 1); shape (rows, 1), likewise.
        any_decay: Whether some row's weight decay may not be 0.
        any_momentum: Whether some row's momentum may not be 0.
        all_momentum: Whether surely no row's momentum is 0.
    """

    lr: torch.Tensor
    weight_decay: torch.Tensor
    momentum: torch.Tensor
    any_decay: bool
    any_momentum: bool
    all_momentum: bool

    @classmethod
    def of(
        cls,
        lr: ArrayLike,
        weight_decay: ArrayLike,
        momentum: ArrayLike,
        device: torch.device | str = "cpu",
    ) -> Hyperparameters:
        """Settings from a value a row, each of shape (rows,); 0 where a job has no such hyperparameter.

        Raises:
            ConfigError: The shapes differ, or are not (rows,).
        """
        values = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        arrays = {name: np.asarray(value, np.float64) for name, value in values.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        if len(set(shapes.values())) != 1 or arrays["lr"].ndim != 1:
            raise ConfigError(f"settings of rows need one value a row, shape (rows,) each; got {shapes}")
        column = {name: torch.tensor(array, device=device)[:, None] for name, array in arrays.items()}
        decays, moving = arrays["weight_decay"] != 0, arrays["momentum"] != 0
        return cls(
            column["lr"],
            column["weight_decay"],
            column["momentum"],
            any_decay=bool(decays.any()),
            any_momentum=bool(moving.any()),
            all_momentum=bool(moving.all()),
        )


@dataclass(frozen=True, slots=True)
class Columns:
    """The coefficients of one update, a row each: shape (rows, 1), the parameters' dtype.

    Attributes:
        lr: Learning rates, Adam's and Adagrad's corrections worked in.
        decay: Weight decay; the factor on the weights, 1 - lr · decay, where a rule decouples it.
        momentum: Momentum or β1.
        blend: 1 - momentum.
        moving: 1 where momentum is not 0, else 0.
        eps: Adam's eps, corrected like its learning rate; 0 for other rules, whose eps never changes.
        settings: Where the columns are from; for its flags.
    """

    lr: torch.Tensor
    decay: torch.Tensor
    momentum: torch.Tensor
    blend: torch.Tensor
    moving: torch.Tensor
    eps: torch.Tensor
    settings: Hyperparameters

    @staticmethod
    def first_rows(several: Sequence[Columns], rows: int) -> list[Columns]:
        """The first rows of several updates' coefficients, all from the same settings."""
        some = several[0]
        if len(some.lr) == rows:
            return list(several)
        rest = (some.decay[:rows], some.momentum[:rows], some.blend[:rows], some.moving[:rows])
        return [Columns(c.lr[:rows], *rest, c.eps[:rows], c.settings) for c in several]
