"""A policy on a user's own data: what is trained, what is written, what a saved model gives back."""

from __future__ import annotations

import csv
import json
import zlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import own_files
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_diabetes, load_wine
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from rl_tuner.applying import Applied, ApplyConfig, load_model, prepare, records_csv
from rl_tuner.course_config import CourseConfig
from rl_tuner.envs.loaders import load_samples
from rl_tuner.envs.models import mlp
from rl_tuner.envs.tables import load_table
from rl_tuner.errors import ConfigError, DatasetError, JobError
from rl_tuner.features import FeatureSet
from rl_tuner.history import Record
from rl_tuner.model_file import ModelMetadata, save_model
from rl_tuner.policies import MLPPolicy
from rl_tuner.policy_file import save_policy
from rl_tuner.seeding import torch_seed
from rl_tuner.space import search_space

JOBS = """
import torch
from torch import nn
from rl_tuner.envs import TrainingJob

X = torch.linspace(-1, 1, 80)[:, None]

def job():
    y = (X[:, 0] > 0).long()
    return TrainingJob(lambda: nn.Linear(1, 2), (X, y), (X, y), start={"lr": 0.5, "batch_size": 8}, epochs=2)

def misfit():
    return TrainingJob(nn.Linear(3, 2), (X, X[:, 0].long()), (X, X[:, 0].long()))

def broken():
    raise ValueError("no such sensor")

def number():
    return 3

def network(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, outputs))

def flat(inputs, outputs):
    return nn.Sequential(network(inputs, outputs), nn.Flatten(0))
"""


@pytest.fixture
def wine() -> str:
    frame = load_wine(as_frame=True)
    frame.data.assign(cultivar=[f"c{i}" for i in frame.target]).to_csv("wine.csv", index=False)
    return "wine.csv"


@pytest.fixture
def jobs(request: pytest.FixtureRequest) -> str:
    """A module of jobs in the current folder, under a name of the test's own (imports are cached)."""
    name = f"jobs_{zlib.crc32(request.node.nodeid.encode())}"
    Path(f"{name}.py").write_text(JOBS)
    return name


def apply(data: str, *, out: str = "run", **settings: object) -> Applied:
    config = ApplyConfig(data, **{"policy": "cosine", "epochs": 4.0, "batch_size": 16, **settings})  # type: ignore[arg-type]
    return prepare(config).run(Path(out))


def test_the_saved_model_gives_the_outputs_of_the_run_to_no_difference(wine: str) -> None:
    application = prepare(ApplyConfig(wine, "cultivar", "cosine", epochs=4, dropout=0.2, batch_size=16))
    application.run(Path("run"))
    inputs, _ = application.job.test  # type: ignore[misc]
    trained = application.env.engine.model.eval()
    loaded, metadata = load_model("run/model.safetensors")
    assert not loaded.training
    assert torch.equal(loaded(inputs), trained(inputs))  # type: ignore[arg-type]
    assert metadata.task == "classification"
    assert metadata.architecture["name"] == "mlp-64x32"
    assert metadata.provenance["policy"] == "cosine"


def test_the_saved_preprocessing_takes_raw_rows_to_the_test_score_of_the_run(wine: str) -> None:
    applied = apply(wine, target="cultivar", seed=3, epochs=20.0)
    model, metadata = load_model(applied.path / "model.safetensors")
    table = load_table(wine, "cultivar")
    test = table.split(3).test
    raw = np.array([row for row in table.inputs])  # noqa: C416 (a copy, as a user would build one)
    assert metadata.preprocessing is not None
    inputs = metadata.preprocessing.inputs(raw)
    rows = [int((inputs == row).all(dim=1).nonzero()[0]) for row in test[0]]
    names = metadata.preprocessing.predictions(model(inputs[rows]))
    truth = np.array(table.classes)[table.targets[rows]]
    assert (names == truth).mean() == pytest.approx(applied.episode.test["accuracy"])


