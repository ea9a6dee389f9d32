"""The programs of static shapes that a group runs, each made when it is first needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rl_tuner.config import require_counts
from rl_tuner.envs.block import Block
from rl_tuner.envs.compiling import Function, fast
from rl_tuner.envs.row_losses import RowLoss
from rl_tuner.envs.stacked import StackedModel
from rl_tuner.envs.update_rules import UpdateRule


@dataclass(frozen=True, slots=True)
class Uniform:
    """How to run groups in programs of static shapes.

    Attributes:
        micro_batch: m, samples of a job in a tick; larger batches take several.
        capacity: C, jobs in a program.
        unrolled: K, ticks in a program.
        compile: Whether to compile the programs; else they run eagerly, slower than `rl_tuner.envs.rounds`.

    Raises:
        ConfigError: A number is below 1, or no whole number.
    """

    micro_batch: int = 64
    capacity: int = 32
    unrolled: int = 4
    compile: bool = True

    def __post_init__(self) -> None:
        require_counts({name: getattr(self, name) for name in ("micro_batch", "capacity", "unrolled")})


STANDARD_SIZES = Uniform(micro_batch=32)
"""Sizes that suit jobs of unequal batch sizes."""


MANY_KINDS = 8
"""Above so many rules a program no longer serves those that no job has now."""


class Programs:
    """The programs of one group, each made when it is first needed.

    Args:
        model: The architecture.
        loss: The loss.
        rules: The optimizers' rules by number; the list may grow.
        uniform: Their sizes.
        averaging: Whether averages of the weights are kept.

    Attributes:
        kinds: Numbers of the rules that a program serves: all that some job had, or, where these are more
            than `MANY_KINDS`, those that jobs had when the last new one came.
        uses: Which of dropout and the regularizers some job used: see `rl_tuner.envs.regularizers.used_in`.
    """

    def __init__(
        self,
        model: StackedModel,
        loss: RowLoss,
        rules: Sequence[UpdateRule],
        uniform: Uniform,
        averaging: bool = False,
    ) -> None:
        self.model, self.rules, self.uniform = model, rules, uniform
        self.kinds: tuple[int, ...] = ()
        self.uses: frozenset[str] = frozenset()
        self._loss, self._averaging = loss, averaging
        self._made: dict[Block, Function] = {}

    def admit(self, kinds: Sequence[int], uses: frozenset[str]) -> None:
        """Makes sure that the programs from now on serve these rules, and what jobs use besides."""
        served = {*self.kinds, *kinds}
        if len(served) > MANY_KINDS and not served <= {*self.kinds}:
            served = {*kinds}  # each job pays for every rule that its program serves
        admitted = tuple(sorted(served)), self.uses | uses
        if admitted != (self.kinds, self.uses):
            self._made.clear()
        self.kinds, self.uses = admitted

    def find(self, accumulates: bool, example: Sequence[torch.Tensor]) -> Function:
        """A program for all that was admitted.

        Args:
            accumulates: Whether some batch takes more than one tick.
            example: Tensors like the ones that it will be called with.
        """
        rules = tuple(self.rules[kind] for kind in self.kinds)
        block = Block(self.model, self._loss, rules, accumulates, self.uses, self._averaging)
        if block not in self._made:
            self._made[block] = fast(block, example) if self.uniform.compile else block
        return self._made[block]
