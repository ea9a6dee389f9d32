"""Optimizers that train one set of weights and want another one judged.

Schedule-Free (Defazio et al., 2024, "The Road Less Scheduled") takes gradients at y but validates, keeps and
ships x; its optimizers swap the two by ``train()`` and ``eval()``. Any optimizer that has both is treated so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from rl_tuner.errors import JobError


@dataclass(frozen=True, slots=True)
class Swapped:
    """What a switch to evaluation changed; the tensors are never written to.

    Attributes:
        trained: The weights before, by parameter.
        judged: The weights after.
        momenta: Each group's momentum or betas, by which one is computed from the other.
    """

    trained: list[torch.Tensor]
    judged: list[torch.Tensor]
    momenta: list[object]


class OptimizerModes:
    """Switches an optimizer between training and evaluation; does nothing to one without the two modes.

    Such an optimizer computes one set of weights from the other, which rounds. So that validating more often
    does not change what is trained, `eval` notes the trained weights and `train` puts them back bit for bit,
    unless somebody changed the weights or the momentum in between.

    Args:
        optimizer: Any.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        train, evaluate = getattr(optimizer, "train", None), getattr(optimizer, "eval", None)
        self._there = callable(train) and callable(evaluate)
        self._swapped: Swapped | None = None

    @torch.no_grad()
    def train(self) -> None:
        """Puts the weights that are trained into the model."""
        if not self._there:
            return
        swapped, self._swapped = self._swapped, None
        untouched = (
            swapped is not None
            and swapped.momenta == self._momenta()
            and _equal(self._parameters(), swapped.judged)
        )
        self._call("train")
        if swapped is not None and untouched:
            for p, trained in zip(self._parameters(), swapped.trained, strict=True):
                p.copy_(trained)

    @torch.no_grad()
    def eval(self) -> None:
        """Puts the weights that are to be validated, kept and used into the model; the second time nothing.

        Raises:
            JobError: The optimizer cannot compute them.
        """
        if not self._there:
            return
        before = [p.detach().clone() for p in self._parameters()]
        self._call("eval")
        parameters = self._parameters()
        if self._swapped is None or not _equal(parameters, before):
            self._swapped = Swapped(before, [p.detach().clone() for p in parameters], self._momenta())

    def get_state(self) -> Swapped | None:
        """What `eval` noted; `set_state` continues from it."""
        return self._swapped

    def set_state(self, state: Swapped | None) -> None:
        """Continues from what `get_state` gave, once the optimizer and its weights are restored."""
        self._swapped = state

    def _call(self, mode: str) -> None:
        switch: Callable[[], object] = getattr(self._optimizer, mode)
        try:
            switch()
        except ZeroDivisionError as error:
            raise JobError(
                f"{type(self._optimizer).__name__} cannot tell its weights apart at momentum (or β1) 0: keep "
                'it above, with fixed=("momentum",) in the job'
            ) from error

    def _parameters(self) -> list[torch.Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def _momenta(self) -> list[object]:
        return [(group.get("momentum"), group.get("betas")) for group in self._optimizer.param_groups]


def _equal(tensors: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return len(tensors) == len(others) and all(map(torch.equal, tensors, others))
