"""Network architectures by name: "mlp-64x32", "cnn-8x16-layer", "transformer-32x2".

A name is a shape of `ARCHITECTURES` and its sizes. Each architecture has one name only, so that a suite that
holds some out can compare names. Every network stacks (see `rl_tuner.envs.models`), and has dropout layers
unless its rate is None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

from rl_tuner.config import choose
from rl_tuner.envs.data import DataShape
from rl_tuner.envs.models import NORMS, cnn, conv1d, dropout_of, gru, mlp, transformer
from rl_tuner.envs.rating_models import matrix_factorization, two_towers
from rl_tuner.envs.samples import KINDS
from rl_tuner.errors import ConfigError

MOST_UNITS = 65_536
"""Larger sizes are typing errors."""
HEAD_UNITS = 8
"""Least units of a Transformer's attention head, where it has more than one."""
ROWS = ("table", "image", "sound")
"""Kinds of data whose inputs are rows of numbers."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A parsed name.

    Attributes:
        form: A key of `ARCHITECTURES`.
        sizes: Its numbers, in order.
        norm: One of `rl_tuner.envs.models.NORMS`; "group", the usual one, is not written.
    """

    form: str
    sizes: tuple[int, ...] = ()
    norm: str = "group"

    @property
    def name(self) -> str:
        """The only name it has."""
        sizes = "x".join(map(str, self.sizes))
        return "-".join(part for part in (self.form, sizes, self.norm) if part not in ("", "group"))


Build: TypeAlias = Callable[[Architecture, DataShape, float | None], nn.Module]
"""(architecture, its data's shape, dropout rate or None) → a fresh network."""


@dataclass(frozen=True, slots=True)
class Form:
    """What architectures of one form share.

    Attributes:
        example: A name.
        description: What the network is, and what the sizes are.
        kinds: Kinds of data that it fits, of `rl_tuner.envs.samples.KINDS`.
        build: Builds one.
        least: How many sizes there must be.
        most: How many there may be.
        norms: Whether a norm may be named.
    """

    example: str
    description: str
    kinds: tuple[str, ...]
    build: Build
    least: int = 1
    most: float = 1
    norms: bool = False


def parse_architecture(name: str) -> Architecture:
    """Reads a name.

    Args:
        name: Such as the examples in `ARCHITECTURES`; the inverse of `Architecture.name`.

    Raises:
        ConfigError: It is unknown (the message has the nearest one), or its sizes are malformed.
    """
    if not isinstance(name, str) or name.split("-")[0] not in ARCHITECTURES:
        choose("architecture", name, [form.example for form in ARCHITECTURES.values()])
    parts = name.split("-")
    form = ARCHITECTURES[parts[0]]
    norm = parts.pop() if form.norms and parts[-1] in NORMS[1:] else NORMS[0]
    sizes = tuple(int(digits) for digits in re.findall("[0-9]{1,9}", "-".join(parts[1:])))
    found = Architecture(parts[0], sizes, norm)
    fits = form.least <= len(sizes) <= form.most and all(1 <= size <= MOST_UNITS for size in sizes)
    if not fits or found.name != name:  # what is written in any other way is read as something else
        raise ConfigError(
            f"architecture {name!r} must look like {form.example!r}: {form.description}; "
            f"sizes are from 1 to {MOST_UNITS}"
        )
    return found


def check_architecture(architecture: str, kind: str) -> Architecture:
    """Reads a name and checks that its networks fit a kind of data.

    Args:
        architecture: See `parse_architecture`.
        kind: One of `rl_tuner.envs.samples.KINDS`.

    Raises:
        ConfigError: See `parse_architecture`; or it does not fit, or there is no such kind.
    """
    choose("kind of data", kind, KINDS)
    found = parse_architecture(architecture)
    fitting = ARCHITECTURES[found.form].kinds
    if kind not in fitting:
        others = ", ".join(form.example for form in ARCHITECTURES.values() if kind in form.kinds)
        raise ConfigError(
            f"architecture {architecture!r} fits {', '.join(fitting)}, not {kind}: "
            f"choose one such as {others}"
        )
    return found


