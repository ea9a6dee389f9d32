"""``rl-tuner apply`` as a person meets it: what it prints, and what it says when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import own_files
import pytest
from sklearn.datasets import load_wine

from rl_tuner.commands.apply import way_in_words
from tests.command_lines import Run, runner


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process."""
    return runner(monkeypatch, capsys, "apply")


@pytest.fixture
def wine() -> str:
    frame = load_wine(as_frame=True)
    frame.data.assign(cultivar=[f"c{i}" for i in frame.target]).to_csv("wine.csv", index=False)
    return "wine.csv"


QUICK = ("--policy", "cosine", "--epochs", "3", "--batch-size", "16")


def test_a_run_says_how_well_it_went_and_how_to_look_at_it(run: Run, wine: str) -> None:
    done = run(wine, "--target", "cultivar", *QUICK)
    assert done.code == 0
    results = json.loads(Path("runs/apply-wine-cosine-0/results.json").read_text())
    assert f"accuracy {results['test']['accuracy']:.4g}" in done.out
    assert "lr  0.001 → " in done.out
    assert "(÷ " in done.out
    assert "runs/apply-wine-cosine-0/model.safetensors" in done.out
    assert "tensorboard --logdir runs/apply-wine-cosine-0" in done.out
    assert "318/318" in done.out  # the progress reaches the end of the budget


def test_json_is_one_object_on_stdout_and_all_else_goes_to_stderr(run: Run, wine: str) -> None:
    done = run(wine, "--target", "-1", *QUICK, "--json", "--out", "here")
    printed = json.loads(done.out)
    written = json.loads(Path("here/results.json").read_text())
    assert printed == {"run": "here", **written}
    assert "training wine under cosine" in done.err


def test_a_second_run_gets_a_folder_of_its_own_but_a_named_one_is_never_overwritten(
    run: Run, wine: str
) -> None:
    for _ in range(2):
        assert run(wine, "--target", "cultivar", *QUICK).code == 0
    names = sorted(path.name for path in Path("runs").iterdir())
    assert names == ["apply-wine-cosine-0", "apply-wine-cosine-0-2"]
    again = run(wine, "--target", "cultivar", *QUICK, "--out", "runs/apply-wine-cosine-0")
    assert again.code == 2
    assert "exists: give another --out" in again.err  # apply has no --resume to advise


def test_a_table_without_names_loses_no_row_where_one_says_so(run: Run) -> None:
    Path("t.csv").write_text("\n".join(_table("no names")))
    for option, rows in (("--no-header", 28), ("--header", 27)):
        settings = ("--policy", "cosine", "--epochs", "10", "--out", option[2:], "--json")
        done = run("t.csv", "--target", "-1", option, *settings)
        train = rows - 2 * round(rows / 5)
        assert json.loads(done.out)["samples"] == 10 * train


