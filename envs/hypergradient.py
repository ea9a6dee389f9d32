"""SGD and Adam whose learning rate descends its own gradient while they train.

Baydin, Cornish, Martínez Rubio, Schmidt & Wood (ICLR 2018), "Online Learning Rate Adaptation with
Hypergradient Descent". An update θ_t = θ_{t-1} + u_t, u_t = -α_t d_t, has the *hypergradient*
∂f(θ_{t-1})/∂α = ∇f(θ_{t-1}) · ∂u_{t-1}/∂α = -∇f(θ_{t-1}) · d_{t-1}, which costs one product with the last
direction d_{t-1}. Before each update α takes a step against it:

- additive (the paper's algorithms 4 to 6): α_t = α_{t-1} + β ∇f(θ_{t-1}) · d_{t-1};
- multiplicative (its equation 8): α_t = α_{t-1} (1 + β cos(∇f(θ_{t-1}), d_{t-1})).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch

from rl_tuner.config import require_range

Params = Iterable[torch.Tensor] | Iterable[dict[str, Any]]
Tensors = list[torch.Tensor]
DEFAULT_HYPERGRAD_LR = 0.02
"""Default β of the multiplicative rule: a learning rate off by a factor of 10 is put right within 120 updates
whose directions agree, and nothing moves it by more than 2 % an update."""
BELOW_ONE, LARGEST = 1 - 1e-9, 1e30
"""Limits of options; what is larger than a float32 cannot multiply one."""


class HypergradientOptimizer(torch.optim.Optimizer):
    """What both optimizers share: the steps of the learning rate; a subclass gives the direction d_t.

    Each parameter group has a learning rate of its own, which follows that group's hypergradient: the exact
    derivative of the loss with respect to it. It is a Python float in [0, `LARGEST`]: a step past an end ends
    there, and one that is no number is not taken. Each update waits for the device once, to read the step.

    Raises:
        ConfigError: An option of a group is out of range.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a parameter group; the first ones come this way too.

        Args:
            param_group: Its "params", and options that differ from the defaults.

        Raises:
            ConfigError: An option is out of range.
        """
        super().add_param_group(param_group)
        self._check(self.param_groups[-1])

    def _check(self, group: dict[str, Any]) -> None:
        """Checks a group's options.

        Raises:
            ConfigError: One is out of range.
        """
        for name in ("lr", "weight_decay"):
            require_range(name, group[name], 0, LARGEST)
        require_range(
            "hypergrad_lr", group["hypergrad_lr"], 0, BELOW_ONE if group["multiplicative"] else LARGEST
        )

    def _buffers(self, parameters: Tensors, name: str) -> Tensors:
        """An average that each parameter has, zero at first."""
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return [self.state[p][name] for p in parameters]

    @abstractmethod
    def _directions(self, group: dict[str, Any], parameters: Tensors, gradients: Tensors) -> Tensors:
        """d_t of each parameter, in tensors of its own; moves the averages it is made of."""

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Moves the learning rates, then the parameters.

        Args:
            closure: Evaluates the loss and its gradients anew, and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._step_group(group, parameters)
        return loss

    def _step_group(self, group: dict[str, Any], parameters: Tensors) -> None:
        gradients = [_dense(p.grad) for p in parameters if p.grad is not None]
        if group["weight_decay"] and not group.get("decoupled_weight_decay"):
            # Not in place: the caller's gradients stay what they were.
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        self._step_lr(group, parameters, gradients)
        directions = self._directions(group, parameters, gradients)
        if group["weight_decay"] and group.get("decoupled_weight_decay"):
            torch._foreach_add_(directions, parameters, alpha=group["weight_decay"])
        torch._foreach_add_(parameters, directions, alpha=-group["lr"])
        for p, direction in zip(parameters, directions, strict=True):
            self.state[p]["direction"] = direction

    def _step_lr(self, group: dict[str, Any], parameters: Tensors, gradients: Tensors) -> None:
        """One step of the learning rate against its hypergradient; none at a group's first update."""
        pairs = [
            (gradient, self.state[p]["direction"])
            for p, gradient in zip(parameters, gradients, strict=True)
            if "direction" in self.state[p]
        ]
        if not pairs:
            return
        g, d = (torch.cat([t.flatten() for t in tensors]) for tensors in zip(*pairs, strict=True))
        agreement, lr = float(g @ d), group["lr"]
        if group["multiplicative"]:
            lengths = float(g.norm()) * float(d.norm())
            lr *= 1 + group["hypergrad_lr"] * agreement / lengths if lengths > 0 else 1
        else:
            lr += group["hypergrad_lr"] * agreement
        if not math.isnan(lr):
            group["lr"] = min(max(lr, 0.0), LARGEST)


