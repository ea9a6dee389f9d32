"""What is installed is what is in the checkout, under the names that are promised."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from rl_tuner import __version__

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy: setuptools would leave its build folder in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    skipped = shutil.ignore_patterns(".*", "runs", "tests", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, symlinks=True, ignore=skipped)
    shutil.copytree(ROOT / "tests", source / "tests", ignore=skipped)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def _config() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


def _normal(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins), "every line of constraints.txt is name==version"
    return {_normal(name): version for name, version in pins}


def _checkout() -> set[str]:
    """The files that belong into the wheel, by their installed names."""
    modules = {
        str(PurePosixPath(package) / path.name)
        for package, folder in (
            ("rl_tuner", ROOT / "rl_tuner"),
            ("rl_tuner/commands", ROOT / "rl_tuner" / "commands"),
            ("rl_tuner/envs", ROOT / "envs"),
            ("rl_tuner/agents", ROOT / "agents"),
        )
        for path in folder.glob("*.py")
    }
    data = {
        f"rl_tuner/{folder}/{path.name}"
        for folder, pattern in (
            ("policies", "*.safetensors"),
            ("suites", "*.toml"),
            ("templates", "*.j2"),
            ("weights", "*.safetensors"),
        )
        for path in (ROOT / "rl_tuner" / folder).glob(pattern)
    }
    return modules | data | {"rl_tuner/py.typed"}


def test_the_wheel_holds_the_checkouts_modules_data_files_and_type_marker_and_nothing_else(
    wheel: zipfile.ZipFile,
) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == _checkout()


def test_the_wheels_files_are_the_checkouts_byte_for_byte(wheel: zipfile.ZipFile) -> None:
    for name, source in (
        ("rl_tuner/envs/engine.py", "envs/engine.py"),
        ("rl_tuner/agents/__init__.py", "agents/__init__.py"),
        ("rl_tuner/commands/apply.py", "rl_tuner/commands/apply.py"),
    ):
        assert wheel.read(name) == (ROOT / source).read_bytes(), name


def test_the_wheel_claims_one_top_level_name(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"rl_tuner"}


def test_the_installed_command_is_the_command_line(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "rl-tuner = rl_tuner.cli:main" in wheel.read(entry_points).decode()


def test_the_wheel_runs_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = (
        "import numpy, rl_tuner.envs, rl_tuner.agents, rl_tuner; from rl_tuner import load_policy\n"
        "family = rl_tuner.envs.load_suite('finetuning').family('train')\n"
        "family.sample(numpy.random.default_rng(0)).build().build_model(0)\n"
        "print(rl_tuner.envs.__file__, load_policy('cosine').name, rl_tuner.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    place, policy, version = done.stdout.split()
    assert Path(place) == tmp_path / "site/rl_tuner/envs/__init__.py"
    assert (policy, version) == ("cosine", __version__)


@pytest.mark.parametrize("name", ["envs", "agents"])
def test_the_links_are_relative_and_lead_to_the_folders(name: str) -> None:
    link = ROOT / "rl_tuner" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert link.resolve() == ROOT / name


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository")
@pytest.mark.parametrize("name", ["envs", "agents"])
def test_the_links_are_committed_as_links(name: str) -> None:
    done = subprocess.run(
        ["git", "ls-files", "--stage", f"rl_tuner/{name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("120000 "), done.stdout or "not in the repository"


def test_every_folder_of_modules_is_listed_as_a_package() -> None:
    options = _config()["options"]
    folders = dict(line.split(" = ") for line in _lines(options["package_dir"]))
    assert folders == {"rl_tuner": "rl_tuner", "rl_tuner.envs": "envs", "rl_tuner.agents": "agents"}
    below = {f"rl_tuner.{p.parent.name}" for p in (ROOT / "rl_tuner").glob("*/__init__.py")}
    assert set(_lines(options["packages"])) == {"rl_tuner"} | below


def test_constraints_pin_every_direct_dependency_to_one_version() -> None:
    config = _config()
    direct = _lines(config["options"]["install_requires"])
    for extra in config["options.extras_require"].values():
        direct += _lines(extra)
    names = {_normal(re.split(r"[\s<>=!~\[;]", line)[0]) for line in direct}
    pins = _pins()
    assert sorted(names - set(pins)) == []
    assert all(re.fullmatch(r"[0-9][0-9A-Za-z.]*", version) for version in pins.values())


def test_torch_is_pinned_to_the_release_without_a_local_version() -> None:
    assert _pins()["torch"] == "2.13.0"


def test_the_pinned_versions_are_the_tested_ones() -> None:
    from importlib.metadata import PackageNotFoundError, version

    wrong = {}
    for name, pin in _pins().items():
        try:
            found = version(name).split("+")[0]  # torch's wheel for the CPU is 2.13.0+cpu
        except PackageNotFoundError:
            continue  # an extra that is not installed here
        if found != pin:
            wrong[name] = (found, pin)
    assert wrong == {}


def test_the_version_is_the_changelogs_latest() -> None:
    headings = re.findall(r"^## \[?v?([0-9][^\]\s]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == __version__
