"""The command line: ``rl-tuner``. Bad input is one clear line and exit code 2, never a traceback."""

from __future__ import annotations

import sys
import threading
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from rl_tuner._version import __version__
from rl_tuner.commands import apply, bench, compare, ensemble, inspect, listing, search, train
from rl_tuner.errors import RlTunerError

app = typer.Typer(
    name="rl-tuner",
    help="Learn to tune hyperparameters while a model trains.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # paragraphs are wrapped to the terminal, whatever their lines here
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("ensemble")(ensemble.ensemble)
app.command("apply")(apply.apply)
app.command("search")(search.search)
app.command("compare")(compare.compare)
app.command("inspect")(inspect.inspect)
app.command("list")(listing.list_)
app.add_typer(bench.app, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Learn to tune hyperparameters while a model trains."""


def main() -> None:
    """Runs the command line; the console script ``rl-tuner``."""
    threading.excepthook = _in_thread
    try:
        code = app(standalone_mode=False)
    except RlTunerError as error:
        _fail(str(error))
    except TyperException as error:  # a wrong option, or a value of the wrong type
        _fail(error.format_message())
    except OSError as error:  # a full disk, a folder that may not be written
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except typer.Abort:
        _fail("stopped")
    sys.exit(code if isinstance(code, int) else 0)


def _in_thread(error: threading.ExceptHookArgs) -> None:
    """Shows a thread's error, except that of TensorBoard's writer, which its next call raises once more."""
    if not issubclass(error.exc_type, OSError):
        threading.__excepthook__(error)


def _fail(message: str, code: int = 2) -> NoReturn:
    line = " ".join(message.split())
    if line:  # empty where help was shown instead
        sys.stderr.write(f"error: {line}\n")
    sys.exit(code)
