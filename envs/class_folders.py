"""Folders with a sub-folder for each class, whose files are the samples."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rl_tuner.envs.reading import MIN_SAMPLES, reading, require_classes, require_path
from rl_tuner.errors import DatasetError

MOST_FILES = 1_000_000
"""Each file is opened: a million take a quarter of an hour."""


def class_files(folder: Path, suffixes: Collection[str]) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """The files, their class numbers, and the class names.

    Folders and files whose names begin with a dot, and files with other suffixes, are passed over.

    Args:
        folder: It holds a folder for each class; the classes are sorted by name.
        suffixes: Of the files wanted, in lower case, with the dot.

    Raises:
        DatasetError: There is no such folder, no class, one class only, a class without files, or too few.
    """
    require_path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder")
    wanted = ", ".join(sorted(suffixes))
    files: list[Path] = []
    numbers: list[int] = []
    with reading(folder):
        classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not classes:
            raise DatasetError(f"{folder} holds no folder: it must hold one for each class ({wanted})")
        for number, sub in enumerate(classes):
            found = sorted(p for p in sub.iterdir() if _is_sample(p, suffixes))
            if not found:
                raise DatasetError(f"{sub} holds no file that can be read ({wanted}): every class needs some")
            files += found
            numbers += [number] * len(found)
            if len(files) > MOST_FILES:
                raise DatasetError(f"{folder} holds more than {MOST_FILES:,} files")
    names = tuple(sub.name for sub in classes)
    if len(files) < MIN_SAMPLES:
        raise DatasetError(f"{folder} holds {len(files)} files ({wanted}): at least {MIN_SAMPLES} are needed")
    require_classes(f"the class in {folder}", names, len(files))
    return files, numbers, names


def holds(folder: Path, suffixes: Collection[str]) -> bool:
    """Whether a folder of its folders holds a file with such a suffix.

    Raises:
        DatasetError: The folder cannot be read.
    """
    with reading(folder):
        return any(_is_sample(path, suffixes) for path in folder.glob("*/*"))


def _is_sample(path: Path, suffixes: Collection[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
