"""Data sets of every kind before and while they are split into train, validation and test parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_tuner.config import choose, require_range
from rl_tuner.envs.data import DataShape, Split
from rl_tuner.envs.difficulty import (
    PLAIN,
    Difficulty,
    balanced_rows,
    few_rows,
    spoil_inputs,
    spoil_targets,
)
from rl_tuner.envs.preprocessing import Preprocessing, fit, require_numbers
from rl_tuner.errors import DatasetError

Array = NDArray[Any]
Rows = NDArray[np.int64]
KINDS = ("table", "image", "sound", "tokens", "ratings")
NUMBERED = ("tokens", "ratings")
"""Kinds whose inputs are numbers of things, which are never scaled."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """A data set.

    Attributes:
        kind: One of `KINDS`.
        inputs: By kind: table (n, d) float64, NaN where missing if `impute`; image (n, C, H, W) float32 in
            [0, 1]; sound (n, channels, length) float32 in [-1, 1]; tokens (n, T) int64; ratings (n, 2) int64,
            numbers of a user and an item.
        targets: Class numbers (int64) in the order of `classes`, or values (float64), shape (n,). Tokens may
            have a target at every position, shape (n, T).
        classes: Class names; empty for regression.
        columns: Names of a table's columns; empty if they have none.
        vocabulary: Tokens are 0 … V - 1: (V,). Ratings: (users, items). Else ().
        impute: Whether missing values of a table are filled in, by the train part's medians.

    Raises:
        DatasetError: The parts do not fit each other.
    """

    kind: str
    inputs: Array
    targets: Array
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    vocabulary: tuple[int, ...] = ()
    impute: bool = False

    def __post_init__(self) -> None:
        choose("kind of data", self.kind, KINDS)
        if len(self.inputs) != len(self.targets):
            raise DatasetError(f"there are {len(self.inputs)} inputs and {len(self.targets)} targets")
        if (self.kind in NUMBERED) != bool(self.vocabulary):
            raise DatasetError(f"data of kind {self.kind!r} has vocabulary {self.vocabulary}")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def task(self) -> str:
        """The task: "classification" or "regression"."""
        return "classification" if self.classes else "regression"

    @property
    def shape(self) -> DataShape:
        """What a network must know."""
        sample = tuple(int(side) for side in self.inputs.shape[1:])
        return DataShape(
            self.kind, sample, len(self.classes) or 1, self.vocabulary, every_position=self.targets.ndim > 1
        )

    def take(self, rows: Rows) -> Samples:
        """Some of the samples."""
        return replace(self, inputs=self.inputs[rows], targets=self.targets[rows])

    def frozen(self) -> Samples:
        """The same samples, whose arrays can no longer be written: what several callers share."""
        for array in (self.inputs, self.targets):
            array.setflags(write=False)
        return self

    def split(
        self,
        seed: int,
        *,
        validation: float = 0.2,
        test: float = 0.2,
        difficulty: Difficulty = PLAIN,
    ) -> Split:
        """Splits the samples, and scales them by the train part.

        Inputs of tables, and the targets of a regression, are standardized with the train part's mean and
        deviation, images and sounds with one mean and one deviation for all of their numbers.
        Where labels are few (`Difficulty.samples`) the inputs left without one count for that, too.
        Classification is stratified where every class has enough samples for it.

        Args:
            seed: Of the shuffle, and of what `difficulty` draws.
            validation: Share of all samples, in (0, 1).
            test: Share of all samples, in (0, 1).
            difficulty: What makes the data harder to learn from.

        Raises:
            ConfigError: A share is out of range.
            DatasetError: Fewer samples than three parts need, or inputs that are not finite.
        """
        require_range("validation + test", validation + test, 0, 0.9, above=True)
        require_range("validation", validation, 0, above=True)
        require_range("test", test, 0, above=True)
        rng = np.random.default_rng([seed, 1])
        samples = self.take(balanced_rows(self.targets, len(self.classes), difficulty, rng))
        if self.kind == "table":
            require_numbers(samples.inputs, self.columns, impute=self.impute)
        rest, test_rows = samples._hold_out(np.arange(len(samples)), test, seed)
        every_row, val_rows = samples._hold_out(rest, validation, seed)
        train_rows = few_rows(every_row, difficulty, rng)
        fitted = samples._fit(every_row, train_rows)
        parts = [samples._tensors(rows, fitted) for rows in (train_rows, val_rows, test_rows)]
        # From a generator of its own: a column is scaled alike however many samples are left to train on.
        spoiler = np.random.default_rng([seed, 2])
        inputs = spoil_inputs([part for part, _ in parts], self.kind, difficulty, spoiler)
        wrong = spoil_targets(parts[0][1], len(self.classes), difficulty, rng)
        train, held, tested = zip(inputs, (wrong, parts[1][1], parts[2][1]), strict=True)
        return Split(train, held, tested, self.shape, len(self.classes), fitted)

    def _fit(self, rows: Rows, labelled: Rows) -> Preprocessing | None:
        """The preprocessing, fitted on the train part; None where there is nothing to fit."""
        regression = None if self.classes else self.targets[labelled]
        if self.kind in NUMBERED:
            return None if regression is None else fit(np.zeros((1, 0)), regression, impute=False)
        inputs = self.inputs[rows].reshape(len(rows), -1)
        fitted = fit(inputs, regression, impute=self.impute, pooled=self.kind != "table")
        return replace(fitted, columns=self.columns, classes=self.classes)

    def _tensors(self, rows: Rows, fitted: Preprocessing | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of a part."""
        raw, truth = self.inputs[rows], self.targets[rows]
        if self.kind in NUMBERED or fitted is None:
            inputs = torch.from_numpy(raw.astype(np.int64))
        else:
            inputs = fitted.inputs(raw.reshape(len(rows), -1))
        if self.classes or fitted is None:
            return inputs, torch.from_numpy(truth.astype(np.int64))
        return inputs, fitted.targets(truth)

    def _hold_out(self, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
        """The rows that are left, and those held out: a share of all samples, at least one."""
        from sklearn.model_selection import train_test_split

        held = max(1, round(len(self) * share))
        if len(rows) - held < 2:
            raise DatasetError(f"{len(self)} samples are too few for train, validation and test parts")
        strata = self._strata(rows, held)
        left, out = train_test_split(rows, test_size=held, random_state=seed, stratify=strata)
        return left, out

    def _strata(self, rows: Rows, held: int) -> Array | None:
        """The targets if they can be stratified: two of each class, and room for each on both sides."""
        if not self.classes or self.targets.ndim > 1:
            return None
        targets = self.targets[rows]
        counts = np.unique(targets, return_counts=True)[1]
        fits = counts.min() >= 2 and min(held, len(rows) - held) >= len(counts)
        return targets if fits else None