def test_the_model_kept_is_the_best_by_validation_not_the_last(wine: str) -> None:
    application = prepare(
        ApplyConfig(wine, "cultivar", "constant", lr=0.3, epochs=30, batch_size=8, momentum=0.0)
    )
    applied = application.run(Path("run"))
    losses = [record.val_loss for record in applied.episode.records]
    assert min(losses) < losses[-1], "the job must end worse than its best for this test to say anything"
    assert application.env.evaluate("validation")["loss"] == min(losses) == applied.episode.val_loss
    loaded, _ = load_model("run/model.safetensors")
    inputs, targets = application.job.validation  # type: ignore[misc]
    assert nn.functional.cross_entropy(loaded(inputs), targets).item() == min(losses)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_model_file_and_another_seed_another(wine: str) -> None:
    contents = []
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        apply(wine, target="cultivar", out=out, seed=seed)
        contents.append(Path(out, "model.safetensors").read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_a_run_writes_its_figures_decisions_curves_and_events(wine: str) -> None:
    applied = apply(wine, target="cultivar")
    names = {path.name.split(".")[0] for path in applied.path.iterdir()}
    assert names == {"config", "versions", "results", "model", "decisions", "curves", "events"}
    config = json.loads(Path("run/config.json").read_text())
    assert config["target"] == "cultivar"
    results = json.loads(Path("run/results.json").read_text())
    assert results["test"] == applied.episode.test
    with Path("run/decisions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lr"]) for row in rows] == [r.values["lr"] for r in applied.episode.records]
    assert [int(row["used"]) for row in rows][-1] == applied.episode.samples
    assert Path("run/curves.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator("run").Reload()
    steps = [(event.step, event.value) for event in events.Scalars("loss/validation")]
    assert steps == [(r.used, pytest.approx(r.val_loss)) for r in applied.episode.records]


def test_every_setting_reaches_the_job(wine: str) -> None:
    settings = {"lr": 0.02, "batch_size": 24, "weight_decay": 0.001, "dropout": 0.25, "momentum": 0.7}
    config = ApplyConfig(wine, "cultivar", "cosine", hidden=(8, 5), optimizer="adamw", epochs=5, **settings)  # type: ignore[arg-type]
    application = prepare(config)
    assert application.env.engine.trainee.read() == settings
    assert isinstance(application.env.engine.optimizer, torch.optim.AdamW)
    widths = [m.out_features for m in application.env.engine.model if isinstance(m, nn.Linear)]  # type: ignore[union-attr]
    assert widths == [8, 5, 3]
    train, _ = application.job.train  # type: ignore[misc]
    assert application.budget == 5 * len(train)


@pytest.mark.parametrize(
    ("optimizer", "lr"),
    [
        ("adam", 1e-3),
        ("adamw", 1e-3),
        ("sgd", 0.1),
        ("momentum", 0.03),
        ("nesterov", 0.03),
        ("adagrad", 0.01),
    ],
)
def test_a_learning_rate_not_given_is_a_usual_one_for_the_optimizer(
    wine: str, optimizer: str, lr: float
) -> None:
    assert prepare(ApplyConfig(wine, "cultivar", "cosine", optimizer=optimizer)).start == {"lr": lr}


def test_a_regression_predicts_in_the_targets_own_unit() -> None:
    frame = load_diabetes(as_frame=True).frame
    frame.to_csv("diabetes.csv", index=False)
    applied = apply("diabetes.csv", target="target", epochs=20.0)
    model, metadata = load_model("run/model.safetensors")
    assert metadata.preprocessing is not None
    raw = frame.drop(columns="target").to_numpy()
    guess = metadata.preprocessing.predictions(model(metadata.preprocessing.inputs(raw)))
    assert set(applied.episode.test) == {"loss", "mse", "r2"}
    assert abs(guess.mean() - frame.target.mean()) < 0.2 * frame.target.std()


def test_missing_values_are_imputed_in_the_saved_model_as_in_the_run(wine: str) -> None:
    lines = Path(wine).read_text().splitlines()
    lines[5] = "," + lines[5].split(",", 1)[1]
    Path(wine).write_text("\n".join(lines))
    with pytest.raises(DatasetError, match="--impute"):
        prepare(ApplyConfig(wine, "cultivar", "cosine"))
    apply(wine, target="cultivar", impute=True)
    _, metadata = load_model("run/model.safetensors")
    assert metadata.preprocessing is not None
    assert len(metadata.preprocessing.fill) == 13
    missing = np.full((1, 13), np.nan)
    assert metadata.preprocessing.inputs(missing).isfinite().all()


def test_npz_arrays_are_a_table_too() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2, 3))
    np.savez("data.npz", images=x, label=(x.sum((1, 2)) > 0).astype(int))
    applied = apply("data.npz", target="label", epochs=30.0, lr=0.02)
    assert applied.episode.test["accuracy"] > 0.6


