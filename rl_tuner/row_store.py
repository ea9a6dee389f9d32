"""The rows of a comparison in an SQLite file: each is on disk before the next is begun.

A run that was killed, at whatever moment, goes on from the rows that are there.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rl_tuner.errors import ConfigError
from rl_tuner.results import Row

VERSION = 1
WAITING = 60
"""Seconds for which a row waits for somebody who reads or writes: who looks on must not end a comparison."""
STORE = "results.sqlite"
"""The file's name in a run."""
COLUMNS = {
    "method": "TEXT NOT NULL",
    "job": "INTEGER NOT NULL",
    "seed": "INTEGER NOT NULL",
    "job_name": "TEXT NOT NULL",
    "test_loss": "REAL",
    "val_loss": "REAL",
    "start_test_loss": "REAL",
    "job_budget": "INTEGER NOT NULL",
    "budget": "INTEGER NOT NULL",
    "samples": "INTEGER NOT NULL",
    "val_samples": "INTEGER NOT NULL",
    "crashed": "INTEGER NOT NULL",
    "rescues": "INTEGER NOT NULL",
    "seconds": "REAL NOT NULL",
}
"""What others may ask for by SQL, NULL where not finite; the column "row" holds the whole row as JSON."""


class RowStore:
    """A table "rows" with a row for each method, job and seed. A context manager, closed at its end.

    Args:
        path: The file; its folder must exist. A new one is made.

    Raises:
        ConfigError: The file is no such table, or one of another version.
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._errors():
            self._connection = sqlite3.connect(path, timeout=WAITING, isolation_level=None)
            self._connection.execute("PRAGMA synchronous = FULL")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise ConfigError(f"{path} is of version {version}; this rl-tuner reads {VERSION}")
            columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
            with self._transaction():
                self._connection.execute(
                    f"CREATE TABLE IF NOT EXISTS rows ({columns}, row TEXT NOT NULL, "
                    "PRIMARY KEY (method, job, seed)) WITHOUT ROWID"
                )
                self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def __enter__(self) -> RowStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def rows(self) -> tuple[Row, ...]:
        """All rows, by job, seed and method.

        Raises:
            ConfigError: The file is damaged, or one of its rows is.
        """
        with self._errors():
            found = self._connection.execute(
                "SELECT method, job, seed, row FROM rows ORDER BY job, seed, method"
            ).fetchall()
        return tuple(self._parse(key, text) for *key, text in found)

    def add(self, row: Row) -> None:
        """Writes a row and waits until it is on disk.

        Raises:
            ConfigError: There is one of that method, job and seed, or the file is damaged.
            OSError: It cannot be written: the disk is full, say.
        """
        data = row.to_dict()
        values = [*(data[name] for name in COLUMNS), json.dumps(data, allow_nan=False)]
        places = ", ".join("?" * len(values))
        with self._errors(), self._transaction():
            self._connection.execute(f"INSERT INTO rows VALUES ({places})", values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block's changes are made, or none."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")  # which fails, too, where somebody reads for too long
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise ConfigError(f"{self.path} has that row already: {error}") from error
        except sqlite3.OperationalError as error:
            number = errno.ENOSPC if error.sqlite_errorcode == sqlite3.SQLITE_FULL else errno.EIO
            raise OSError(number, str(error), str(self.path)) from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"{self.path} holds no rows of a comparison: {error}") from error

    def _parse(self, key: list[object], text: str) -> Row:
        try:
            return Row.from_dict(json.loads(text))
        except (ValueError, TypeError, AttributeError, ConfigError) as error:
            raise ConfigError(f"the row {key} of {self.path} is damaged: {error}") from error
