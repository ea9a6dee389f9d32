"""Files of every format, broken in a thousand ways: each loads, or is refused at once in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import own_files
import pytest
from broken_files import BOMBS, lying_wav
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_tuner import ConfigError, DatasetError
from rl_tuner.envs.loaders import load_samples
from rl_tuner.envs.samples import Samples

MOST_BYTES = 200e6
"""What a malformed file may take, of processor time and memory."""
EXAMPLES, LEAST = 160, 100
"""Files that each of ten tests makes, and how many must be refused: the others say nothing of errors."""

Operation = Callable[[bytes, int, bytes], bytes]
OPERATIONS: dict[str, Operation] = {
    "cut": lambda data, at, _: data[:at],
    "empty": lambda _, __, ___: b"",
    "overwrite": lambda data, at, new: data[:at] + new + data[at + len(new) :],
    "insert": lambda data, at, new: data[:at] + new + data[at:],
    "remove": lambda data, at, new: data[:at] + data[at + len(new) + 1 :],
    "largest count": lambda data, at, _: data[: at // 4 * 4] + b"\xff\xff\xff\xff" + data[at // 4 * 4 + 4 :],
    "large count": lambda data, at, _: data[: at // 4 * 4] + b"\x7f\xff\xff\x7f" + data[at // 4 * 4 + 4 :],
    "zero": lambda data, at, new: data[:at] + bytes(len(new)) + data[at + len(new) :],
    "repeat": lambda data, at, _: data + data[at:],
    "not UTF-8": lambda data, at, _: data[:at] + b"\xe9\xff" + data[at:],
    "NUL": lambda data, at, _: data[:at] + b"\0" + data[at:],
    "delimiters": lambda data, at, _: data[:at] + b',;"\n,' + data[at:],
    "number": lambda data, at, _: data[:at] + b"-9e999_1" + data[at:],
}
SPOILING = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
    min_size=1,
    max_size=3,
)


def spoil(data: bytes, operations: list[tuple[str, float, bytes]]) -> bytes:
    for name, place, new in operations:
        data = OPERATIONS[name](data, int(place**2 * len(data)), new)  # rather near the header
    return data


@pytest.fixture(scope="module", autouse=True)
def libraries(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All is imported before time and memory are measured."""
    for name, make in own_files.FORMATS.items():
        load_samples(
            str(own_files.write(make(), tmp_path_factory.mktemp("whole"))), own_files.TARGETS.get(name)
        )


def load_or_refuse(path: Path, target: str | None, encode: bool | None = None) -> Samples | str:
    """The samples, or the message; fails on another exception, a long message, or too much memory."""
    tracemalloc.start()
    try:
        outcome: Samples | str = load_samples(str(path), target, encode=encode)
    except (DatasetError, ConfigError) as error:
        outcome = str(error)
        assert "\n" not in outcome
        assert len(outcome) < 2000
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MOST_BYTES
    return outcome


def check(files: own_files.Files, target: str | None) -> bool:
    """Whether they are refused; what loads must be fit for training."""
    shutil.rmtree("broken", ignore_errors=True)
    outcome = load_or_refuse(own_files.write(files, Path("broken")), target)
    if isinstance(outcome, str):
        return True
    assert len(outcome) >= 10
    split = outcome.split(0)
    assert all(
        tensor.isfinite().all() for part in (split.train, split.validation, split.test) for tensor in part
    )
    return False


@pytest.mark.parametrize("name", own_files.FORMATS)
def test_a_whole_file_of_every_format_loads(name: str) -> None:
    samples = load_or_refuse(own_files.write(own_files.FORMATS[name]()), own_files.TARGETS.get(name))
    assert isinstance(samples, Samples), samples


@pytest.mark.parametrize("name", own_files.FORMATS)
def test_a_file_spoiled_in_any_way_loads_or_is_refused(name: str) -> None:
    whole, refused = own_files.FORMATS[name](), list[bool]()

    @settings(max_examples=EXAMPLES)
    @given(which=st.sampled_from(sorted(whole)), operations=SPOILING)
    def run(which: str, operations: list[tuple[str, float, bytes]]) -> None:
        files = {**whole, which: spoil(whole[which], operations)}
        refused.append(check(files, own_files.TARGETS.get(name)))

    run()
    assert sum(refused) >= LEAST


CELLS = st.sampled_from(
    ["1", "2.5", "-0", "1e400", "1e300", "nan", "NA", "", "inf", "True", "False", "red", "blue", "1_0", '"',
     '"x"', '"\n"', "=", "a=b", "a", " ", "é", "٣", "9" * 25, "0x1F", "1e-400", "2020-01-01", "1+2j",
     "\ufeff", "\x1a", "#", "\\"]
)  # fmt: skip