def test_a_learned_policy_tunes_all_that_the_job_has(wine: str) -> None:
    space = search_space()
    features = FeatureSet(space).names
    zeros = [(torch.zeros(5, len(features)), torch.zeros(5))]
    policy = MLPPolicy(space, "continuous", CourseConfig(), features, {"name": "idle"}, zeros)
    save_policy(policy, "idle.safetensors")
    applied = apply(wine, target="cultivar", policy="idle.safetensors", epochs=30.0)
    assert set(applied.start) == {"lr", "batch_size", "weight_decay", "dropout", "momentum"}
    ways = applied.results()["hyperparameters"]
    assert all(way["start"] == way["end"] == way["lowest"] == way["highest"] for way in ways.values())
    assert len(applied.episode.records) == 20


def test_early_stopping_ends_before_the_budget(wine: str) -> None:
    applied = apply(wine, target="cultivar", policy="constant", lr=0.1, epochs=60.0, early_stopping=5)
    records = applied.episode.records
    assert applied.episode.samples < prepare(ApplyConfig(wine, "cultivar", "constant", epochs=60)).budget
    assert min(r.val_loss for r in records) == records[-6].val_loss


def test_an_own_job_keeps_its_settings_where_none_are_given(jobs: str) -> None:
    own = prepare(ApplyConfig(f"{jobs}:job", policy="cosine"))
    assert own.start["lr"] == 0.5
    assert own.budget == 160
    changed = prepare(ApplyConfig(f"{jobs}:job", policy="cosine", lr=0.25, epochs=3))
    assert changed.start["lr"] == 0.25
    assert changed.env.engine.trainee.read()["batch_size"] == 8
    assert changed.budget == 240


def test_an_own_job_is_loaded_into_its_own_module_only(jobs: str) -> None:
    application = prepare(ApplyConfig(f"{jobs}:job", policy="cosine"))
    application.run(Path("run"))
    with pytest.raises(JobError, match=f"{jobs}:job built"):
        load_model("run/model.safetensors")
    loaded, metadata = load_model("run/model.safetensors", nn.Linear(1, 2))
    x = torch.linspace(-1, 1, 5)[:, None]
    assert torch.equal(loaded(x), application.env.engine.model(x))
    assert metadata.preprocessing is None
    with pytest.raises(JobError, match="does not fit"):
        load_model("run/model.safetensors", nn.Linear(2, 2))


PHASES = """
from dataclasses import replace
from torch import nn
from rl_tuner.envs import Phase
from {} import job as last

def job():
    inputs = last().train[0]
    first = replace(last(), train=(inputs, inputs), validation=(inputs, inputs), task="regression")
    return replace(first, model=lambda: nn.Linear(1, 1), then=(Phase(lambda trained: last(), 100),))
"""


def test_a_model_trained_in_phases_is_saved_as_one_of_the_last_phases_task(jobs: str) -> None:
    Path(f"phases_of_{jobs}.py").write_text(PHASES.format(jobs))
    application = prepare(ApplyConfig(f"phases_of_{jobs}:job", policy="constant"))
    assert application.job.task == "regression"
    application.run(Path("run"))
    _, metadata = load_model("run/model.safetensors", nn.Linear(1, 2))
    assert metadata.task == "classification"


@pytest.mark.parametrize("setting", [{"epochs": 3}, {"lr": 0.1}, {"batch_size": 4}])
def test_a_setting_that_only_the_first_of_several_phases_would_heed_is_refused(
    jobs: str, setting: dict[str, Any]
) -> None:
    Path(f"phases_of_{jobs}.py").write_text(PHASES.format(jobs))
    with pytest.raises(ConfigError, match=f"--{next(iter(setting))} is for a job of one phase"):
        prepare(ApplyConfig(f"phases_of_{jobs}:job", policy="constant", **setting))


