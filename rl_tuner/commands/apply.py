"""``rl-tuner apply``: train a model on your data under a policy."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_tuner.commands.console import Json, Seed, interruptible, make_console, print_json, progress
from rl_tuner.errors import ConfigError

DATA = "How the data is read"
"""Heading of those options in the help text."""
SAMPLES = {
    "table": "{} columns",
    "image": "{} × {} × {} pixels",
    "sound": "{} × {} values",
    "tokens": "{} characters",
    "ratings": "users and items",
}
"""What a sample is, by kind of data."""

if TYPE_CHECKING:
    from rich.console import Console

    from rl_tuner.applying import Application, Applied, ApplyConfig
    from rl_tuner.history import Record


def apply(  # noqa: PLR0913 (each one an option of the command)
    data: Annotated[
        str,
        typer.Argument(
            help="A table (csv, tsv, parquet, npz; table.csv#column names the target too), a csv of "
            "user,item,rating, IDX images, a folder of images or wav files with a folder for each class, a "
            "text file, openml:NAME, hf:OWNER/NAME, or module:function returning a TrainingJob."
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            help="The column of a table to predict: its name, or its number (-1 is the last).",
            rich_help_panel=DATA,
        ),
    ] = None,
    policy: Annotated[str, typer.Option(help="A policy's name or file; see rl-tuner list.")] = "default",
    model: Annotated[
        str | None,
        typer.Option(
            help="A network such as mlp-64x32, cnn-8x16, gru-32 (one that does not fit names those that do), "
            "or module:function (inputs, outputs) → module.",
            show_default="by the kind of data",
        ),
    ] = None,
    hidden: Annotated[
        str | None, typer.Option(help="Units of an mlp's hidden layers: 64,32 is mlp-64x32.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="sgd, momentum, nesterov, adam, adamw, rmsprop, adagrad or adadelta.", show_default="adam"
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Start value.", show_default="usual for the optimizer")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Start value.", show_default="64")] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Start value.", show_default="the optimizer's")
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="Start value.", show_default="0")] = None,
    momentum: Annotated[
        float | None,
        typer.Option(help="Start value (β1 for adam and its likes).", show_default="the optimizer's"),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Budget, in passes over the train part.", show_default="30")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Weights to start from, where they fit: another run's model.safetensors, say."),
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            help="Whether a csv's first line holds column names.",
            show_default="as its cells suggest",
            rich_help_panel=DATA,
        ),
    ] = None,
    impute: Annotated[
        bool | None,
        typer.Option(
            "--impute", help="Fill missing inputs with the train part's medians.", rich_help_panel=DATA
        ),
    ] = None,
    encode: Annotated[
        bool | None,
        typer.Option(
            help="Make columns of zeros and ones of a table's columns of text.",
            show_default="where no cell is a number and texts repeat",
            rich_help_panel=DATA,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="classification or regression.", show_default="by the target", rich_help_panel=DATA
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="The labels of IDX images.", show_default="the file beside them", rich_help_panel=DATA
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Height and width of images of a folder: 32 or 24x32.",
            show_default="the most common",
            rich_help_panel=DATA,
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            help="1 for grey images, 3 for colour.", show_default="by the images", rich_help_panel=DATA
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            help="Characters of a text, or samples of a sound, that the network sees at once.",
            show_default="64, or the median",
            rich_help_panel=DATA,
        ),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(
            help="Samples per second of sounds.", show_default="the most common", rich_help_panel=DATA
        ),
    ] = None,
    early_stopping: Annotated[
        int | None, typer.Option(help="Stop after so many decisions without a new best loss.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="runs/apply-DATA-POLICY-SEED")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a model on your data while a policy tunes its hyperparameters; keep the best one.

    The data is split into train, validation and test parts; decisions and the best model go by validation,
    and the test part is looked at once, at the end. Writes the model, the decisions, curves and TensorBoard
    events into the run's folder.
    """
    import torch

    from rl_tuner.applying import ApplyConfig, prepare

    torch.set_num_threads(1)  # the fastest for networks of this size, and the same numbers everywhere
    config = ApplyConfig(
        data, target, policy, model, _units(hidden), optimizer, lr, batch_size, weight_decay, dropout,
        momentum, epochs, impute, task, early_stopping, seed, header, encode, labels, _sides(size), channels,
        length, rate, weights,
    )  # fmt: skip
    path = _free_folder(config) if out is None else out
    console = make_console(as_json)
    application = prepare(config)
    console.print(_what_is_trained(application), markup=False)
    with interruptible(console, f"TensorBoard events up to here are in {path}"):
        applied = _train(application, path, console)
    if as_json:
        print_json({"run": str(applied.path), **applied.results()})
    else:
        _report(applied, console)


