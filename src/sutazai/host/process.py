"""Why it exists: a few levers of a process that Python's standard library has no call for. See prctl(2).

Order for a forked instance: drop the uid **first**, then set the parent-death signal: changing the uid clears it.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from sutazai.errors import HostError

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_NAME_BYTES_MAX = 15

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int | ctypes.c_char_p | ctypes.c_void_p) -> int:
    argument = ctypes.c_ulong(value) if isinstance(value, int) else value
    zero = ctypes.c_ulong(0)
    result = int(_libc.prctl(ctypes.c_int(option), argument, zero, zero, zero))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")
    return result


def set_child_subreaper(*, on: bool = True) -> None:
    """Become the parent of orphaned descendants. Survives exec, is not inherited by fork."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(on))


def is_child_subreaper() -> bool:
    """Whether orphaned descendants become our children."""
    value = ctypes.c_int(0)
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.cast(ctypes.byref(value), ctypes.c_void_p))
    return bool(value.value)


def set_pdeathsig(number: int) -> None:
    """Ask for a signal when the parent ends; 0 switches it off.

    Cleared by a change of uid and not inherited by fork. Check the parent afterwards: it may have ended before.
    """
    _prctl(_PR_SET_PDEATHSIG, number)


def set_no_new_privs() -> None:
    """Give up for ever that exec grants more rights (setuid programs, file capabilities); children inherit it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def has_no_new_privs() -> bool:
    """Whether exec can no longer grant more rights."""
    return _prctl(_PR_GET_NO_NEW_PRIVS, 0) == 1


def set_dumpable(*, on: bool) -> None:
    """Allow or forbid that others of our uid look into this process (ptrace, ``/proc/<pid>/mem``)."""
    _prctl(_PR_SET_DUMPABLE, int(on))


def set_name(name: str) -> None:
    """Set the short name that ps and top show; the kernel keeps 15 bytes."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:_NAME_BYTES_MAX]))


def drop_privileges(uid: int, gid: int) -> None:
    """Become an unprivileged user for ever: no groups, that gid, that uid (real, effective, saved), no new rights.

    Raises:
        HostError: the uid could be changed back, or is root's.
        OSError: not allowed.
    """
    if uid <= 0 or gid <= 0:
        raise HostError(f"uid {uid} and gid {gid} are no unprivileged user")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    set_no_new_privs()
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise HostError(f"uid {uid} was set only in part; this process must not go on")


def set_oom_score_adj(pid: int, score: int, proc: Path = Path("/proc")) -> bool:
    """Tell the kernel which process to kill first when the machine is out of memory.

    Args:
        pid: the process.
        score: -1000 (never) to 1000 (first). Lowering it needs CAP_SYS_RESOURCE.
        proc: where procfs is.

    Returns:
        False when it is gone or not allowed.
    """
    try:
        (proc / str(pid) / "oom_score_adj").write_text(str(max(-1000, min(1000, score))))
    except OSError:
        return False
    return True
