"""Why it exists: a pid may be somebody else by now; a descriptor of a process never is. See pidfd_open(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal

from sutazai.host import procfs

_SYS_PIDFD_GETFD = 438  # the same number on all architectures since Linux 5.6


def open_pidfd(who: procfs.Identity | int) -> int | None:
    """Open a descriptor of a living process; it becomes readable when the process ends.

    Args:
        who: a pid, or better an identity: then the start time is checked after opening, so it is that very process.

    Returns:
        None when it is gone, is a zombie, or is another process by now.

    Raises:
        OSError: out of descriptors, or a kernel older than 5.3.
    """
    pid = who if isinstance(who, int) else who.pid
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    found = procfs.identity(pid)
    if found is None or (not isinstance(who, int) and found != who):
        os.close(descriptor)
        return None
    return descriptor


def send_signal(descriptor: int, number: int) -> bool:
    """Send a signal; False when the process is gone."""
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    return True


def has_ended(descriptor: int) -> bool:
    """Whether the process has ended, also while it is a zombie; does not wait."""
    return bool(select.select([descriptor], [], [], 0)[0]) if descriptor < 1024 else _poll_ended(descriptor)  # noqa: PLR2004 select's bound


def _poll_ended(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def get_descriptor(descriptor: int, number: int) -> int:
    """Copy a descriptor out of another process.

    Args:
        descriptor: pidfd of the process.
        number: its descriptor there.

    Returns:
        A new descriptor here, closed on exec.

    Raises:
        OSError: not allowed (needs ptrace rights), no such descriptor, or a kernel older than 5.6.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(_SYS_PIDFD_GETFD, descriptor, number, 0))
    if result < 0:
        code = ctypes.get_errno() or errno.EIO
        raise OSError(code, os.strerror(code))
    return result
