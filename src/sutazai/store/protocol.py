"""Why it exists: the broker knows a store by these verbs alone, so that another database can take SQLite's place.

``testing.store_contract_states.FullStoreContract`` is what each driver must pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sutazai.errors import StorageFullError, SutazaiError

if TYPE_CHECKING:
    from sutazai.store.counts import Counts
    from sutazai.store.model import Lease, Operation, Outcome


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The broker's clock, as it is kept.

    Attributes:
        broker_ms: its reading.
        monotonic_ms: the machine's monotonic clock then.
        wall_ms: the wall clock then.
        boot: of which boot.
    """

    broker_ms: int
    monotonic_ms: int
    wall_ms: int
    boot: str


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Sizes and times of a store.

    Attributes:
        bytes: of the database.
        wal_bytes: of the log in front of it; 0 where the server keeps it.
        commits: since it was opened.
        commit_ms_p50: of the last commits.
        commit_ms_p99: the same.
        checkpoints: of the log, since it was opened; 0 where the server makes them.
        full: the disk is full.
        away: the database does not answer; it is being looked for.
    """

    bytes: int
    wal_bytes: int
    commits: int
    commit_ms_p50: float
    commit_ms_p99: float
    checkpoints: int
    full: bool
    away: bool = False


class DiskFullError(StorageFullError):
    """A write of the group met a full disk: the whole group must be rolled back, then room given, then tried again."""


class StoreLostError(SutazaiError):
    """The database went away in the middle of a group, or gave it up.

    The group is rolled back; unless its commit was asked: then ``recover`` finds out. Nobody may be answered before.
    """

    code = "store-lost"
    retryable = True


class Store(Protocol):
    """A store of tasks. One user at a time; ``commit`` may be called from another thread while nobody else calls.

    Attributes:
        counts: tasks by agent.
        in_process: the database is in this process, so that a commit waits for the disk alone.
    """

    counts: Counts
    in_process: bool

    def begin(self) -> None:
        """Start a group of operations."""

    def apply(self, operation: Operation, now_ms: int, wall_ms: int) -> Outcome:
        """Do one operation inside the group.

        Raises:
            RefusedError: it changes nothing; the group goes on.
            DiskFullError: the whole group must be rolled back.
            StoreLostError: the group is over; see ``recover``.
        """
        ...

    def wrote(self) -> bool:
        """Whether the group has changed anything, so that its commit must reach the disk."""
        ...

    def commit(self, reading: ClockReading) -> None:
        """Make the group durable, with the clock's reading.

        Raises:
            DiskFullError: the group must be rolled back.
            StoreLostError: whether it is durable is not known; see ``recover``.
        """

    def rollback(self) -> None:
        """Forget the group."""

    def recover(self) -> bool:
        """Reach the database again after a ``StoreLostError``; may take seconds, so not on a thread that others need.

        Returns:
            Whether the group whose commit was asked is in the database; False also when no commit was asked. When it is
            not, the counts are those of the database again, and the group may be run anew.

        Raises:
            StoreLostError: it is still away: call again.
            HostError: somebody else wrote in between: what this process remembers is worth nothing any more.
        """
        ...

    def relieve(self) -> bool:
        """Look after a full disk.

        Returns:
            Whether new submissions may be taken.
        """
        ...

    def give_room(self) -> None:
        """A write met a full disk: free what was set aside."""

    def leases(self) -> list[Lease]:
        """Turns that were running when the store was opened."""
        ...

    def calls(self) -> list[tuple[str, str, str]]:
        """Open tasks that turns made: identifier, agent of the turn, own agent."""
        ...

    def timers(self) -> tuple[int, int]:
        """Earliest due time and earliest deadline, 0 for none."""
        ...

    def reading(self) -> ClockReading | None:
        """The last reading of the clock; None in a new store."""
        ...

    def statistics(self) -> StoreStatistics:
        """Sizes and times."""
        ...

    def close(self) -> None:
        """Let go of it; a group that is open is forgotten."""
