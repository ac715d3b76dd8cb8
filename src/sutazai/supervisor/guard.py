"""Why it exists: something must outlive ``sutazaid``, and it must be too small to fail.

The guard is the parent of ``sutazaid``. It restarts it with backoff when it ends abnormally, keeps its listening
sockets meanwhile (``fds``), inherits and reaps its orphans, and tells the next ``sutazaid`` how they ended. It knows
nothing about plans, stages or cgroups.

It runs as a script (``python -I -S guard.py PLAN PID_FILE LOCK_FD ANNOUNCE_FD [KEPT]``) and imports next to nothing:
3 MB. A guard that had ``sutazaid``'s modules would cost 10 MB, because reference counts unshare what a fork shares
(measured). A ``sutazaid`` whose guard was killed becomes the guard itself, by this script and with its own sockets
(``KEPT``): what it had started stays its child, and the ``sutazaid`` that it starts adopts all of it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

if __name__ == "__main__":  # isolated and without site: nothing but the standard library and this tree is found
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120 pathlib costs half a megabyte

from sutazai.supervisor import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

BACKOFF_FIRST_S = 0.05
BACKOFF_CAP_S = 5.0
STEADY_S = 30.0
STATUSES_MAX = 1_000
#: What asks for the fleet's end; blocked while a ``sutazaid`` becomes the guard.
ENDS = (signal.SIGTERM, signal.SIGINT)
INTERNAL_EXIT = 70


class Guard:
    """Keeps one ``sutazaid`` running until it ends by itself with 0."""

    def __init__(self, plan_path: str, pid_file: str, fds_given: tuple[int, int], kept: dict[str, int]) -> None:
        self._plan_path = plan_path
        self._pid_file = pid_file
        self._lock_fd, self._announce_fd = fds_given
        self._store = kept
        self._statuses: list[tuple[int, int]] = []
        self._pid = 0
        self._exit_code: int | None = None
        self._was_up = bool(kept)
        self._is_to_end = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._channel: socket.socket | None = None

    def run(self) -> int:
        """Start ``sutazaid`` again and again; returns the code to exit with."""
        write_pid_file(self._pid_file)
        delay_s = BACKOFF_FIRST_S
        while True:
            started_s = time.monotonic()
            self._spawn()
            self._serve(until_s=None)
            code = self._exit_code
            if code == 0 or not self._was_up:
                break
            delay_s = BACKOFF_FIRST_S if time.monotonic() - started_s > STEADY_S else delay_s
            say(f"the guard starts sutazaid again in {delay_s:.2f} s: it ended with {code}")
            self._serve(until_s=time.monotonic() + delay_s)
            delay_s = min(BACKOFF_CAP_S, delay_s * 2)
        try:
            os.unlink(self._pid_file)  # noqa: PTH108 pathlib costs half a megabyte
            os.rmdir(os.path.dirname(self._pid_file))  # noqa: PTH106, PTH120 the same
        except OSError:
            say("the folder of sockets is not empty")
        return INTERNAL_EXIT if code is None or code < 0 else code

    def _spawn(self) -> None:
        if self._channel is not None:
            self._channel.close()
        mine, theirs = fds.channel()
        pid = os.fork()
        if pid == 0:
            mine.close()
            self._become_sutazaid(theirs)
        theirs.close()
        if self._announce_fd >= 0:
            os.close(self._announce_fd)
            self._announce_fd = -1
        self._channel, self._pid, self._exit_code = mine, pid, None
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in ENDS:
            signal.signal(number, lambda *_: self._pass_on())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for orphan, status in self._statuses:
            fds.send(mine, "reaped", orphan, status)
        self._statuses.clear()

    def _become_sutazaid(self, theirs: socket.socket) -> None:
        """Run in the child; never returns."""
        code = INTERNAL_EXIT
        try:
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
            os.close(self._wake_read)
            os.close(self._wake_write)
            from sutazai.supervisor.run import run

            code = run(self._plan_path, theirs, self._store, (self._lock_fd, self._announce_fd))
        except BaseException:  # noqa: BLE001 it must end here, whatever it was
            import traceback

            say(traceback.format_exc())
        finally:
            os._exit(code)

    def _pass_on(self) -> None:
        """Let ``sutazaid`` end the fleet; one that is not up yet is told again when it is."""
        self._is_to_end = True
        if self._exit_code is None:
            try:
                os.kill(self._pid, signal.SIGTERM)
            except ProcessLookupError:
                return

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
                    os.read(self._wake_read, 4_096)
                elif not self._take():
                    poll.unregister(fd)

    def _drain_channel(self) -> None:
        if self._channel is not None:
            self._channel.settimeout(0)
            while self._take():
                pass

    def _take(self) -> bool:
        """Take one packet; False when there is none."""
        packet = fds.receive(self._channel) if self._channel is not None else None
        if packet is None or not packet[0]:
            return False
        words, fd = packet
        if words[0] in {"put", "drop"}:
            if (old := self._store.pop(words[1], -1)) >= 0:
                os.close(old)
            if words[0] == "put" and fd >= 0:
                self._store[words[1]] = fd
        if words[0] == "up":
            self._was_up = True
            if self._is_to_end:
                self._pass_on()
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
                fds.send(self._channel, "reaped", pid, status)
            else:
                self._statuses.append((pid, status))
                del self._statuses[:-STATUSES_MAX]


def write_pid_file(path: str) -> None:
    """Write pid and start time (clock ticks after boot): together they name one process for ever."""
    with open("/proc/self/stat") as stat:  # noqa: PTH123 pathlib costs half a megabyte
        ticks = stat.read().rpartition(")")[2].split()[19]
    with open(f"{path}.new", "w") as file:  # noqa: PTH123 the same
        file.write(f"{os.getpid()} {ticks}\n")
    os.replace(f"{path}.new", path)  # noqa: PTH105 the same


def say(text: str) -> None:
    """Write one line in the form of ``journal``, without its imports."""
    text = text.strip().replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", " ")
    line = f'{{"at_wall_ms": {time.time_ns() // 1_000_000}, "level": "warning", "text": "{text}"}}\n'
    try:
        os.write(2, line.encode())
    except OSError:
        return


def main(arguments: list[str]) -> int:
    """Run the guard; ``__main__`` has checked the plan, made the folders and taken the lock."""
    plan_path, pid_file, lock_fd, announce_fd = arguments[:4]
    kept = fds.read_kept(arguments[4]) if arguments[4:] else {}
    for fd in (int(lock_fd), int(announce_fd), *kept.values()):
        if fd >= 0:
            os.set_inheritable(fd, False)  # noqa: FBT003 the call takes no keyword
    with open("/proc/self/comm", "w") as name:  # noqa: PTH123 pathlib costs half a megabyte
        name.write("sutazaid-guard")
    return Guard(plan_path, pid_file, (int(lock_fd), int(announce_fd)), kept).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
