"""Whether a stack computes what its module computes: the guard that lets strangers' modules be batched.

A stack's rows may hold a part of a batch, and places that count for nothing; a row may be trained or
evaluated after any other. So a module can be stacked only if each sample's outputs, and its share of the
gradients, depend on that sample and the parameters alone. All this is tried on a few samples, with the
parameters given and with disturbed ones (what is zero at first may hide what it is multiplied with).
"""

from __future__ import annotations

import copy
import random
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import nn

from rl_tuner.envs.dropout import Drop
from rl_tuner.envs.signatures import signature
from rl_tuner.envs.stacked_layers import DROPOUTS
from rl_tuner.errors import JobError

if TYPE_CHECKING:
    from rl_tuner.envs.stacked import StackedModel

Pass: TypeAlias = tuple[torch.Tensor, tuple[torch.Tensor, ...]]
"""Outputs, shape (m, ...), and the parameters' gradients of their sum, randomly weighted."""
DISTURBANCE = 0.3
"""Of the parameters, in units of their mean size."""


def check_stack(stacked: StackedModel, module: nn.Module, inputs: torch.Tensor) -> None:
    """See `StackedModel.check`."""
    if len(inputs) == 1:
        inputs = torch.cat([inputs, inputs])
    with _random_state_kept():
        with failing_as("it cannot be copied"):
            plain = copy.deepcopy(module)
        for layer in plain.modules():
            if type(layer) in DROPOUTS:
                layer.p = 0.0  # type: ignore[assignment]
        row = stacked.row(plain)
        theta = torch.stack([row, _disturbed(stacked, row)])
        with failing_as("a forward or backward pass of its own fails"):
            alone = [_check_plain(stacked, plain, row, inputs) for row in theta]
        with failing_as("it cannot be mapped over rows"), warnings.catch_warnings():
            # torch's words where an operation would be done row by row, and warned of each time.
            warnings.filterwarnings("error", "There is a performance drop")
            _check_rows(stacked, theta, inputs, alone)


@contextmanager
def failing_as(reason: str) -> Iterator[None]:
    """Whatever a stranger's module raises becomes a `JobError` that begins with the reason.

    It names no addresses of objects, so that the same failure has the same words each time.
    """
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        line = re.sub(" at 0x[0-9a-fA-F]+", "", next(iter(str(error).splitlines()), ""))
        raise JobError(f"{reason}: {type(error).__name__}: {line}") from error


def _check_plain(stacked: StackedModel, plain: nn.Module, row: torch.Tensor, inputs: torch.Tensor) -> Pass:
    """The module's own pass with the parameters in a row, once that is known to be a sample-by-sample one."""
    stacked.write(plain, row)
    before, state = signature(plain), _random_state()
    found = _plain_pass(plain.train(), inputs)
    outputs, gradients = found
    singles = [_plain_pass(plain, inputs[i : i + 1], i) for i in range(len(inputs))]
    with torch.no_grad():
        evaluated = plain.eval()(inputs.clone())
    if _random_state() != state:
        raise JobError("it draws random numbers, other than by dropout layers")
    if signature(plain) != before or not torch.equal(stacked.row(plain), row):
        raise JobError("a forward pass changes it (its buffers, as batch normalization does, or attributes)")
    added = [torch.stack(parts).sum(0) for parts in zip(*(g for _, g in singles), strict=True)]
    one_by_one = torch.cat([o for o, _ in singles])
    if not _alike([one_by_one], [outputs]) or not _alike(added, gradients):
        raise JobError("a sample's outputs or gradients depend on the other samples of its batch")
    if not _alike([evaluated], [outputs]):
        raise JobError("it works otherwise in evaluation, apart from dropout layers")
    return found


def _plain_pass(plain: nn.Module, inputs: torch.Tensor, first: int = 0) -> Pass:
    """Outputs and gradients; `first` is the number of the first sample, for its weight in the gradients."""
    given = inputs.clone().requires_grad_(inputs.is_floating_point())
    outputs = plain(given.clone())  # a copy: a module may write into its inputs
    if not isinstance(outputs, torch.Tensor) or outputs.shape[:1] != inputs.shape[:1]:
        kind = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise JobError(f"its outputs must be one tensor (n, ...): got {kind} for n = {len(inputs)} samples")
    pull = _pull(outputs, first)
    parameters = list(plain.parameters())
    gradients = torch.autograd.grad(outputs, parameters, pull, retain_graph=True, allow_unused=True)
    if any(g is None for g in gradients):
        raise JobError("it has parameters that its outputs do not depend on")
    if any(g.layout is not torch.strided for g in gradients):
        raise JobError("it has sparse gradients")
    if given.requires_grad:
        (cross,) = torch.autograd.grad(outputs[0], given, pull[0], allow_unused=True)
        # Exactly zero: values may hide it, where the samples happen to be alike.
        if cross is not None and cross[1:].any():
            raise JobError("a sample's outputs or gradients depend on the other samples of its batch")
    return outputs.detach(), gradients


