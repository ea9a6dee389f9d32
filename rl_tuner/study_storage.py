"""A search's study in a database, for a run that is resumed and for several processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rl_tuner.config import from_dict
from rl_tuner.errors import ConfigError
from rl_tuner.samplers import quiet
from rl_tuner.search_studies import STUDY
from rl_tuner.searches import SearchTrial

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

WAITING = 60
"""Seconds for which a process waits for another one that writes."""


@contextmanager
def open_study(storage: Path) -> Iterator[optuna.Study]:
    """The study in a database, made if need be; its connections end with the block.

    Every transaction begins as one that writes, so that processes take turns: by default SQLite lets two of
    them read that a trial waits, and then both begin it.

    Raises:
        ConfigError: The database is damaged, or none.
    """
    import optuna
    from sqlalchemy import URL, event
    from sqlalchemy.exc import SQLAlchemyError

    with quiet():
        try:
            database = optuna.storages.RDBStorage(
                URL.create("sqlite", database=str(storage)).render_as_string(),
                engine_kwargs={"connect_args": {"timeout": WAITING}},
            )
            event.listen(database.engine, "connect", _leave_transactions_to_us)
            event.listen(database.engine, "begin", _begin_to_write)
            database.engine.dispose()  # connections of before were not listened to
            study = optuna.create_study(
                storage=database, study_name=STUDY, direction="minimize", load_if_exists=True
            )
        except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{storage} is no study that can be continued: {reason}") from error
        try:
            yield study
        finally:
            database.remove_session()
            database.engine.dispose()


def _leave_transactions_to_us(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:  # noqa: ARG001 (an event's signature)
    connection.isolation_level = None  # or Python's sqlite3 begins them itself


def _begin_to_write(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def in_memory(study: optuna.Study) -> optuna.Study:
    """A copy that needs no database, of the trials that came to their ends, numbered as in the search."""
    import optuna

    from rl_tuner.study_ledger import ended

    copy = optuna.create_study(study_name=study.study_name, direction="minimize")
    copy.add_trials(ended(study))
    return copy


def new_trials(study: optuna.Study, known: set[int]) -> Iterator[SearchTrial]:
    """The trials that have ended and are not known yet, by Optuna's numbers, which are noted as known."""
    from rl_tuner.study_ledger import OUTCOME, ended

    for trial in ended(study):
        if trial.number not in known:
            known.add(trial.number)
            yield from_dict(SearchTrial, trial.user_attrs[OUTCOME]["trial"])
