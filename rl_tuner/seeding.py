"""One seed, many independent streams, and no touch of global random state."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rl_tuner.errors import ConfigError

if TYPE_CHECKING:
    import torch

STREAMS = ("data", "init", "batches", "dropout", "policy")


@dataclass(frozen=True, slots=True)
class Streams:
    """The named random streams of one episode, split from one seed.

    A stream's seed depends on the episode's seed and the stream's name only, so that using one stream
    more or less never shifts another.

    Attributes:
        seed: A non-negative integer.

    Raises:
        ConfigError: The seed is negative or not an integer.
    """

    seed: int

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise ConfigError(f"seed must be an integer >= 0, got {self.seed!r}")

    def seed_of(self, stream: str) -> int:
        """The 63-bit seed of one of the `STREAMS`."""
        if stream not in STREAMS:
            raise ConfigError(f"unknown random stream {stream!r}: choose from {', '.join(STREAMS)}")
        sequence = np.random.SeedSequence([int(self.seed), zlib.crc32(stream.encode())])
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def phase(self, number: int) -> Streams:
        """The streams of one of the episode's phases, >= 0; those of phase 0 are the episode's own."""
        return self._part(b"phase", number)

    def attempt(self, number: int) -> Streams:
        """The streams of one of the episode's attempts, >= 0; those of attempt 0 are the episode's own."""
        return self._part(b"attempt", number)

    def _part(self, kind: bytes, number: int) -> Streams:
        if number == 0:
            return self
        sequence = np.random.SeedSequence([int(self.seed), zlib.crc32(kind), number])
        return Streams(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def numpy(self, stream: str) -> np.random.Generator:
        """A NumPy generator at the start of the stream."""
        return np.random.default_rng(self.seed_of(stream))


@contextmanager
def torch_seed(seed: int) -> Iterator[None]:
    """Seeds torch's global generators inside the block and puts their state back afterwards.

    Model constructors draw initial weights from the global generator; this is how they get a seed of
    their own without anybody outside noticing.
    """
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            yield
        return
    # Without CUDA only the CPU's generator counts; torch.manual_seed would leave a call behind for the
    # day that CUDA starts, and takes a quarter of a millisecond to note down who made it.
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


class TorchStream:
    """A private copy of torch's generator state, swapped in for the length of a block.

    Dropout layers draw from torch's global generators. Inside ``with stream:`` they draw from this
    stream; outside, the caller's state is as it was, bit for bit.

    Args:
        seed: The stream's first seed.
        device: The job's device; on CUDA its generator is swapped too.
    """

    def __init__(self, seed: int, device: torch.device | None = None) -> None:
        import torch

        self._torch = torch
        self._cuda = device if device is not None and device.type == "cuda" else None
        # Generators of our own: torch.manual_seed would reseed every CUDA device of the process.
        devices = [torch.device("cpu")] + ([] if self._cuda is None else [self._cuda])
        self._own = [torch.Generator(d).manual_seed(seed).get_state() for d in devices]
        self._outer: list[torch.Tensor] = []

    def get_state_of_globals(self) -> list[torch.Tensor]:
        """The global generators' states: the CPU's and, on CUDA, the job device's."""
        states = [self._torch.get_rng_state()]
        if self._cuda is not None:
            states.append(self._torch.cuda.get_rng_state(self._cuda))
        return states

    def _set_globals(self, states: list[torch.Tensor]) -> None:
        self._torch.set_rng_state(states[0])
        if self._cuda is not None:
            self._torch.cuda.set_rng_state(states[1], self._cuda)

    def __enter__(self) -> None:
        self._outer = self.get_state_of_globals()
        self._set_globals(self._own)

    def __exit__(self, *exc: object) -> None:
        self._own = self.get_state_of_globals()
        self._set_globals(self._outer)

    def get_state(self) -> list[torch.Tensor]:
        """The stream's own state; `set_state` continues from it."""
        return [state.clone() for state in self._own]

    def set_state(self, states: list[torch.Tensor]) -> None:
        """Continues from a state that `get_state` gave."""
        self._own = [state.clone() for state in states]
