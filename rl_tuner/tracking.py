"""TensorBoard: an episode's losses, hyperparameters, rewards and decisions, and the HParams page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rl_tuner.files import naming
from rl_tuner.history import Record


class Tracker:
    """Writes one TensorBoard run; a context manager that closes its file.

    Args:
        path: The run's folder; its place below the log folder is the run's name on the page.
        purge_step: TensorBoard forgets what earlier files of this run say from this step on: a run that is
            continued from a checkpoint writes those steps anew. None to forget nothing.

    Raises:
        OSError: Events cannot be written (a full disk); every method may say so, as a thread writes them.
    """

    def __init__(self, path: Path, purge_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = path
        with naming(path):
            self._writer = SummaryWriter(str(path), purge_step=purge_step)

    def record(self, record: Record) -> None:
        """Writes an episode's decision, over the budget used.

        Tags: ``loss/train``, ``loss/validation``, ``loss/best``, ``hyperparameters/<name>``, ``reward``,
        ``decision/number`` and ``decision/rescued``.
        """
        tags = {
            "loss/train": record.train_loss,
            "loss/validation": record.val_loss,
            "loss/best": record.best,
            "reward": record.reward,
            "decision/number": float(record.decision),
            "decision/rescued": float(record.verdict != "good"),
            **{f"hyperparameters/{name}": value for name, value in record.values.items()},
        }
        self.scalars(tags, record.used)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Writes scalars by tag; what is not finite is left out, as TensorBoard cannot draw it."""
        with naming(self._path):
            for tag, value in values.items():
                if math.isfinite(value):
                    self._writer.add_scalar(tag, value, step)

    def hparams(self, settings: Mapping[str, bool | str | float], metrics: Mapping[str, float]) -> None:
        """Adds the run to the HParams page: its settings, and what came out as ``hparam/<metric>``."""
        from torch.utils.tensorboard.summary import hparams

        finite = {f"hparam/{name}": value for name, value in metrics.items() if math.isfinite(value)}
        # SummaryWriter.add_hparams would open a second, time-stamped run: write to this one.
        file = self._writer._get_file_writer()  # type: ignore[no-untyped-call]
        with naming(self._path):
            for summary in hparams(dict(settings), finite):  # type: ignore[no-untyped-call]
                file.add_summary(summary)
        self.scalars(finite, 0)

    def close(self) -> None:
        """Writes what is pending and closes the file."""
        with naming(self._path):
            self._writer.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
