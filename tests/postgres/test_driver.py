"""What only the driver for PostgreSQL promises: one writer, refusals at the start, a lost session, a full disk."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from sutazai.errors import HostError, InternalError, InvalidInputError, StorageFullError
from sutazai.store import model
from sutazai.store import postgres as module
from sutazai.store.postgres import PostgresStore
from sutazai.store.protocol import ClockReading, DiskFullError, StoreLostError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sutazai.testing.postgres_server import PostgresServer

READING = ClockReading(1, 1, 1, "")


def task(name: str, **fields: object) -> model.NewTask:
    """A task."""
    given: dict[str, Any] = {"priority": 5, "deadline_ms": 60_000, "attempts_max": 3, "named": True, **fields}
    return model.NewTask(name, "a", "do", "1", **given)


def submit(store: PostgresStore, *names: str) -> None:
    """Store tasks in one group."""
    store.begin()
    for name in names:
        store.apply(model.Submit((task(name),)), 1, 1)
    store.commit(READING)


@pytest.fixture
def dsn(server: PostgresServer) -> str:
    """An empty schema."""
    return server.new_dsn()


@pytest.fixture
def store(dsn: str) -> Iterator[PostgresStore]:
    """A store in an empty schema."""
    made = PostgresStore(dsn)
    yield made
    made.close()


def cut(dsn: str, store: PostgresStore) -> None:
    """End the session of one store, and wait until it is gone."""
    with psycopg.connect(dsn, autocommit=True) as other:
        name = "sutazai broker " + store._writer
        query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
        other.execute(query, (name,))


def test_a_store_survives_being_closed(dsn: str) -> None:
    """What was committed is there when it is opened again: tasks, the clock, the counts, the next place."""
    store = PostgresStore(dsn)
    submit(store, "t1", "t2")
    assert store.statistics().bytes > 0
    store.close()
    again = PostgresStore(dsn)
    assert again.counts.of("a").ready == 2
    assert again.reading() == READING
    submit(again, "t3")
    again.close()
    with psycopg.connect(dsn) as other:
        assert other.execute("SELECT seq, id FROM tasks ORDER BY seq").fetchall() == [(1, "t1"), (2, "t2"), (3, "t3")]


def test_a_second_writer_is_kept_away(
    dsn: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """One session writes; the message says which. When it ends, the next one that waits gets in."""
    monkeypatch.setattr("sutazai.store.postgres.LOCK_WAIT_S", 0.0)
    with pytest.raises(HostError, match=rf"open in session \d+ \(sutazai broker {store._writer}\)"):
        PostgresStore(dsn)
    monkeypatch.setattr("sutazai.store.postgres.LOCK_WAIT_S", 30.0)
    following: list[PostgresStore] = []
    waiting = threading.Thread(target=lambda: following.append(PostgresStore(dsn)))
    waiting.start()
    store.close()
    waiting.join(30)
    following[0].close()


def test_two_schemas_are_two_stores(server: PostgresServer) -> None:
    """Fleets may share a database when each has a schema."""
    first, second = PostgresStore(server.new_dsn()), PostgresStore(server.new_dsn())
    submit(first, "t1")
    assert (first.counts.open, second.counts.open) == (1, 0)
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("default_transaction_read_only=on", "transaction_read_only is on .*standby"),
        ("client_encoding=LATIN1", ""),
        ("synchronous_commit=off", ""),
    ],
)
def test_a_database_that_would_not_keep_its_word_is_refused(dsn: str, setting: str, words: str) -> None:
    """A standby is refused with what to do; what a session may choose for itself is chosen right."""
    given = dsn.replace("options='", f"options='-c {setting} ")
    if words:
        with pytest.raises(HostError, match=words):
            PostgresStore(given)
        return
    store = PostgresStore(given)
    assert store._session is not None
    found = [store.execute("SELECT CURRENT_SETTING(CAST(? AS TEXT))", (name,)).fetchone()[0]
             for name in ("synchronous_commit", "client_encoding")]  # fmt: skip
    assert found == ["on", "UTF8"]
    store.close()


def test_a_server_that_does_not_sync_is_refused(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """``fsync = off`` cannot be a promise; the message says what to set."""
    monkeypatch.setattr("sutazai.store.postgres._SETTING", "SELECT CASE ? WHEN 'fsync' THEN 'off' ELSE 'on' END")
    with pytest.raises(HostError, match=r"fsync is off .*power cut"):
        PostgresStore(dsn)


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The message holds libpq's reason, and not the password."""
    with pytest.raises(HostError, match=r"not there.*No such file") as refused:
        PostgresStore(f"host={tmp_path} port=1 user=u password=hidden dbname=d")
    assert "hidden" not in str(refused.value)


