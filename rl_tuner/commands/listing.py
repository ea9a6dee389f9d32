"""``rl-tuner list``: what there is to choose from."""

from __future__ import annotations


def list_() -> None:
    """To be written."""
