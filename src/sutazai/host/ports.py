"""Why it exists: "address already in use" names nobody; a user wants to know who holds the port.

Sources: ``/proc/net/tcp`` and ``tcp6`` (state 0A is LISTEN) for ports and their inodes, ``/proc/<pid>/fd`` for holders.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sutazai.errors import HostError, PortTakenError
from sutazai.host import procfs

BACKLOG = 512
EPHEMERAL_DEFAULT = (32_768, 60_999)
_LISTEN = "0A"
_UNKNOWN = "an unknown process"


class Holder(NamedTuple):
    """Who listens on a port.

    Attributes:
        pid: 0 when the kernel does not let us see it.
        name: short name of the process; empty when unknown.
    """

    pid: int
    name: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name})" if self.pid else _UNKNOWN


def _inodes(proc: Path) -> dict[int, int]:
    """Read listening ports by socket inode."""
    found = {}
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN:  # noqa: PLR2004 columns of the format
                found[int(fields[9])] = int(fields[1].rpartition(":")[2], 16)
    return found


def listening(proc: Path = Path("/proc")) -> dict[int, Holder]:
    """List the TCP ports that somebody listens on; costs a look at every descriptor that we may see."""
    inodes = _inodes(proc)
    found = dict.fromkeys(inodes.values(), Holder(0, ""))
    unseen = {f"socket:[{inode}]": port for inode, port in inodes.items()}
    for pid in procfs.pids(proc):
        if not unseen:
            break
        for link in _links(proc / str(pid) / "fd"):
            port = unseen.pop(link, None)
            if port is not None:
                found[port] = Holder(pid, procfs.name(pid, proc))
    return found


def _links(folder: Path) -> list[str]:
    """What a process' descriptors are; those that close meanwhile are left out, and all of a foreign process."""
    found: list[str] = []
    try:
        entries = list(folder.iterdir())
    except OSError:
        return found
    for entry in entries:
        with suppress(OSError):
            found.append(str(entry.readlink()))
    return found


def ephemeral_range(proc: Path = Path("/proc")) -> tuple[int, int]:
    """Ports that the kernel gives to outgoing connections, first and last; a listener among them may be taken."""
    try:
        first, last = (proc / "sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(first), int(last)
    except (OSError, ValueError):
        return EPHEMERAL_DEFAULT


def bind_listen(host: str, port: int, *, backlog: int = BACKLOG) -> socket.socket:
    """Bind and listen on a TCP port; it can be taken again at once after its holder has ended.

    Args:
        host: IPv4 or IPv6 address.
        port: 0 lets the kernel choose.
        backlog: connections that wait while nobody accepts.

    Raises:
        PortTakenError: somebody listens there; the error names the process.
        HostError: the address is not ours, or the port needs root.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(port, str(listening().get(port, _UNKNOWN))) from error
        raise HostError(f"cannot listen on {host}:{port}: {os.strerror(error.errno or errno.EIO)}") from error
    return listener