def test_ctrl_c_is_one_line_that_names_the_folder(
    run: Run, wine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rl_tuner.applying.run_episode", press)
    done = run(wine, "--target", "cultivar", *QUICK, "--out", "here[1]")
    assert done.code == 130
    assert done.out.splitlines()[-1] == "interrupted; TensorBoard events up to here are in here[1]"
    assert done.err == ""


@pytest.mark.parametrize("size", [1500, 6000], ids=["events", "model"])
def test_a_full_disk_is_one_clear_line(wine: str, size: int) -> None:
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
        "from rl_tuner.cli import main; main()"
    )
    command = ["apply", wine, "--target", "cultivar", *QUICK, "--out", "here"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: here")
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert not Path("here/results.json").exists()


def test_the_console_script_runs_an_own_job_from_the_current_folder() -> None:
    Path("mine.py").write_text(
        "import torch\nfrom rl_tuner.envs import TrainingJob\n"
        "def job():\n"
        "    x = torch.linspace(-1, 1, 80)[:, None]\n"
        "    data = (x, (x[:, 0] > 0).long())\n"
        "    return TrainingJob(torch.nn.Linear(1, 2), data, data, epochs=3, start={'batch_size': 2})\n"
    )
    command = "from rl_tuner.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "apply", "mine:job", "--policy", "constant", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert result["test"] == {}
    assert result["samples"] == 240
    assert Path(result["run"], "model.safetensors").is_file()


def _table(name: str) -> list[str]:
    rows = [[str(i), str(i * i % 7), "ab"[i % 2]] for i in range(30)]
    match name:
        case "text":
            rows[3][1] = "high"
        case "nan":
            rows[4][0] = ""
        case "one class":
            rows = [[a, b, "a"] for a, b, _ in rows]
        case "three rows":
            rows = rows[:3]
        case "ragged":
            rows[5] = rows[5][:2]
    if name == "no names":
        return [",".join(row) for row in rows[2:]]
    return ["size,weight,kind", *(",".join(row) for row in rows)]


@pytest.mark.parametrize(
    ("table", "arguments", "words"),
    [
        (
            "good",
            ["--target", "kin"],
            "has no column 'kin' (did you mean 'kind'?): it has size, weight, kind",
        ),
        ("good", [], "--target is missing"),
        ("text", ["--target", "kind"], "column 'weight' must hold numbers: row 4 holds 'high' (or --encode"),
        ("good", ["--target", "kind", "--size", "8"], "good.csv is a table, which takes no size"),
        ("good", ["--target", "kind", "--size", "8 by 8"], "--size must be like 32 or 24x32, got '8 by 8'"),
        ("nan", ["--target", "kind"], "missing values (NaN) in column 'size'"),
        ("one class", ["--target", "kind"], "is a in every row: there is nothing to learn"),
        ("three rows", ["--target", "kind"], "has 3 rows: at least"),
        ("ragged", ["--target", "kind"], "ragged.csv"),
        ("good", ["--target", "kind", "--policy", "nonesuch"], "no policy 'nonesuch'"),
        ("good", ["--target", "kind", "--optimizer", "adamm"], "did you mean 'adam'?"),
        ("good", ["--target", "kind", "--lr", "-1"], "lr must be > 0"),
        ("good", ["--target", "kind", "--hidden", "8,x"], "--hidden must be whole numbers like 64,32"),
        ("good", ["--target", "kind", "--model", "nowhere:net"], "cannot import 'nowhere'"),
        ("good", ["--target", "kind", "--epochs", "1e17"], "epochs must be > 0 and <= 1e+09"),
        ("no names", ["--target", "-1"], "may be names or data: give --header or --no-header"),
        (
            "good",
            ["--target", "kind", "--epochs", "0.5"],
            "cannot hold 100 decisions: lower decisions or raise the budget (more epochs)",
        ),
        ("good", ["--target", "kind", "--task", "ranking"], "unknown task 'ranking'"),
    ],
)
def test_bad_input_is_one_clear_line_exit_code_2_and_no_folder(
    run: Run, table: str, arguments: list[str], words: str
) -> None:
    path = Path(f"{table.replace(' ', '-')}.csv")
    path.write_text("\n".join(_table(table)) + "\n")
    policy = [] if "--policy" in arguments else ["--policy", "cosine"]
    done = run(str(path), *arguments, *policy)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert words in done.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("absent.csv", "no such file: absent.csv"),
        ("folder.csv", "folder.csv must hold a folder for each class"),
        ("notes.txt", "notes.txt is a text file, which takes no target: got 'y'"),
        ("sheet.xlsx", "sheet.xlsx is none of what can be read: a table (.csv"),
        ("empty", "empty must hold a folder for each class"),
        ("hf:toys", "pip install 'rl-tuner[datasets]'"),
        ("cut.npz", "cut.npz"),
        ("absent_module:job", "cannot import 'absent_module'"),
    ],
)
def test_data_that_is_not_there_or_not_data_is_named(run: Run, data: str, words: str) -> None:
    Path("folder.csv").mkdir()
    Path("empty").mkdir()
    Path("notes.txt").write_text("a,b\n1,2\n")
    Path("sheet.xlsx").write_bytes(b"PK\3\4\0")
    np.savez("whole.npz", x=np.zeros((20, 2)), y=np.arange(20) % 2)
    Path("cut.npz").write_bytes(Path("whole.npz").read_bytes()[:200])
    arguments = () if ":" in data or data == "empty" else ("--target", "y")
    done = run(data, *arguments, "--policy", "cosine")
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert "Traceback" not in done.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ((64.0, 64.0, 64.0, 64.0), "64 throughout"),
        ((1e-3, 1e-6, 1e-6, 1e-3), "0.001 → 1e-06 (÷ 1,000)"),
        ((0.1, 0.25, 0.1, 0.25), "0.1 → 0.25 (× 2.5)"),
        ((0.0, 0.25, 0.0, 0.5), "0 → 0.25, between 0 and 0.5 on the way"),
        ((0.1, 0.1, 0.01, 0.1), "0.1 → 0.1, between 0.01 and 0.1 on the way"),
    ],
)
def test_a_hyperparameters_way_is_told_in_words(way: tuple[float, ...], words: str) -> None:
    names = ("start", "end", "lowest", "highest")
    assert way_in_words(dict(zip(names, way, strict=True))) == words


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        (
            "image folder",
            ["--size", "8x9"],
            "pictures: 8 + 2 + 2 samples of 3 × 8 × 9 pixels, 2 classes; cnn-16x32",
        ),
        ("idx", [], "some-images-idx3-ubyte: 12 + 4 + 4 samples of 1 × 5 × 4 pixels, 3 classes; cnn-16x32"),
        (
            "wav folder",
            ["--length", "20"],
            "sounds: 6 + 2 + 2 samples of 1 × 20 values, 2 classes; conv1d-16x32",
        ),
        (
            "ratings",
            ["--model", "factors-3"],
            "ratings: 18 + 6 + 6 samples of users and items, regression; factors-3",
        ),
        (
            "table",
            ["--target", "kind"],
            "table: 14 + 5 + 5 samples of 4 columns, 2 classes; mlp-64x32 with adam",
        ),
    ],
)
def test_what_is_trained_on_what_is_said_before_it_begins(
    run: Run, name: str, arguments: list[str], words: str
) -> None:
    path = own_files.write(own_files.FORMATS[name]())
    done = run(str(path), *arguments, "--policy", "constant", "--epochs", "20", "--batch-size", "1")
    assert done.code == 0
    assert done.out.startswith(words)
    assert Path(f"runs/apply-{path.stem}-constant-0/model.safetensors").is_file()


