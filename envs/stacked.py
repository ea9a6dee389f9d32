"""Many copies of one architecture: their parameters in the rows of one matrix, one forward pass for all."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from rl_tuner.envs.dropout import Drop
from rl_tuner.envs.row_losses import RowLoss
from rl_tuner.envs.signatures import signature
from rl_tuner.envs.stack_check import check_stack, failing_as
from rl_tuner.envs.stacked_layers import DROPOUTS, Builder
from rl_tuner.errors import JobError

__all__ = ["StackedModel", "dropout_layers", "signature"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_UNMAPPABLE = (nn.RNNBase, nn.MultiheadAttention, nn.AlphaDropout, nn.FeatureAlphaDropout)


class StackedModel:
    """The forward pass of R networks of one architecture, each with parameters of its own.

    A row of the matrix theta (R, P) holds one network's parameters, flattened, in module order.

    Args:
        template: One such network; it is copied.
        device: Where the stack is to run; None: where the template is.

    Attributes:
        names: Name of each parameter tensor.
        shapes: Shape of each.
        sizes: Number of elements of each.
        width: P, the number of parameters.
        dropouts: L, the number of dropout layers.
        dtype: Of the parameters.
        device: Of the template's copy, and of the tensors that `forward` is to be given.

    Raises:
        JobError: The network cannot be stacked; the message says why.
    """

    def __init__(self, template: nn.Module, device: torch.device | None = None) -> None:
        reason = _objection(template)
        if reason:
            raise JobError(reason)
        with failing_as("it cannot be copied"):
            self._template = copy.deepcopy(template).to(device)
        parameters = list(self._template.parameters())
        self.names = [name for name, _ in self._template.named_parameters()]
        self.shapes = [p.shape for p in parameters]
        self.sizes = [p.numel() for p in parameters]
        self.width = sum(self.sizes)
        self.dtype, self.device = parameters[0].dtype, parameters[0].device
        layers = dropout_layers(self._template)
        self.dropouts = len(layers)
        numbers = {id(p): i for i, p in enumerate(parameters)}
        with failing_as("it cannot be copied"):
            self._forward = Builder(numbers, layers).build(self._template)

    def row(self, module: nn.Module) -> torch.Tensor:
        """A network's parameters as a row, shape (P,)."""
        return torch.cat([p.detach().reshape(-1) for p in module.parameters()])

    def module(self, row: torch.Tensor) -> nn.Module:
        """The network that a row (P,) holds: a copy, which nothing trains on."""
        module = copy.deepcopy(self._template)
        self.write(module, row)
        return module

    def write(self, module: nn.Module, row: torch.Tensor) -> None:
        """Sets the parameters of a network of this architecture to what a row (P,) holds."""
        with torch.no_grad():
            for p, values in zip(module.parameters(), torch.split(row, self.sizes), strict=True):
                p.copy_(values.view(p.shape))

    def views(self, theta: torch.Tensor) -> list[torch.Tensor]:
        """The parameter tensors within theta (R, P): views of shape (R, *shape)."""
        parts = torch.split(theta, self.sizes, 1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def forward(self, views: list[torch.Tensor], inputs: torch.Tensor, dropout: Drop | None) -> torch.Tensor:
        """Outputs of all networks.

        Args:
            views: What `views` gave.
            inputs: Shape (R, m, ...): m samples for each network; a module may write into them.
            dropout: Rates and keys; None drops nothing, as in evaluation.

        Returns:
            Shape (R, m, ...).
        """
        return self._forward(views, inputs, dropout)

    def leaves(self, theta: torch.Tensor) -> list[torch.Tensor]:
        """`views` of a theta without history, as what `gradient` differentiates with respect to."""
        return [view.requires_grad_() for view in self.views(theta)]

    def gradient(
        self,
        leaves: list[torch.Tensor],
        loss: RowLoss,
        samples: tuple[torch.Tensor, torch.Tensor],
        weights: torch.Tensor,
        dropout: Drop | None,
        out: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of each row, shape (R,), and its gradient, shape (R, P).

        Args:
            leaves: What `leaves` gave.
            loss: The task's loss.
            samples: Inputs and targets, (R, m, ...) each.
            weights: Of the samples, shape (R, m).
            dropout: See `forward`.
            out: Where to write the gradient; None for a new tensor.
        """
        inputs, targets = samples
        outputs = self.forward(leaves, inputs, dropout)
        losses, pull = loss(outputs.detach(), targets, weights)
        parts = torch.autograd.grad(outputs, leaves, pull)
        return losses, torch.cat([part.reshape(len(part), -1) for part in parts], 1, out=out)

    def check(self, module: nn.Module, inputs: torch.Tensor) -> None:
        """Compares the stacked forward and backward pass with the plain module's on a few samples.

        See `rl_tuner.envs.stack_check`: this is what makes it safe to stack a stranger's module. Module,
        inputs and global random state are left as they are.

        Args:
            module: A network of this architecture.
            inputs: Shape (m, ...), m >= 1; the more they differ, the more they show.

        Raises:
            JobError: They differ, or one of them fails; the message says how.
        """
        stacked = self
        if self.device.type != "cpu":  # kernels of other devices round otherwise; here the structure counts
            module, inputs = copy.deepcopy(module).cpu(), inputs.cpu()
            stacked = StackedModel(module)
        check_stack(stacked, module, inputs)


def dropout_layers(module: nn.Module) -> list[nn.Module]:
    """The layers whose dropout rate is tuned, in module order."""
    return [m for m in module.modules() if type(m) in DROPOUTS]


def _objection(module: nn.Module) -> str:
    """Why a network cannot be stacked, as far as its looks tell; empty if nothing speaks against it."""
    parameters = list(module.parameters())
    if any(is_lazy(p) for p in parameters):
        return "it has lazy layers, without parameters before their first forward pass"
    if not parameters or not all(p.requires_grad for p in parameters):
        return "every parameter must be trainable"
    if len({(p.dtype, p.device) for p in parameters}) > 1 or not parameters[0].is_floating_point():
        return "its parameters must share one floating-point type and device"
    hooked = any(getattr(m, name) for m in module.modules() for name in _HOOKS)
    if hooked or any(getattr(p, name, None) for p in parameters for name in _PARAMETER_HOOKS):
        return "it has hooks"
    if any(getattr(m, "inplace", False) for m in dropout_layers(module)):
        return "it has dropout layers that work in place"
    unmappable = next((type(m).__name__ for m in module.modules() if isinstance(m, _UNMAPPABLE)), "")
    return f"{unmappable} has no batching rule" if unmappable else ""
