"""Why it exists: something must outlive ``sutazaid``, and it must be too small to fail.

The guard is the parent of ``sutazaid``. It forks it (so that both share their pages), restarts it with backoff when it
ends abnormally, keeps its listening sockets meanwhile (``fds``), inherits and reaps its orphans, and tells the next
``sutazaid`` how they ended. It knows nothing about plans, stages or cgroups.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sutazai.supervisor import fds
from sutazai.supervisor.journal import say

EXIT_REFUSED = 78
BACKOFF_FIRST_S = 0.05
BACKOFF_CAP_S = 5.0
STEADY_S = 30.0

#: Runs ``sutazaid`` in the forked process: (its end of the channel, inherited sockets by name) → exit code.
Child = Callable[[socket.socket, dict[str, int]], int]


def start_ticks(pid: int) -> int:
    """Read when a process started, clock ticks after boot: with the pid it names one process for ever."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat[stat.rindex(")") + 2 :].split()[19])


class Guard:
    """Keeps one ``sutazaid`` running until it ends by itself with 0."""

    def __init__(self, pid_file: Path, child: Child, after_fork: Callable[[], None]) -> None:
        self._pid_file = pid_file
        self._child = child
        self._after_fork = after_fork
        self._store: dict[str, int] = {}
        self._statuses: list[tuple[int, int]] = []
        self._pid = 0
        self._exit_code: int | None = None
        self._was_up = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._channel: socket.socket | None = None

    def run(self) -> int:
        """Start ``sutazaid`` again and again; returns the code to exit with."""
        self._pid_file.write_text(f"{os.getpid()} {start_ticks(os.getpid())}")
        delay_s = BACKOFF_FIRST_S
        while True:
            started_s = time.monotonic()
            self._spawn()
            self._serve(until_s=None)
            code = self._exit_code
            if code == 0 or not self._was_up:
                break
            delay_s = BACKOFF_FIRST_S if time.monotonic() - started_s > STEADY_S else delay_s
            say(f"guard: sutazaid ended with {code}; starting it again in {delay_s:.2f} s")
            self._serve(until_s=time.monotonic() + delay_s)
            delay_s = min(BACKOFF_CAP_S, delay_s * 2)
        self._pid_file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._pid_file.parent.rmdir()
        return 1 if code is None or code < 0 else code

    def _spawn(self) -> None:
        if self._channel is not None:
            self._channel.close()
        mine, theirs = fds.channel()
        pid = os.fork()
        if pid == 0:
            mine.close()
            code = 70
            try:
                signal.set_wakeup_fd(-1)
                os.close(self._wake_read)
                os.close(self._wake_write)
                code = self._child(theirs, self._store)
            finally:
                sys.stderr.flush()
                os._exit(code)
        theirs.close()
        self._after_fork()
        self._channel, self._pid, self._exit_code = mine, pid, None
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._pass_on())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for orphan, status in self._statuses:
            fds.send(mine, {"reaped": orphan, "status": status})
        self._statuses.clear()

    def _pass_on(self) -> None:
        if self._exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def _serve(self, until_s: float | None) -> None:
        """Reap and keep sockets until ``sutazaid`` has ended, or until a time."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if self._channel is not None and until_s is None:
            poll.register(self._channel, select.POLLIN)
        while True:
            self._reap()
            if until_s is None and self._exit_code is not None:
                self._drain_channel()
                return
            wait_ms = None if until_s is None else max(0, int((until_s - time.monotonic()) * 1_000))
            if until_s is not None and wait_ms == 0:
                return
            for fd, _event in poll.poll(wait_ms):
                if fd == self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 4_096)
                elif not self._take():
                    poll.unregister(fd)

    def _drain_channel(self) -> None:
        if self._channel is not None:
            self._channel.settimeout(0)
            while self._take(stop_when_empty=True):
                pass

    def _take(self, *, stop_when_empty: bool = False) -> bool:
        packet = fds.receive(self._channel) if self._channel is not None else None
        if packet is None or (stop_when_empty and not packet[0]):
            return False
        message, fd = packet
        if name := message.get("put") or message.get("drop"):
            if (old := self._store.pop(name, -1)) >= 0:
                os.close(old)
            if "put" in message and fd >= 0:
                self._store[name] = fd
        self._was_up = self._was_up or bool(message.get("up"))
        return True

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                self._exit_code = os.waitstatus_to_exitcode(status)
            elif self._exit_code is None and self._channel is not None:
                fds.send(self._channel, {"reaped": pid, "status": status})
            else:
                self._statuses.append((pid, status))
                del self._statuses[:-1_000]
