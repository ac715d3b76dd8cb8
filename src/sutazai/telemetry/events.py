"""Why it exists: what happened to a fleet (restarts, kills, conditions) is one list that survives a restart.

JSON lines in a file of bounded size; when it is full it becomes ``<name>.1`` and so on, the oldest is dropped. A line
that a crash tore is ended by the next start and skipped by readers.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from sutazai.errors import InternalError
from sutazai.telemetry.tail import lines_backwards, rotated
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

EventKind = Literal[
    "process-started",
    "process-exited",
    "process-restarted",
    "process-ready",
    "process-removed",
    "oom-killed",
    "instance-started",
    "instance-ended",
    "condition-raised",
    "condition-cleared",
    "plan-swapped",
    "fleet-state",
    "acted",
    "task-dead",
    "source-lost",
    "source-back",
    "control-started",
]
EVENT_KINDS: frozenset[str] = frozenset(get_args(EventKind))

EVENT_FILE_BYTES_MAX = 4 * MIB
EVENT_FILES_KEPT = 2
EVENT_TEXT_CHARACTERS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        at_wall_ms: when it was seen.
        kind: see ``EventKind``.
        subject: process, agent or fleet it happened to.
        text: for a person, with its numbers.
        data: the numbers.
    """

    at_wall_ms: int
    kind: str
    subject: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """How a report cites it."""
        return f"event:{self.kind}/{self.subject}@{self.at_wall_ms}"

    def to_json(self) -> dict[str, Any]:
        """As ``/v1/events`` gives it."""
        return {**asdict(self), "source": self.source}


class EventLog:
    """The list of events on disk. Safe to use from several threads of one process."""

    def __init__(self, path: Path, bytes_max: int = EVENT_FILE_BYTES_MAX, files_kept: int = EVENT_FILES_KEPT) -> None:
        """Open or make the file.

        Raises:
            OSError: the folder cannot be written.
        """
        self._path, self._bytes_max, self._files_kept = path, bytes_max, files_kept
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            self._size += os.write(self._descriptor, b"\n")

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            InternalError: its kind is not in the table.
            OSError: the disk refuses it.
        """
        if event.kind not in EVENT_KINDS:
            raise InternalError(f"there is no event kind {event.kind!r}: add it to telemetry/events.py")
        entry = asdict(event) | {"text": event.text[:EVENT_TEXT_CHARACTERS_MAX]}
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._size and self._size + len(line) > self._bytes_max:
                self._rotate()
            self._size += os.write(self._descriptor, line)

    def _rotate(self) -> None:
        for number in range(self._files_kept, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(older)
        os.close(self._descriptor)
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            os.close(self._descriptor)

    def newest_first(self) -> Iterator[Event]:
        """All events, the newest first; torn lines are left out."""
        for path in rotated(self._path):
            for _, line in lines_backwards(path):
                if (event := _parse(line)) is not None:
                    yield event

    def read(
        self,
        since_ms: int = 0,
        kinds: Collection[str] = (),
        subjects: Collection[str] = (),
        limit: int = 500,
    ) -> tuple[list[Event], bool]:
        """Find events.

        Args:
            since_ms: first wall time.
            kinds: wanted kinds, empty for all.
            subjects: wanted subjects, empty for all.
            limit: the newest so many.

        Returns:
            The events, oldest first, and whether older matching ones exist.
        """
        found: list[Event] = []
        for event in self.newest_first():
            if event.at_wall_ms < since_ms:
                break
            if (kinds and event.kind not in kinds) or (subjects and event.subject not in subjects):
                continue
            if len(found) >= limit:
                return found[::-1], True
            found.append(event)
        return found[::-1], False


def _parse(line: bytes) -> Event | None:
    try:
        entry = json.loads(line)
        return Event(
            int(entry["at_wall_ms"]),
            str(entry["kind"]),
            str(entry["subject"]),
            str(entry["text"]),
            dict(entry.get("data") or {}),
        )
    except (ValueError, KeyError, TypeError):
        return None