def build_network(architecture: str, shape: DataShape, dropout: float | None) -> nn.Module:
    """A fresh network, its weights drawn from torch's global generator.

    Args:
        architecture: See `parse_architecture`.
        shape: The data's.
        dropout: Rate of all dropout layers, in [0, 1); None builds none.

    Returns:
        A network from a `rl_tuner.envs.data.Split`'s inputs to outputs (n, outputs), (n,) for one output, or
        (n, outputs, T) where every position is predicted.

    Raises:
        ConfigError: See `check_architecture`; or a number is out of range.
    """
    found = check_architecture(architecture, shape.kind)
    if shape.kind == "ratings" and shape.outputs != 1:
        raise ConfigError(f"{architecture!r} predicts one value a rating, not {shape.outputs} classes")
    return ARCHITECTURES[found.form].build(found, shape, dropout)


def attention_heads(width: int) -> int:
    """Heads of a Transformer of that width: the most of 8 units or more that divide it, else 1."""
    most = max(1, width // HEAD_UNITS)
    return next(heads for heads in range(most, 0, -1) if width % heads == 0)


def _linear(_found: Architecture, shape: DataShape, dropout: float | None) -> nn.Module:
    """It has no hidden layer to drop from: its inputs are dropped."""
    return nn.Sequential(*dropout_of(dropout), *mlp(math.prod(shape.sample), (), shape.outputs))


def _mlp(found: Architecture, shape: DataShape, dropout: float | None) -> nn.Module:
    return mlp(math.prod(shape.sample), found.sizes, shape.outputs, dropout)


def _cnn(found: Architecture, shape: DataShape, dropout: float | None) -> nn.Module:
    channels, height, width = shape.sample
    return cnn((channels, height, width), found.sizes, shape.outputs, found.norm, dropout)


def _conv1d(found: Architecture, shape: DataShape, dropout: float | None) -> nn.Module:
    channels, length = shape.sample
    return conv1d((channels, length), found.sizes, shape.outputs, found.norm, dropout)


def _gru(found: Architecture, shape: DataShape, dropout: float | None) -> nn.Module:
    (tokens,), (width,) = shape.vocabulary, found.sizes
    return gru(tokens, shape.outputs, width, width, dropout, predict_all=shape.every_position)


def _transformer(found: Architecture, shape: DataShape, dropout: float | None) -> nn.Module:
    (tokens,), (length,), (width, layers) = shape.vocabulary, shape.sample, found.sizes
    every, heads = shape.every_position, attention_heads(width)
    return transformer(
        tokens, length, shape.outputs, width, heads, layers, dropout, causal=every, predict_all=every
    )


def _factors(found: Architecture, shape: DataShape, dropout: float | None) -> nn.Module:
    users, items = shape.vocabulary
    return matrix_factorization(users, items, found.sizes[0], dropout)


def _towers(found: Architecture, shape: DataShape, dropout: float | None) -> nn.Module:
    users, items = shape.vocabulary
    return two_towers(users, items, found.sizes[0], found.sizes[1:], dropout)


ARCHITECTURES: dict[str, Form] = {
    "linear": Form("linear", "one linear layer, without sizes", ROWS, _linear, least=0, most=0),
    "mlp": Form(
        "mlp-64x32", "a multilayer perceptron, units of each hidden layer", ROWS, _mlp, most=math.inf
    ),
    "cnn": Form(
        "cnn-8x16",
        "a convolutional network, channels of each block, then -layer or -none for another norm",
        ("image",),
        _cnn,
        most=math.inf,
        norms=True,
    ),
    "conv1d": Form(
        "conv1d-8x16",
        "a convolutional network on signals, named as a cnn",
        ("sound",),
        _conv1d,
        most=math.inf,
        norms=True,
    ),
    "gru": Form("gru-32", "a recurrent network, size of embedding and state", ("tokens",), _gru),
    "transformer": Form(
        "transformer-32x2",
        "a Transformer, width x layers, with heads of 8 units or more; causal if it predicts every position",
        ("tokens",),
        _transformer,
        least=2,
        most=2,
    ),
    "factors": Form("factors-8", "matrix factorization, factors", ("ratings",), _factors),
    "towers": Form(
        "towers-16x32",
        "two towers, size of the embeddings x units of each hidden layer",
        ("ratings",),
        _towers,
        least=2,
        most=math.inf,
    ),
}
