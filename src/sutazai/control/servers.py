"""Why it exists: a profile's servers are looked for before anything starts, all at once, with what installs each."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from sutazai.errors import ConfigError, HostError
from sutazai.services import postgres, rabbitmq, valkey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sutazai import spec

#: What the broker speaks to a server with, and the group of requirements that has it.
CLIENTS = {"postgres": ("psycopg", "postgres"), "rabbitmq": ("aio_pika", "rabbitmq"), "redis": ("valkey", "valkey")}


def missing(manifest: spec.Manifest, data: Path) -> list[ConfigError]:
    """List what this host lacks for the servers of the manifest's profile.

    Args:
        manifest: what was asked for.
        data: PostgreSQL's data folder; data that is there wants the server's version that made it.
    """
    if manifest.profile != "standard":
        return []
    looks: dict[str, Callable[[], object]] = {
        "postgres": lambda: postgres.server(postgres.Owner(""), data),
        "rabbitmq": rabbitmq.programs,
        "redis": valkey.program,
    }
    found = []
    for name, look in looks.items():
        place = manifest.services[name].place
        where = {"path": place.path, "line": place.line, "column": place.column}
        module, group = CLIENTS.get(name, ("", ""))
        if module and find_spec(module) is None:
            hint = f"run: scripts/bootstrap base {group}"
            found.append(ConfigError(f"{name}: the Python client {module} is not installed", **where, hint=hint))  # type: ignore[arg-type]
        try:
            look()
        except HostError as error:
            problem, _, hint = str(error).partition("; run: ")
            found.append(ConfigError(f"{name}: {problem}", **where, hint=f"run: {hint}" if hint else ""))  # type: ignore[arg-type]
    return found
