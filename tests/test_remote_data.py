"""Data sets by name: what OpenML and the Hugging Face hub return becomes samples; what fails is one line."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
from PIL import Image as Pillow

from rl_tuner import ConfigError, DatasetError
from rl_tuner.envs.loaders import load_samples

FRAME = pd.DataFrame(
    {
        "size": np.arange(20.0),
        "colour": pd.Categorical(["red", "blue"] * 10),
        "kind": pd.Categorical(["a", "b", "b", "b"] * 5),
    }
)


class Fetch:
    """An OpenML that knows one table."""

    def __init__(self, outcome: object, names: tuple[str, ...] = ("kind",)) -> None:
        self.outcome, self.names, self.asked = outcome, names, dict[str, Any]()

    def __call__(self, **asked: object) -> SimpleNamespace:
        self.asked = asked
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return SimpleNamespace(frame=self.outcome, target_names=list(self.names))


def openml(monkeypatch: pytest.MonkeyPatch, outcome: object, names: tuple[str, ...] = ("kind",)) -> Fetch:
    fetch = Fetch(outcome, names)
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    return fetch


def test_a_table_of_openml_comes_with_the_target_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = openml(monkeypatch, FRAME)
    samples = load_samples("openml:toys")
    assert fetch.asked["name"] == "toys"
    assert samples.columns == ("size", "colour=blue", "colour=red")
    assert samples.classes == ("a", "b")
    assert samples.targets.tolist() == [0, 1, 1, 1] * 5
    assert load_samples("openml:toys#colour").classes == ("blue", "red")
    assert load_samples("openml:toys", "size").task == "regression"


def test_a_table_of_openml_can_be_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = openml(monkeypatch, FRAME)
    load_samples("openml:61")
    assert fetch.asked["data_id"] == 61
    assert "name" not in fetch.asked


def test_warnings_of_attempts_made_again_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(**asked: object) -> SimpleNamespace:
        warnings.warn("A network error occurred. Retrying...", UserWarning, stacklevel=2)
        return SimpleNamespace(frame=FRAME, target_names=["kind"])

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    assert load_samples("openml:toys").classes == ("a", "b")  # a warning would be an error here


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (
            URLError("no route\nto host"),
            "openml:toys cannot be fetched: <urlopen error no route to host> .is there a",
        ),
        (
            ValueError("No active dataset toys found."),
            "openml:toys cannot be fetched: No active dataset toys found",
        ),
        (RuntimeError(), "openml:toys cannot be fetched: RuntimeError"),
    ],
)
def test_what_fails_while_fetching_is_one_line(
    monkeypatch: pytest.MonkeyPatch, outcome: Exception, words: str
) -> None:
    openml(monkeypatch, outcome)
    with pytest.raises(DatasetError, match=words) as caught:
        load_samples("openml:toys")
    assert "\n" not in str(caught.value)


def test_openml_without_one_target_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    openml(monkeypatch, FRAME, ())
    with pytest.raises(DatasetError, match=r"openml:toys names 0 targets.*--target"):
        load_samples("openml:toys")
    assert load_samples("openml:toys#kind").classes == ("a", "b")


class ClassLabel:
    """The hub's kind of column that holds class numbers."""

    def __init__(self, names: str) -> None:
        self.names = names

    def int2str(self, number: int) -> str:
        return self.names[number]


class Image:
    """The hub's kind of column that holds images."""


class Value:
    """The hub's kind of column that holds anything else."""


