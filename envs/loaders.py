"""One front door to users' data: what a reference means, and which loader reads it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from rl_tuner.config import choose
from rl_tuner.envs import image_folders, wav_folders
from rl_tuner.envs.class_folders import holds
from rl_tuner.envs.idx_files import is_idx, load_idx
from rl_tuner.envs.image_folders import load_image_folder
from rl_tuner.envs.rating_files import is_ratings, load_ratings
from rl_tuner.envs.reading import is_packed, require_path
from rl_tuner.envs.remote_data import load_hugging_face, load_openml
from rl_tuner.envs.samples import Samples
from rl_tuner.envs.table_files import SUFFIXES
from rl_tuner.envs.tables import load_table
from rl_tuner.envs.text_files import is_text, load_text
from rl_tuner.envs.wav_folders import load_wav_folder
from rl_tuner.errors import ConfigError, DatasetError

READABLE = (
    "a table (.csv, .tsv, .parquet, .npz), a csv of user,item,rating, images in IDX format, a folder of "
    "images or of wav files with one folder a class, a text file in UTF-8, openml:NAME, or hf:OWNER/NAME"
)
PREFIXES = ("openml:", "hf:")


class LoadOptions(TypedDict, total=False):
    """Options of `load_samples`; each format takes some.

    Attributes:
        impute, task, header, encode: Of tables: see `rl_tuner.envs.tables.load_table`.
        labels: Of IDX files: see `rl_tuner.envs.idx_files.load_idx`.
        size, channels: Of image folders: see `rl_tuner.envs.image_folders.load_image_folder`.
        length: Of text and wav folders.
        rate: Of wav folders: see `rl_tuner.envs.wav_folders.load_wav_folder`.
    """

    impute: bool | None
    task: str | None
    header: bool | None
    encode: bool | None
    labels: str | Path | None
    size: int | tuple[int, int] | None
    channels: int | None
    length: int | None
    rate: int | None


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of data that can be read.

    Attributes:
        what: What the reference is, for messages.
        load: (path or name, [target,] options) → `Samples`.
        target: Whether `load` takes a target, and if so, whether it needs one.
    """

    what: str
    load: Callable[..., Samples]
    target: str = "none"

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options it takes."""
        names = inspect.signature(self.load).parameters
        return tuple(name for name in LoadOptions.__annotations__ if name in names)


TABLE = Format("a table", load_table, "needed")
RATINGS = Format("a csv of ratings", load_ratings)
IDX = Format("images in IDX format", load_idx)
IMAGES = Format("a folder of images", load_image_folder)
SOUNDS = Format("a folder of wav files", load_wav_folder)
TEXT = Format("a text file", load_text)
OPENML = Format("a table of OpenML", load_openml, "taken")
HUGGING_FACE = Format("data of the Hugging Face hub", load_hugging_face, "taken")


def load_samples(reference: str, target: str | None = None, **options: Unpack[LoadOptions]) -> Samples:
    """Reads data of any kind: the reference, and what is found there, decide which.

    Args:
        reference: See `READABLE`; "file.csv#column" also names the target. A csv file whose columns are user,
            item and rating is one of ratings; with a target it is a table.
        target: The column or array to predict: for tables.
        options: See `LoadOptions`; one that is None counts as not given.

    Raises:
        ConfigError: An option is unknown, out of range, or of another format; a library is missing.
        DatasetError: There is nothing, or nothing that can be read.
    """
    for name in options:
        choose("option", name, LoadOptions.__annotations__)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    place, target = _divide(reference, target)
    found = find_format(place, target)
    for name in given:
        if name not in found.options:
            raise ConfigError(
                f"{reference} is {found.what}, which takes no {name}"
                f" (it takes {', '.join(found.options) or 'no options'})"
            )
    if target is not None and found.target == "none":
        raise ConfigError(f"{reference} is {found.what}, which takes no target: got {target!r}")
    if target is None and found.target == "needed":
        raise ConfigError(f"--target is missing: which column of {reference} is to be predicted?")
    where = place.partition(":")[2] if place.startswith(PREFIXES) else place
    arguments = (where,) if found.target == "none" else (where, target)
    try:
        return found.load(*arguments, **given)
    except DatasetError as error:  # names in files may hold line ends
        raise DatasetError(" ".join(str(error).split())) from error


def find_format(reference: str, target: str | None = None) -> Format:
    """What a reference refers to.

    Args:
        reference: Without a target.
        target: The target, if one is given: it makes a table of a csv of ratings.

    Raises:
        DatasetError: There is nothing, or nothing that can be read.
    """
    if reference.startswith(PREFIXES):
        return OPENML if reference.startswith("openml:") else HUGGING_FACE
    path = Path(reference)
    require_path(path)
    if path.is_dir():
        return _folder_format(path)
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        ratings = target is None and suffix in (".csv", ".tsv") and is_ratings(path)
        return RATINGS if ratings else TABLE
    if is_idx(path):
        return IDX
    if is_text(path):
        if is_packed(path):
            raise DatasetError(f"{path} is packed with gzip, as only images in IDX format may be: unpack it")
        return TEXT
    raise DatasetError(f"{path} is none of what can be read: {READABLE}")


def is_remote(reference: str) -> bool:
    """Whether a reference names data of OpenML or of the Hugging Face hub."""
    return reference.startswith(PREFIXES)


def _folder_format(path: Path) -> Format:
    if holds(path, image_folders.SUFFIXES):
        return IMAGES
    if holds(path, wav_folders.SUFFIXES):
        return SOUNDS
    wanted = ", ".join((*image_folders.SUFFIXES, *wav_folders.SUFFIXES))
    raise DatasetError(
        f"{path} must hold a folder for each class, and those the files ({wanted}): none is there"
    )


def _divide(reference: str, target: str | None) -> tuple[str, str | None]:
    """A reference like file.csv#column as the place and the target."""
    place, mark, column = reference.rpartition("#")
    if not mark or not place or (not is_remote(reference) and os.path.exists(reference)):
        return reference, target
    if target is not None and target != column:
        raise ConfigError(f"{reference} names the target {column!r}, but {target!r} is given too")
    return place, column
