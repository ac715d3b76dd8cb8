"""Why it exists: every process of a fleet finds its sockets and files by the fleet's name alone.

Two roots, each can be moved by an environment variable so that a test fleet never meets a running one:

* ``SUTAZAI_STATE_ROOT``: what must outlive a reboot (default ``/var/lib/sutazai`` as root, else
  ``~/.local/state/sutazai``);
* ``SUTAZAI_RUN_ROOT``: sockets (default ``/run/sutazai`` as root, else ``$XDG_RUNTIME_DIR/sutazai`` or
  ``/tmp/sutazai-<uid>``); short, because a unix socket's path holds 107 bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sutazai.errors import HostError
from sutazai.limits import UNIX_PATH_BYTES_MAX


def state_root() -> Path:
    """Folder of all fleets' states on this machine."""
    if root := os.environ.get("SUTAZAI_STATE_ROOT"):
        return Path(root)
    if os.geteuid() == 0:
        return Path("/var/lib/sutazai")
    return Path.home() / ".local/state/sutazai"


def run_root() -> Path:
    """Folder of all fleets' sockets on this machine."""
    if root := os.environ.get("SUTAZAI_RUN_ROOT"):
        return Path(root)
    if os.geteuid() == 0:
        return Path("/run/sutazai")
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "sutazai"
    return Path(f"/tmp/sutazai-{os.geteuid()}")  # noqa: S108 the folder is made with mode 700 and its owner is checked


def models_dir() -> Path:
    """Folder of model files, shared by all fleets of this user; ``SUTAZAI_MODELS`` moves it."""
    if folder := os.environ.get("SUTAZAI_MODELS"):
        return Path(folder)
    return state_root() / "models"


@dataclass(frozen=True, slots=True)
class FleetPaths:
    """Where a fleet keeps what.

    Attributes:
        state: folder that outlives a reboot.
        run: folder of sockets; gone after ``down``.
    """

    state: Path
    run: Path

    @classmethod
    def of(cls, fleet: str) -> FleetPaths:
        """Find a fleet's folders; makes nothing.

        Raises:
            HostError: the socket paths would be longer than the kernel takes.
        """
        paths = cls(state=state_root() / fleet, run=run_root() / fleet)
        longest = os.fsencode(paths.supervisor_socket)
        if len(longest) > UNIX_PATH_BYTES_MAX:
            raise HostError(
                f"{paths.supervisor_socket} is longer than {UNIX_PATH_BYTES_MAX} bytes: set SUTAZAI_RUN_ROOT"
            )
        return paths

    @property
    def supervisor_socket(self) -> Path:
        """Socket of ``sutazaid``: one JSON object a line; mode 600."""
        return self.run / "sutazaid.sock"

    @property
    def broker_socket(self) -> Path:
        """Socket of the broker: frames; open to all uids, guarded by tokens and peer credentials."""
        return self.run / "broker.sock"

    @property
    def control_socket(self) -> Path:
        """Socket of the control plane: HTTP; reads are open to instance uids."""
        return self.run / "control.sock"

    @property
    def plan(self) -> Path:
        """The compiled plan that ``sutazaid`` starts from."""
        return self.state / "plan.json"

    @property
    def store(self) -> Path:
        """The broker's SQLite database."""
        return self.state / "store.sqlite"

    @property
    def cache(self) -> Path:
        """The cache of agents in the embedded profile; may be deleted while the fleet is down."""
        return self.state / "cache.sqlite"

    @property
    def valkey_url(self) -> Path:
        """How to reach the Valkey that the fleet runs; holds the password, mode 600."""
        return self.state / "services/redis/url"

    @property
    def payloads(self) -> Path:
        """Folder of results that are too large for a row of the store; the broker alone writes there."""
        return self.state / "payloads"

    @property
    def store_dsn(self) -> Path:
        """How to reach the PostgreSQL that the fleet runs for its store; holds the password, mode 600."""
        return self.state / "services/postgres/dsn"

    @property
    def logs(self) -> Path:
        """Folder of the processes' logs, ``<process>.log``."""
        return self.state / "logs"

    @property
    def metrics(self) -> Path:
        """Folder of the control plane's metric ring."""
        return self.state / "metrics"

    @property
    def token(self) -> Path:
        """The secret for every write over HTTP; mode 600."""
        return self.state / "token"