def test_a_newer_store_is_refused(dsn: str) -> None:
    """A schema of the future is not guessed at."""
    PostgresStore(dsn).close()
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("INSERT INTO schema_migrations VALUES (9999, 'future', 0)")
    with pytest.raises(HostError, match="update sutazai"):
        PostgresStore(dsn)


def test_values_that_cannot_be_kept_are_refused_alone(store: PostgresStore) -> None:
    """A NUL character and a number beyond 64 bits end one operation; the others of the group are kept."""
    store.begin()
    store.apply(model.Submit((task("t1"),)), 1, 1)
    for wrong in (task("t\0"), task("t2", session="s\0"), task("t3", deadline_ms=1 << 64), task("\ud800")):
        with pytest.raises(InvalidInputError):
            store.apply(model.Submit((task("before"), wrong)), 1, 1)
    store.apply(model.Submit((task("t4"),)), 1, 1)
    store.commit(READING)
    assert store.counts.open == 2
    assert store.execute("SELECT COALESCE(MAX(seq), 0) FROM tasks").fetchone()[0] > 2


def test_a_session_that_is_cut_in_a_group_rolls_it_back(dsn: str, store: PostgresStore) -> None:
    """Before its commit is asked nothing of a group is kept; after ``recover`` it can be run anew."""
    submit(store, "t1")
    store.begin()
    store.apply(model.Submit((task("t2"),)), 1, 1)
    cut(dsn, store)
    with pytest.raises(StoreLostError):
        store.apply(model.Get("t2"), 1, 1)
    store.rollback()
    with pytest.raises(StoreLostError):
        submit(store, "t3")
    assert store.recover() is False
    assert store.counts.open == 1
    submit(store, "t2")
    assert store.counts.open == 2


def test_a_lost_answer_to_a_commit_is_found_out(dsn: str, store: PostgresStore) -> None:
    """The commit reached the disk and its answer nobody: the number of the group says that it was done."""
    store.begin()
    store.apply(model.Submit((task("t1"),)), 1, 1)
    line = store._line()
    sync = line.sync

    def lose_the_answer() -> None:
        sync()
        cut(dsn, store)
        raise StoreLostError("the answer is lost")

    line.sync = lose_the_answer  # type: ignore[method-assign]
    with pytest.raises(StoreLostError):
        store.commit(READING)
    assert store.recover() is True
    assert store.counts.open == 1
    submit(store, "t2")
    with psycopg.connect(dsn) as other:
        assert other.execute("SELECT COUNT(*) FROM tasks").fetchall() == [(2,)]


def test_a_commit_that_never_arrived_is_found_out(dsn: str, store: PostgresStore) -> None:
    """The session ended before the commit was read: the group is not there, the counts are the database's."""
    store.begin()
    store.apply(model.Submit((task("t1"),)), 1, 1)
    store.apply(model.Get("t1"), 1, 1)
    cut(dsn, store)
    with pytest.raises(StoreLostError):
        store.commit(READING)
    assert store.recover() is False
    assert store.counts.open == 0


