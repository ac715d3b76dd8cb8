"""Why it exists: listening sockets must outlive ``sutazaid``, so the guard keeps a copy of each.

The same idea as systemd's file descriptor store: ``sutazaid`` sends a new listening socket with its name to its
guard; the guard's next ``sutazaid`` inherits all of them by the fork. A connection that arrives while ``sutazaid`` or
the gateway is down waits in the backlog and is served later. The channel is a ``SOCK_SEQPACKET`` pair; a packet is
words: ``put NAME`` (with the descriptor), ``drop NAME``, ``up``, and from the guard ``reaped PID STATUS``.

Imports next to nothing: the guard has to stay small.
"""

from __future__ import annotations

import os
import socket

PACKET_BYTES_MAX = 4_096
SEND_TIMEOUT_S = 1.0


def channel() -> tuple[socket.socket, socket.socket]:
    """Make the pair: the guard's end, ``sutazaid``'s end."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(channel_end: socket.socket, *words: str | int, fd: int = -1) -> bool:
    """Send one packet, with a descriptor if one is given; False when the other side is gone."""
    try:
        socket.send_fds(channel_end, [" ".join(map(str, words)).encode()], [fd] if fd >= 0 else [])
    except OSError:
        return False
    return True


def receive(channel_end: socket.socket) -> tuple[list[str], int] | None:
    """Take one packet and its descriptor (-1 for none) off a readable channel.

    Returns:
        Its words, empty when there is no packet now; None at the channel's end.
    """
    try:
        data, fds, _flags, _address = socket.recv_fds(channel_end, PACKET_BYTES_MAX, 1)
    except BlockingIOError:
        return [], -1
    except OSError:
        return None
    if not data:
        return None
    fd = fds[0] if fds else -1
    if fd >= 0:
        os.set_inheritable(fd, False)  # noqa: FBT003 the call takes no keyword
    return data.decode().split(" "), fd


def write_kept(sockets: dict[str, int]) -> str:
    """Write names and descriptors as one argument of a program."""
    return "\n".join(f"{fd} {name}" for name, fd in sockets.items())


def read_kept(text: str) -> dict[str, int]:
    """Read what ``write_kept`` wrote."""
    lines = [line.partition(" ") for line in text.split("\n") if line]
    return {name: int(fd) for fd, _, name in lines}


class FdStore:
    """``sutazaid``'s side: listening sockets by name, each with a copy at the guard."""

    def __init__(self, channel_end: socket.socket | None, inherited: dict[str, int]) -> None:
        self._channel = channel_end
        self._sockets: dict[str, socket.socket] = {}
        for name, fd in inherited.items():
            self._sockets[name] = socket.socket(fileno=fd)
        if channel_end is not None:
            channel_end.settimeout(SEND_TIMEOUT_S)

    @property
    def channel(self) -> socket.socket | None:
        """To the guard; None when there is none."""
        return self._channel

    def get(self, name: str) -> socket.socket | None:
        """Find a socket that an earlier ``sutazaid`` or this one has put."""
        return self._sockets.get(name)

    def names(self) -> list[str]:
        """Names of all sockets kept."""
        return sorted(self._sockets)

    def put(self, name: str, listening: socket.socket) -> None:
        """Keep a socket, here and at the guard."""
        self._sockets[name] = listening
        if self._channel is not None:
            send(self._channel, "put", name, fd=listening.fileno())

    def drop(self, name: str) -> None:
        """Close a socket, here and at the guard."""
        if (listening := self._sockets.pop(name, None)) is not None:
            listening.close()
        if self._channel is not None:
            send(self._channel, "drop", name)

    def announce(self) -> None:
        """Tell the guard that start-up is over: from now on an abnormal end is repaired by a restart."""
        if self._channel is not None:
            send(self._channel, "up")

    def inheritable(self, *, on: bool = True) -> dict[str, int]:
        """Let the next program in this process have all sockets, or not; gives their descriptors by name."""
        for listening in self._sockets.values():
            listening.set_inheritable(on)
        return {name: listening.fileno() for name, listening in self._sockets.items()}

    def unguarded(self) -> None:
        """The guard is gone: keep the sockets here only."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
