"""Why it exists: ``python -m sutazai.control`` is a process of the fleet and serves on the sockets it is handed."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
from typing import TYPE_CHECKING

from sutazai.control.app import build
from sutazai.control.sampler import Sampler
from sutazai.errors import ConfigError
from sutazai.paths import FleetPaths
from sutazai.wire.notify import Notifier
from sutazai.wire.serving import inherited, listen, serve

if TYPE_CHECKING:
    from pathlib import Path

BACKLOG = 256


def main() -> None:
    """Serve until SIGTERM."""
    arguments = _arguments()
    fleet = os.environ.get("SUTAZAI_FLEET")
    if not fleet:
        raise ConfigError("SUTAZAI_FLEET is not set", hint="sutazai up starts this process; by hand, name the fleet")
    paths = FleetPaths.of(fleet)
    by_name = inherited()
    sockets = [one for many in by_name.values() for one in many]
    if "control" not in by_name:
        sockets.append(_bind(paths.control_socket))
    if arguments.port:
        sockets.append(listen(arguments.port))
    notifier = Notifier(os.environ.get("SUTAZAI_PROCESS") or "control", str(paths.supervisor_socket))
    try:
        serve(build(Sampler(paths)), sockets, notifier.ready)
    finally:
        notifier.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sutazai.control", description="Facts about a running fleet.")
    parser.add_argument("--port", type=int, default=0, help="also listen on this port of 127.0.0.1 (by hand)")
    return parser.parse_args()


def _bind(path: Path) -> socket.socket:
    """Make the unix socket ourselves, open to all users of this machine: it only gives facts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(str(path))
    path.chmod(0o666)
    bound.listen(BACKLOG)
    return bound


if __name__ == "__main__":
    main()
