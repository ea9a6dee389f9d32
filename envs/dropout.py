"""Dropout of many jobs side by side: a rate for each, and masks that no neighbour can change.

A mask is a hash of (job's seed, update, sample's place in the batch, layer, unit), not a draw from a
generator: a job's masks are the same whoever trains beside it, however its batch is laid out, and on every
device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rl_tuner.errors import JobError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = 2.0**31
_USE = 1 << 16
"""What a layer's number grows by with each use in one forward pass: models have fewer layers."""


def update_keys(seeds: NDArray[np.uint64], updates: NDArray[np.int64]) -> NDArray[np.int32]:
    """A key for each update: SplitMix64 (Steele, Lea and Flood, 2014) of seed and number, its upper half.

    Args:
        seeds: Of the jobs' dropout streams.
        updates: Numbers of the updates, from 0, broadcast against the seeds.
    """
    with np.errstate(over="ignore"):
        z = seeds + _GOLDEN * (updates.astype(np.uint64) + np.uint64(1))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = (z ^ (z >> np.uint64(31))) >> np.uint64(32)
    keys: NDArray[np.int32] = z.astype(np.uint32).view(np.int32)
    return keys


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """The dropout masks of several rounds: made all at once, since many small steps cost more than a few.

    Attributes:
        rates: Rate of each layer in each row, in [0, 1), shape (R, L).
        keys: Key of each sample in each round, shape (rounds, R, m), int32.
    """

    rates: torch.Tensor
    keys: torch.Tensor
    _made: dict[int, tuple[torch.Tensor, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rates: torch.Tensor, keys: torch.Tensor, places: torch.Tensor) -> Masks:
        """Keys of samples from keys of updates.

        Args:
            rates: See the class.
            keys: Key of each row's update in each round, shape (rounds, R), int32.
            places: Place of each sample in its batch, shape (R, m), int32.
        """
        return cls(rates, mix(mix(places) ^ keys.unsqueeze(-1)))

    def rounds(self) -> list[Drop]:
        """What each round's forward pass needs."""
        return [Drop(self.rates, keys, (self, number)) for number, keys in enumerate(self.keys.unbind())]

    def of_round(self, number: int, like: torch.Tensor, layer: int, place: int, shared: int) -> torch.Tensor:
        """A layer's mask in a round, to be multiplied with inputs like the given ones, (R, m, units...)."""
        if place not in self._made:
            units = _units(like, self.keys[0], shared)
            masks = _mask(self.rates[:, layer].unsqueeze(1), self.keys, place, units.numel(), like.dtype)
            self._made[place] = masks.view(*self.keys.shape, *units, *([1] * shared)).unbind()
        return self._made[place][number]


@dataclass(frozen=True, slots=True, eq=False)
class Drop:
    """What the dropout layers of one forward pass need.

    Attributes:
        rates: Rate of each layer in each row, in [0, 1), shape (R, L).
        keys: Key of each sample, shape (R, m), int32.
        made: Masks of several rounds, and which of them this one is; None to make them layer by layer.
    """

    rates: torch.Tensor
    keys: torch.Tensor
    made: tuple[Masks, int] | None = None

    @classmethod
    def of(cls, rates: torch.Tensor, keys: torch.Tensor, places: torch.Tensor) -> Drop:
        """Of one round: see `Masks.of`; `keys` has shape (R,)."""
        return cls(rates, mix(mix(places) ^ keys.unsqueeze(1)))

    def apply(self, x: torch.Tensor, layer: int, place: int, shared: int) -> torch.Tensor:
        """Drops units of x (R, m, units...).

        Args:
            x: Inputs of the layer.
            layer: Which column of `rates` it has.
            place: See `drop`, as `layer`.
            shared: See `drop`.
        """
        if self.made is None:
            return drop(x, self.rates[:, layer], self.keys, place, shared)
        masks, number = self.made
        return x * masks.of_round(number, x, layer, place, shared)


def drop(
    x: torch.Tensor, rate: torch.Tensor, keys: torch.Tensor, layer: int, shared: int = 0
) -> torch.Tensor:
    """Inverted dropout (Srivastava et al., 2014): units are zero with chance `rate`, else over 1 - rate.

    Args:
        x: Shape (*B, units...), where B is the shape of `keys`.
        rate: In [0, 1); its shape broadcasts against B from the left: (R,) for keys (R, m), or () for (m,).
        keys: Key of each sample, shape B, int32.
        layer: A number that this use of a dropout layer has for itself in the model.
        shared: So many trailing dimensions share a mask: 2 drops whole channels of (channels, H, W).

    Raises:
        JobError: The batch is not the first dimension, or there is no dimension of channels to drop from.
    """
    units = _units(x, keys, shared)
    mask = _mask(rate, keys, layer, units.numel(), x.dtype)
    return x * mask.view(*keys.shape, *units, *([1] * shared))


def _units(x: torch.Tensor, keys: torch.Tensor, shared: int) -> torch.Size:
    """The dimensions of x that a mask covers; `keys` has the shape of those of the samples.

    Raises:
        JobError: The batch is not the first dimension, or there is no dimension of channels to drop from.
    """
    units = x.shape[keys.ndim : x.ndim - shared]
    if x.shape[: keys.ndim] != keys.shape or (shared and len(units) != 1):
        wanted = "(n, channels" + ", …" * shared + ")" if shared else "(n, …)"
        raise JobError(
            f"a dropout layer needs inputs {wanted} with n = {keys.shape[-1]} samples, "
            f"got shape {tuple(x.shape[keys.ndim - 1 :])}"
        )
    return units


def _mask(rate: torch.Tensor, keys: torch.Tensor, layer: int, units: int, dtype: torch.dtype) -> torch.Tensor:
    """Masks of shape (*keys.shape, units): 0, or 1 / (1 - rate)."""
    bits = mix(keys.unsqueeze(-1) ^ _pattern(layer, units, keys.device))
    # Widened by hand: signed 32-bit numbers at or above the limit are kept.
    limit = (rate.double() * 2 * _HALF - _HALF).to(torch.int64).to(torch.int32)
    mask = (bits >= _as_column(limit, bits)).to(dtype)
    return mask.mul_(_as_column((1 / (1 - rate.double())).to(dtype), mask))


def _as_column(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A value a row, (R,), or (R, 1) where rounds stand in front, broadcast over samples and units."""
    if value.ndim == 2:
        return value.unsqueeze(-1)
    return value.view(*value.shape, *([1] * (like.ndim - value.ndim)))


def mix(x: torch.Tensor) -> torch.Tensor:
    """A 32-bit integer hash, element by element (the constants of C. Wellons' "lowbias32").

    Args:
        x: int32, any shape.
    """
    # >> keeps the sign: the mask makes it the logical shift that the hash is defined with.
    # Steps in place are nearly twice as fast; the first one makes the copy that they work on.
    y = (x ^ (x >> 16).bitwise_and_(0xFFFF)).mul_(0x7FEB352D)
    y.bitwise_xor_((y >> 15).bitwise_and_(0x1FFFF)).mul_(-0x7B935975)  # 0x846CA68B as a signed number
    return y.bitwise_xor_((y >> 16).bitwise_and_(0xFFFF))


@lru_cache(maxsize=512)
def _pattern(layer: int, units: int, device: torch.device) -> torch.Tensor:
    """Hashes that tell apart the units of all layers, shape (units,), int32."""
    salt = mix(torch.tensor(layer + 1, dtype=torch.int32, device=device))
    return mix(torch.arange(units, dtype=torch.int32, device=device) ^ salt)


class RowDropout(nn.Module):
    """Stands in for a `torch.nn.Dropout` inside of a module that is mapped over rows.

    Args:
        layer: A number that the dropout layer has for itself in its model, below 65536.
        shared: See `drop`.

    Attributes:
        uses: How often it was called in this forward pass; every use has masks of its own. Whoever runs the
            pass sets it to 0 before.
    """

    rate: torch.Tensor
    keys: torch.Tensor

    def __init__(self, layer: int, shared: int = 0) -> None:
        super().__init__()
        self.layer, self.shared = layer, shared
        self.uses = 0
        self.register_buffer("rate", torch.zeros(()), persistent=False)
        self.register_buffer("keys", torch.zeros(0, dtype=torch.int32), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drops units of x, shape (m, ...); nothing where there are no keys: in evaluation."""
        if not self.keys.numel():
            return x
        number = self.layer + _USE * self.uses
        self.uses += 1
        return drop(x, self.rate, self.keys, number, self.shared)
