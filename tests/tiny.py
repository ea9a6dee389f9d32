"""A suite whose jobs take milliseconds, for tests of what runs many of them."""

from __future__ import annotations

from torch import nn

from rl_tuner.envs.families import JobFamily
from rl_tuner.envs.models import mlp
from rl_tuner.envs.suites import SUITES, Mixture, Suite


def _jobs_on(dataset: str) -> Mixture:
    return Mixture((JobFamily((dataset,), ("mlp-4",), budget=(160, 200), start={"batch_size": (16,)}),))


TINY = Suite(
    name="tiny",
    description="jobs of a few updates",
    splits={
        "train": _jobs_on("diabetes"),
        "validation": _jobs_on("wine"),
        "test": _jobs_on("breast_cancer"),
    },
)


def register() -> None:
    """Makes the suite known by its name, in a child process."""
    SUITES["tiny"] = TINY


def wine_net() -> nn.Module:
    """A network with dropout for the data set "wine"; a function that other processes can import."""
    return mlp(13, (6,), 3, 0.2)