def test_large_images_make_a_small_model_file() -> None:
    # One mean and one deviation, not one for each of millions of pixels.
    pixels = np.random.default_rng(0).integers(0, 256, (12, 60, 60), np.uint8)
    files = {"some-images-idx3-ubyte": own_files.idx(pixels)}
    files["some-labels-idx1-ubyte"] = own_files.idx((np.arange(12) % 2).astype(np.uint8))
    path = own_files.write(files)
    application = prepare(ApplyConfig(str(path), policy="constant", epochs=20, batch_size=1))
    application.policy.config = replace(application.policy.config, decisions=2)
    application.run(Path("run"))
    header = int.from_bytes(Path("run/model.safetensors").read_bytes()[:8], "little")
    assert header < 10_000
    _, metadata = load_model("run/model.safetensors")
    fitted = metadata.preprocessing
    assert fitted is not None
    split = load_samples(str(path)).split(0)
    raw = (pixels / np.float32(255)).reshape(12, -1)
    parts = torch.cat([inputs for inputs, _ in (split.train, split.validation, split.test)])
    assert torch.equal(fitted.inputs(raw).sort(0).values, parts.sort(0).values)
    with pytest.raises(DatasetError, match="3600 columns"):
        fitted.inputs(raw[:, :1])


def test_an_own_network_is_built_from_the_tables_width_and_a_seed_of_its_own(
    wine: str, jobs: str, untouched_rng: None
) -> None:
    application = prepare(ApplyConfig(wine, "cultivar", "cosine", model=f"{jobs}:network"))
    shapes = [tuple(p.shape) for p in application.env.engine.model.parameters()]
    assert shapes == [(4, 13), (4,), (3, 4), (3,)]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("nothing", "has no function 'nothing': it has job, misfit, broken, number, network, flat"),
        ("number", "must return an rl_tuner.envs.TrainingJob, got int"),
        ("broken", r"failed: ValueError: no such sensor \(jobs_\d+.py, line 16\)"),
        ("misfit", "cannot be trained: mat1 and mat2"),
    ],
)
def test_what_is_wrong_with_an_own_job_is_said_in_one_line(jobs: str, function: str, words: str) -> None:
    with pytest.raises(JobError, match=words) as error:
        prepare(ApplyConfig(f"{jobs}:{function}", policy="cosine"))
    assert "\n" not in str(error.value)


def test_outputs_that_would_broadcast_against_the_targets_are_refused(jobs: str) -> None:
    load_diabetes(as_frame=True).frame.to_csv("diabetes.csv", index=False)
    with pytest.raises(JobError, match=r"must return shape \(2,\) for a batch, got \(2, 1\)"):
        prepare(ApplyConfig("diabetes.csv", "target", "cosine", model=f"{jobs}:network"))
    prepare(ApplyConfig("diabetes.csv", "target", "cosine", model=f"{jobs}:flat"))


def test_a_module_that_cannot_be_imported_is_named() -> None:
    Path("halfway.py").write_text("import torch\nimport no_such_library\n")
    with pytest.raises(JobError, match=r"cannot import 'halfway'.*no_such_library.*\(halfway.py, line 2\)"):
        prepare(ApplyConfig("halfway:job", policy="cosine"))
    with pytest.raises(JobError, match="cannot import 'absent_module'"):
        prepare(ApplyConfig("absent_module:job", policy="cosine"))


@pytest.mark.parametrize(
    "name",
    [
        "target",
        "model",
        "hidden",
        "optimizer",
        "impute",
        "task",
        "dropout",
        "encode",
        "labels",
        "size",
        "length",
    ],
)
def test_settings_of_data_are_refused_beside_an_own_job(jobs: str, name: str) -> None:
    values = {"hidden": (3,), "impute": True, "dropout": 0.1, "encode": False, "size": (3, 3), "length": 3}
    config = ApplyConfig(f"{jobs}:job", policy="cosine", **{name: values.get(name, "x")})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"--{name} is for data: .* brings its own"):
        prepare(config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.0), ("lr", -1.0), ("lr", float("nan")), ("batch_size", 0), ("weight_decay", -0.1),
        ("dropout", 1.0), ("momentum", 1.5), ("seed", -1), ("hidden", (8, 0)), ("early_stopping", 0),
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        ApplyConfig("table.csv", **{name: value})  # type: ignore[arg-type]


