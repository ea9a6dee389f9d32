"""``rl-tuner apply``."""

from __future__ import annotations


def apply() -> None:
    """To be written."""
