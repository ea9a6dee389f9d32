"""``rl-tuner compare``."""

from __future__ import annotations


def compare() -> None:
    """To be written."""
