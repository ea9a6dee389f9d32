"""The parts of a vector environment that is spread over processes: which slots each has, and what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rl_tuner.config import require_counts
from rl_tuner.envs import suites
from rl_tuner.envs.vector_env import Observations, VectorTuningEnv
from rl_tuner.errors import ConfigError


class EnvPart(VectorTuningEnv):
    """A worker's slots.

    Args:
        given: Which slots they are of all; suites to be known by their names; options of `VectorTuningEnv`.
    """

    def __init__(self, given: tuple[slice, Mapping[str, suites.Suite], Mapping[str, Any]]) -> None:
        part, own, options = given
        suites.SUITES.update(own)
        super().__init__(part.stop - part.start, **options)
        self._slots.first = part.start

    def restart(
        self, seeds: Sequence[int | None], options: dict[str, Any]
    ) -> tuple[Observations, dict[str, Any]]:
        """`reset`, with positional arguments."""
        return self.reset(seed=seeds, options=options)

    def resume(self, state: Mapping[str, Any]) -> Observations:
        """`set_state`; tells what is observed then."""
        self.set_state(state)
        return self.courses.observation()


def share_out(env: VectorTuningEnv, workers: int) -> tuple[int, list[slice]]:
    """The number of workers, and the slots of each.

    Raises:
        ConfigError: Whole groups cannot be shared out equally.
    """
    require_counts({"workers": workers})
    groups = env.num_envs // env.group_size
    if groups % workers:
        raise ConfigError(
            f"workers must divide the number of groups, {groups} ({env.num_envs} slots in groups of "
            f"{env.group_size}), got {workers}"
        )
    size = env.num_envs // int(workers)
    return int(workers), [slice(first, first + size) for first in range(0, env.num_envs, size)]