def _units(text: str | None) -> tuple[int, ...] | None:
    """The hidden layers: "64,32" is (64, 32), "" none."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"--hidden must be whole numbers like 64,32, got {text!r}") from None


def _sides(text: str | None) -> tuple[int, int] | None:
    """Height and width: "24x32" is (24, 32), "32" is (32, 32)."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", text.strip())
    if found is None:
        raise ConfigError(f"--size must be like 32 or 24x32, got {text!r}")
    return int(found[1]), int(found[2] or found[1])


def _free_folder(config: ApplyConfig) -> Path:
    """runs/apply-DATA-POLICY-SEED, numbered where that exists: a second run needs no other name."""
    from rl_tuner.user_jobs import data_name

    data = Path(data_name(config.data)).stem
    base = Path("runs") / f"apply-{data}-{Path(config.policy).stem}-{config.seed}"
    path, number = base, 1
    while os.path.exists(path):  # False, too, where the name is too long: reading the data says so
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def _what_is_trained(application: Application) -> str:
    """The data and the network in one line."""
    from rl_tuner.envs.jobs import SPLITS

    job, architecture = application.job, application.metadata.architecture
    sizes = [f"{len(pool):,}" for split in SPLITS if (pool := job.pool(split)) is not None]
    shape = architecture.get("shape")
    form = f" of {SAMPLES[shape['kind']].format(*shape['sample'])}" if shape else ""
    task = f"{shape['outputs']} classes" if shape and job.task == "classification" else job.task
    optimizer = f" with {job.optimizer}" if isinstance(job.optimizer, str) else ""
    weights = sum(parameter.numel() for parameter in application.env.engine.model.parameters())
    network = f"{architecture['name']}{optimizer}, {weights:,} weights"
    return f"{job.name}: {' + '.join(sizes)} samples{form}, {task}; {network}{_given(application)}"


def _given(application: Application) -> str:
    """How much of the network starts from given weights: what does not fit is left out without an error."""
    from rl_tuner.envs.weights import load_weights

    if application.job.weights is None:
        return ""
    model = copy.deepcopy(application.env.engine.model)
    loaded = load_weights(model, application.job.weights)
    return f", {len(loaded)} of {len(model.state_dict())} tensors given"


def _train(application: Application, path: Path, console: Console) -> Applied:
    name, policy = application.job.name, application.policy.name
    with progress(console, f"training {name} under {policy}", application.budget, "samples") as shown:

        def show(record: Record) -> None:
            rescued = "" if record.verdict == "good" else f", {record.verdict}: last good state restored"
            lr = f", lr {record.values['lr']:.2g}" if "lr" in record.values else ""
            shown.update(record.used, f"best validation loss {record.best:.4g}{lr}{rescued}")

        return application.run(path, show)


def _report(applied: Applied, console: Console) -> None:
    from rich.markup import escape

    results = applied.results()
    episode = applied.episode
    end = "crashed" if episode.crashed else f"{len(episode.records)} decisions, {episode.rescues} rescues"
    console.print(
        f"\n{episode.job} under {episode.policy}: {episode.samples} training samples, "
        f"{applied.seconds:.1f} s, {end}"
    )
    if episode.crashed:
        console.print("The job crashed; the model is the best one before that.")
    scores = ", ".join(f"{name} {value:.4g}" for name, value in episode.test.items())
    console.print(f"best validation loss {episode.val_loss:.4g}")
    scale = " (mse of the standardized target)" if "mse" in episode.test else ""
    console.print(f"test: {scores}{scale}" if scores else "the job has no test part")
    width = max(map(len, applied.start))
    for name, way in results["hyperparameters"].items():
        console.print(f"  {name:<{width}}  {way_in_words(way)}")
    folder = escape(str(applied.path))
    console.print(f"model: {folder}/model.safetensors (rl_tuner.applying.load_model reads it)")
    console.print(f"view:  {folder}/curves.png, or tensorboard --logdir {folder}")


def way_in_words(way: Mapping[str, Any]) -> str:
    """A hyperparameter's way in words: where it began, where it ended, and how far it went between."""
    start, end, low, high = way["start"], way["end"], way["lowest"], way["highest"]
    if low == high:
        return f"{start:.4g} throughout"
    change = ""
    if start > 0 and end > 0 and start != end:
        ratio = max(start, end) / min(start, end)
        times = f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
        change = f" (× {times})" if end > start else f" (÷ {times})"
    between = ""
    if low < min(start, end) or high > max(start, end):
        between = f", between {low:.4g} and {high:.4g} on the way"
    return f"{start:.4g} → {end:.4g}{change}{between}"
