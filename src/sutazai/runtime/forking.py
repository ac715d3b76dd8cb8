"""Why it exists: a fork that is safe (one thread), whose child is ``sutazaid``'s and not ours, and that is ready ahead.

A fork costs some milliseconds, twice because of the process in the middle. So a worker keeps one **spare**: a child
that was forked when nothing was to do and waits for its order. It holds about 1 MB. Without a spare, or with a dead
one, the worker forks at once; nothing else depends on it.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import socket
import struct
import sys
import traceback
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from sutazai.errors import HostError
from sutazai.runtime import kernel
from sutazai.runtime.instance import Fleet, Order, live
from sutazai.wire.planfacts import AgentFacts

if TYPE_CHECKING:
    from collections.abc import Callable

_PID = struct.Struct("i")
_ORDER_BYTES_MAX = 1 << 20


class TooManyThreadsError(HostError):
    """A process with more than one thread must not fork: the other threads' locks would stay locked in the child."""

    code = "too-many-threads"


def fork_twice(child: Callable[[], int]) -> int:
    """Fork a process that is not our child but our parent's (or the next subreaper's).

    Args:
        child: runs in it; gives its exit code.

    Returns:
        The new process's id.

    Raises:
        TooManyThreadsError: this process has more than one thread.
        OSError: the kernel refuses.
    """
    if (threads := kernel.thread_count()) != 1:
        raise TooManyThreadsError(f"a zygote with {threads} threads does not fork; a pre-loaded module started one")
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        _middle(child, reader, writer)
    os.close(writer)
    try:
        data = os.read(reader, _PID.size)
    finally:
        os.close(reader)
        os.waitpid(middle, 0)
    if len(data) != _PID.size:
        raise OSError("the fork did not succeed: no process or no memory left")
    return int(_PID.unpack(data)[0])


def _middle(child: Callable[[], int], reader: int, writer: int) -> None:
    try:
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            os.close(writer)
            _run(child)
        os.write(writer, _PID.pack(pid))
    finally:
        os._exit(0)


def _run(child: Callable[[], int]) -> None:
    code = 70
    try:
        code = child()
    except BaseException:  # noqa: BLE001 nothing may climb back into the zygote's own loop
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def settle() -> None:
    """Keep the garbage collector off the pages that children will share."""
    gc.disable()
    gc.collect()
    gc.freeze()


class Spare:
    """At most one child that waits for its order.

    Args:
        fleet: shared facts.
        name: of the worker.
        closing: closes in the child what only the worker may hold.
    """

    def __init__(self, fleet: Fleet, name: str, closing: Callable[[], None]) -> None:
        self._fleet, self._name, self._closing = fleet, name, closing
        self._socket: socket.socket | None = None
        self._pid = 0

    def prepare(self) -> None:
        """Fork a spare unless there is one; where that is not possible, there is none."""
        if self._socket is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pid = fork_twice(lambda: self._wait(ours, theirs))
        except (HostError, OSError):
            ours.close()
        else:
            self._socket = ours
        finally:
            theirs.close()

    def hand_out(self, order: Order) -> int:
        """Give an order to the spare, or fork a process for it.

        Returns:
            The process's id.

        Raises:
            TooManyThreadsError: this process has more than one thread.
            OSError: the kernel refuses.
        """
        spare, self._socket = self._socket, None
        if spare is not None:
            with spare, contextlib.suppress(OSError):  # it was killed: fork another
                data = _write(order)
                if len(data) <= _ORDER_BYTES_MAX:
                    spare.sendmsg([data], _rights(order.pipe))
                    return self._pid
        return fork_twice(lambda: live(order, self._fleet))

    def _wait(self, ours: socket.socket, theirs: socket.socket) -> int:
        """Wait for an order in the child; end-of-file means that the worker is gone."""
        ours.close()
        self._closing()
        kernel.set_name(f"{self._name} spare")
        kernel.set_command_line(f"sutazai: spare of {self._name}")
        room = socket.CMSG_SPACE(array.array("i").itemsize)
        data, ancillary, _, _ = theirs.recvmsg(_ORDER_BYTES_MAX, room, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return 0
        pipe = -1
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                pipe = array.array("i", payload)[0]
        return live(_read(data, pipe), self._fleet)


def _rights(pipe: int) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pipe]))] if pipe >= 0 else []


def _write(order: Order) -> bytes:
    facts = replace(order.facts, skills=[])  # the agent's code says it again
    return json.dumps({**asdict(replace(order, facts=facts)), "pipe": -1}).encode()


def _read(data: bytes, pipe: int) -> Order:
    entry = json.loads(data)
    return Order(AgentFacts(**entry["facts"]), entry["ticket"], entry["token"], entry["uid"], pipe)