def test_nothing_is_written_before_all_is_checked_and_no_run_is_overwritten(wine: str) -> None:
    for settings in ({"target": "absent"}, {"optimizer": "adamm"}, {"epochs": 0.1}, {"momentum": 0.5}):
        wrong = {"target": "cultivar", **settings}
        if "momentum" in settings:
            wrong["optimizer"] = "adagrad"
        with pytest.raises((ConfigError, DatasetError)):
            apply(wine, **wrong)
        assert not Path("run").exists()
    apply(wine, target="cultivar")
    before = Path("run/results.json").read_bytes()
    with pytest.raises(ConfigError, match="run exists"):
        apply(wine, target="cultivar")
    assert Path("run/results.json").read_bytes() == before


def test_a_file_that_is_no_model_is_refused_by_name() -> None:
    Path("text.safetensors").write_text("hello")
    save_file({"a": torch.zeros(1)}, "other.safetensors")
    for name in ("text.safetensors", "other.safetensors"):
        with pytest.raises(JobError, match=f"{name} is no model file"):
            load_model(name)
    with pytest.raises(JobError, match=r"no such model file: absent.safetensors"):
        load_model("absent.safetensors")
    header = {"rl_tuner_model": json.dumps({"format_version": 99})}
    save_file({"a": torch.zeros(1)}, "new.safetensors", metadata=header)
    with pytest.raises(JobError, match="format version 99; this rl-tuner reads 1"):
        load_model("new.safetensors")
    header = {"rl_tuner_model": json.dumps({"format_version": 1, "architecture": {"kind": "mlp"}})}
    save_file({"a": torch.zeros(1)}, "part.safetensors", metadata=header)
    with pytest.raises(JobError, match="damaged model file"):
        load_model("part.safetensors")


def test_tied_weights_survive_the_file() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))  # type: ignore[no-any-return]

    model, other = Tied(), Tied()
    metadata = ModelMetadata({"kind": "function", "name": "m:f"}, "regression", None, {})
    save_model(model, metadata, Path("tied.safetensors"))
    loaded, _ = load_model("tied.safetensors", other)
    x = torch.eye(3)
    assert torch.equal(loaded(x), model(x))
    assert loaded.second.weight is loaded.first.weight


def test_the_decisions_table_names_every_field_once() -> None:
    record = Record(0, 64, 1.5, 1.25, 1.25, 0.5, "good", {"lr": 0.1, "batch_size": 8.0})
    lines = records_csv([record]).splitlines()
    assert lines[0].split(",") == [
        *[f.name for f in fields(Record) if f.name != "values"],
        "lr",
        "batch_size",
    ]
    assert lines[1] == "0,64,1.5,1.25,1.25,0.5,good,0,0.1,8.0"


@pytest.mark.parametrize(
    ("name", "kind", "network"),
    [
        ("table", "table", "mlp-64x32"),
        ("npz", "table", "mlp-64x32"),
        ("ratings", "ratings", "factors-16"),
        ("idx", "image", "cnn-16x32"),
        ("image folder", "image", "cnn-16x32"),
        ("wav folder", "sound", "conv1d-16x32"),
        ("text", "tokens", "gru-64"),
    ],
)
def test_data_of_every_kind_trains_and_its_model_is_rebuilt_from_the_file(
    name: str, kind: str, network: str, untouched_rng: None
) -> None:
    path = own_files.write(own_files.FORMATS[name]())
    application = prepare(
        ApplyConfig(str(path), own_files.TARGETS.get(name), "constant", epochs=20, batch_size=1, dropout=0.1)
    )
    application.policy.config = replace(application.policy.config, decisions=5)
    application.run(Path("run"))
    loaded, metadata = load_model("run/model.safetensors")
    assert metadata.provenance["kind"] == kind
    assert metadata.architecture["name"] == network
    inputs, targets = application.job.test  # type: ignore[misc]
    outputs = loaded(inputs)
    assert torch.equal(outputs, application.env.engine.model.eval()(inputs))  # type: ignore[arg-type]
    assert outputs.shape[:1] + outputs.shape[2:] == targets.shape  # type: ignore[union-attr]


