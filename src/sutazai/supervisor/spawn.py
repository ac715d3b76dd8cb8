"""Why it exists: a process must be inside its limits before its first own instruction.

``fork``; the child blocks on a pipe; the parent puts it into its cgroup and releases it; the child becomes what the
plan says and calls ``exec``. What fails on the way (a missing program, a missing folder, a refused uid) comes back
over a second pipe as text, because an exit status alone tells nobody what to do. If ``sutazaid`` dies in between, the
child reads end-of-file and ends.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sutazai.host import process as host_process

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED_EXIT = 127
#: What ``sutazaid`` itself was given; it raises its own bound (``run``), its children get this one.
DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)
MESSAGE_BYTES_MAX = 1_024
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute, and as whom.

    Attributes:
        argv: program and arguments.
        env: the whole environment, ``SUTAZAI_LISTEN`` is added.
        cwd: working folder.
        log_fd: becomes stdout and stderr.
        listen: listening descriptors by name, handed on.
        uid: user and group id, -1 keeps ours.
        oom_score_adj: of the kernel's choice under memory pressure.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    log_fd: int
    listen: dict[str, list[int]] = field(default_factory=dict)
    uid: int = -1
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process that was released.

    Attributes:
        pid: of the child.
        report_fd: readable when it has called ``exec`` (end-of-file) or failed (the reason); the caller closes it.
    """

    pid: int
    report_fd: int


def spawn(command: Command, place: Callable[[int], None]) -> Spawned:
    """Start a process inside its group.

    Args:
        command: what to run.
        place: puts the blocked child's pid into its cgroup; when it raises, the child ends without having run.

    Raises:
        OSError: no memory or pids for a fork, or ``place`` failed.
        HostError: ``place`` failed.
    """
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    report_read, report_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        pid = os.fork()
        if pid == 0:
            _become(command, (go_read, go_write), report_write)
        os.close(report_write)
        report_write = -1
        place(pid)
        os.write(go_write, b"g")
    except BaseException:
        os.close(report_read)
        raise
    finally:
        for fd in (go_read, go_write, report_write):
            if fd >= 0:
                os.close(fd)
    return Spawned(pid, report_read)


def read_report(fd: int) -> str | None:
    """Read the outcome off a readable report descriptor and close it; None when ``exec`` succeeded, else the reason."""
    try:
        text = os.read(fd, MESSAGE_BYTES_MAX).decode(errors="replace")
    except OSError:
        text = ""
    os.close(fd)
    return text or None


def _become(command: Command, go: tuple[int, int], report_fd: int) -> None:
    """Run in the child; never returns."""
    doing = "wait for its cgroup"
    try:
        os.close(go[1])
        if os.read(go[0], 1) != b"g":
            os._exit(FAILED_EXIT)
        doing = "prepare"
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in _DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        resource.setrlimit(resource.RLIMIT_NOFILE, DESCRIPTORS)
        _descriptors(command)
        host_process.set_oom_score_adj(
            os.getpid(), command.oom_score_adj
        )  # lowering needs a privilege; limits hold anyway
        if command.uid >= 0 and command.uid != os.geteuid():
            doing = f"become uid {command.uid}"
            host_process.drop_privileges(command.uid, command.uid)
        doing = f"enter the folder {command.cwd}"
        os.chdir(command.cwd)
        doing = f"execute {command.argv[0]}"
        env = command.env
        if command.listen:
            env = {**env, "SUTAZAI_LISTEN": json.dumps(command.listen)}
        os.execve(command.argv[0], command.argv, env)  # noqa: S606 no shell is wanted
    except BaseException as error:  # noqa: BLE001 whatever it is, the parent must hear of it
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else repr(error)
        with suppress(OSError):
            os.write(report_fd, f"cannot {doing}: {reason}".encode()[:MESSAGE_BYTES_MAX])
    finally:
        os._exit(FAILED_EXIT)


def _descriptors(command: Command) -> None:
    """Leave stdin on nothing, stdout and stderr on the log, the listening sockets; all else closes with ``exec``."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(command.log_fd, 1)
    os.dup2(command.log_fd, 2)
    for fds in command.listen.values():
        for fd in fds:
            os.set_inheritable(fd, True)  # noqa: FBT003 the call takes no keyword