def test_a_name_too_long_for_a_file_ends_in_one_line(run: Run) -> None:
    done = run("x" * 300 + ".csv", "--target", "y")
    assert (done.code, done.out) == (2, "")
    assert "too long" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_run_starts_from_the_weights_of_another(run: Run, wine: str) -> None:
    first = run(wine, "--target", "cultivar", *QUICK, "--out", "first")
    assert first.code == 0
    losses = {}
    for out, arguments in {"fresh": (), "warm": ("--weights", "first/model.safetensors")}.items():
        done = run(
            wine, "--target", "cultivar", *QUICK[:2], "--epochs", "1", *arguments, "--out", out, "--json"
        )
        assert done.code == 0
        losses[out] = json.loads(done.out)["val_loss"]
    assert losses["warm"] < losses["fresh"]


def test_how_much_of_the_network_starts_from_given_weights_is_said(run: Run, wine: str) -> None:
    wide = (wine, "--target", "cultivar", *QUICK[:2], "--epochs", "1", "--hidden", "8,4")
    assert run(*wide, "--out", "first").code == 0
    for hidden, words in {"8,4": "6 of 6 tensors given", "8,5": "3 of 6 tensors given"}.items():
        done = run(*wide[:-1], hidden, "--weights", "first/model.safetensors", "--out", hidden)
        assert done.code == 0
        assert words in done.out


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("nowhere.safetensors", "no such file nowhere.safetensors"),
        ("weights.zip", ".safetensors, .pt, .pth or .bin"),
        ("broken.safetensors", "broken.safetensors"),
    ],
)
def test_weights_that_cannot_be_read_end_in_one_line(run: Run, wine: str, weights: str, words: str) -> None:
    Path("broken.safetensors").write_bytes(b"no weights")
    done = run(wine, "--target", "cultivar", *QUICK, "--weights", weights)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
