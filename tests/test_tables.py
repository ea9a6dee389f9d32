"""Users' tables: what is read, how a task is inferred, and the message each broken file gives."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.feature_extraction import DictVectorizer

from rl_tuner import ConfigError, DatasetError
from rl_tuner.config import from_dict, to_dict
from rl_tuner.envs import tables
from rl_tuner.envs.preprocessing import Preprocessing
from rl_tuner.envs.tables import load_table

HEAD = "width,height,kind"


def numbers(rows: int = 12) -> list[str]:
    return [f"{i},{i * i % 7},{'ab'[i % 2]}" for i in range(rows)]


def write(text: str | bytes, name: str = "t.csv") -> Path:
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def csv(*rows: str, head: str = HEAD) -> Path:
    return write("\n".join([head, *rows]) + "\n")


def test_a_csv_gives_the_numbers_pandas_reads_and_sorted_class_names() -> None:
    table = load_table(csv(*numbers()), "kind")
    frame = pd.read_csv("t.csv")
    np.testing.assert_array_equal(table.inputs, frame[["width", "height"]].to_numpy(np.float64))
    assert table.columns == ("width", "height")
    assert table.classes == ("a", "b")
    assert [table.classes[i] for i in table.targets] == frame["kind"].tolist()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found_from_the_first_line(delimiter: str) -> None:
    write("\n".join(line.replace(",", delimiter) for line in [HEAD, *numbers()]))
    assert load_table("t.csv", "kind").inputs.shape == (12, 2)


def test_a_byte_order_mark_windows_line_ends_quotes_and_blank_lines_do_not_matter() -> None:
    rows = [r.replace(",a", ',"a"') for r in numbers()]
    write(("\r\n".join([HEAD, *rows[:5], "", *rows[5:]]) + "\r\n\r\n").encode("utf-8-sig"))
    plain = load_table(csv(*numbers()), "kind")
    write(("\r\n".join([HEAD, *rows[:5], "", *rows[5:]]) + "\r\n\r\n").encode("utf-8-sig"), "u.csv")
    other = load_table("u.csv", "kind")
    assert (other.columns, other.classes) == (plain.columns, plain.classes)
    np.testing.assert_array_equal(other.inputs, plain.inputs)


@pytest.mark.parametrize(("target", "column"), [("-1", 2), ("0", 0), ("2", 2)])
def test_a_file_of_numbers_only_has_no_header_and_targets_are_numbered(target: str, column: int) -> None:
    rows = np.column_stack([np.arange(12) * 0.5, np.arange(12) ** 2 / 3, np.arange(12) * 1.5])
    write("\n".join(",".join(map(repr, row)) for row in rows.tolist()))
    table = load_table("t.csv", target)
    np.testing.assert_array_equal(table.targets, rows[:, column])
    np.testing.assert_array_equal(table.inputs, np.delete(rows, column, axis=1))


def test_header_can_be_said_where_it_cannot_be_guessed() -> None:
    write("\n".join(["1,2,3", *(f"{i},{i + 1},{i % 2}" for i in range(12))]))
    assert load_table("t.csv", "3", header=True).inputs.shape == (12, 2)
    write("\n".join(numbers()[2:] + numbers()))
    assert load_table("t.csv", "-1", header=False).inputs.shape == (22, 2)
    with pytest.raises(DatasetError, match="header=False"):
        load_table("t.csv", "kind")


def test_columns_that_pandas_only_numbered_are_names_not_a_row() -> None:
    pd.DataFrame(np.random.default_rng(0).normal(size=(12, 4))).to_csv("t.csv", index=False)
    table = load_table("t.csv", "3")
    assert table.inputs.shape == (12, 3)
    np.testing.assert_array_equal(table.targets, pd.read_csv("t.csv")["3"])


def test_the_words_true_and_false_are_labels_or_levels_with_and_without_gaps() -> None:
    rows = [f"{i},{i % 5},{i % 2 == 0}" for i in range(12)]
    assert load_table(csv(*rows), "kind").classes == ("False", "True")
    table = load_table("t.csv", "height")
    assert table.columns == ("width", "kind=False", "kind=True")
    assert table.inputs[:2].tolist() == [[0, 0, 1], [1, 1, 0]]
    table = load_table(csv(*rows, "12,3,"), "height", impute=True)
    assert table.columns == ("width", "kind=False", "kind=True")
    assert np.isnan(table.inputs[12, 1:]).all()


def test_an_npz_flattens_images_and_keeps_array_names() -> None:
    images, labels = np.arange(20 * 6).reshape(20, 2, 3), np.arange(20) % 4
    np.savez("t.npz", X=images, age=np.arange(20.0), y=labels)
    table = load_table("t.npz", "y")
    expected = np.column_stack([images.reshape(20, 6), np.arange(20.0)])
    np.testing.assert_array_equal(table.inputs, expected)
    assert table.columns == (*(f"X[{i}]" for i in range(6)), "age")
    assert table.classes == ("0", "1", "2", "3")
    np.testing.assert_array_equal(table.targets, labels)


@pytest.mark.parametrize(
    ("targets", "task", "classes"),
    [
        (np.arange(30) % 3, "classification", ("0", "1", "2")),
        (np.arange(30) % 3 * 10.0, "classification", ("0", "10", "20")),
        (np.array(["no", "yes"] * 15), "classification", ("no", "yes")),
        (np.arange(30) % 2 == 0, "classification", ("False", "True")),
        (np.arange(30), "regression", ()),
        (np.arange(30) % 3 / 2, "regression", ()),
    ],
)
def test_the_task_is_inferred_from_the_target(
    targets: np.ndarray, task: str, classes: tuple[str, ...]
) -> None:
    np.savez("t.npz", x=np.arange(30.0), y=targets)
    table = load_table("t.npz", "y")
    assert (table.task, table.classes) == (task, classes)


def test_the_task_can_be_overridden_both_ways() -> None:
    np.savez("t.npz", x=np.arange(30.0), y=np.arange(30) % 3, z=np.arange(30) % 12)
    assert load_table("t.npz", "y", task="regression").targets.dtype == np.float64
    assert len(load_table("t.npz", "z", task="classification").classes) == 12
    with pytest.raises(ConfigError, match="clasification"):
        load_table("t.npz", "y", task="clasification")


def truncated() -> Path:
    np.savez("whole.npz", X=np.zeros((50, 3)), y=np.arange(50) % 2)
    return write(Path("whole.npz").read_bytes()[:-200], "t.npz")


def single() -> Path:
    np.save("t.npy", X)
    return Path("t.npy").rename("t.npz")


def damaged() -> Path:
    np.savez("whole.npz", X=np.zeros((50, 3)), y=np.arange(50) % 2)
    data = bytearray(Path("whole.npz").read_bytes())
    data[300] ^= 255
    return write(bytes(data), "t.npz")


def npz(**arrays: object) -> Path:
    np.savez("t.npz", **arrays)  # type: ignore[arg-type]
    return Path("t.npz")


def folder() -> Path:
    Path("d.csv").mkdir()
    return Path("d.csv")


X, Y = np.arange(24.0).reshape(12, 2), np.arange(12) % 2
BROKEN: dict[str, tuple[Callable[[], Path], str]] = {
    "no such file": (lambda: Path("absent.csv"), r"no such file: absent\.csv"),
    "a directory": (folder, "is not a file"),
    "an empty file": (lambda: write(b""), "is empty"),
    "blank lines": (lambda: write("\n\n\n"), "blank lines"),
    "another suffix": (lambda: write("x", "t.xlsx"), r"must end in \.csv, \.tsv, \.parquet, \.npz"),
    "no rows": (lambda: write(HEAD + "\n"), "0 rows: at least 10"),
    "three rows": (lambda: csv(*numbers(3)), "3 rows: at least 10"),
    "no such column": (lambda: csv(*numbers(), head="width,height,kinds"), "did you mean 'kinds'"),
    "columns listed": (lambda: csv(*numbers(), head="one,two,three"), "one, two, three"),
    "text in a number column": (lambda: csv(*numbers(), "7,tall,a"), "'height'.*row 13 holds 'tall'"),
    "underscored number": (lambda: csv(*numbers(), "7,1_000,a"), "'height'.*row 13 holds '1_000'"),
    "missing value": (
        lambda: csv(*numbers(), "7,,a"),
        r"missing values.*column 'height'.*--impute",
    ),
    "missing target": (lambda: csv(*numbers(), "7,8,"), "missing in 1 rows .row 13 first"),
    "infinite value": (lambda: csv(*numbers(), "7,inf,a"), "infinite values in column 'height'"),
    "short row": (lambda: csv(*numbers(), "7,8"), "line 14: 2 fields, the first line has 3"),
    "long row": (lambda: csv(*numbers(), "7,8,a,9"), "line 14: 4 fields, the first line has 3"),
    "open quote": (lambda: csv(*numbers(), '7,8,"a'), "malformed: .*EOF inside string"),
    "not UTF-8": (lambda: write(b"width,height,kind\n1,2,\xe9\n"), "not UTF-8"),
    "one class": (lambda: csv(*(f"{i},1,a" for i in range(12))), "is a in every row"),
    "constant number": (lambda: csv(*(f"{i},1,2.5" for i in range(12))), "is 2.5 in every row"),
    "all distinct labels": (lambda: csv(*(f"{i},1,name{i}" for i in range(12))), "12 distinct values"),
    "duplicate names": (lambda: csv(*numbers(), head="width,width,kind"), "two columns are named 'width'"),
    "unnamed index": (lambda: csv(*numbers(), head=",height,kind"), "column 0 has no name"),
    "only the target": (lambda: csv(*"ab" * 6, head="kind"), "no input column"),
    "empty column": (lambda: csv(*(f"{i},,{'ab'[i % 2]}" for i in range(12))), "no value at all"),
    "text as npz": (lambda: write("x,y\n1,2", "t.npz"), "not an npz archive"),
    "npy as npz": (single, "not an npz archive"),
    "truncated npz": (truncated, "cut short"),
    "damaged npz": (damaged, "cannot be read"),
    "npz without arrays": (lambda: npz(), "holds no arrays"),
    "pickled objects": (lambda: npz(X=np.array([{}] * 12), kind=Y), "'X'.*Python objects"),
    "no such array": (lambda: npz(X=X, kin=Y), "did you mean 'kin'"),
    "other length": (lambda: npz(X=X[:5], kind=Y), r"'X' has shape \(5, 2\), the target has 12 rows"),
    "scalar array": (lambda: npz(X=X, s=np.float64(1), kind=Y), r"'s' has shape \(\)"),
    "one-hot target": (lambda: npz(X=X, kind=np.eye(12)), r"shape \(n,\), it has \(12, 12\)"),
    "complex inputs": (lambda: npz(X=X * 1j, kind=Y), "must hold numbers, not complex128"),
    "text inputs": (lambda: npz(X=X.astype(str).astype("U5"), s=np.array(["u"] * 12), kind=Y), "numbers"),
    "NaN in an array": (lambda: npz(X=np.where(X == 3, np.nan, X), kind=Y), r"column 'X\[1\]'"),
    "infinite target": (lambda: npz(X=X, kind=np.where(Y == 1, np.inf, 0.5)), "infinite values"),
    "NaN target": (lambda: npz(X=X, kind=np.where(Y == 1, np.nan, 0.5)), "missing in 6 rows"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_clear_line(case: str) -> None:
    make, message = BROKEN[case]
    path = make()
    with pytest.raises(DatasetError, match=message) as caught:
        load_table(path, "kind")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_text_labels_are_refused_for_a_regression_naming_the_first() -> None:
    with pytest.raises(DatasetError, match="row 1 holds 'a'"):
        load_table(csv(*numbers()), "kind", task="regression")


def test_medians_of_the_train_part_alone_fill_missing_values() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)) + np.array([0.0, 5.0, -2.0])
    x[rng.random(x.shape) < 0.2] = np.nan
    np.savez("t.npz", X=x, y=np.arange(60) % 2)
    table = load_table("t.npz", "y", impute=True)
    split = table.split(seed=1)
    fitted = split.preprocessing

    def fill_in(fill: np.ndarray, raw: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(raw), fill, raw)

    # Undo the scaling: rows are then recognizable, so that the train rows can be found by value.
    raw_rows = {part: getattr(split, part)[0].double().numpy() for part in ("train", "validation", "test")}
    raw_train = raw_rows["train"] * np.array(fitted.scale) + np.array(fitted.mean)
    filled = fill_in(np.array(fitted.fill), x)
    chosen = [int(np.abs(filled - row).sum(1).argmin()) for row in raw_train]
    assert len(set(chosen)) == len(raw_train) == 36
    train = x[chosen]
    np.testing.assert_allclose(fitted.fill, np.nanmedian(train, axis=0))
    complete = fill_in(np.nanmedian(train, axis=0), train)
    np.testing.assert_allclose(fitted.mean, complete.mean(0))
    np.testing.assert_allclose(fitted.scale, complete.std(0))


def test_what_lies_in_the_test_part_does_not_change_the_preprocessing() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    y = np.arange(40) / 7
    np.savez("a.npz", X=x, y=y)
    clean = load_table("a.npz", "y", impute=True).split(seed=3)
    raw = clean.test[0].double().numpy() * clean.preprocessing.scale + np.array(clean.preprocessing.mean)
    rows = [int(np.abs(x - row).sum(1).argmin()) for row in raw]
    x[rows], y[rows] = 1e6, -1e6
    x[rows[0], 0] = np.nan
    np.savez("b.npz", X=x, y=y)
    poisoned = load_table("b.npz", "y", impute=True).split(seed=3)
    assert poisoned.preprocessing == clean.preprocessing
    assert torch.equal(poisoned.train[0], clean.train[0])


def test_preprocessing_travels_as_json_and_gives_the_same_inputs_and_names() -> None:
    iris = load_iris(as_frame=True)
    frame = iris.data.assign(species=iris.target_names[iris.target])
    frame.to_csv("iris.csv", index=False)
    table = load_table("iris.csv", "species")
    split = table.split(seed=0)
    travelled = from_dict(Preprocessing, json.loads(json.dumps(to_dict(split.preprocessing))))
    assert travelled == split.preprocessing
    assert travelled.columns == tuple(iris.feature_names)
    assert torch.equal(travelled.inputs(table.inputs), split.preprocessing.inputs(table.inputs))
    names = travelled.predictions(torch.eye(3))
    assert names.tolist() == ["setosa", "versicolor", "virginica"]


def test_predictions_of_a_regression_come_back_in_the_targets_unit() -> None:
    y = np.linspace(100, 300, 40)
    np.savez("t.npz", X=np.arange(40.0), y=y)
    fitted = load_table("t.npz", "y").split(seed=0).preprocessing
    np.testing.assert_allclose(fitted.predictions(fitted.targets(y)), y, rtol=1e-6)


def test_preprocessing_refuses_other_columns_and_unexpected_gaps() -> None:
    fitted = Preprocessing((0.0, 0.0), (1.0, 1.0), columns=("a", "b"))
    with pytest.raises(DatasetError, match="2 columns"):
        fitted.inputs(np.zeros((3, 4)))
    with pytest.raises(DatasetError, match="'b'"):
        fitted.inputs(np.array([[1.0, np.nan]]))


COLOURS = ["red", "blue", "red", "green"] * 3


def coloured(colours: list[str] = COLOURS, name: str = "colour") -> Path:
    return csv(*(f"{i},{c},{'ab'[i % 2]}" for i, c in enumerate(colours)), head=f"width,{name},kind")


def test_a_column_of_text_becomes_a_column_of_zeros_and_ones_for_each_level() -> None:
    table = load_table(coloured(), "kind")
    vectorizer = DictVectorizer(sparse=False)
    rows = pd.read_csv("t.csv")[["width", "colour"]].to_dict(orient="records")
    expected = vectorizer.fit_transform(rows)
    order = [vectorizer.feature_names_.index(name) for name in table.columns]
    assert table.columns == ("width", "colour=blue", "colour=green", "colour=red")
    np.testing.assert_array_equal(table.inputs, expected[:, order])


def test_a_saved_schema_encodes_new_rows_and_takes_an_unknown_level_for_none() -> None:
    table = load_table(coloured(), "kind")
    fitted = from_dict(Preprocessing, json.loads(json.dumps(to_dict(table.split(0).preprocessing))))
    frame = pd.read_csv("t.csv")
    np.testing.assert_array_equal(fitted.raw(frame), table.inputs)
    new = fitted.raw({"colour": ["green", "mauve"], "width": [1, 2], "unused": ["x", "y"]})
    assert new.tolist() == [[1, 0, 1, 0], [2, 0, 0, 0]]
    assert fitted.inputs(new).isfinite().all()
    with pytest.raises(DatasetError, match="no column 'colour'"):
        fitted.raw({"width": [1, 2]})
    with pytest.raises(DatasetError, match="'width' of the new rows must hold numbers"):
        fitted.raw({"width": ["wide"], "colour": ["red"]})
    with pytest.raises(DatasetError, match=r"differ in length: \[1, 2\]"):
        fitted.raw({"width": [1], "colour": ["red", "red"]})


def test_a_missing_level_is_a_missing_value() -> None:
    path = coloured([*COLOURS[:-1], ""])
    with pytest.raises(DatasetError, match=r"missing values.*'colour=blue'.*--impute"):
        load_table(path, "kind")
    table = load_table(path, "kind", impute=True)
    assert np.isnan(table.inputs[-1]).tolist() == [False, True, True, True]
    assert table.split(0).train[0].isfinite().all()


@pytest.mark.parametrize(
    ("colours", "name", "encode", "message"),
    [
        (COLOURS, "colour", False, "'colour' must hold numbers: row 1 holds 'red'"),
        ([*COLOURS, "7"], "colour", None, "must hold numbers: row 1 holds 'red' .or --encode"),
        ([f"name{i}" for i in range(12)], "colour", None, "most of its 12 texts are unlike any other"),
        ([f"name{i}" for i in range(60)], "colour", True, "60 distinct values, at most 50 can be encoded"),
        (COLOURS, "col=our", None, "rename it, a name with '=' cannot be encoded"),
    ],
)
def test_text_that_is_no_levels_is_refused_naming_the_column(
    colours: list[str], name: str, encode: bool | None, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        load_table(coloured(colours, name), "kind", encode=encode)


def test_numbers_among_the_levels_are_levels_where_that_is_said() -> None:
    table = load_table(coloured([*COLOURS, "7"]), "kind", encode=True)
    assert table.columns == ("width", "colour=7", "colour=blue", "colour=green", "colour=red")


def test_a_column_that_could_be_another_ones_level_is_refused() -> None:
    rows = (f"{i},{c},{'ab'[i % 2]}" for i, c in enumerate(COLOURS))
    with pytest.raises(DatasetError, match="'colour=red' could be a level of column 'colour'"):
        load_table(csv(*rows, head="colour=red,colour,kind"), "kind")


def test_numbers_whose_squares_overflow_are_refused() -> None:
    with pytest.raises(DatasetError, match="column 'height' holds numbers beyond 1e"):
        load_table(csv(*numbers(), "7,1e300,a"), "kind")
    with pytest.raises(DatasetError, match=r"target 'width'.*numbers beyond 1e"):
        load_table(csv(*numbers(), "-1e300,7,a"), "width", task="regression")


class FakeMetadata:
    num_columns, num_rows = 3, 12


def fake_pyarrow(monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame | Exception) -> None:
    """A pyarrow whose files all hold one frame."""

    def read(*arguments: object, **options: object) -> pd.DataFrame:
        if isinstance(frame, Exception):
            raise frame
        return frame

    module, parquet = ModuleType("pyarrow"), ModuleType("pyarrow.parquet")
    parquet.read_metadata = lambda path: FakeMetadata()  # type: ignore[attr-defined]
    module.parquet, module.ArrowException = parquet, KeyError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyarrow", module)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    monkeypatch.setattr(pd, "read_parquet", read)
    write("PAR1", "t.parquet")


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"t.parquet needs pyarrow: pip install 'rl-tuner\[parquet\]'"):
        load_table(write("PAR1", "t.parquet"), "kind")


def test_a_parquet_file_gives_the_same_table_as_the_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.read_csv(coloured())
    plain = load_table("t.csv", "kind")
    typed = frame.astype({"width": "Int64", "colour": "category"})
    fake_pyarrow(monkeypatch, typed)
    other = load_table("t.parquet", "kind")
    assert (other.columns, other.classes) == (plain.columns, plain.classes)
    np.testing.assert_array_equal(other.inputs, plain.inputs)


def test_columns_of_a_parquet_file_that_are_no_numbers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"when": pd.date_range("2020-01-01", periods=12), "kind": ["a", "b"] * 6})
    fake_pyarrow(monkeypatch, frame)
    with pytest.raises(DatasetError, match=r"column 'when' holds datetime64.* neither numbers nor text"):
        load_table("t.parquet", "kind")
    fake_pyarrow(monkeypatch, frame.assign(when=[[1, 2]] * 12))
    with pytest.raises(DatasetError, match="column 'when' holds object"):
        load_table("t.parquet", "kind")


def test_a_broken_or_too_large_parquet_file_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pyarrow(monkeypatch, ValueError("magic bytes not found"))
    with pytest.raises(DatasetError, match="no parquet file that can be read: magic bytes not found"):
        load_table("t.parquet", "kind")
    monkeypatch.setattr(FakeMetadata, "num_rows", 10**12)
    with pytest.raises(DatasetError, match="1,000,000,000,000 rows of 3 columns"):
        load_table("t.parquet", "kind")


def test_a_table_of_too_many_numbers_is_refused_before_it_is_stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_VALUES", 47)
    with pytest.raises(DatasetError, match="12 rows of so many columns are more than 47 numbers"):
        load_table(coloured(), "kind")
    assert load_table("t.csv", "colour").inputs.shape == (12, 3)


def test_blanks_around_text_make_no_class_and_no_level_of_their_own() -> None:
    lines = [f"{'red ' if i % 2 else ' red'},{i},{'cat' if i % 3 else 'dog '}" for i in range(20)]
    Path("t.csv").write_text("\n".join(["colour,size,kind", *lines, "blue,1, dog", "blue ,2,cat"]))
    table = load_table("t.csv", "kind")
    assert table.classes == ("cat", "dog")
    assert table.columns == ("colour=blue", "colour=red", "size")
