"""Why it exists: ``sutazaid`` holds every listening socket of the fleet, so that no restart of a child closes a port.

A socket is bound once, kept at the guard too, and handed to each new child. A taken port is a condition that names
the holder; the process waits and tries again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.errors import HostError
from sutazai.host import ports
from sutazai.host.pidfd import get_descriptor, open_pidfd
from sutazai.supervisor.journal import say

if TYPE_CHECKING:
    from sutazai.supervisor.contract import Listen, Process
    from sutazai.supervisor.fds import FdStore

BACKLOG = 512


class Listeners:
    """Binds, keeps and hands on listening sockets."""

    def __init__(self, store: FdStore) -> None:
        self._store = store

    def obtain(self, process: Process) -> dict[str, list[int]]:
        """Bind what is not bound yet.

        Returns:
            Descriptors by the name that the process knows.

        Raises:
            PortTakenError: somebody else holds a port.
            HostError: an address cannot be bound.
        """
        found: dict[str, list[int]] = {}
        for listen in process.listen:
            key = key_of(listen)
            listening = self._store.get(key)
            if listening is None:
                listening = bind(listen)
                self._store.put(key, listening)
            found.setdefault(listen.name, []).append(listening.fileno())
        return found

    def recover(self, process: Process, pid: int) -> None:
        """Copy sockets that nobody keeps any more out of the living process that was handed them.

        Needed when guard and ``sutazaid`` died together. What cannot be had is bound anew at the next restart.
        """
        wanted = {key_of(listen) for listen in process.listen} - set(self._store.names())
        pidfd = open_pidfd(pid) if wanted else None
        if pidfd is None:
            return
        try:
            for entry in list(Path(f"/proc/{pid}/fd").iterdir()):
                if wanted and str(entry.readlink()).startswith("socket:"):
                    copy = socket.socket(fileno=get_descriptor(pidfd, int(entry.name)))
                    key = _key_of_socket(copy)
                    if key in wanted:
                        wanted.discard(key)
                        self._store.put(key, copy)
                    else:
                        copy.close()
        except OSError as error:
            say(f"cannot take the sockets of {process.name} back: {error.strerror}", "warning")
        finally:
            os.close(pidfd)

    def drop(self, listens: list[Listen]) -> None:
        """Close sockets that no process of the plan needs any more; unix sockets leave no file behind."""
        for listen in listens:
            self._store.drop(key_of(listen))
            if listen.path:
                Path(listen.path).unlink(missing_ok=True)

    def keep_only(self, listens: list[Listen]) -> None:
        """Close all inherited sockets that are not among these."""
        wanted = {key_of(listen) for listen in listens}
        for key in self._store.names():
            if key not in wanted and not key.startswith("own:"):
                self._store.drop(key)


def key_of(listen: Listen) -> str:
    """Name of a socket at the guard: its address, so that a plan may hand it to another process."""
    return f"unix:{listen.path}" if listen.path else f"tcp:{listen.host}:{listen.port}"


def _key_of_socket(found: socket.socket) -> str:
    """Name a socket by its address; empty when it does not listen."""
    if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return ""
    address = found.getsockname()
    return f"unix:{address}" if found.family == socket.AF_UNIX else f"tcp:{address[0]}:{address[1]}"


def bind(listen: Listen) -> socket.socket:
    """Make a listening socket.

    Raises:
        PortTakenError: somebody else holds the port; says who.
        HostError: the address cannot be bound.
    """
    if listen.path:
        return bind_unix(Path(listen.path), listen.mode)
    return ports.bind_listen(listen.host, listen.port)


def bind_unix(path: Path, mode: int) -> socket.socket:
    """Make a listening unix socket in place of a dead one.

    Raises:
        HostError: something else is in the way, or a living process listens there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise HostError(f"{path} is in the way and is no socket; move it away")
        if _answers(path):
            raise HostError(f"a living process listens on {path}; stop it first")
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        old_mask = os.umask(0o777 & ~mode)
        try:
            listening.bind(os.fspath(path))
        finally:
            os.umask(old_mask)
        path.chmod(mode)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise HostError(f"cannot listen on {path}: {error.strerror}") from error
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(0.2)
        try:
            client.connect(os.fspath(path))
        except OSError:
            return False
    return True
