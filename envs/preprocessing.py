"""What a table's columns go through before a model sees them: fitted on the train part, and only there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_tuner.envs.encoding import Rows, encode_rows
from rl_tuner.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How raw columns become a model's inputs, and its outputs values again: ``(x - mean) / scale``.

    It is plain numbers and names, so that `rl_tuner.config.to_dict` and `from_dict` carry it with a model.

    Attributes:
        mean: The train part's mean of each of the d input columns; a single one if all share it.
        scale: Its standard deviation, likewise; 1 for constant columns.
        fill: The train part's median, put in for missing values; empty if none are accepted.
        target_mean: Mean of a regression's targets; 0 for classification.
        target_scale: Their standard deviation; 1 for classification.
        columns: Names of the input columns; empty if they have none.
        classes: Class names by class number; empty for regression, or if they have none.
        pooled: The number of columns d where all share one mean and one deviation (a large picture's millions
            would not fit into a model file's header); 0 where each has its own.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    fill: tuple[float, ...] = ()
    target_mean: float = 0.0
    target_scale: float = 1.0
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    pooled: int = 0

    def inputs(self, raw: NDArray[Any]) -> torch.Tensor:
        """The model's inputs, shape (n, d), float32.

        Args:
            raw: Shape (n, d), columns in the order of training.

        Raises:
            DatasetError: Another number of columns, values that are not finite, or missing ones where
                imputation was not fitted.
        """
        d = self.pooled or len(self.mean)
        if raw.ndim != 2 or raw.shape[1] != d:
            raise DatasetError(f"the inputs have shape {raw.shape}, the preprocessing is of {d} columns")
        require_numbers(raw, self.columns, impute=bool(self.fill))
        filled = np.where(np.isnan(raw), self.fill, raw) if self.fill else raw
        scaled = (filled - np.array(self.mean)) / np.array(self.scale)
        return torch.from_numpy(scaled.astype(np.float32))

    def raw(self, table: Rows) -> NDArray[np.float64]:
        """New rows of a table, columns by name, as `inputs` takes them: columns of text are encoded.

        Args:
            table: See `rl_tuner.envs.encoding.encode_rows`; a pandas frame fits.

        Raises:
            DatasetError: A column is missing or holds no numbers where it must.
        """
        return encode_rows(self.columns, table)

    def targets(self, raw: NDArray[Any]) -> torch.Tensor:
        """A regression's targets on the model's scale, shape (n,), float32."""
        return torch.from_numpy(((raw - self.target_mean) / self.target_scale).astype(np.float32))

    def predictions(self, outputs: torch.Tensor) -> NDArray[Any]:
        """A model's outputs in the table's own terms: class names, or values in the target's unit.

        Args:
            outputs: Class scores (n, classes), or predictions (n,).
        """
        values = outputs.detach().cpu().double().numpy()
        if values.ndim == 2:
            numbers: NDArray[Any] = values.argmax(1)
            return np.asarray(self.classes)[numbers] if self.classes else numbers
        return np.asarray(values * self.target_scale + self.target_mean)


def fit(
    inputs: NDArray[Any], targets: NDArray[Any] | None, *, impute: bool, pooled: bool = False
) -> Preprocessing:
    """Fits a `Preprocessing` on a train part.

    Args:
        inputs: Shape (n, d); NaN where missing.
        targets: Shape (n,) for a regression, None for a classification.
        impute: Whether missing values are accepted, now and later; a column without any value is filled
            with 0.
        pooled: Take one mean and one deviation for all columns: of pixels, and of a sound's samples.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    fill: tuple[float, ...] = ()
    if impute:
        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        inputs = imputer.fit_transform(np.asarray(inputs, np.float64))
        fill = tuple(imputer.statistics_.tolist())
    d = inputs.shape[1]
    if pooled:
        mean, scale = [float(inputs.mean())], [float(inputs.std()) or 1.0]
    elif d:
        scaler = StandardScaler().fit(inputs)
        mean, scale = scaler.mean_.tolist(), scaler.scale_.tolist()
    else:
        mean, scale = [], []
    target_mean, target_scale = 0.0, 1.0
    if targets is not None:
        target = StandardScaler().fit(targets.reshape(-1, 1))
        target_mean, target_scale = float(target.mean_[0]), float(target.scale_[0])
    common = d if pooled else 0
    return Preprocessing(tuple(mean), tuple(scale), fill, target_mean, target_scale, pooled=common)


def require_numbers(inputs: NDArray[Any], columns: Sequence[str], *, impute: bool) -> None:
    """Refuses infinite values, and missing ones unless they are to be imputed.

    Args:
        inputs: Shape (n, d).
        columns: Names for the message; empty for numbers in their place.
        impute: Whether NaN is accepted.

    Raises:
        DatasetError: There are such values; the message names the columns.
    """
    for wrong, what, remedy in (
        (np.isinf(inputs), "infinite values", "clean them"),
        (np.isnan(inputs), "missing values (NaN)", "clean them, or fill in medians with --impute"),
    ):
        bad = np.flatnonzero(wrong.any(axis=0))
        if bad.size and not (impute and what.startswith("missing")):
            names = [repr(columns[i]) if columns else str(i) for i in bad[:5]]
            more = f" and {bad.size - 5} more" if bad.size > 5 else ""
            raise DatasetError(f"{what} in column {', '.join(names)}{more}: {remedy}")
