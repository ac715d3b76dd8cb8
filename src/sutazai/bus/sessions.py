"""Why it exists: what the broker remembers of each connection and of each instance behind one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.bus.messages import RequestId


class Peer(Protocol):
    """A connection, as the deciding code sees it.

    Attributes:
        uid: of the process at the other end, from the kernel.
        pid: the same.
    """

    uid: int
    pid: int

    def send(self, message: dict[str, Any], blobs: Sequence[bytes] = (), /) -> None:
        """Send a message with its raw bytes; nothing happens when the connection is gone."""

    def close(self) -> None:
        """Close after what was sent."""


@dataclass(slots=True, eq=False)
class Session:
    """One connection.

    Attributes:
        peer: the connection.
        opened_ms: broker's time.
        role: empty until ``hello`` was accepted.
        name: of a client.
        instance: of an instance.
        closed: the connection is gone.
        waits: requests of it that wait for tasks.
        hello: a hello whose ticket is not known yet, with the time until which it is kept.
    """

    peer: Peer
    opened_ms: int
    role: str = ""
    name: str = ""
    instance: Instance | None = None
    closed: bool = False
    waits: int = 0
    hello: tuple[dict[str, Any], int] | None = None

    def reply(self, request: RequestId, message: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Answer a request."""
        if not self.closed:
            if request is not None:
                message["re"] = request
            self.peer.send(message, blobs) if blobs else self.peer.send(message)


@dataclass(slots=True, eq=False)
class Instance:
    """An agent in memory that is connected.

    Attributes:
        agent: whose.
        ticket: its admission.
        pid: process.
        session: its connection.
        lease: the turn it runs.
        claiming: a claim for it is under way.
        credited: the turn whose commit asked for the next one; its repetition does not ask again.
        leaving: it agreed to exit.
        ready: it has asked for a task: its agent is loaded.
        overdue_ms: told to stop a turn, it has to answer until then; 0 when nothing is asked of it.
        reads_files: it can read a result that lies in a file.
    """

    agent: str
    ticket: str
    pid: int
    session: Session
    lease: HeldLease | None = None
    claiming: bool = False
    credited: tuple[str, int] = ("", 0)
    leaving: bool = False
    ready: bool = False
    overdue_ms: int = 0
    reads_files: bool = False

    def push(self, message: dict[str, Any]) -> None:
        """Send it something."""
        if not self.session.closed:
            self.session.peer.send(message)


@dataclass(slots=True, eq=False)
class HeldLease:
    """A turn that runs.

    Attributes:
        task: identifier.
        agent: whose.
        fence: token.
        ticket: who leased it.
        priority: of the task, which its children inherit.
        until_ms: over when nothing is heard until then.
        deadline_ms: of the task.
        started_ms: broker's time.
        instance: who runs it; None while it is being waited for.
        why: what is waited for: empty (nothing), ``restart``, ``closed`` or ``undelivered``.
        ending: an operation that ends it is under way.
        progress: last word of the turn.
        progress_next_ms: the next word becomes an event not before.
    """

    task: str
    agent: str
    fence: int
    ticket: str
    priority: int
    until_ms: int
    deadline_ms: int = 0
    started_ms: int = 0
    instance: Instance | None = None
    why: str = ""
    ending: bool = False
    progress: dict[str, Any] = field(default_factory=dict)
    progress_next_ms: int = 0
