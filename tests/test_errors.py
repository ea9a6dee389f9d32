from __future__ import annotations

import pytest

from rl_tuner import errors

KINDS = (errors.ConfigError, errors.JobError, errors.PolicyError, errors.DatasetError)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_caught_as_rl_tuner_error_with_its_message(kind: type[Exception]) -> None:
    with pytest.raises(errors.RlTunerError, match=r"^lr is 3, at most 1$"):
        raise kind("lr is 3, at most 1")


@pytest.mark.parametrize("kind", KINDS)
def test_no_error_is_mistaken_for_another(kind: type[Exception]) -> None:
    others = tuple(k for k in KINDS if k is not kind)
    assert not issubclass(kind, (*others, ValueError, RuntimeError))
