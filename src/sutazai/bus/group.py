"""Why it exists: many operations share one commit, and nobody is answered before it is on disk.

``Journal`` collects what is to be done; ``run_group`` does it in one transaction, in which a refused operation leaves
nothing; the caller commits (in a thread, or in the simulation at a moment of its choosing) and then calls ``settle``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.errors import RefusedError
from sutazai.limits import GROUP_COMMIT_OPERATIONS_MAX, GROUP_REPLY_BYTES_MAX
from sutazai.store.protocol import DiskFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sutazai.bus.clock import BrokerClock
    from sutazai.store.model import Operation, Outcome
    from sutazai.store.protocol import Store

    Done = Callable[[Outcome | RefusedError], None]


@dataclass(slots=True)
class Entry:
    """One operation of a group.

    Attributes:
        operation: what.
        done: called after the commit, with what it did or why not.
        applied: called inside the transaction when it was done; must be harmless when the group is run again.
        result: filled in by ``run_group``.
    """

    operation: Operation
    done: Done
    applied: Callable[[], None] | None = None
    result: Outcome | RefusedError | None = None


class Journal:
    """Operations that wait for the next group, in order."""

    def __init__(self) -> None:
        self.pending: deque[Entry] = deque()
        self.wake: Callable[[], None] = lambda: None

    def enqueue(self, operation: Operation, done: Done, applied: Callable[[], None] | None = None) -> None:
        """Ask for an operation."""
        self.pending.append(Entry(operation, done, applied))
        self.wake()

    def put_back(self, entries: list[Entry]) -> None:
        """These come first in the next group."""
        self.pending.extendleft(reversed(entries))

    def take(self) -> list[Entry]:
        """Take the next group out of the queue."""
        pending = self.pending
        return [pending.popleft() for _ in range(min(len(pending), GROUP_COMMIT_OPERATIONS_MAX))]


@dataclass(slots=True)
class GroupHooks:
    """What the broker does inside a group.

    Attributes:
        extend: gives further operations (claims, reads for those who wait), given what was done.
        undone: the transaction was rolled back: forget what ``applied`` and ``extend`` noted.
    """

    extend: Callable[[list[Entry]], Iterable[Entry]]
    undone: Callable[[], None]


@dataclass(slots=True)
class Group:
    """A transaction that is open.

    Attributes:
        done: entries with their results.
        later: entries for the next group, because this one has read enough.
    """

    done: list[Entry]
    later: list[Entry]


def run_group(
    store: Store,
    clock: BrokerClock,
    entries: list[Entry],
    hooks: GroupHooks,
    room: int = GROUP_REPLY_BYTES_MAX,
) -> Group:
    """Do a group in one transaction, which stays open for the caller to commit.

    ``room`` is how many bytes of payloads it may read before the rest waits for the next group, so that a burst of
    reads does not fill the memory. A full disk rolls the group back; then it is done again in the room that was set
    aside, where new submissions are refused.

    Raises:
        DiskFullError: even that room is used up; nothing was done and no transaction is open.
    """
    for last in (False, True):
        store.begin()
        try:
            count, left = _apply(store, clock, entries, room)
            more = list(hooks.extend(entries[:count]))
            extra, _ = _apply(store, clock, more, left)
            return Group(entries[:count] + more[:extra], more[extra:] + entries[count:])
        except DiskFullError:
            roll_back(store, hooks)
            if last:
                raise
    raise DiskFullError("the disk is full")


def roll_back(store: Store, hooks: GroupHooks) -> None:
    """Forget a group that met a full disk, and make room."""
    store.rollback()
    hooks.undone()
    store.give_room()


def _apply(store: Store, clock: BrokerClock, entries: list[Entry], room: int) -> tuple[int, int]:
    """Do entries while what they read has room; gives how many were done, and the room that is left."""
    now_ms, wall_ms = clock.now_ms(), clock.wall_ms()
    for count, entry in enumerate(entries):
        if room <= 0:
            return count, room
        try:
            entry.result = store.apply(entry.operation, now_ms, wall_ms)
            room -= entry.result.characters
        except DiskFullError:
            raise
        except RefusedError as error:
            entry.result = error
        if entry.applied is not None:
            entry.applied()
    return len(entries), room


def settle(entries: Iterable[Entry]) -> None:
    """Answer everybody: the group is on disk."""
    for entry in entries:
        if entry.result is not None:
            entry.done(entry.result)


def refuse(entries: Iterable[Entry], error: RefusedError) -> None:
    """Answer everybody that nothing was done."""
    for entry in entries:
        entry.done(error)