@pytest.mark.parametrize("step", ["_take_lock", "migrate", "Pipeline"])
def test_a_session_that_is_cut_while_it_is_made_is_tried_again(
    dsn: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever it was about to do: the database is away, not unusable."""
    submit(store, "t1")
    cut(dsn, store)
    owner = PostgresStore if step == "_take_lock" else module
    real = getattr(owner, step)

    def after_the_cut(*arguments: Any) -> Any:
        cut(dsn, store)
        return real(*arguments)

    monkeypatch.setattr(owner, step, after_the_cut)
    with pytest.raises(StoreLostError):
        store.recover()
    monkeypatch.undo()
    assert store.recover() is False
    assert store.counts.open == 1


def test_another_writer_in_between_ends_this_one(dsn: str, store: PostgresStore) -> None:
    """What this process remembers is worth nothing once somebody else has written."""
    submit(store, "t1")
    cut(dsn, store)
    other = PostgresStore(dsn)
    submit(other, "t2")
    other.close()
    with pytest.raises(HostError, match="starts anew"):
        store.recover()


def test_a_frozen_server_counts_as_lost_and_its_session_is_ended(own_server: PostgresServer) -> None:
    """SIGSTOP: the wait has an end. The old session may still commit what it has, and is over before we read."""
    store = PostgresStore(own_server.new_dsn(), wait_s=0.5)
    submit(store, "t1")
    store.begin()
    store.apply(model.Submit((task("t2"),)), 1, 1)
    own_server.freeze()
    started = time.monotonic()
    with pytest.raises(StoreLostError, match="does not answer"):
        store.apply(model.Get("t2"), 1, 1)
    assert time.monotonic() - started >= 0.5
    own_server.freeze(thaw=True)
    assert store.recover() is False
    assert store.counts.open == 1
    store.close()


def test_a_full_disk_of_the_server_refuses_submissions_only(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's word for it becomes ``DiskFullError``; then submissions are refused for a time, the rest goes on."""
    submit(store, "t1")
    full = "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
    line = store._line()
    line._connection.exit_pipeline_mode()
    from sutazai.store.pipeline import Prepared

    line._prepared["full"] = line._prepare(Prepared("full", full))
    line._connection.enter_pipeline_mode()
    store.begin()
    store.apply(model.Submit((task("t2"),)), 1, 1)
    failing = line.execute("full")
    line.control("SAVEPOINT operation")  # is on its way behind it
    with pytest.raises(DiskFullError, match="could not extend"):
        failing.fetchall()
    store.rollback()
    store.give_room()
    store.begin()
    with pytest.raises(StorageFullError):
        store.apply(model.Submit((task("t2"),)), 1, 1)
    assert store.apply(model.Claim("a", "k", 1), 1, 1).reply.task == "t1"
    store.commit(READING)
    assert store.relieve() is False
    monkeypatch.setattr("sutazai.store.postgres.time.monotonic", lambda: 1e12)
    assert store.relieve() is True
    submit(store, "t2")


def test_a_broken_schema_stops_the_program(dsn: str, store: PostgresStore) -> None:
    """What is neither a full disk nor a lost session is an ``InternalError``."""
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("DROP TABLE payloads")
    with pytest.raises(InternalError, match="payload"):
        submit(store, "t1")


def test_every_search_of_the_hot_path_uses_an_index(dsn: str, store: PostgresStore) -> None:
    """The plans of claim, timers and a session's head scan no table, also in a store without statistics."""
    from sutazai.store.queries import numbered, queries

    names = ("claim_next", "due_next", "deadline_next", "deadline_passed", "due_promote", "session_release_next",
             "task_by_id", "children_open", "payload_get", "purgeable")  # fmt: skip
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("SET enable_seqscan = off")
        other.execute("SET plan_cache_mode = force_generic_plan")
        for name in names:
            text, _ = numbered(queries("postgres")[name].sql)
            count = len({word for word in text.replace(",", " ").replace(")", " ").split() if word.startswith("$")})
            other.execute(f"PREPARE p AS {text}".encode())
            nulls = f"({', '.join(['NULL'] * count)})" if count else ""
            plan = "\n".join(row[0] for row in other.execute(f"EXPLAIN EXECUTE p{nulls}".encode()).fetchall())
            other.execute("DEALLOCATE p")
            assert "Index" in plan, (name, plan)
            assert "Seq Scan" not in plan, (name, plan)
    assert store.counts.open == 0
