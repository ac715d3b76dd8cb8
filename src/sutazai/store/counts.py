"""Why it exists: how many tasks wait is asked for with every claim and every submission, so it is not counted by SQL.

The numbers follow each operation and are undone with it; after a restart or a rolled back group they are counted anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from sutazai.store.model import DEAD, LEASED, QUEUED, WAITING


@dataclass(slots=True)
class AgentCounts:
    """Tasks of one agent.

    Attributes:
        queued: stored and not claimed, due or not.
        leased: being executed.
        waiting: for their children.
        dead: dead letters that nobody has replayed or discarded.
        ready: of the queued, those that may be claimed now.
        bytes: of the inputs of those that are not terminal.
    """

    queued: int = 0
    leased: int = 0
    waiting: int = 0
    dead: int = 0
    ready: int = 0
    bytes: int = 0

    @property
    def open(self) -> int:
        """Those that are not terminal."""
        return self.queued + self.leased + self.waiting


class Counts:
    """Numbers of tasks by agent, with an undo log of the group and, in it, of the operation that runs."""

    def __init__(self) -> None:
        self.agents: dict[str, AgentCounts] = {}
        self.open = self.bytes = 0
        self._seq = self._seq_before = 0
        self._log: list[tuple[str, int, int, int]] = []
        self._kept = 0  # so much of the log belongs to operations that are done

    def of(self, agent: str) -> AgentCounts:
        """Numbers of an agent; zeros when it has no task."""
        found = self.agents.get(agent)
        if found is None:
            found = self.agents[agent] = AgentCounts()
        return found

    def move(self, agent: str, status: int, change: int, ready: int = 0, size: int = 0) -> None:
        """Count tasks into a status (``change`` +1) or out of it (-1).

        Args:
            agent: whose.
            status: which.
            change: how many.
            ready: change of the claimable ones.
            size: change of the bytes of open inputs.
        """
        self._log.append((agent, status * 4 + (change + 1), ready, size))
        self._apply(agent, status, change, ready, size)

    def _apply(self, agent: str, status: int, change: int, ready: int, size: int) -> None:
        entry = self.of(agent)
        entry.ready += ready
        entry.bytes += size
        self.bytes += size
        if status == QUEUED:
            entry.queued += change
        elif status == LEASED:
            entry.leased += change
        elif status == WAITING:
            entry.waiting += change
        elif status == DEAD:
            entry.dead += change
            return
        else:
            return
        self.open += change

    def begin(self) -> None:
        """A group begins."""
        self._log.clear()
        self._kept = 0
        self._seq_before = self._seq

    def keep(self) -> None:
        """The operation succeeded."""
        self._kept = len(self._log)

    def undo(self) -> None:
        """The operation was refused: take its changes back."""
        for agent, packed, ready, size in reversed(self._log[self._kept :]):
            status, change = divmod(packed, 4)
            self._apply(agent, status, -(change - 1), -ready, -size)
        del self._log[self._kept :]

    def rewind(self) -> None:
        """Back to the beginning of the group, which is going to be done again."""
        self._kept = 0
        self.undo()
        self._seq = self._seq_before

    def take_seq(self) -> int:
        """Give the next place in the order of acceptance. There is one writer, so no database is asked for it.

        One that is not used in the end (a refused operation) is a gap, which is no harm.
        """
        self._seq += 1
        return self._seq

    def load(self, rows: list[tuple[str, int, int, int, int]], seq_newest: int) -> None:
        """Start from what the store holds: agent, status, number, of them ready, bytes; and the newest task's place."""
        fresh = Counts()
        for agent, status, number, ready, size in rows:
            fresh._apply(agent, status, number, ready, size)
        self.begin()
        # Another thread may be reading: it sees the old numbers or the new ones.
        self.agents, self.open, self.bytes, self._seq = fresh.agents, fresh.open, fresh.bytes, seq_newest