class Hub:
    """A data set of the hub, and the `datasets` module that loads it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, columns: dict[str, Any], features: dict[str, Any]
    ) -> None:
        self.features, self._columns = features, columns
        self.num_rows = len(next(iter(columns.values())))
        self.asked: tuple[Any, ...] = ()
        module = ModuleType("datasets")
        module.__version__ = "4.1.0"  # type: ignore[attr-defined]
        module.load_dataset = self.load  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datasets", module)

    def load(self, *names: str, split: str) -> Hub:
        self.asked = (*names, split)
        return self

    def __getitem__(self, column: str) -> Any:
        return self._columns[column]

    def to_pandas(self) -> pd.DataFrame:
        return pd.DataFrame(self._columns)


def toys(monkeypatch: pytest.MonkeyPatch, labels: list[int] | None = None) -> Hub:
    columns = {"size": np.arange(20.0), "label": labels or [1, 0, 0, 0] * 5}
    return Hub(monkeypatch, columns, {"size": Value(), "label": ClassLabel("ba")})


def pictures(monkeypatch: pytest.MonkeyPatch, mode: str = "L") -> Hub:
    images = [Pillow.new("L", (4, 3), 51 * (i % 5)).convert(mode) for i in range(19)] + [
        Pillow.new(mode, (9, 9))
    ]
    columns = {"image": images, "label": [0, 1] * 10}
    return Hub(monkeypatch, columns, {"image": Image(), "label": ClassLabel("ab")})


@pytest.mark.parametrize(
    ("reference", "asked"),
    [
        ("hf:toys", ("toys", "train")),
        ("hf:acme/toys", ("acme/toys", "train")),
        ("hf:acme/toys/small:test", ("acme/toys", "small", "test")),
        ("hf:acme/toys:train[:10%]", ("acme/toys", "train[:10%]")),
    ],
)
def test_a_reference_names_owner_configuration_and_split(
    monkeypatch: pytest.MonkeyPatch, reference: str, asked: tuple[str, ...]
) -> None:
    hub = toys(monkeypatch)
    load_samples(reference)
    assert hub.asked == asked


def test_a_table_of_the_hub_is_labelled_by_class_names(monkeypatch: pytest.MonkeyPatch) -> None:
    toys(monkeypatch)
    samples = load_samples("hf:toys")
    assert samples.columns == ("size",)
    assert samples.classes == ("a", "b")
    assert samples.targets.tolist() == [0, 1, 1, 1] * 5
    assert load_samples("hf:toys#size").columns == ("label=a", "label=b")


def test_images_of_the_hub_come_to_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(monkeypatch)
    samples = load_samples("hf:pictures")
    assert samples.kind == "image"
    assert samples.inputs.shape == (20, 1, 3, 4)
    np.testing.assert_allclose(samples.inputs[:5, 0, 0, 0], [0, 0.2, 0.4, 0.6, 0.8], atol=1e-6)
    assert load_samples("hf:pictures", size=8, channels=3).inputs.shape == (20, 3, 8, 8)
    pictures(monkeypatch, "RGB")
    assert load_samples("hf:pictures").inputs.shape == (20, 3, 3, 4)


def test_labels_that_are_missing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    toys(monkeypatch, [-1, 0, 1, 1] * 5)
    with pytest.raises(DatasetError, match=r"target 'label' of hf:toys is missing in 5 rows"):
        load_samples("hf:toys")
    hub = pictures(monkeypatch)
    hub._columns["label"][3] = -1
    with pytest.raises(DatasetError, match=r"target 'label' of hf:pictures is missing in 1 rows"):
        load_samples("hf:pictures")


def test_a_column_that_cannot_be_the_target_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = toys(monkeypatch)
    hub.features = {"size": Value(), "label": Value()}
    with pytest.raises(DatasetError, match=r"hf:toys has 0 columns of class labels.*--target.*size, label"):
        load_samples("hf:toys")
    pictures(monkeypatch)
    with pytest.raises(DatasetError, match="the target must be class labels, 'image' is not"):
        load_samples("hf:pictures#image")
    for name in ("hf:", "hf:a//b", "hf:a/b/c/d"):
        with pytest.raises(DatasetError, match="it must be NAME, OWNER/NAME or OWNER/NAME/CONFIG"):
            load_samples(name)


def test_without_the_library_the_extra_is_named_and_an_old_one_is_not_safe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ConfigError, match=r"hf:toys needs Hugging Face datasets: pip install 'rl-tuner\[datasets\]'"
    ):
        load_samples("hf:toys")
    toys(monkeypatch)
    sys.modules["datasets"].__version__ = "2.14.0"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"datasets 2.14.0 is too old"):
        load_samples("hf:toys")


def test_a_data_set_too_large_for_memory_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = toys(monkeypatch)
    hub.num_rows = 10**9
    with pytest.raises(DatasetError, match="1,000,000,000 rows of 2 columns"):
        load_samples("hf:toys")
