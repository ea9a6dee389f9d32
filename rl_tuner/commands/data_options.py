"""The options that say what is trained on a user's data: those of ``apply`` and ``search`` alike."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated

import typer

from rl_tuner.commands.console import listed
from rl_tuner.errors import ConfigError

if TYPE_CHECKING:
    from rl_tuner.user_jobs import ApplyConfig

PANEL = "How the data is read"
"""Heading of those options in the help text."""

DATA_HELP = (
    "A table (csv, tsv, parquet, npz; table.csv#column names the target too), a csv of user,item,rating, IDX "
    "images, a folder of images or wav files with a folder for each class, a text file, openml:NAME, "
    "hf:OWNER/NAME, or module:function returning a TrainingJob."
)
Target = Annotated[
    str | None,
    typer.Option(
        help="The column of a table to predict: its name, or its number (-1 is the last).",
        rich_help_panel=PANEL,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="A network such as mlp-64x32, cnn-8x16, gru-32 (one that does not fit names those that do), "
        "or module:function (inputs, outputs) → module.",
        show_default="by the kind of data",
    ),
]
Hidden = Annotated[str | None, typer.Option(help="Units of an mlp's hidden layers: 64,32 is mlp-64x32.")]
Optimizer = Annotated[
    str | None,
    typer.Option(
        help="sgd, momentum, nesterov, adam, adamw, rmsprop, adagrad or adadelta.", show_default="adam"
    ),
]
Lr = Annotated[float | None, typer.Option(help="Start value.", show_default="usual for the optimizer")]
BatchSize = Annotated[int | None, typer.Option(help="Start value.", show_default="64")]
WeightDecay = Annotated[float | None, typer.Option(help="Start value.", show_default="the optimizer's")]
Dropout = Annotated[float | None, typer.Option(help="Start value.", show_default="0")]
Momentum = Annotated[
    float | None,
    typer.Option(help="Start value (β1 for adam and its likes).", show_default="the optimizer's"),
]
Epochs = Annotated[
    float | None, typer.Option(help="Budget, in passes over the train part.", show_default="30")
]
Weights = Annotated[
    str | None,
    typer.Option(help="Weights to start from, where they fit: another run's model.safetensors, say."),
]
Header = Annotated[
    bool | None,
    typer.Option(
        help="Whether a csv's first line holds column names.",
        show_default="as its cells suggest",
        rich_help_panel=PANEL,
    ),
]
Impute = Annotated[
    bool | None,
    typer.Option(
        "--impute", help="Fill missing inputs with the train part's medians.", rich_help_panel=PANEL
    ),
]
Encode = Annotated[
    bool | None,
    typer.Option(
        help="Make columns of zeros and ones of a table's columns of text.",
        show_default="where no cell is a number and texts repeat",
        rich_help_panel=PANEL,
    ),
]
Task = Annotated[
    str | None,
    typer.Option(help="classification or regression.", show_default="by the target", rich_help_panel=PANEL),
]
Labels = Annotated[
    str | None,
    typer.Option(
        help="The labels of IDX images.", show_default="the file beside them", rich_help_panel=PANEL
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        help="Height and width of images of a folder: 32 or 24x32.",
        show_default="the most common",
        rich_help_panel=PANEL,
    ),
]
Channels = Annotated[
    int | None,
    typer.Option(
        help="1 for grey images, 3 for colour.", show_default="by the images", rich_help_panel=PANEL
    ),
]
Length = Annotated[
    int | None,
    typer.Option(
        help="Characters of a text, or samples of a sound, that the network sees at once.",
        show_default="64, or the median",
        rich_help_panel=PANEL,
    ),
]
Rate = Annotated[
    int | None,
    typer.Option(help="Samples per second of sounds.", show_default="the most common", rich_help_panel=PANEL),
]


def units(text: str | None) -> tuple[int, ...] | None:
    """The hidden layers: "64,32" is (64, 32), "" none.

    Raises:
        ConfigError: They are not whole numbers.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in listed(text))
    except ValueError:
        raise ConfigError(f"--hidden must be whole numbers like 64,32, got {text!r}") from None


def sides(text: str | None) -> tuple[int, int] | None:
    """Height and width: "24x32" is (24, 32), "32" is (32, 32).

    Raises:
        ConfigError: They are not one or two whole numbers.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", text.strip())
    if found is None:
        raise ConfigError(f"--size must be like 32 or 24x32, got {text!r}")
    return int(found[1]), int(found[2] or found[1])


def given(config: ApplyConfig) -> list[str]:
    """Names of the settings that are not as they would be if nothing but the data were given."""
    return [f.name for f in fields(config) if f.name != "data" and getattr(config, f.name) != f.default]


def as_arguments(config: ApplyConfig) -> str:
    """What stands on the command line for these settings, quoted for a shell: the data, then options."""
    words = [config.data]
    for name in given(config):
        value, option = getattr(config, name), f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif isinstance(value, tuple):
            words += [option, ("x" if name == "size" else ",").join(map(str, value))]
        else:
            whole = isinstance(value, float) and value.is_integer()
            words += [option, str(int(value) if whole else value)]
    return shlex.join(words)
