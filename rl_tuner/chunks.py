"""The work of a comparison in chunks, each done at once: a job's single runs side by side, a search alone.

Runs side by side may depend on each other in their last bits. So a chunk is always run whole, even where some
of its rows are known already, and which seeds share one depends on the methods alone, not on how many seeds
are asked for: a comparison that was killed, or is continued with more jobs, gives the same rows bit for bit;
one that is continued with more seeds does so where the chunks before were full, and else to rounding; so does
one that is continued with more methods.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rl_tuner.methods import Experiment, Method, PolicyMethod, place
from rl_tuner.results import Row
from rl_tuner.side_by_side import SLOTS, Run, run_side_by_side


@dataclass(frozen=True, slots=True)
class Chunk:
    """Work that is done at once: each of the methods on each of the experiments.

    Attributes:
        names: Of the methods: one, or several that train side by side.
        experiments: One job with some seeds.
    """

    names: tuple[str, ...]
    experiments: tuple[Experiment, ...]

    @property
    def keys(self) -> set[tuple[str, int, int]]:
        """Of its rows."""
        return {(name, each.job, each.seed) for each in self.experiments for name in self.names}


def split_work(methods: Mapping[str, Method], experiments: Sequence[Experiment]) -> Iterator[Chunk]:
    """The work of one job: its single runs side by side, and each of the others by itself.

    Args:
        methods: By their names in the comparison.
        experiments: The job with all its seeds, in order.
    """
    together = tuple(_batched(methods, methods))
    many = max(1, SLOTS // max(1, len(together)))
    for first in range(0, len(experiments) if together else 0, many):
        yield Chunk(together, tuple(experiments[first : first + many]))
    for experiment in experiments:
        for name in methods:
            if name not in together:
                yield Chunk((name,), (experiment,))


def run_chunk(methods: Mapping[str, Method], chunk: Chunk) -> list[Row]:
    """The rows of a chunk, by experiment and method.

    Raises:
        ConfigError: The job has no test split.
        JobError, DatasetError: It cannot be built or trained.
    """
    together = _batched(methods, chunk.names)
    if together:
        return run_together(together, chunk.experiments)
    return [methods[name].run(name, each) for each in chunk.experiments for name in chunk.names]


def run_together(methods: Mapping[str, PolicyMethod], experiments: Sequence[Experiment]) -> list[Row]:
    """Runs every method on every experiment, all of them side by side.

    Args:
        methods: Batched ones, by their names in the comparison.
        experiments: On what: best the same job with several seeds.

    Returns:
        Rows by experiment and method, in order. The CPU time is that of all, shared out by training samples.

    Raises:
        ConfigError: A job has no test split.
        JobError, DatasetError: A job cannot be built or trained.
    """
    began = time.process_time()
    specs = dict.fromkeys(experiment.spec for experiment in experiments)
    jobs = {(name, spec): method.job(spec) for name, method in methods.items() for spec in specs}
    tasks = [(name, experiment) for experiment in experiments for name in methods]
    episodes = run_side_by_side(
        [Run(methods[name].policy, each.episode_seed, jobs[name, each.spec]) for name, each in tasks]
    )
    seconds = time.process_time() - began
    samples = sum(episode.samples for episode in episodes)
    return [
        Row.of(episode, place(name, experiment), seconds * episode.samples / samples)
        for (name, experiment), episode in zip(tasks, episodes, strict=True)
    ]


def _batched(methods: Mapping[str, Method], names: Iterable[str]) -> dict[str, PolicyMethod]:
    """Those of the named methods whose runs train side by side."""
    named = {name: methods[name] for name in names}
    return {name: m for name, m in named.items() if isinstance(m, PolicyMethod) and m.batched}
