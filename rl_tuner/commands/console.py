"""What every command shares: options, where output goes, and progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Seed = Annotated[int, typer.Option(help="Seed of everything random, >= 0.", show_default=True)]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout; all else goes to stderr.")
]

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""


def make_console(as_json: bool) -> Console:
    """Where a person reads: stdout, or stderr when stdout belongs to the JSON object."""
    from rich.console import Console

    return Console(stderr=as_json, highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(result: Mapping[str, Any]) -> None:
    """Prints the one JSON object of ``--json``; NaN and infinities as null."""
    from rl_tuner.files import plain

    sys.stdout.write(json.dumps(plain(result), indent=2) + "\n")


@contextmanager
def interruptible(console: Console, advice: str = "") -> Iterator[None]:
    """Ends the command with one line and exit code 130 if Ctrl-C is pressed in the block.

    Args:
        console: Where the line goes.
        advice: What it says besides "interrupted": how to go on.
    """
    try:
        yield
    except KeyboardInterrupt:
        console.print(f"interrupted{advice and '; '}{advice}", markup=False)
        raise typer.Exit(INTERRUPTED) from None


class Progress:
    """A progress bar on a terminal, plain lines elsewhere.

    Args:
        console: Where it is drawn.
        what: What is progressing.
        total: Steps in all.
        unit: What the steps are, such as "samples".
    """

    LINES = 10

    def __init__(self, console: Console, what: str, total: int, unit: str) -> None:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._console, self._what, self._total, self._unit = console, what, max(total, 1), unit
        self._done, self._next_line = 0, 0.0
        self._bar: Bar | None = None
        if console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
            )
            self._task = self._bar.add_task(what, total=self._total, note="")
            self._bar.start()

    def update(self, done: int, note: str = "") -> None:
        """Shows that `done` of the total steps are done, with a word on how it goes."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif done / self._total >= self._next_line:
            words = f"{self._what}: {done}/{self._total} {self._unit}" + (note and f", {note}")
            self._console.print(words, markup=False)
            self._next_line = (int(self.LINES * done / self._total) + 1) / self.LINES

    def advance(self, note: str = "", steps: int = 1) -> None:
        """Shows that one more step is done, or so many."""
        self.update(self._done + steps, note)

    def stop(self) -> None:
        """Ends the display."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress(console: Console, what: str, total: int, unit: str) -> Iterator[Progress]:
    """A `Progress` that ends with the block, also by an error."""
    shown = Progress(console, what, total, unit)
    try:
        yield shown
    finally:
        shown.stop()


def columns(lines: Mapping[str, str], indent: int = 2) -> Table:
    """Names and what is said of them in two columns; long texts wrap inside of theirs."""
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=max(indent - 2, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, line in lines.items():
        table.add_row("", escape(name), escape(line))
    return table


def listed(text: str) -> list[str]:
    """What stands between the commas of an option, without empty parts."""
    return [part.strip() for part in text.split(",") if part.strip()]
