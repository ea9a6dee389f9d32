"""Dropout of many jobs side by side: the hashes, the masks, and their distribution."""

from __future__ import annotations

import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rl_tuner.envs.dropout import Drop, Masks, RowDropout, drop, mix, update_keys
from rl_tuner.errors import JobError
from rl_tuner.seeding import torch_seed

UINT32, UINT64 = (1 << 32) - 1, (1 << 64) - 1


def signed(x: int) -> int:
    return x - (1 << 32) if x >> 31 else x


def plain_mix(x: int) -> int:
    """lowbias32 as its author writes it, on unsigned numbers."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & UINT32
    x = ((x ^ (x >> 15)) * 0x846CA68B) & UINT32
    return x ^ (x >> 16)


def plain_splitmix(seed: int, count: int) -> list[int]:
    """The first numbers of a SplitMix64 generator."""
    numbers = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & UINT64
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & UINT64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & UINT64
        numbers.append(z ^ (z >> 31))
    return numbers


def keys_of(updates: range, samples: int, seed: int = 7) -> Tensor:
    """Keys of samples, a row an update: shape (updates, samples)."""
    of_updates = torch.from_numpy(update_keys(np.array([seed], np.uint64), np.array(updates)))
    places = torch.arange(samples, dtype=torch.int32).expand(len(updates), samples)
    return Drop.of(torch.zeros(len(updates), 1), of_updates, places).keys


def kept(rate: float, keys: Tensor, units: int, layer: int = 0) -> Tensor:
    """Which units are kept, 1 or 0: shape (*keys.shape, units)."""
    x = torch.ones(*keys.shape, units, dtype=torch.float64)
    return (drop(x, torch.full(keys.shape[:1], rate), keys, layer) != 0).double()


@given(st.lists(st.integers(0, UINT32), min_size=1, max_size=8))
def test_the_hash_is_lowbias32(values: list[int]) -> None:
    given_ = torch.tensor([signed(v) for v in values], dtype=torch.int32)
    assert mix(given_).tolist() == [signed(plain_mix(v)) for v in values]


def test_splitmix64_starts_as_its_reference_code_does() -> None:
    # The numbers of java.util.SplittableRandom's generator for the seed 1234567.
    assert plain_splitmix(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.integers(0, UINT64), st.integers(1, 50))
def test_keys_of_updates_are_the_upper_halves_of_splitmix64(seed: int, count: int) -> None:
    keys = update_keys(np.array([seed], np.uint64), np.arange(count))
    assert keys.dtype == np.int32
    assert keys.tolist() == [signed(z >> 32) for z in plain_splitmix(seed, count)]


def test_keys_of_updates_broadcast_seeds_against_numbers() -> None:
    seeds, numbers = np.array([1, 2, 3], np.uint64), np.array([4, 0, 9])
    table = update_keys(seeds, numbers + np.arange(5)[:, None])
    for row in range(5):
        for job in range(3):
            alone = update_keys(seeds[job : job + 1], np.array([numbers[job] + row]))
            assert table[row, job] == alone[0]


def test_rate_zero_is_exactly_the_identity() -> None:
    x = torch.tensor([[[-0.0, 1.1, math.inf, -math.inf, 3e38]]]).expand(40, 30, 5)
    assert torch.equal(drop(x, torch.zeros(40), keys_of(range(40), 30), 0), x)
    nan = drop(x * math.nan, torch.zeros(40), keys_of(range(40), 30), 0)
    assert nan.isnan().all()


def test_rate_zero_keeps_even_the_unit_whose_hash_is_the_smallest_number() -> None:
    keys, x = keys_of(range(2), 3), torch.ones(2, 3, 5)
    with patch("rl_tuner.envs.dropout.mix", lambda bits: torch.full_like(bits, -(2**31))):
        assert torch.equal(drop(x, torch.zeros(2), keys, 0), x)
        assert not drop(x, torch.full((2,), 1e-6), keys, 0).any()


def test_a_kept_unit_is_divided_by_the_chance_to_be_kept() -> None:
    x = torch.randn(3, 4, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rates = torch.tensor([0.0, 0.25, 0.9], dtype=torch.float64)
    y = drop(x, rates, keys_of(range(3), 4), 0)
    for row, rate in enumerate(rates.tolist()):
        alive = y[row] != 0
        torch.testing.assert_close(y[row][alive], x[row][alive] / (1 - rate), rtol=1e-14, atol=0)
        assert alive.any()


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.8, 0.99])
def test_a_unit_is_kept_with_the_chance_asked_for(rate: float) -> None:
    mask = kept(rate, keys_of(range(100), 50), 60)
    sigma = math.sqrt(rate * (1 - rate))
    for dims in ((0, 1, 2), (1, 2), (0, 2), (0, 1)):  # overall, by update, by sample and by unit
        share = mask.mean(dims)
        count = mask.numel() / share.numel()
        # 4 sigma for one share; the largest of up to 100 may lie somewhat further out.
        most = 4.0 if share.ndim == 0 else 5.0
        assert ((share - (1 - rate)).abs() < most * sigma / math.sqrt(count)).all()


@pytest.mark.parametrize("dim", [0, 1, 2], ids=["updates", "samples", "units"])
@pytest.mark.parametrize("apart", [1, 2, 16])
def test_neighbours_are_dropped_independently(dim: int, apart: int) -> None:
    mask = kept(0.3, keys_of(range(64), 64), 64) - 0.7
    first, second = mask.narrow(dim, 0, 64 - apart), mask.narrow(dim, apart, 64 - apart)
    correlation = (first * second).mean() / 0.21
    assert abs(correlation) < 4 / math.sqrt(first.numel())


def test_layers_uses_jobs_and_swapped_places_are_dropped_independently() -> None:
    keys = keys_of(range(60), 60)
    mask = kept(0.4, keys, 60) - 0.6
    i, j = torch.triu_indices(60, 60, 1)
    pairs = {
        "layer": (mask, kept(0.4, keys, 60, layer=1) - 0.6),
        "use": (mask, kept(0.4, keys, 60, layer=1 << 16) - 0.6),
        "job": (mask, kept(0.4, keys_of(range(60), 60, seed=8), 60) - 0.6),
        "sample for unit": (mask[:, i, j], mask[:, j, i]),
        "update for sample": (mask[i, j], mask[j, i]),
    }
    for name, (one, other) in pairs.items():
        correlation = (one * other).mean() / 0.24
        assert abs(correlation) < 4 / math.sqrt(one.numel()), name


def test_a_higher_rate_drops_what_a_lower_one_drops_and_more() -> None:
    keys = keys_of(range(10), 20)
    low, high = kept(0.2, keys, 30), kept(0.6, keys, 30)
    assert (high <= low).all()
    assert high.sum() < low.sum()


def test_a_mask_depends_on_no_neighbour_and_not_on_how_a_batch_is_cut_into_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 9, generator=generator)
    key, other = torch.tensor([123, -456], dtype=torch.int32)
    places = torch.arange(12, dtype=torch.int32)
    rate = torch.tensor([[0.5]])

    whole = Drop.of(rate, key.view(1), places.view(1, 12))
    expected = drop(x.view(1, 12, 9), rate[:, 0], whole.keys, 2)[0]

    rates = torch.tensor([[0.5], [0.3], [0.5], [0.5]])  # a row of another job in between
    cut = Drop.of(rates, torch.stack([key, other, key, key]), places[[0, 0, 4, 8], None] + places[:4])
    rows = torch.stack([x[:4], x[:4], x[4:8], x[8:]])
    found = drop(rows, rates[:, 0], cut.keys, 2)
    assert torch.equal(found[[0, 2, 3]].flatten(0, 1), expected)
    assert not torch.equal(found[1], expected[:4])


@pytest.mark.parametrize("shared", [1, 2, 3])
def test_whole_channels_are_dropped_where_dimensions_share_a_mask(shared: int) -> None:
    sides = (3, 2, 4)[:shared]
    keys = keys_of(range(20), 10)
    y = drop(torch.ones(20, 10, 8, *sides), torch.full((20,), 0.4), keys, 0, shared).flatten(3)
    assert (y == y[..., :1]).all()
    assert torch.equal((y[..., 0] != 0).double(), kept(0.4, keys, 8))


@pytest.mark.parametrize(
    ("shape", "shared", "message"),
    [
        ((3, 2, 5), 0, r"inputs \(n, …\) with n = 4 samples, got shape \(2, 5\)"),
        ((3,), 0, r"with n = 4 samples, got shape \(\)"),
        ((3, 4, 6, 5), 2, r"inputs \(n, channels, …, …\) with n = 4 samples, got shape \(4, 6, 5\)"),
        ((3, 4, 6, 5, 5, 5), 2, r"inputs \(n, channels, …, …\)"),
        ((3, 4, 6), 1, r"inputs \(n, channels, …\) with n = 4 samples, got shape \(4, 6\)"),
    ],
)
def test_inputs_that_a_mask_does_not_fit_are_an_error(
    shape: tuple[int, ...], shared: int, message: str
) -> None:
    with pytest.raises(JobError, match=message):
        drop(torch.ones(shape), torch.full((3,), 0.5), keys_of(range(3), 4), 0, shared)


def test_gradients_pass_through_kept_units_only() -> None:
    x = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    keys, rates = keys_of(range(3), 5), torch.tensor([0.0, 0.5, 0.75], dtype=torch.float64)
    mask = drop(torch.ones_like(x), rates, keys, 0)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(drop(x, rates, keys, 0).sum(), x)
    assert torch.equal(grad, mask)


def test_outputs_of_a_layer_are_distributed_as_with_torchs_own_dropout() -> None:
    rate, updates = 0.3, 4000
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, generator=generator, dtype=torch.float64)
    weight = torch.randn(16, generator=generator, dtype=torch.float64)
    ours = drop(x.expand(updates, 1, 16), torch.full((updates,), rate), keys_of(range(updates), 1), 0)
    with torch_seed(3):
        theirs = nn.Dropout(rate)(x.expand(updates, 1, 16))
    variance = float((weight * x).square().sum()) * rate / (1 - rate)
    for y in (ours, theirs):
        sums = (y @ weight).squeeze(1)
        assert abs(float(sums.mean() - weight @ x)) < 4 * math.sqrt(variance / updates)
        assert float(sums.var()) == pytest.approx(variance, rel=0.12)
    # The whole distribution, by Kolmogorov and Smirnov's distance at the 0.1 % level.
    both = torch.stack([y @ weight for y in (ours, theirs)]).squeeze(2).sort(1).values
    grid = both.flatten().sort().values
    first, second = (torch.searchsorted(row, grid, right=True) / updates for row in both)
    assert float((first - second).abs().max()) < 1.95 * math.sqrt(2 / updates)


def test_a_stand_in_does_nothing_without_keys() -> None:
    x = torch.ones(4, 3)
    assert RowDropout(0)(x) is x


def test_a_stand_in_drops_by_its_rate_and_keys_and_anew_at_each_use() -> None:
    layer, x = RowDropout(3), torch.ones(40, 30)
    layer.rate, layer.keys = torch.tensor(0.5), keys_of(range(1), 40)[0]
    first, second = layer(x), layer(x)
    assert torch.equal(first, drop(x, layer.rate, layer.keys, 3))
    assert not torch.equal(first, second)
    layer.uses = 0
    assert torch.equal(layer(x), first)


@pytest.mark.parametrize("shared", [0, 1])
def test_masks_made_for_several_rounds_at_once_are_those_made_round_by_round(shared: int) -> None:
    rounds, rows, m = 3, 2, 4
    rates = torch.tensor([[0.3, 0.5], [0.0, 0.8]])
    keys = torch.from_numpy(update_keys(np.array([1, 2], np.uint64), np.arange(rounds)[:, None]))
    places = torch.arange(m, dtype=torch.int32).expand(rows, m)
    together = Masks.of(rates, keys, places).rounds()
    x = torch.randn(rounds, rows, m, 5, 3, generator=torch.Generator().manual_seed(0))
    if not shared:
        x = x.flatten(3)
    for number, one in enumerate(together):
        alone = Drop.of(rates, keys[number], places)
        assert torch.equal(one.keys, alone.keys)
        for layer in (0, 1):
            expected = drop(x[number], rates[:, layer], alone.keys, 7 + layer, shared)
            assert torch.equal(one.apply(x[number], layer, 7 + layer, shared), expected)
            assert torch.equal(alone.apply(x[number], layer, 7 + layer, shared), expected)