def test_the_symbols_of_a_text_are_in_the_model_file() -> None:
    path = own_files.write(own_files.text())
    application = prepare(ApplyConfig(str(path), None, "constant", epochs=2, batch_size=1, length=7))
    application.policy.config = replace(application.policy.config, decisions=2)
    application.run(Path("run"))
    symbols = load_model("run/model.safetensors")[1].provenance["classes"]
    text = own_files.text()["book.txt"].decode().replace("\r\n", "\n")
    assert "".join(symbols) == "".join(sorted(set(text)))


def test_encoded_columns_are_encoded_alike_for_new_rows() -> None:
    path = own_files.write(own_files.table())
    apply(str(path), target="kind", batch_size=1, epochs=10.0)
    model, metadata = load_model("run/model.safetensors")
    assert metadata.preprocessing is not None
    frame = pd.read_csv(path)
    np.testing.assert_array_equal(metadata.preprocessing.raw(frame), load_table(path, "kind").inputs)
    names = metadata.preprocessing.predictions(
        model(metadata.preprocessing.inputs(metadata.preprocessing.raw(frame)))
    )
    assert set(names) <= {"a", "b"}


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"model": "mlp"}, "mlp-64x32"),
        ({"hidden": (8, 5)}, "mlp-8x5"),
        ({"hidden": ()}, "linear"),
        ({"model": "mlp", "hidden": (3,)}, "mlp-3"),
        ({"model": "linear"}, "linear"),
        ({"model": "mlp-7x7x7"}, "mlp-7x7x7"),
    ],
)
def test_a_network_is_named_or_its_hidden_layers_are(wine: str, settings: dict[str, Any], name: str) -> None:
    application = prepare(ApplyConfig(wine, "cultivar", "cosine", **settings))
    assert application.metadata.architecture["name"] == name


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("table", {"model": "cnn-8"}, "'cnn-8' fits image, not table: choose one such as linear, mlp-64x32"),
        ("table", {"model": "mlp-"}, "must look like 'mlp-64x32'"),
        ("table", {"model": "mpl-64"}, "did you mean 'mlp-64x32'"),
        (
            "table",
            {"model": "linear", "hidden": (3,)},
            "--hidden is for the mlp: linear has its own layers",
        ),
        ("idx", {"hidden": (3,), "model": "cnn-8"}, "--hidden is for the mlp: cnn-8 has its own layers"),
        ("text", {"hidden": (3,)}, "'mlp-3' fits table, image, sound, not tokens"),
        ("text", {"model": "own:network"}, "is for rows of numbers, not tokens"),
        ("ratings", {"impute": True}, "is a csv of ratings, which takes no impute"),
        ("wav folder", {"target": "x"}, "is a folder of wav files, which takes no target"),
    ],
)
def test_a_setting_that_does_not_fit_the_data_is_refused(
    name: str, settings: dict[str, Any], words: str
) -> None:
    path = own_files.write(own_files.FORMATS[name]())
    target = {"target": own_files.TARGETS.get(name)}
    with pytest.raises(ConfigError, match=words):
        prepare(ApplyConfig(str(path), policy="cosine", **{**target, **settings}))


def test_model_files_of_old_are_still_read() -> None:
    with torch_seed(0):
        model = mlp(3, (4,), 2, 0.1)
    architecture = {"kind": "mlp", "inputs": 3, "hidden": [4], "outputs": 2, "dropout": 0.1}
    save_model(model, ModelMetadata(architecture, "classification", None, {}), Path("old.safetensors"))
    loaded, _ = load_model("old.safetensors")
    assert torch.equal(loaded(torch.eye(3)), model.eval()(torch.eye(3)))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "cnn-"},
        {"name": 3},
        {"shape": None},
        {"shape": {"kind": "table"}},
        {"shape": 7},
        {"dropout": 2.0},
    ],
)
def test_a_model_file_with_a_damaged_architecture_is_refused(wine: str, change: dict[str, Any]) -> None:
    apply(wine, target="cultivar")
    model, metadata = load_model("run/model.safetensors")
    damaged = replace(metadata, architecture={**metadata.architecture, **change})
    save_model(model, damaged, Path("damaged.safetensors"))
    with pytest.raises(JobError, match=r"damaged\.safetensors is a damaged model file"):
        load_model("damaged.safetensors")