def test_rows_of_any_cells_load_or_are_refused() -> None:
    refused = list[bool]()

    @settings(max_examples=EXAMPLES)
    @given(
        rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=16),
        extra=st.sampled_from(["", "", "", "1", "1,2"]),
        delimiter=st.sampled_from(",;\t"),
        end=st.sampled_from(["\n", "\r\n", "\r"]),
        name=st.sampled_from(["t.csv#-1", "t.csv#a", "t.tsv#0", "t.csv"]),
    )
    def run(rows: list[tuple[str, ...]], extra: str, delimiter: str, end: str, name: str) -> None:
        content = end.join([*(delimiter.join(row) for row in rows), extra])
        place, _, target = name.partition("#")
        refused.append(check({place: content.encode()}, target or None))

    run()
    assert sum(refused) >= LEAST


GOOD = st.sampled_from(["1", "2.5", "-3", "0", "7e-3", "red", "blue", "green"])


@settings(max_examples=EXAMPLES)
@given(
    rows=st.lists(st.tuples(GOOD, GOOD, GOOD), min_size=12, max_size=24),
    bad=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2), CELLS), max_size=2),
    encode=st.sampled_from([None, True, False]),
)
def test_a_table_with_a_few_bad_cells_loads_or_is_refused(
    rows: list[tuple[str, ...]], bad: list[tuple[int, int, str]], encode: bool | None
) -> None:
    cells = [list(row) for row in rows]
    for row, column, cell in bad:
        cells[row][column] = cell
    Path("t.csv").write_text("\n".join(["x,y,z", *map(",".join, cells)]), encoding="utf-8")
    for target in ("x", "z"):
        outcome = load_or_refuse(Path("t.csv"), target, encode=encode)
        if isinstance(outcome, Samples):
            assert outcome.split(0).train[0].isfinite().all()


NAMES = ("x.csv", "x.npz", "x.txt", "x-images-idx3-ubyte", "x.gz", "f/a/1.png", "f/a/1.wav", "x.parquet", "x")
STARTS = (b"", b"PK\3\4", b"\x1f\x8b\x08", b"\0\0\x08\3", b"RIFF", b"\x89PNG\r\n", b"PAR1")


def test_any_bytes_under_any_name_load_or_are_refused() -> None:
    refused = list[bool]()

    @settings(max_examples=EXAMPLES)
    @given(st.binary(max_size=200), st.sampled_from(STARTS), st.sampled_from(NAMES))
    def run(content: bytes, start: bytes, name: str) -> None:
        refused.append(check({name: start + content}, None))

    run()
    assert sum(refused) >= LEAST


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_made_to_exhaust_memory_is_refused_and_said_why(name: str) -> None:
    make, message = BOMBS[name]
    path = own_files.write(make())
    outcome = load_or_refuse(path, "kind" if path.suffix in (".csv", ".npz") else None)
    assert isinstance(outcome, str), "it was read"
    assert message in outcome


CHILD = """
import json, resource, sys
from rl_tuner.envs.loaders import load_samples
from rl_tuner.errors import RlTunerError
whole, broken = json.load(sys.stdin)
for place in whole:
    load_samples(place)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for place in broken:
    try:
        load_samples(place)
        sys.exit(f"{place} was read")
    except RlTunerError:
        pass
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_the_memory_of_the_whole_process_stays_small_too() -> None:
    """What decoders take is not seen by tracemalloc."""

    def place(made: own_files.Files, folder: str, target: str | None) -> str:
        path = own_files.write(made, Path(folder))
        return f"{path}#{target}" if target is not None and path.suffix in (".csv", ".npz") else str(path)

    whole = [place(make(), name, own_files.TARGETS.get(name)) for name, make in own_files.FORMATS.items()]
    broken = [place(make(), str(number), "kind") for number, (make, _) in enumerate(BOMBS.values())]
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps([whole, broken]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MOST_BYTES


def test_a_sound_that_claims_more_than_its_file_holds_is_read_as_far_as_it_goes() -> None:
    """Recorders that write to a pipe cannot know the length."""
    whole = load_samples(str(own_files.write(own_files.sounds(), Path("whole"))))
    lying = load_or_refuse(own_files.write(lying_wav(b"data", "<I", 2**32 - 2)), None)
    assert isinstance(lying, Samples)
    np.testing.assert_array_equal(lying.inputs, whole.inputs)
