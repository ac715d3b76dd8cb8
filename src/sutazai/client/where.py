"""Why it exists: most machines run one fleet, so its name is asked for only when there is a choice."""

from __future__ import annotations

import os
from typing import NoReturn

from sutazai.errors import RefusedError, UnavailableError
from sutazai.paths import FleetPaths, run_root


def find(fleet: str | None) -> FleetPaths:
    """Find the folders of the fleet that is meant: named, or ``SUTAZAI_FLEET``, or the only one with sockets.

    Raises:
        UnavailableError: there is none.
        RefusedError: there are several and none was named.
        HostError: its socket paths are too long for the kernel.
    """
    if name := fleet or os.environ.get("SUTAZAI_FLEET"):
        return FleetPaths.of(name)
    root = run_root()
    found = sorted(path.parent.name for path in root.glob("*/sutazaid.sock")) if root.is_dir() else []
    if not found:
        raise UnavailableError("no fleet is up; start one with: sutazai up")
    if len(found) > 1:
        raise RefusedError(f"several fleets are up ({', '.join(found)}): say which one")
    return FleetPaths.of(found[0])


def not_answering(paths: FleetPaths, process: str, error: OSError) -> NoReturn:
    """Say that a process of a fleet cannot be reached, and what to do.

    Raises:
        UnavailableError: always.
    """
    fleet = paths.run.name
    if isinstance(error, PermissionError):
        message = f"{process} of the fleet {fleet!r} does not talk to this user: run it as the fleet's user or root"
    elif not paths.supervisor_socket.exists():
        message = f"the fleet {fleet!r} is not up; start it with: sutazai up"
    else:
        message = f"{process} of the fleet {fleet!r} does not answer ({error.strerror or error}); try again in a moment"
    raise UnavailableError(message) from error
