"""The model shapes that suites and commands build.

Every shape also runs as many stacked copies in one program (`rl_tuner.envs.stacked`). So each is an
`nn.Sequential` of torch's own layers as far as that goes; there are no buffers, no batch norm, no dropout but
`nn.Dropout` on inputs whose first dimension is the batch, and modules of our own where torch's (``nn.GRU``,
``nn.MultiheadAttention``) call kernels that cannot be stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from rl_tuner.config import choose, require_counts, require_range
from rl_tuner.envs.joint_layers import Residual
from rl_tuner.envs.sequence_layers import GRU, Attention, ClassesFirst, Last, Mean, Positions
from rl_tuner.errors import ConfigError

NORMS = ("group", "layer", "none")
SMALLEST_POOLED = 4
"""Images are halved while both sides have so many pixels."""
SMALLEST_QUARTERED, FIRST_KERNEL = 16, 16
"""Signals are quartered while they have so many samples; and the kernel of the first layer that does it."""
MOST_GROUPS, GROUP_CHANNELS = 32, 4
"""At most 32 groups (Wu and He 2018, Group Normalization), of at least 4 channels where there are as many."""


def mlp(inputs: int, hidden: Sequence[int], outputs: int, dropout: float | None = None) -> nn.Sequential:
    """A multilayer perceptron with ReLU units.

    Args:
        inputs: Input columns.
        hidden: Units of each hidden layer.
        outputs: Output columns; 1 gives outputs of shape (n,), for regression.
        dropout: Rate after each hidden layer, in [0, 1); None builds no dropout layers.

    Raises:
        ConfigError: A number is out of range.
    """
    require_counts({"inputs": inputs, "outputs": outputs})
    return nn.Sequential(*hidden_layers(inputs, hidden, dropout), *_head([inputs, *hidden][-1], outputs))


def cnn(
    image: tuple[int, int, int],
    channels: Sequence[int],
    outputs: int,
    norm: str = "group",
    dropout: float | None = None,
) -> nn.Sequential:
    """A convolutional network: blocks of convolution, norm, ReLU and max pooling, then a linear layer.

    Inputs are images of shape (n, C, H, W), or the same numbers as rows of shape (n, C·H·W).

    Args:
        image: Channels, height and width of an image.
        channels: Channels of each block; the image is halved after a block while both sides are >= 4.
        outputs: Classes, outputs of shape (n, classes); 1 gives shape (n,), for regression.
        norm: "group", "layer" (one group: over channels, height and width) or "none".
        dropout: Rate before the linear layer, in [0, 1); None builds no dropout layer.

    Raises:
        ConfigError: A number is out of range, or `norm` is unknown.
    """
    choose("norm", norm, NORMS)
    if len(image) != 3:
        raise ConfigError(f"image must be channels, height and width, got {tuple(image)}")
    require_counts({"outputs": outputs, **numbered("image", image), **numbered("channels", channels)})
    before, height, width = image
    layers: list[nn.Module] = [nn.Flatten(), nn.Unflatten(1, tuple(image))]  # so rows and images both fit
    for count in channels:
        layers += [nn.Conv2d(before, count, 3, padding=1), *_norm(norm, count), nn.ReLU()]
        if min(height, width) >= SMALLEST_POOLED:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        before = count
    layers += [nn.Flatten(), *dropout_of(dropout)]
    return nn.Sequential(*layers, *_head(before * height * width, outputs))


def conv1d(
    signal: tuple[int, int],
    channels: Sequence[int],
    outputs: int,
    norm: str = "group",
    dropout: float | None = None,
) -> nn.Sequential:
    """A convolutional network on signals: as `cnn`, but a wide first kernel takes strides of 4.

    After Dai et al. 2017, Very Deep Convolutional Neural Networks for Raw Waveforms: first a kernel wide
    enough to see a tone in strides of 4, then kernels of 3, each followed by max pooling over 4.
    Inputs are signals of shape (n, channels, length), or the same numbers as rows.

    Args:
        signal: Channels and length of a signal.
        channels: Channels of each block; a signal is quartered where it still has 16 samples or more: by
            the first block's strides, and after each block. One shorter than 16 has a first kernel of 3.
        outputs: Classes, outputs of shape (n, classes); 1 gives shape (n,), for regression.
        norm: "group", "layer" (one group: over channels and length) or "none".
        dropout: Rate before the linear layer, in [0, 1); None builds no dropout layer.

    Raises:
        ConfigError: A number is out of range, or `norm` is unknown.
    """
    choose("norm", norm, NORMS)
    if len(signal) != 2:
        raise ConfigError(f"signal must be channels and length, got {tuple(signal)}")
    require_counts({"outputs": outputs, **numbered("signal", signal), **numbered("channels", channels)})
    before, length = signal
    layers: list[nn.Module] = [nn.Flatten(), nn.Unflatten(1, tuple(signal))]
    for number, count in enumerate(channels):
        if number == 0 and length >= SMALLEST_QUARTERED:
            layers.append(nn.Conv1d(before, count, FIRST_KERNEL, stride=4, padding=FIRST_KERNEL // 2 - 2))
            length //= 4
        else:
            layers.append(nn.Conv1d(before, count, 3, padding=1))
        layers += _norm(norm, count)
        if length >= SMALLEST_QUARTERED:
            layers.append(nn.MaxPool1d(4))
            length //= 4
        layers.append(nn.ReLU())  # the same before pooling, and dearer
        before = count
    layers += [nn.Flatten(), *dropout_of(dropout)]
    return nn.Sequential(*layers, *_head(before * length, outputs))


def gru(
    vocabulary: int,
    outputs: int,
    width: int = 32,
    hidden: int = 32,
    dropout: float | None = None,
    *,
    predict_all: bool = False,
) -> nn.Sequential:
    """A recurrent network on token sequences of shape (n, T), int64: embedding, GRU, linear layer.

    Args:
        vocabulary: Tokens are 0 … vocabulary − 1.
        outputs: Classes, outputs of shape (n, classes); 1 gives shape (n,), for regression.
        width: Size of the embedding.
        hidden: Size of the state.
        dropout: Rate before the linear layer, in [0, 1); None builds no dropout layer.
        predict_all: Predict at every position, not after the last one only: outputs of shape
            (n, classes, T) as `torch.nn.functional.cross_entropy` wants them, or (n, T).

    Raises:
        ConfigError: A number is out of range.
    """
    require_counts({"vocabulary": vocabulary, "outputs": outputs, "width": width, "hidden": hidden})
    layers: list[nn.Module] = [nn.Embedding(vocabulary, width), GRU(width, hidden)]
    if not predict_all:
        layers.append(Last())
    return nn.Sequential(*layers, *dropout_of(dropout), *_head(hidden, outputs, predict_all))


def transformer(
    vocabulary: int,
    length: int,
    outputs: int,
    width: int = 32,
    heads: int = 4,
    layers: int = 2,
    dropout: float | None = None,
    *,
    causal: bool = False,
    predict_all: bool = False,
) -> nn.Sequential:
    """A pre-norm Transformer (Xiong et al. 2020) on token sequences of shape (n, T <= `length`), int64.

    Args:
        vocabulary: Tokens are 0 … vocabulary − 1.
        length: Positions that have an embedding.
        outputs: Classes, outputs of shape (n, classes); 1 gives shape (n,), for regression.
        width: Size of the embedding, a multiple of `heads`; the feed-forward layers are 4 times as wide.
        heads: Attention heads of a layer.
        layers: Pairs of attention and feed-forward blocks.
        dropout: Rate after the embedding and at the end of each block, in [0, 1); None builds no dropout
            layers.
        causal: A position sees itself and those before it only, and the prediction is made from the last
            one; otherwise from the mean over positions.
        predict_all: Predict at every position: outputs of shape (n, classes, T) as
            `torch.nn.functional.cross_entropy` wants them, or (n, T).

    Raises:
        ConfigError: A number is out of range, or `width` is no multiple of `heads`.
    """
    require_counts({"vocabulary": vocabulary, "length": length, "outputs": outputs})
    require_counts({"width": width, "heads": heads, "layers": layers})
    blocks: list[nn.Module] = [nn.Embedding(vocabulary, width), Positions(length, width)]
    blocks += dropout_of(dropout)
    for _ in range(layers):
        attend = [nn.LayerNorm(width), Attention(width, heads, causal), *dropout_of(dropout)]
        feed = [nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)]
        blocks += [Residual(*attend), Residual(*feed, *dropout_of(dropout))]
    blocks.append(nn.LayerNorm(width))
    if not predict_all:
        blocks.append(Last() if causal else Mean())
    return nn.Sequential(*blocks, *_head(width, outputs, predict_all))


def _head(width: int, outputs: int, every_position: bool = False) -> list[nn.Module]:
    """The linear layer, and what brings its outputs into shape; one output has no dimension of its own."""
    linear = nn.Linear(width, outputs)
    if every_position:
        return [linear, nn.Flatten(1) if outputs == 1 else ClassesFirst()]
    return [linear, nn.Flatten(0)] if outputs == 1 else [linear]


def hidden_layers(inputs: int, hidden: Sequence[int], dropout: float | None) -> list[nn.Module]:
    """The layers of an MLP before the last one.

    Args:
        inputs: See `mlp`, as `hidden` and `dropout`.
        hidden: See `mlp`.
        dropout: See `mlp`.

    Raises:
        ConfigError: A number is out of range.
    """
    require_counts(numbered("hidden", hidden))
    layers: list[nn.Module] = []
    for before, units in pairwise([inputs, *hidden]):
        layers += [nn.Linear(before, units), nn.ReLU(), *dropout_of(dropout)]
    return layers


def dropout_of(rate: float | None) -> list[nn.Module]:
    """A dropout layer, or none for None.

    Raises:
        ConfigError: The rate is not in [0, 1).
    """
    return [] if rate is None else [nn.Dropout(require_range("dropout", rate, 0, 1 - 1e-9))]


def _norm(norm: str, channels: int) -> list[nn.Module]:
    """The norm after a convolution; see `NORMS`."""
    if norm == "none":
        return []
    return [nn.GroupNorm(_groups(channels) if norm == "group" else 1, channels)]


def _groups(channels: int) -> int:
    """The most groups of equal size that `MOST_GROUPS` and `GROUP_CHANNELS` allow."""
    most = max(1, min(MOST_GROUPS, channels // GROUP_CHANNELS))
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


def numbered(name: str, values: Sequence[int]) -> dict[str, int]:
    """Values by the names that messages call them, as `require_counts` wants them."""
    return {f"{name}[{i}]": value for i, value in enumerate(values)}
