"""``rl-tuner bench``: the performance figures."""

from __future__ import annotations

import typer

app = typer.Typer(help="The performance figures.", no_args_is_help=True)
