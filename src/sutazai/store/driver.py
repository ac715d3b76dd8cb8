"""Why it exists: what the operations mean is written once; a driver says only how its database is spoken to.

``SqlStore`` runs operations in groups, takes a refused one back alone, keeps the counts and measures commits. A driver
(``sqlite``, ``postgres``) opens the database, commits, rolls back, and tells a full disk from a broken store.

A statement is named by its text in the common files (``queries.sql``). A connection runs that text, or what its dialect
has in its place. It may put off a statement whose rows nobody reads; so an operation reads what it decides on, writes,
and never asks how many rows a statement touched.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from sutazai.errors import InvalidInputError, RefusedError, StorageFullError
from sutazai.store import claim, commit, dead, ending, fallback, model, occur, people, read, spill, submit
from sutazai.store.counts import Counts
from sutazai.store.ends import Outcomes
from sutazai.store.failure import FallBack
from sutazai.store.letters import DeadLetters, Discard, Replay
from sutazai.store.protocol import ClockReading, StoreStatistics
from sutazai.store.queries import sql
from sutazai.store.times import Claimable, Occur, Schedules
from sutazai.store.txn import Txn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_COMMITS_MEASURED = 1_000

_WRITES: dict[type, Callable[[Txn, Any], Any]] = {
    model.Submit: submit.submit,
    model.Claim: claim.claim,
    model.Commit: commit.commit,
    model.Lose: ending.lose,
    model.Progress: commit.progress,
    model.Cancel: ending.cancel,
    model.Resolve: people.resolve,
    Replay: dead.replay,
    Discard: dead.discard,
    Occur: occur.occur,
    model.Expire: ending.expire,
    FallBack: fallback.fall_back,
    model.Promote: ending.promote,
    model.Purge: ending.purge,
    model.PurgeStates: ending.purge_states,
}
_READS: dict[type, Callable[[Txn, Any], Any]] = {
    model.Get: read.get,
    Outcomes: read.outcomes,
    model.Events: read.events,
    model.Tree: read.tree,
    model.List: read.list_tasks,
    DeadLetters: read.dead_letters,
    Schedules: occur.schedules,
    model.ReadState: read.read_state,
    model.Recall: people.recall,
    model.Waiting: people.waiting,
    model.Ready: read.ready,
    Claimable: claim.claimable,
    spill.Unreferenced: spill.unreferenced,
    spill.Locate: spill.locate,
}
#: Operations that take new work, which a full disk refuses.
_TAKING = {model.Submit, Replay, Occur}
FULL_TEXT = "the disk of the store is full: accepted tasks go on, new ones are refused; free some room"
_UNFORESEEN = (OverflowError, ValueError, TypeError, KeyError, RecursionError)
_COUNTS = sql("counts")
_NEWEST = sql("seq_newest")
_LEASES = sql("leases")
_CALLS = sql("calls_open")
_DUE_NEXT = sql("due_next")
_DEADLINE_NEXT = sql("deadline_next")
_CLOCK_GET = sql("clock_get")


class Rows(Protocol):
    """What a statement gives."""

    def fetchone(self) -> Any:
        """Give the next row as a tuple; None after the last."""

    def fetchall(self) -> list[Any]:
        """Give all rows that are left, as tuples."""
        ...


class Connection(Protocol):
    """A database as the operations see it."""

    def execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = (), /) -> Rows:
        """Run a statement, named by its common text."""
        ...


class CommitTimes:
    """How long the last commits took."""

    def __init__(self) -> None:
        self.count = 0
        self._last_ms: deque[float] = deque(maxlen=_COMMITS_MEASURED)

    def add(self, started: float) -> None:
        """A commit that began at ``started`` (``time.perf_counter``) has reached the disk."""
        self.count += 1
        self._last_ms.append((time.perf_counter() - started) * 1_000)

    def percentile(self, share: int) -> float:
        """Milliseconds that ``share`` of a hundred commits took at most; 0 before the first."""
        times = sorted(self._last_ms) or [0.0]
        return round(times[len(times) * share // 100], 3)


class SqlStore:
    """The part of a store that is the same for every SQL database.

    Args:
        connection: an open database, brought up to date.
    """

    def __init__(self, connection: Connection) -> None:
        self._database = connection
        self.counts = Counts()
        self._times = CommitTimes()
        self._recount()

    def _recount(self) -> None:
        rows = self._database.execute(_COUNTS).fetchall()
        self.counts.load(rows, self._database.execute(_NEWEST).fetchone()[0])

    def _is_full(self) -> bool:
        """Whether submissions are refused because the disk is full; a driver answers."""
        return False

    def _savepoint(self) -> None:
        """An operation begins; a driver marks the place."""

    def _undo(self) -> None:
        """The operation is refused: a driver goes back to the place."""

    def _keep(self) -> None:
        """The operation is done; a driver forgets the place."""

    def _apply(self, operation: model.Operation, now_ms: int, wall_ms: int) -> model.Outcome:
        kind = type(operation)
        if kind in _READS:
            txn = Txn(self._database, self.counts, now_ms, wall_ms)
            try:
                txn.outcome.reply = _READS[kind](txn, operation)
            except _UNFORESEEN as error:
                raise InvalidInputError(f"this cannot be read: {type(error).__name__}: {error}") from error
            return txn.outcome
        if kind in _TAKING and self._is_full():
            raise StorageFullError(FULL_TEXT)
        self._savepoint()
        try:
            outcome = self._run(operation, now_ms, wall_ms)
        except (RefusedError, *_UNFORESEEN) as error:
            self._undo()
            self.counts.undo()
            if isinstance(error, RefusedError):
                raise
            # One request that nobody foresaw must not take the whole group with it.
            raise InvalidInputError(f"this cannot be done: {type(error).__name__}: {error}") from error
        self.counts.keep()
        self._keep()
        return outcome

    def _run(self, operation: model.Operation, now_ms: int, wall_ms: int) -> model.Outcome:
        txn = Txn(self._database, self.counts, now_ms, wall_ms)
        txn.outcome.reply = _WRITES[type(operation)](txn, operation)
        return txn.outcome

    def leases(self) -> list[model.Lease]:
        """Turns that were running when the store was opened."""
        rows = self._database.execute(_LEASES).fetchall()
        return [model.Lease(name, agent, fence, ticket or "", pid or 0) for name, agent, fence, ticket, pid in rows]

    def calls(self) -> list[tuple[str, str, str]]:
        """Open tasks that turns made: identifier, agent of the turn, own agent."""
        return [(name, caller, callee) for name, caller, callee in self._database.execute(_CALLS).fetchall()]

    def timers(self) -> tuple[int, int]:
        """Earliest due time and earliest deadline, 0 for none."""
        due = self._database.execute(_DUE_NEXT).fetchone()[0]
        deadline = self._database.execute(_DEADLINE_NEXT).fetchone()[0]
        return due or 0, deadline or 0

    def reading(self) -> ClockReading | None:
        """The last reading of the clock; None in a new store."""
        found = self._database.execute(_CLOCK_GET).fetchone()
        return None if found is None else ClockReading(*found)

    def _statistics(
        self, size_bytes: int, log_bytes: int = 0, checkpoints: int = 0, *, away: bool = False
    ) -> StoreStatistics:  # fmt: skip
        times = self._times
        return StoreStatistics(
            bytes=size_bytes, wal_bytes=log_bytes, commits=times.count, commit_ms_p50=times.percentile(50),
            commit_ms_p99=times.percentile(99), checkpoints=checkpoints, full=self._is_full(), away=away,
        )  # fmt: skip
