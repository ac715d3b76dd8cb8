"""The SQLite driver passes the contract suite, in memory and in a file, and keeps what only it promises."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from sutazai.errors import HostError, InternalError, StorageFullError
from sutazai.store import model
from sutazai.store.migrations import available, migrate
from sutazai.store.protocol import ClockReading, DiskFullError, Store
from sutazai.store.sqlite import SqliteStore
from sutazai.testing.store_contract_states import FullStoreContract

if TYPE_CHECKING:
    from pathlib import Path


class TestInMemory(FullStoreContract):
    """The contract, without a file."""

    def make_store(self) -> Store:
        """Make one."""
        return SqliteStore(None)


class TestInAFile(FullStoreContract):
    """The contract, with a file and a write-ahead log."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        """Have a folder before ``setup_method`` would need it."""
        self.store.close()
        self.path = tmp_path / "store.sqlite"
        self.store = SqliteStore(self.path, ballast_bytes=4096)

    def make_store(self) -> Store:
        """Make a stand-in until the folder is there."""
        return SqliteStore(None)


def submit(store: SqliteStore, name: str, size: int = 10) -> None:
    """Store one task."""
    task = model.NewTask(name, "a", "do", '"' + "x" * size + '"', 5, 60_000, 3)
    store.begin()
    store.apply(model.Submit((task,)), 1, 1)
    store.commit(ClockReading(1, 1, 1, ""))


def test_a_store_survives_being_closed(tmp_path: Path) -> None:
    """What was committed is there when it is opened again, the clock's reading and the counts among it."""
    path = tmp_path / "store.sqlite"
    store = SqliteStore(path, ballast_bytes=0)
    submit(store, "t1")
    store.close()
    again = SqliteStore(path, ballast_bytes=0)
    assert again.counts.of("a").ready == 1
    assert again.reading() == ClockReading(1, 1, 1, "")
    again.close()


def test_a_second_process_is_kept_away(tmp_path: Path) -> None:
    """The file has one user; the message says what is likely wrong."""
    store = SqliteStore(tmp_path / "store.sqlite", ballast_bytes=0)
    with pytest.raises(HostError, match="another process"):
        SqliteStore(tmp_path / "store.sqlite", ballast_bytes=0)
    store.close()


def test_a_newer_store_is_refused() -> None:
    """A schema of the future is not guessed at; an old one is brought up to date and left alone afterwards."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    newest = available()[-1][0]
    assert migrate(connection, 5) == newest
    assert migrate(connection, 6) == newest
    connection.execute("INSERT INTO schema_migrations VALUES (9999, 'future', 0)")
    with pytest.raises(HostError, match="update sutazai"):
        migrate(connection, 7)


def test_the_log_is_copied_when_it_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints happen at a size of ours, and the log starts anew after one."""
    monkeypatch.setattr("sutazai.store.sqlite.CHECKPOINT_BYTES", 64 * 1024)
    store = SqliteStore(tmp_path / "store.sqlite", ballast_bytes=0)
    for number in range(200):
        submit(store, f"t{number}", 500)
    found = store.statistics()
    assert 3 <= found.checkpoints <= 12, "not once, and not with every look"
    assert found.wal_bytes < 1024 * 1024
    assert (found.commits, found.full) == (200, False)
    store.close()


def test_a_full_disk_refuses_submissions_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the ballast given up, submissions are refused and claims go on; with room again all is as before."""
    store = SqliteStore(tmp_path / "store.sqlite", ballast_bytes=1024 * 1024)
    ballast = tmp_path / "store.ballast"
    assert ballast.stat().st_size == 1024 * 1024
    submit(store, "t1")
    store.give_room()
    assert not ballast.exists()
    store.begin()
    with pytest.raises(StorageFullError) as refused:
        store.apply(model.Submit((model.NewTask("t2", "a", "do", "1", 5, 1, 1),)), 1, 1)
    assert not isinstance(refused.value, DiskFullError)
    assert store.apply(model.Claim("a", "k", 1), 1, 1).reply.task == "t1"
    store.commit(ClockReading(1, 1, 1, ""))
    assert store.relieve() is True
    assert ballast.exists()
    monkeypatch.setattr("sutazai.store.ballast.Ballast._free_bytes", lambda _: 1000)
    assert store.relieve() is False
    store.close()


def test_a_write_that_meets_a_full_disk_is_told_from_a_broken_store(tmp_path: Path) -> None:
    """SQLite's word for a full disk becomes ``DiskFullError``, any other an ``InternalError``; the group is lost."""
    store = SqliteStore(tmp_path / "store.sqlite", ballast_bytes=0)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    task = model.NewTask("t1", "a", "do", '"' + "x" * 100_000 + '"', 5, 60_000, 3)
    store.begin()
    with pytest.raises(DiskFullError):
        store.apply(model.Submit((task,)), 1, 1)
    store.rollback()
    assert store.counts.open == 0
    store._connection.execute("DROP TABLE payloads")
    store.begin()
    with pytest.raises(InternalError, match="payloads"):
        store.apply(model.Submit((task,)), 1, 1)
    store.close()


def test_a_claim_is_one_search_in_an_index(tmp_path: Path) -> None:
    """The plan of the claim, of the timers and of a session's head names an index and scans no table."""
    from sutazai.store.queries import sql

    store = SqliteStore(None)
    for name in ("claim_next", "due_next", "deadline_next", "deadline_passed", "due_promote", "session_release_next"):
        text = sql(name)
        values = dict.fromkeys(("ticket", "pid", "wall_ms", "agent", "now_ms"), 1) if ":" in text else (1, 1)
        count = text.count("?")
        plan = store._connection.execute(
            f"EXPLAIN QUERY PLAN {text}", values if ":" in text else tuple(range(count))
        ).fetchall()
        steps = [row[3] for row in plan]
        assert not [step for step in steps if step.startswith("SCAN tasks") and "INDEX" not in step], (name, steps)
        assert any("tasks_" in step for step in steps), (name, steps)
    store.close()


def test_states_of_an_older_version_are_kept_from_the_update_on(tmp_path: Path) -> None:
    """The time at which they were last used is not known: none is forgotten before a whole time from now has passed."""
    path = tmp_path / "store.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(available()[0][2])
    connection.execute("CREATE TABLE schema_migrations (version INTEGER, name TEXT, applied_wall_ms INTEGER)")
    connection.execute("INSERT INTO schema_migrations VALUES (1, '0001_tasks', 1)")
    connection.execute("INSERT INTO clock VALUES (1, 5000, 5000, 5000, '')")
    connection.execute("INSERT INTO states VALUES (1, 'a', 's', 3, '{}', 1)")
    connection.close()
    store = SqliteStore(path, ballast_bytes=0)
    for now_ms, forgotten in ((5_999, 0), (6_000, 1)):
        store.begin()
        assert store.apply(model.PurgeStates((("a", 1_000),)), now_ms, now_ms).reply == forgotten
        store.commit(ClockReading(now_ms, now_ms, now_ms, ""))
    store.close()