class SGDHD(HypergradientOptimizer):
    """SGD with hypergradient descent: the paper's algorithms 4 (no momentum) and 5 (`nesterov`).

    d_t = g_t; with momentum v_t = μ v_{t-1} + g_t it is v_t, or g_t + μ v_t with `nesterov`, as in
    `torch.optim.SGD`. Weight decay is the loss's L2 penalty, and so part of g_t and of the hypergradient.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate α_0 to start from, >= 0. The multiplicative rule cannot leave 0.
        hypergrad_lr: β; below 1 with the multiplicative rule, in units of lr / gradient² with the additive
            one.
        momentum: μ, in [0, 1).
        nesterov: Whether momentum is Nesterov's.
        weight_decay: λ >= 0.
        multiplicative: Which rule moves the learning rate. The multiplicative one does not depend on the
            scale of the loss, so one `hypergrad_lr` serves all jobs.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        hypergrad_lr: float = DEFAULT_HYPERGRAD_LR,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        multiplicative: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "hypergrad_lr": hypergrad_lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "multiplicative": multiplicative,
        }
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        require_range("momentum", group["momentum"], 0, BELOW_ONE)

    def _directions(self, group: dict[str, Any], parameters: Tensors, gradients: Tensors) -> Tensors:
        momentum = group["momentum"]
        if not momentum:
            return [g.clone() for g in gradients]
        buffers = self._buffers(parameters, "momentum_buffer")
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        if group["nesterov"]:
            return list(torch._foreach_add(gradients, buffers, alpha=momentum))
        return [b.clone() for b in buffers]


class AdamHD(HypergradientOptimizer):
    """Adam with hypergradient descent: the paper's algorithm 6.

    d_t = m̂_t / (√v̂_t + ε), with Adam's bias-corrected averages. Weight decay is the loss's L2 penalty, and so
    part of the gradient; if decoupled it is AdamW's, d_t = m̂_t / (√v̂_t + ε) + λ θ_{t-1}.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate α_0 to start from, >= 0. The multiplicative rule cannot leave 0.
        hypergrad_lr: β; below 1 with the multiplicative rule, in units of lr / gradient with the additive
            one.
        betas: Decay of the averages of gradients and of their squares, in [0, 1).
        eps: ε > 0.
        weight_decay: λ >= 0.
        decoupled_weight_decay: Whether weight decay is AdamW's.
        multiplicative: See `SGDHD`.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        hypergrad_lr: float = DEFAULT_HYPERGRAD_LR,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        multiplicative: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "hypergrad_lr": hypergrad_lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "multiplicative": multiplicative,
        }
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        for i, beta in enumerate(group["betas"]):
            require_range(f"betas[{i}]", beta, 0, BELOW_ONE)
        require_range("eps", group["eps"], 0, LARGEST, above=True)

    def _directions(self, group: dict[str, Any], parameters: Tensors, gradients: Tensors) -> Tensors:
        beta1, beta2 = group["betas"]
        means, squares = self._buffers(parameters, "exp_avg"), self._buffers(parameters, "exp_avg_sq")
        steps = [self.state[p].get("step", 0) + 1 for p in parameters]
        for p, step in zip(parameters, steps, strict=True):
            self.state[p]["step"] = step
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, [math.sqrt(1 - beta2**step) for step in steps])
        torch._foreach_add_(roots, group["eps"])
        directions = torch._foreach_div(means, roots)
        torch._foreach_div_(directions, [1 - beta1**step for step in steps])
        return list(directions)


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient
