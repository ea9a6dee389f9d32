"""``rl-tuner apply``: train a model on your data under a policy."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_tuner.commands import data_options as options
from rl_tuner.commands.console import Json, Seed, interruptible, make_console, print_json, progress

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
    data: Annotated[str, typer.Argument(help=options.DATA_HELP)],
    target: options.Target = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="A policy's name or file; see rl-tuner list.",
            show_default="default, or the setting's schedule",
        ),
    ] = None,
    setting: Annotated[
        str | None,
        typer.Option(help="A search's best.json: its start values and schedule; options given besides win."),
    ] = None,
    model: options.Model = None,
    hidden: options.Hidden = None,
    optimizer: options.Optimizer = None,
    lr: options.Lr = None,
    batch_size: options.BatchSize = None,
    weight_decay: options.WeightDecay = None,
    dropout: options.Dropout = None,
    momentum: options.Momentum = None,
    epochs: options.Epochs = None,
    weights: options.Weights = None,
    header: options.Header = None,
    impute: options.Impute = None,
    encode: options.Encode = None,
    task: options.Task = None,
    labels: options.Labels = None,
    size: options.Size = None,
    channels: options.Channels = None,
    length: options.Length = None,
    rate: options.Rate = None,
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
        data, target, policy, model, options.units(hidden), optimizer, lr, batch_size, weight_decay, dropout,
        momentum, epochs, impute, task, early_stopping, seed, header, encode, labels, options.sides(size),
        channels, length, rate, weights, setting,
    )  # fmt: skip
    console = make_console(as_json)
    application = prepare(config)
    path = _free_folder(application.config) if out is None else out
    console.print(_what_is_trained(application), markup=False)
    with interruptible(console, f"TensorBoard events up to here are in {path}"):
        applied = _train(application, path, console)
    if as_json:
        print_json({"run": str(applied.path), **applied.results()})
    else:
        _report(applied, console)


def _free_folder(config: ApplyConfig) -> Path:
    """runs/apply-DATA-POLICY-SEED, numbered where that exists: a second run needs no other name."""
    from rl_tuner.user_jobs import data_name

    data = Path(data_name(config.data)).stem
    base = Path("runs") / f"apply-{data}-{Path(config.policy or '').stem}-{config.seed}"
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
            if record.attempt:
                rescued = f", attempt {record.attempt + 1}{rescued}"
            lr = f", lr {record.values['lr']:.2g}" if "lr" in record.values else ""
            shown.update(record.used, f"best validation loss {record.best:.4g}{lr}{rescued}")

        return application.run(path, show)


def _report(applied: Applied, console: Console) -> None:
    from rich.markup import escape

    results = applied.results()
    episode = applied.episode
    end = "crashed" if episode.crashed else f"{len(episode.records)} decisions, {episode.rescues} rescues"
    attempts = episode.records[-1].attempt + 1 if episode.records else 1
    end += f", {attempts} attempts" if attempts > 1 else ""
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
