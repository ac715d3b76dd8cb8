"""Why it exists: a forked instance needs a few levers of the Linux kernel that Python's standard library lacks.

Everything here is loaded and its symbols looked up before the first fork, so that a child pays nothing for it. On
another system the levers do nothing and say so by their result.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_CHILD_SUBREAPER = 36
_NAME_BYTES_MAX = 15
_CAPABILITY_VERSION_3 = 0x20080522
CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_FOWNER = 3
CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_M_ARENA_MAX = -8
_M_TRIM_THRESHOLD = -1

_libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL: these calls are short, so they keep the interpreter's lock


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


def _prctl(option: int, value: int | bytes) -> bool:
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    zero = ctypes.c_ulong(0)
    return bool(_libc.prctl(option, argument, zero, zero, zero) == 0)


def set_parent_death_signal(number: int) -> bool:
    """Ask for a signal when the parent ends. The kernel forgets it when the user id changes: call it after that."""
    return _prctl(_PR_SET_PDEATHSIG, number)


def set_no_new_privileges() -> bool:
    """Give up for ever the right to gain rights by starting a program."""
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_child_subreaper() -> bool:
    """Become the parent of orphans below this process."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> bool:
    """Set the name that ``top`` shows; cut to 15 bytes."""
    return _prctl(_PR_SET_NAME, name.encode()[:_NAME_BYTES_MAX])


def set_command_line(text: str) -> bool:
    """Overwrite the command line that ``ps`` shows, as far as the old one reaches."""
    try:
        stat = Path("/proc/self/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        start, end = int(fields[45]), int(fields[46])
    except (OSError, ValueError, IndexError):
        return False
    room = end - start
    if start == 0 or room <= 1:
        return False
    ctypes.memset(start, 0, room)
    data = text.encode()[: room - 1]
    ctypes.memmove(start, data, len(data))
    return True


def keep_capabilities(numbers: tuple[int, ...]) -> bool:
    """Keep only these rights of root, in this process and what it forks.

    Returns:
        Whether it was done; without root there is nothing to give up.
    """
    mask = sum(1 << number for number in numbers)
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    if _libc.capget(ctypes.byref(header), data) != 0:
        return False
    for index, word in enumerate(data):
        part = (mask >> (32 * index)) & 0xFFFFFFFF
        word.permitted &= part
        word.effective = word.permitted
        word.inheritable = 0
    return bool(_libc.capset(ctypes.byref(header), data) == 0)


def use_one_arena() -> None:
    """Let all threads allocate from one heap: an instance has two threads and must stay small."""
    _libc.mallopt(_M_ARENA_MAX, 1)
    _libc.mallopt(_M_TRIM_THRESHOLD, 256 * 1024)


def thread_count() -> int:
    """Count this process's threads."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 one call, on the path of every wake


class Timer:
    """A one-shot timer that is a descriptor: it becomes readable when its time is over, whatever the threads do."""

    def __init__(self) -> None:
        self.descriptor: int = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _TimerSpec()
        self._pointer = ctypes.byref(self._spec)

    def start(self, milliseconds: int) -> None:
        """Become readable once, after so many milliseconds."""
        self._spec.value.seconds, rest = divmod(milliseconds, 1_000)
        self._spec.value.nanoseconds = rest * 1_000_000
        _libc.timerfd_settime(self.descriptor, 0, self._pointer, None)

    def stop(self) -> None:
        """Do not become readable."""
        self._spec.value.seconds = self._spec.value.nanoseconds = 0
        _libc.timerfd_settime(self.descriptor, 0, self._pointer, None)

    def clear(self) -> None:
        """Take note that it was readable."""
        try:
            os.read(self.descriptor, 8)
        except BlockingIOError:
            return


def start_ticks(pid: int) -> int:
    """Read when a process started, clock ticks after boot: with the pid it names one process for ever.

    Returns:
        0 when there is no such process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
    except (OSError, ValueError):
        return 0
    return 0 if fields[0] in {"Z", "X"} else int(fields[19])


def guard_lives(pid_file: Path) -> bool | None:
    """Tell whether the process that keeps the fleet alive is there.

    Args:
        pid_file: ``guard.pid`` in the fleet's run folder: its pid and start time.

    Returns:
        ``None`` when there is no such file or it cannot be read: nobody can tell.
    """
    try:
        words = pid_file.read_text().split()
        pid, ticks = int(words[0]), int(words[1]) if len(words) > 1 else 0
    except (OSError, ValueError, IndexError):
        return None
    now = start_ticks(pid)
    return now != 0 and ticks in {0, now}
