"""Why it exists: every process of the fleet is waited for, also one that an earlier ``sutazaid`` started.

Own children are reaped on SIGCHLD; orphans arrive here because ``sutazaid`` is a subreaper. A re-adopted process is
the guard's child: its end is seen by its pidfd, and the guard tells its status. A pidfd is held from the moment a
process is watched, so a reused pid is never taken for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.supervisor.loop import READ, Loop

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS_WAIT_MS = 200
REMEMBERED_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended.

    Attributes:
        status: exit status, or minus the signal's number; None when nobody could learn it.
    """

    status: int | None

    def words(self) -> str:
        """Say it for a person."""
        if self.status is None:
            return "ended (status unknown)"
        if self.status >= 0:
            return f"exit status {self.status}"
        try:
            return f"killed by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"killed by signal {-self.status}"


class Reaper:
    """Calls back when a watched process has ended, and leaves no zombie."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._watched: dict[int, tuple[int, Callable[[Exit], None]]] = {}
        self._told: dict[int, int] = {}
        loop.on_signal(signal.SIGCHLD, self.reap)

    def watch(self, pid: int, on_exit: Callable[[Exit], None]) -> None:
        """Call back once when ``pid`` has ended; a process that is already gone is reported soon."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            status = self._told.pop(pid, None)
            self._loop.after(0, lambda: on_exit(Exit(status)))
            return
        self._watched[pid] = (pidfd, on_exit)
        self._loop.watch(pidfd, READ, lambda _events: self._on_pidfd(pid))

    def forget(self, pid: int) -> None:
        """Watch a process no longer; its end is remembered for who watches it next."""
        if (watched := self._watched.pop(pid, None)) is not None:
            self._loop.unwatch(watched[0])
            os.close(watched[0])

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a watched process; harmless when it is gone."""
        if (watched := self._watched.get(pid)) is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(watched[0], number)

    def reap(self) -> None:
        """Collect all ended children."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def told(self, pid: int, wait_status: int) -> None:
        """The guard has reaped a process that it inherited."""
        self._ended(pid, os.waitstatus_to_exitcode(wait_status))

    def _on_pidfd(self, pid: int) -> None:
        self.reap()
        if pid in self._watched:  # not our child: the guard will tell; if it is gone, nobody can
            pidfd = self._watched[pid][0]
            self._loop.unwatch(pidfd)
            self._loop.after(STATUS_WAIT_MS, lambda: self._give_up(pid, pidfd))

    def _give_up(self, pid: int, pidfd: int) -> None:
        if pid in self._watched and self._watched[pid][0] == pidfd:
            self._ended(pid, None)

    def _remember(self, pid: int, status: int | None) -> None:
        """Keep the end of a process that may be watched in a moment: it was forked by a worker and died at once."""
        if status is not None:
            self._told[pid] = status
            while len(self._told) > REMEMBERED_MAX:
                del self._told[next(iter(self._told))]

    def _ended(self, pid: int, status: int | None) -> None:
        watched = self._watched.pop(pid, None)
        if watched is None:
            self._remember(pid, status)
            return
        pidfd, on_exit = watched
        self._loop.unwatch(pidfd)
        os.close(pidfd)
        on_exit(Exit(status))
