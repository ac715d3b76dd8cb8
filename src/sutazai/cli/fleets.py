"""Why it exists: most machines run one fleet, so its name is asked for only when there is a choice.

A fleet is named by ``--fleet``, else by ``SUTAZAI_FLEET``, else it is the only one whose supervisor's socket exists.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from sutazai.cli.exits import NOT_UP, REFUSED, CliError
from sutazai.paths import FleetPaths, run_root


def answers(path: Path) -> bool:
    """Tell whether somebody listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def running() -> list[str]:
    """Name the fleets of this user that are up."""
    root = run_root()
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in root.iterdir() if answers(entry / "sutazaid.sock"))


def choose(fleet: str | None) -> str:
    """Find the fleet that a verb means.

    Raises:
        CliError: none is up, or several are and none was named.
    """
    named = fleet or os.environ.get("SUTAZAI_FLEET")
    if named:
        return named
    found = running()
    if len(found) == 1:
        return found[0]
    if found:
        raise CliError(f"several fleets are up: {', '.join(found)}; say which with --fleet NAME", REFUSED)
    raise CliError("no fleet is up; start one with: sutazai up fleets/demo.yaml", NOT_UP)


def plan_of(paths: FleetPaths) -> dict[str, Any]:
    """Read a fleet's compiled plan; empty when there is none that can be read."""
    try:
        plan = json.loads(paths.plan.read_text())
    except (OSError, ValueError):
        return {}
    return plan if isinstance(plan, dict) else {}


def paths_of(fleet: str | None) -> FleetPaths:
    """Find a running fleet's folders.

    Raises:
        CliError: it does not answer.
    """
    name = choose(fleet)
    paths = FleetPaths.of(name)
    if not answers(paths.supervisor_socket):
        raise CliError(f"the fleet {name!r} is not up; start it with: sutazai up MANIFEST", NOT_UP)
    return paths
