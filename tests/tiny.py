"""A suite whose jobs take milliseconds, for tests of what runs many of them."""

from __future__ import annotations

from rl_tuner.envs.suites import SUITES, JobFamily, Suite

TINY = Suite(
    name="tiny",
    description="jobs of a few updates",
    splits={
        "train": JobFamily(("diabetes",), ((4,),), budget=(160, 200), batch_sizes=(16,)),
        "validation": JobFamily(("wine",), ((4,),), budget=(160, 200), batch_sizes=(16,)),
        "test": JobFamily(("breast_cancer",), ((4,),), budget=(160, 200), batch_sizes=(16,)),
    },
)


def register() -> None:
    """Makes the suite known by its name, in a child process."""
    SUITES["tiny"] = TINY
