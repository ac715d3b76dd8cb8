"""Why it exists: a server needs ports that nobody asks for, and takes free ones."""

from __future__ import annotations

import socket


def free_ports(count: int) -> list[int]:
    """Find ports of 127.0.0.1 that nobody listens on now, each another one."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
