"""Why it exists: what a broker can be told at its start; a test shortens the times, nothing else changes them."""

from __future__ import annotations

from dataclasses import dataclass

from sutazai.limits import (
    CANCEL_GRACE_MS,
    EXIT_WAIT_MS,
    HEARTBEAT_MS,
    LEASE_MS,
    REATTACH_GRACE_MS,
    TASKS_KEPT_MAX,
    TICKET_WAIT_MS,
)


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a broker.

    Attributes:
        open: instances need no ticket (tests, benchmarks): the same uid is enough.
        lease_ms: a turn from which nothing is heard for so long has lost its lease.
        heartbeat_ms: how often an instance is asked to say that its turn runs.
        reattach_ms: after a restart of the broker instances have so long to come back.
        exit_wait_ms: after a closed socket ``sutazaid`` has so long to say whose fault it was.
        cancel_grace_ms: an instance told to stop a turn has so long to answer before it is killed.
        ticket_wait_ms: a hello may come so much earlier than its ticket.
        tasks_kept: terminal tasks that are remembered.
    """

    open: bool = False
    lease_ms: int = LEASE_MS
    heartbeat_ms: int = HEARTBEAT_MS
    reattach_ms: int = REATTACH_GRACE_MS
    exit_wait_ms: int = EXIT_WAIT_MS
    cancel_grace_ms: int = CANCEL_GRACE_MS
    ticket_wait_ms: int = TICKET_WAIT_MS
    tasks_kept: int = TASKS_KEPT_MAX