def _check_rows(
    stacked: StackedModel, theta: torch.Tensor, inputs: torch.Tensor, alone: Sequence[Pass]
) -> None:
    """The stack's pass against the module's own ones, with several samples a row and with one."""
    rows, m = len(theta), len(inputs)
    places = torch.arange(m, dtype=torch.int32, device=inputs.device).repeat(rows, 1)
    for dropout in [None] + [_drop(stacked, places, 0.0)] * (stacked.dropouts > 0):
        views = [view.requires_grad_() for view in stacked.views(theta.clone())]
        outputs = stacked.forward(views, torch.stack([inputs] * rows), dropout)
        pull = torch.stack([_pull(o) for o, _ in alone])
        gradients = torch.autograd.grad(outputs, views, pull)
        for row, (expected, expected_gradients) in enumerate(alone):
            found = [g[row] for g in gradients]
            if not _alike([outputs[row]], [expected]) or not _alike(found, expected_gradients):
                raise JobError("its outputs or gradients differ when it is mapped over rows")
    with torch.no_grad():
        for rate in (0.0, 0.5):
            whole = stacked.forward(
                stacked.views(theta), torch.stack([inputs] * rows), _drop(stacked, places, rate)
            )
            single = stacked.forward(
                stacked.views(theta.repeat_interleave(m, 0)),
                torch.cat([inputs] * rows).unsqueeze(1),
                _drop(stacked, places.reshape(-1, 1), rate),
            )
            if not _alike([single.squeeze(1)], [whole.flatten(0, 1)]):
                raise JobError("its outputs differ when it is mapped over rows of one sample")


def _drop(stacked: StackedModel, places: torch.Tensor, rate: float) -> Drop | None:
    """The same key for every row; None where there is nothing to drop."""
    if not stacked.dropouts:
        return None
    rates = torch.full((len(places), stacked.dropouts), rate, dtype=stacked.dtype, device=places.device)
    return Drop.of(rates, torch.ones(len(places), dtype=torch.int32, device=places.device), places)


def _disturbed(stacked: StackedModel, row: torch.Tensor) -> torch.Tensor:
    """A row somewhat off, in every tensor; so are those that are all zero."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(row.shape, generator=generator, dtype=torch.float64).to(row)
    parts = zip(torch.split(row, stacked.sizes), torch.split(noise, stacked.sizes), strict=True)
    return torch.cat([p + DISTURBANCE * (p.abs().mean() or 0.1) * e for p, e in parts])


def _pull(outputs: torch.Tensor, first: int = 0) -> torch.Tensor:
    """Weights of the outputs, shaped like them; those of a sample depend on its number only."""
    weights = torch.empty_like(outputs, dtype=torch.float64, device="cpu", requires_grad=False)
    for i in range(len(weights)):
        weights[i] = torch.randn(weights.shape[1:], generator=torch.Generator().manual_seed(first + i))
    return weights.to(outputs)


def _alike(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    """Whether tensors are equal to rounding, measured against their largest element.

    Some gradients are zero but for rounding (a bias before a norm, say): they are measured against a
    hundredth of the largest element of all.
    """
    tolerance = 4 * torch.finfo(expected[0].dtype).eps ** (2 / 3)
    most = torch.stack([_size(e) for e in expected]).max() / 100
    return all(
        f.shape == e.shape
        and torch.allclose(f, e, rtol=0, atol=float(tolerance * max(_size(e), most)), equal_nan=True)
        for f, e in zip(found, expected, strict=True)
    )


def _size(x: torch.Tensor) -> torch.Tensor:
    """The largest finite size of an element."""
    return x.detach().double().nan_to_num(0.0, 0.0, 0.0).abs().max() if x.numel() else torch.zeros(())


def _random_state() -> tuple[bytes, ...]:
    """The global random states, to compare."""
    numpy_state = np.random.get_state()  # noqa: NPY002 (it is what a stranger's module may draw from)
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states += torch.cuda.get_rng_state_all()
    texts = [repr(random.getstate()), *(np.asarray(part).tobytes().hex() for part in numpy_state)]
    return *(state.numpy().tobytes() for state in states), *(text.encode() for text in texts)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Puts the global random states back afterwards."""
    own, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 (see above)
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(cuda):
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(numpy_state)  # noqa: NPY002
