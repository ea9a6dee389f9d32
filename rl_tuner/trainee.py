"""The live model and optimizer under tuning: how hyperparameters are read, written, kept and restored.

The reference engine and the `Tuner` both hold a `Trainee`, so a hyperparameter reaches PyTorch in one place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from math import nan
from typing import Any

import torch
from torch import nn

from rl_tuner.averaging import WeightAverage
from rl_tuner.errors import ConfigError, JobError
from rl_tuner.sampling import TunedBatchSampler
from rl_tuner.usual_lr import usual_lr

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@dataclass(frozen=True, slots=True)
class Kept:
    """A copy of the trainable state.

    Attributes:
        tensors: The model's parameters and buffers, then parameters that only the optimizer holds.
        state: The optimizer's state, one mapping per parameter; None if the optimizer was not kept.
        groups: The optimizer's group entries besides the parameters.
        average: That of the weights (see `rl_tuner.averaging.WeightAverage`); None if none was kept.
    """

    tensors: list[torch.Tensor]
    state: list[dict[str, Any] | None]
    groups: list[dict[str, Any]]
    average: tuple[int, list[torch.Tensor]] | None = None


class Trainee:
    """A model, its optimizer and its sampler, as seen by whoever tunes them.

    Hyperparameters it can have: "lr" and "weight_decay" (param-group entries; each group keeps its ratio
    to the first one's lr and to the largest weight decay), "momentum" (``momentum``, or β1 of ``betas``),
    "dropout" (every dropout layer, each keeping its ratio to the largest), "batch_size" (the sampler's), and
    whatever stands in `others`.

    Args:
        optimizer: Any `torch.optim.Optimizer`.
        model: Its model; needed for dropout, and for buffers to be kept. None keeps parameters only.
        sampler: Whose batch size is tuned.
        others: Values of further hyperparameters by name, which the training loop itself reads there:
            penalties, gradient clipping and the like. They are written in place.
        averaging: Whether an average of the weights is kept; whoever trains updates it.

    Attributes:
        average: The average of the weights so far; None where none is kept.

    Raises:
        ConfigError: `optimizer` is no optimizer.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module | None = None,
        sampler: TunedBatchSampler | None = None,
        others: MutableMapping[str, float] | None = None,
        averaging: bool = False,
    ) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ConfigError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
        self.optimizer, self.model, self.sampler = optimizer, model, sampler
        self._others: MutableMapping[str, float] = {} if others is None else others
        self._dropouts = _dropout_layers(model)
        self._start_groups: list[dict[str, float]] = [
            {k: _number(g[k]) for k in ("lr", "weight_decay") if k in g} for g in optimizer.param_groups
        ]
        # The group whose learning rate is "the" one: the first that has any.
        self._lead = next((i for i, g in enumerate(self._start_groups) if g["lr"] > 0), 0)
        self._start_rates = [_rate(layer) for layer in self._dropouts]
        self.average = WeightAverage(self._tensors()) if averaging else None

    def read(self) -> dict[str, float]:
        """The present value of each hyperparameter that is there."""
        group = self.optimizer.param_groups[0]
        values = {"lr": _number(self.optimizer.param_groups[self._lead]["lr"])}
        if "weight_decay" in group:
            values["weight_decay"] = max(_number(g["weight_decay"]) for g in self.optimizer.param_groups)
        if "momentum" in group:
            values["momentum"] = _number(group["momentum"])
        elif "betas" in group:
            values["momentum"] = _number(group["betas"][0])
        if self._dropouts:
            values["dropout"] = max(_rate(layer) for layer in self._dropouts)
        if self.sampler is not None:
            values["batch_size"] = float(self.sampler.batch_size)
        return {**values, **self._others}

    def limits(self) -> dict[str, float]:
        """Upper bounds that the job itself sets: a batch is no larger than the dataset."""
        return {} if self.sampler is None else {"batch_size": float(self.sampler.size)}

    def usual_lr(self) -> float:
        """The usual learning rate of such an optimizer (see `rl_tuner.usual_lr`); NaN if it is not known."""
        return usual_lr(type(self.optimizer), self.read().get("momentum", 0.0))

    def write(self, values: Mapping[str, float]) -> None:
        """Sets the named hyperparameters.

        Raises:
            ConfigError: The trainee has no hyperparameter of that name.
        """
        there = self.read()
        for name, value in values.items():
            if name not in there:
                raise ConfigError(f"this job has no hyperparameter {name!r}; it has {', '.join(there)}")
            if name in self._others:
                self._others[name] = value
            elif name == "momentum":
                self._write_momentum(value)
            elif name == "dropout":
                self._write_dropout(value)
            elif self.sampler is not None and name == "batch_size":
                self.sampler.batch_size = value
            else:
                self._write_scaled(name, value)

    def _write_scaled(self, name: str, value: float) -> None:
        # Groups keep their ratio to the largest start value: a group without weight decay stays without.
        starts = [group.get(name, 0.0) for group in self._start_groups]
        reference = starts[self._lead] if name == "lr" else max(starts)
        for group, start in zip(self.optimizer.param_groups, starts, strict=False):
            if name not in group:
                continue
            new = value if start == reference else value * (start / reference)
            if isinstance(group[name], torch.Tensor):
                group[name].fill_(new)
            else:
                group[name] = new

    def _write_momentum(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = value
                if value and isinstance(self.optimizer, torch.optim.RMSprop):
                    self._add_momentum_buffers(group["params"])
            elif "betas" in group:
                group["betas"] = (value, *group["betas"][1:])

    def _add_momentum_buffers(self, parameters: list[torch.Tensor]) -> None:
        # RMSprop makes them at the first step only, and fails if momentum was zero then and no longer is.
        for p in parameters:
            state = self.optimizer.state.get(p)
            if state and "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)

    def _write_dropout(self, value: float) -> None:
        reference = max(self._start_rates, default=0.0)
        for layer, start in zip(self._dropouts, self._start_rates, strict=True):
            rate = value if start == reference else value * (start / reference)
            if isinstance(layer, DROPOUTS):
                layer.p = rate
            else:
                layer.dropout = rate  # type: ignore[assignment]

    def keep(self) -> Kept:
        """A copy of parameters, buffers, optimizer state, and the average of the weights."""
        state = self.optimizer.state
        kept = [_copies(state[p]) if p in state else None for p in self._parameters()]
        groups = self.settings()
        average = None if self.average is None else self.average.get_state()
        return Kept([t.detach().clone() for t in self._tensors()], kept, groups, average)

    def settings(self) -> list[dict[str, Any]]:
        """The optimizer's group entries besides the parameters, copied; see `begin_again`."""
        return [_copies(group) for group in self.optimizer.param_groups]

    def begin_again(self, settings: list[dict[str, Any]]) -> None:
        """Makes optimizer and average of the weights as before a first update of the present weights.

        Args:
            settings: Group entries from before training. Hyperparameters come back with them: write the
                wanted ones afterwards.
        """
        tensors = [t.detach().clone() for t in self._tensors()]
        average = None if self.average is None else (0, tensors)
        self.restore(Kept(tensors, [None] * len(self._parameters()), settings, average))

    def judge_average(self, validate: Callable[[], float]) -> float:
        """What a validation says of the average of the weights; NaN if none is kept.

        Args:
            validate: Returns the loss of the model as it is.
        """
        if self.average is None:
            return nan
        with self.average.in_place():
            return validate()

    def keep_average(self) -> Kept:
        """A copy of the average of the weights, for `restore_weights`.

        Raises:
            JobError: None is kept.
        """
        if self.average is None:
            raise JobError("no average of the weights is kept")
        return Kept(self.average.get_state()[1], [], [])

    @torch.no_grad()
    def restore(self, kept: Kept) -> None:
        """Puts a kept state back. Hyperparameters come back too: write the wanted ones afterwards.

        Raises:
            JobError: The model has other tensors, or the optimizer other groups, than when it was kept.
        """
        self._require_same_tensors(kept)
        sizes = [len(group["params"]) for group in self.optimizer.param_groups]
        if len(sizes) != len(kept.groups) or sum(sizes) != len(kept.state):
            raise JobError(
                f"the optimizer now has {len(sizes)} parameter groups with {sum(sizes)} parameters, "
                f"not the {len(kept.groups)} with {len(kept.state)} kept"
            )
        self.restore_weights(kept)
        for p, saved in zip(self._parameters(), kept.state, strict=True):
            self.optimizer.state.pop(p, None)
            if saved is not None:
                self.optimizer.state[p] = {k: _copy(v) for k, v in saved.items()}
        for group, saved_group in zip(self.optimizer.param_groups, kept.groups, strict=True):
            for key, value in saved_group.items():
                if isinstance(value, torch.Tensor) and isinstance(group.get(key), torch.Tensor):
                    group[key].copy_(value)  # in place: a captured or compiled step reads this very tensor
                else:
                    group[key] = _copy(value)
        if self.average is not None and kept.average is not None:
            self.average.set_state(kept.average)

    @torch.no_grad()
    def restore_weights(self, kept: Kept) -> None:
        """Puts parameters and buffers back, and leaves the optimizer as it is.

        Raises:
            JobError: The model has other tensors than when the state was kept.
        """
        self._require_same_tensors(kept)
        for tensor, saved in zip(self._tensors(), kept.tensors, strict=True):
            tensor.copy_(saved)

    def _require_same_tensors(self, kept: Kept) -> None:
        tensors = self._tensors()
        if len(tensors) != len(kept.tensors):
            raise JobError(f"the model now has {len(tensors)} tensors, not the {len(kept.tensors)} kept")
        if [t.shape for t in tensors] != [t.shape for t in kept.tensors]:
            raise JobError("the model's tensors have other shapes than those kept")

    def gradients(self) -> list[torch.Tensor | None]:
        """Copies of the gradients, None where there is none."""
        return [None if p.grad is None else p.grad.detach().clone() for p in self._parameters()]

    def set_gradients(self, gradients: list[torch.Tensor | None]) -> None:
        """Puts gradients back that `gradients` gave."""
        for p, grad in zip(self._parameters(), gradients, strict=True):
            p.grad = None if grad is None else grad.clone()

    def _parameters(self) -> list[torch.Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _tensors(self) -> list[torch.Tensor]:
        if self.model is None:
            return self._parameters()
        tensors = {id(t): t for t in (*self.model.parameters(), *self.model.buffers(), *self._parameters())}
        return list(tensors.values())


def _dropout_layers(model: nn.Module | None) -> list[nn.Module]:
    """The layers that drop units: dropout modules, and recurrent or attention layers with a rate above 0."""
    if model is None:
        return []
    return [
        m
        for m in model.modules()
        if isinstance(m, DROPOUTS) or (isinstance(m, nn.RNNBase | nn.MultiheadAttention) and m.dropout > 0)
    ]


def _rate(layer: nn.Module) -> float:
    return float(layer.p if isinstance(layer, DROPOUTS) else layer.dropout)  # type: ignore[arg-type]


def _number(value: Any) -> float:
    return float(value)


def _copies(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of an optimizer's entries besides the parameters; tensors first, there are most of them."""
    return {
        k: v.detach().clone() if isinstance(v, torch.Tensor) else _copy(v)
        for k, v in entries.items()
        if k != "params"
    }


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return value if isinstance(value, bool | int | float | str | None) else copy.deepcopy(value)
