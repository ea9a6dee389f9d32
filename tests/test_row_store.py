"""Rows in an SQLite file: order, damage, and a full disk."""

from __future__ import annotations

import errno
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from rl_tuner.errors import ConfigError
from rl_tuner.row_store import RowStore
from tests.comparing import make_row

INF = float("inf")
FILE = Path("rows.sqlite")


def test_rows_come_back_as_they_were_by_job_seed_and_method() -> None:
    rows = [make_row(m, j, s, INF if m == "b" else 0.5) for m in "ba" for j in (1, 0) for s in (1, 0)]
    with RowStore(FILE) as store:
        for row in rows:
            store.add(row)
    with RowStore(FILE) as store:
        assert store.rows() == tuple(sorted(rows, key=lambda row: (row.job, row.seed, row.method)))


def test_a_row_is_on_disk_before_the_file_is_closed() -> None:
    store = RowStore(FILE)
    store.add(make_row())
    assert RowStore(FILE).rows() == (make_row(),)


@pytest.mark.parametrize("patient", [True, False])
def test_a_row_waits_for_who_looks_on_but_not_for_ever(
    patient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl_tuner.row_store.WAITING", 20 if patient else 0.05)
    with RowStore(FILE) as store, closing(sqlite3.connect(FILE, check_same_thread=False)) as reader:
        store.add(make_row("a"))
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM rows").fetchone()
        letting_go = threading.Timer(0.5, reader.rollback)
        letting_go.start()
        if patient:
            store.add(make_row("b"))
        else:
            with pytest.raises(OSError, match="locked"):
                store.add(make_row("b"))
        letting_go.join()
        assert len(store.rows()) == 1 + patient


def test_a_row_that_is_there_is_not_overwritten() -> None:
    with RowStore(FILE) as store:
        store.add(make_row(test_loss=0.5))
        with pytest.raises(ConfigError, match="has that row already"):
            store.add(make_row(test_loss=0.1))
        assert [row.test_loss for row in store.rows()] == [0.5]


def test_others_can_ask_for_columns_by_sql() -> None:
    with RowStore(FILE) as store:
        store.add(make_row("a", test_loss=INF))
        store.add(make_row("b", test_loss=0.25, crashed=True))
    found = sqlite3.connect(FILE).execute("SELECT method, test_loss, crashed FROM rows ORDER BY method")
    assert found.fetchall() == [("a", None, 0), ("b", 0.25, 1)]


def test_another_file_is_refused_and_left_alone() -> None:
    FILE.write_text("no database, but text that is long enough to be taken for one" * 100)
    before = FILE.read_bytes()
    with pytest.raises(ConfigError, match="holds no rows of a comparison"):
        RowStore(FILE)
    assert FILE.read_bytes() == before


def test_another_version_is_refused() -> None:
    RowStore(FILE).close()
    sqlite3.connect(FILE).execute("PRAGMA user_version = 9")
    with pytest.raises(ConfigError, match="version 9; this rl-tuner reads 1"):
        RowStore(FILE)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"colour": 1}'])
def test_a_damaged_row_is_named(text: str) -> None:
    with RowStore(FILE) as store:
        store.add(make_row("x", 2, 1))
    connection = sqlite3.connect(FILE)
    connection.execute("UPDATE rows SET row = ?", (text,))
    connection.commit()
    with RowStore(FILE) as store, pytest.raises(ConfigError, match=r"the row \['x', 2, 1\] of .* is damaged"):
        store.rows()


def test_a_full_disk_is_an_os_error_that_names_the_file_and_keeps_what_was_there() -> None:
    store = RowStore(FILE)
    store.add(make_row(seed=0))
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")  # as a disk that has no more room
    large = make_row(seed=1, start={f"h{i}": 1.0 for i in range(5000)})
    with pytest.raises(OSError, match="full") as caught:
        store.add(large)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(FILE))
    store.close()
    with RowStore(FILE) as again:
        assert again.rows() == (make_row(seed=0),)


def test_a_folder_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match="unable to open"):
        RowStore(Path("nowhere/rows.sqlite"))
