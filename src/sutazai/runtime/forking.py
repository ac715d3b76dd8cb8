"""Why it exists: a fork that is safe (one thread), whose child is ``sutazaid``'s and not ours, and that is ready ahead.

A fork costs some milliseconds, twice because of the process in the middle; a move into a cgroup costs more. So a worker
keeps **spares**: children that were forked when nothing was to do, have taken their copies of the pages that every
instance writes to, stand in a group already, and wait for their order. Without a spare, or with a dead one, the worker
forks at once; nothing else depends on them.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import select
import socket
import struct
import sys
import traceback
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from sutazai.errors import HostError
from sutazai.runtime import kernel
from sutazai.runtime.instance import Fleet, Order, live
from sutazai.runtime.rehearsal import rehearse
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


class Spares:
    """Children that wait for their order, by process id.

    ``sutazaid`` is told of each, and places it into a group of its own if it wants one there; until it has answered,
    the spare is kept for it. One that it does not want serves the next order that names none.

    Args:
        fleet: shared facts.
        name: of the worker.
        closing: closes in the child what only the worker may hold.
    """

    def __init__(self, fleet: Fleet, name: str, closing: Callable[[], None]) -> None:
        self._fleet, self._name, self._closing = fleet, name, closing
        self._sockets: dict[int, socket.socket] = {}
        self.free: set[int] = set()

    def prepare(self) -> int:
        """Fork a spare.

        Returns:
            Its process id; 0 where that is not possible.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = 0
        try:
            pid = fork_twice(lambda: self._wait(ours, theirs))
            self._sockets[pid] = ours
        except (HostError, OSError):
            ours.close()
        finally:
            theirs.close()
        return pid

    def forget_dead(self) -> list[int]:
        """Forget those that have ended; gives the others' process ids."""
        for pid, spare in list(self._sockets.items()):
            if select.select([spare], [], [], 0)[0]:  # it never writes: this is its end
                self._take(pid)
        return list(self._sockets)

    def hand_out(self, order: Order, pid: int = 0) -> int:
        """Give an order to a spare, or fork a process for it.

        Args:
            order: what to become.
            pid: of the spare that the order is meant for, already in its group; 0 leaves the choice.

        Returns:
            The process's id.

        Raises:
            HostError: the spare is gone, or this process has more than one thread.
            OSError: the kernel refuses.
        """
        if pid:
            if not self._give(order, pid):
                raise HostError(f"the spare {pid} is gone")
            return pid
        while self.free:
            pid = self.free.pop()
            if self._give(order, pid):
                return pid
        return fork_twice(lambda: live(order, self._fleet))

    def _give(self, order: Order, pid: int) -> bool:
        spare = self._take(pid)
        data = _write(order)
        if spare is None or len(data) > _ORDER_BYTES_MAX:
            return False
        with spare, contextlib.suppress(OSError):  # it was killed
            spare.sendmsg([data], _rights(order.pipe))
            return True
        return False

    def _take(self, pid: int) -> socket.socket | None:
        self.free.discard(pid)
        return self._sockets.pop(pid, None)

    def _wait(self, ours: socket.socket, theirs: socket.socket) -> int:
        """Wait for an order in the child; end-of-file means that the worker is gone."""
        ours.close()
        for other in self._sockets.values():
            other.close()
        self._closing()
        kernel.set_name(f"{self._name} spare")
        kernel.set_command_line(f"sutazai: spare of {self._name}")
        rehearse()
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
