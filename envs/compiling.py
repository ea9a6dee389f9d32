"""Makes a function of tensors fast: traced once, compiled by inductor, on a GPU captured as a CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import gymnasium as gym
import torch

Function: TypeAlias = Callable[..., Sequence[torch.Tensor]]
"""Tensors → tensors; it may change what it is given, in place."""

OPTIONS: dict[str, Any] = {
    "cpp_wrapper": True,  # the kernels are called from C++: 5 % of a small network's time
    "realize_reads_threshold": 3,  # else a tick's optimizer state is worked out again in each tick after it
}
"""Inductor's settings, for these programs only."""
_TOLD: set[str] = set()
WARM_UP = 3
"""Calls before a CUDA graph is captured, as torch advises: in them kernels are chosen and memory allotted."""


def fast(function: Function, example: Sequence[torch.Tensor]) -> Function:
    """A faster function that does the same with tensors of the same shapes, strides and types.

    Where nothing can be compiled, for want of a C++ compiler say, it is the function itself, and a warning
    says so once a process.

    Args:
        function: Of static shapes and without a branch on values.
        example: Tensors like those that it will be called with; left as they are.
    """
    cuda = example[0].is_cuda
    try:
        made = _compiled(function, example)
    except RuntimeError as error:  # torch's InductorError and what it wraps
        _tell(error)
        made = function
    return GraphedFunction(made, example) if cuda else made


def _compiled(function: Function, example: Sequence[torch.Tensor]) -> Function:
    """Traced through autograd and vmap, and compiled; inductor keeps what it made in its folder on disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own modules warn about each other when they are imported
        import torch._inductor
        from torch._guards import TracingContext, tracing
        from torch._subclasses import FakeTensorMode
        from torch.fx.experimental.proxy_tensor import make_fx
        from torch.fx.experimental.symbolic_shapes import ShapeEnv

        apart = {torch.ops.aten.baddbmm.default: _product_then_sum}
        graph = make_fx(function, decomposition_table=apart)(*_copies(example))
        for node in graph.graph.nodes:
            node.meta.clear()  # tensors of the trace, which inductor would take for its own
        # Inductor looks its cache up under a tracing context only.
        with tracing(TracingContext(FakeTensorMode(shape_env=ShapeEnv()))):
            made: Function = torch._inductor.compile(graph, [*_copies(example)], options=OPTIONS)
    return made


def _product_then_sum(
    bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    """`torch.baddbmm` in two steps: the sum is then compiled into what follows."""
    product = torch.bmm(a, b)
    return product + bias if beta == alpha == 1 else beta * bias + alpha * product


def _copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _tell(error: RuntimeError) -> None:
    """Warns that programs run uncompiled, once a process."""
    if "told" not in _TOLD:
        _TOLD.add("told")
        reason = str(error).strip().splitlines()[0]
        gym.logger.warn(f"training programs run uncompiled, several times slower: {reason}")


class GraphedFunction:
    """A function captured as a CUDA graph: one launch a call instead of one a kernel.

    Args:
        function: On a GPU, of static shapes; it may change what it is given.
        example: Tensors like those that it will be called with.
    """

    def __init__(self, function: Function, example: Sequence[torch.Tensor]) -> None:
        self._inputs = _copies(example)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = function(*self._inputs)

    def __call__(self, *tensors: torch.Tensor) -> Sequence[torch.Tensor]:
        """Runs the function; what it changes in place is changed in `tensors` too."""
        for inside, tensor in zip(self._inputs, tensors, strict=True):
            inside.copy_(tensor)
        self._graph.replay()
        for inside, tensor in zip(self._inputs, tensors, strict=True):
            tensor.copy_(inside)
        return [output.clone() for output in self._outputs]
