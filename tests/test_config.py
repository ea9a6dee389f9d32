from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner.config import choose, from_dict, require_range, to_dict
from rl_tuner.errors import ConfigError


@dataclass(frozen=True)
class Sample:
    name: str
    sizes: tuple[int, ...]
    rate: float = 0.5
    limit: int | None = None
    tags: list[str] = field(default_factory=list)


def test_choose_returns_an_allowed_value() -> None:
    assert choose("fruit", "pear", ("apple", "pear")) == "pear"


def test_choose_lists_the_choices_and_the_nearest_one() -> None:
    with pytest.raises(ConfigError) as error:
        choose("fruit", "aple", ("apple", "pear"))
    assert str(error.value) == "unknown fruit 'aple' (did you mean 'apple'?): choose from apple, pear"


def test_choose_gives_no_hint_where_nothing_is_near() -> None:
    with pytest.raises(ConfigError) as error:
        choose("fruit", "xyz", {"apple": 1})
    assert str(error.value) == "unknown fruit 'xyz': choose from apple"


@pytest.mark.parametrize("value", [None, 3, ["apple"], {"apple": 1}])
def test_choose_refuses_what_is_no_string(value: Any) -> None:
    with pytest.raises(ConfigError, match="unknown fruit"):
        choose("fruit", value, {"apple": 1})


@pytest.mark.parametrize(
    "value", [0, 1, 0.5, np.float64(0.5), np.float32(0.5), np.int64(1)], ids=lambda v: type(v).__name__
)
def test_require_range_returns_numbers_of_every_type_unchanged(value: float) -> None:
    assert require_range("rate", value, 0, 1) is value


@pytest.mark.parametrize(
    ("value", "above", "message"),
    [
        (-0.1, False, "rate must be >= 0 and <= 1, got -0.1"),
        (1.1, False, "rate must be >= 0 and <= 1, got 1.1"),
        (0, True, "rate must be > 0 and <= 1, got 0"),
        (float("nan"), False, "rate must be >= 0 and <= 1, got nan"),
        (True, False, "rate must be >= 0 and <= 1, got True"),
        ("0.5", False, "rate must be >= 0 and <= 1, got '0.5'"),
        (None, False, "rate must be >= 0 and <= 1, got None"),
    ],
)
def test_require_range_names_the_thing_the_value_and_the_limit(value: Any, above: bool, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        require_range("rate", value, 0, 1, above=above)
    assert str(error.value) == message


def test_require_range_without_an_upper_limit_names_only_the_lower_one() -> None:
    with pytest.raises(ConfigError, match=r"^count must be >= 1, got 0$"):
        require_range("count", 0, 1)


@given(
    name=st.text(),
    sizes=st.lists(st.integers(-(2**53), 2**53)).map(tuple),
    rate=st.floats(allow_nan=False),
    limit=st.none() | st.integers(),
    tags=st.lists(st.text()),
)
def test_a_dataclass_survives_json_unchanged(**values: Any) -> None:
    sample = Sample(**values)
    assert from_dict(Sample, json.loads(json.dumps(to_dict(sample)))) == sample


def test_to_dict_does_not_share_lists_with_the_dataclass() -> None:
    sample = Sample("a", (1,), tags=["x"])
    to_dict(sample)["tags"].append("y")
    assert sample.tags == ["x"]


def test_from_dict_names_an_unknown_key_and_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="unknown Sample key 'rte' \\(did you mean 'rate'"):
        from_dict(Sample, {"name": "a", "sizes": [], "rte": 1})


def test_from_dict_names_every_missing_key() -> None:
    with pytest.raises(ConfigError, match=r"^Sample needs name, sizes$"):
        from_dict(Sample, {"rate": 1.0})


@pytest.mark.parametrize("data", [None, 3, "name", ["name"]])
def test_from_dict_refuses_what_is_no_mapping(data: Any) -> None:
    with pytest.raises(ConfigError, match="Sample"):
        from_dict(Sample, data)


def test_from_dict_leaves_the_mapping_as_it_was() -> None:
    data = {"name": "a", "sizes": [1, 2]}
    from_dict(Sample, data)
    assert data == {"name": "a", "sizes": [1, 2]}


def test_a_limit_a_hair_below_one_is_told_as_below_one() -> None:
    with pytest.raises(ConfigError, match="rate must be >= 0 and < 1, got 1"):
        require_range("rate", 1, 0, 1 - 1e-9)
    with pytest.raises(ConfigError, match=r"rate must be >= 0 and <= 0\.9, got 1"):
        require_range("rate", 1, 0, 0.9)
