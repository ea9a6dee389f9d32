"""Data sets by name, from OpenML and from the Hugging Face hub: fetched once, and kept by those libraries."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from rl_tuner.envs.image_folders import image_pixels, image_size
from rl_tuner.envs.reading import MOST_VALUES, class_numbers, require_samples
from rl_tuner.envs.samples import Samples
from rl_tuner.envs.table_files import frame_columns, near_names
from rl_tuner.envs.tables import table_samples
from rl_tuner.errors import ConfigError, DatasetError, RlTunerError

OLDEST_DATASETS = 3
"""Earlier versions of Hugging Face `datasets` run a data set's own Python code without being asked to."""


def load_openml(
    name: str,
    target: str | None = None,
    *,
    impute: bool = False,
    task: str | None = None,
    encode: bool | None = None,
) -> Samples:
    """A table from https://openml.org.

    Args:
        name: The data set's name, its active version, or its number.
        target: The column to predict; None for the one that OpenML names.
        impute: See `rl_tuner.envs.tables.load_table`.
        task: See `rl_tuner.envs.tables.load_table`.
        encode: See `rl_tuner.envs.tables.load_table`.

    Raises:
        ConfigError: The task is unknown.
        DatasetError: It cannot be fetched, names no target, or is no table that can be learned from.
    """
    from sklearn.datasets import fetch_openml

    what = f"openml:{name}"
    number = {"data_id": int(name)} if name.isdecimal() else {"name": name}
    with _fetching(what):
        bunch = fetch_openml(**number, as_frame=True, parser="auto")
        frame, named = bunch.frame, list(bunch.target_names)
    if target is None and len(named) != 1:
        raise DatasetError(
            f"{what} names {len(named)} targets: say which column is to be predicted (--target)"
        )
    _require_size(what, *frame.shape)
    columns = frame_columns(what, frame)
    return table_samples(what, columns, target or named[0], impute=impute, task=task, encode=encode)


def load_hugging_face(
    name: str,
    target: str | None = None,
    *,
    impute: bool = False,
    task: str | None = None,
    encode: bool | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
) -> Samples:
    """Images or a table from https://huggingface.co/datasets.

    Args:
        name: "NAME", "OWNER/NAME" or "OWNER/NAME/CONFIG", and ":SPLIT" behind it; without it, "train".
        target: The column to predict; None for the only one of class labels.
        impute: See `rl_tuner.envs.tables.load_table`.
        task: See `rl_tuner.envs.tables.load_table`.
        encode: See `rl_tuner.envs.tables.load_table`.
        size: See `rl_tuner.envs.image_folders.load_image_folder`.
        channels: See `rl_tuner.envs.image_folders.load_image_folder`.

    Raises:
        ConfigError: `datasets` is not installed, or is too old; or an option is unknown or out of range.
        DatasetError: The data set cannot be fetched, has no such column, or cannot be learned from.
    """
    what = f"hf:{name}"
    data = _fetch_hugging_face(name)
    features: Mapping[str, Any] = data.features
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    if target is None and len(labels) != 1:
        raise DatasetError(
            f"{what} has {len(labels)} columns of class labels: say which column is to be predicted "
            f"(--target): it has {near_names(features)}"
        )
    target = target or labels[0]
    if "Image" in kinds.values():
        if target not in labels:
            raise DatasetError(f"{what} holds images: the target must be class labels, {target!r} is not")
        column = next(column for column, kind in kinds.items() if kind == "Image")
        return _labelled_images(what, data, column, target, size, channels)
    _require_size(what, data.num_rows, len(features))
    with _fetching(what):
        frame = data.to_pandas()
    for column in labels:
        frame[column] = [_class_name(features[column], number) for number in frame[column]]
    columns = frame_columns(what, frame)
    return table_samples(what, columns, target, impute=impute, task=task, encode=encode)


def _fetch_hugging_face(name: str) -> Any:
    """The split of a data set, as `datasets.load_dataset` returns it."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"hf:{name} needs Hugging Face datasets: pip install 'rl-tuner[datasets]'"
        ) from error
    if int(datasets.__version__.split(".")[0]) < OLDEST_DATASETS:
        raise ConfigError(
            f"datasets {datasets.__version__} is too old: {OLDEST_DATASETS} is the oldest that is safe"
        )
    path, _, split = name.partition(":")
    parts = path.split("/")
    if not all(parts) or len(parts) > 3:
        raise DatasetError(
            f"hf:{name}: it must be NAME, OWNER/NAME or OWNER/NAME/CONFIG, and :SPLIT behind it"
        )
    with _fetching(f"hf:{name}"):
        return datasets.load_dataset("/".join(parts[:2]), *parts[2:], split=split or "train")


def _labelled_images(
    what: str, data: Any, column: str, target: str, size: int | tuple[int, int] | None, channels: int | None
) -> Samples:
    """Images of Pillow's as `load_image_folder` takes them, and their classes."""
    with _fetching(what):
        names = [_class_name(data.features[target], number) for number in data[target]]
        images = data[column]
        missing = sum(name != name for name in names)  # only NaN differs from itself
        if missing:
            raise DatasetError(
                f"target {target!r} of {what} is missing in {missing} rows: take another split"
            )
        height, width = image_size(what, size, Counter((image.height, image.width) for image in images))
        channels = channels or (1 if all(image.mode in ("1", "L") for image in images) else 3)
        require_samples(what, len(images), len(images) * channels * height * width)
        pixels = np.stack([image_pixels(image, (height, width), channels) for image in images])
    numbers, classes = class_numbers(f"target {target!r} of {what}", np.array(names))
    return Samples("image", pixels, numbers, classes)


def _class_name(feature: Any, number: Any) -> Any:
    """A class label's name; -1 is the hub's way to say that it is missing."""
    return np.nan if number is None or number != number or number < 0 else feature.int2str(int(number))


def _require_size(what: str, rows: int, columns: int) -> None:
    if rows * columns > MOST_VALUES:
        raise DatasetError(
            f"{what} has {rows:,} rows of {columns:,} columns: at most {MOST_VALUES:,} numbers are read"
        )


@contextmanager
def _fetching(what: str) -> Iterator[None]:
    """Turns what the network and the libraries say into one clear line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of attempts that are made again: the last one's error is told
            yield
    except RlTunerError:
        raise
    except OSError as error:  # urllib's and requests' errors are all of this kind
        raise DatasetError(
            f"{what} cannot be fetched: {_one_line(error)} (is there a network, and is the name right?)"
        ) from error
    except Exception as error:  # the libraries define dozens of their own
        raise DatasetError(f"{what} cannot be fetched: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
