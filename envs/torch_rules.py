"""Which update rule does what a torch optimizer does."""

from __future__ import annotations

from dataclasses import fields

import torch

from rl_tuner.envs.update_rules import SGD, Adadelta, Adagrad, Adam, AdamW, RMSprop, UpdateRule

_TORCH: dict[type[torch.optim.Optimizer], type[UpdateRule]] = {
    torch.optim.SGD: SGD,
    torch.optim.Adam: Adam,
    torch.optim.AdamW: AdamW,
    torch.optim.RMSprop: RMSprop,
    torch.optim.Adagrad: Adagrad,
    torch.optim.Adadelta: Adadelta,
}
_FOREIGN = ("amsgrad", "centered", "dampening", "maximize", "differentiable")
"""Options that no rule has; foreach, fused and capturable change how torch computes, not what."""


def rule_of(optimizer: torch.optim.Optimizer) -> UpdateRule | None:
    """The rule that does what a torch optimizer does; None if none can.

    Learning rate, weight decay and momentum (β1) are no part of a rule: they are `Hyperparameters`.
    None for another class (a subclass too), more than one parameter group, step hooks, complex parameters,
    and the options amsgrad, centered, dampening, maximize and differentiable.
    """
    rule = _TORCH.get(type(optimizer))
    if rule is None or len(optimizer.param_groups) != 1 or _has_step_hooks(optimizer):
        return None
    group = optimizer.param_groups[0]
    if any(group.get(option) for option in _FOREIGN) or any(p.is_complex() for p in group["params"]):
        return None
    if group.get("decoupled_weight_decay"):
        rule = AdamW  # Adam has the option too
    options = {**group, "beta2": group["betas"][1]} if "betas" in group else group
    return rule(**{f.name: _plain(options[f.name]) for f in fields(rule)})


def _plain(option: bool | float | torch.Tensor) -> bool | float:
    return option if isinstance(option, bool) else float(option)


def _has_step_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Whether somebody's code runs at each step: it may clip gradients, or do anything else."""
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
