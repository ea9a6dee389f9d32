"""``rl-tuner inspect``."""

from __future__ import annotations


def inspect() -> None:
    """To be written."""
