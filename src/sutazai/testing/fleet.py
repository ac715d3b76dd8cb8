"""Why it exists: tests and benchmarks start whole fleets that never meet a running one and leave nothing behind.

``LiveFleet`` takes a range of ports that nobody else has, gives the fleet state and sockets of its own, and on leaving
stops it and checks that no process, cgroup or socket of it is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sutazai.errors import HostError
from sutazai.paths import models_dir

if TYPE_CHECKING:
    from types import TracebackType

OFFSETS = range(2_000, 21_001, 1_000)
COMMAND_TIMEOUT_S = 300
GROUP_ROOTS = ("memory", "cpu", "cpuset", "freezer", "pids", "unified", "")


def _range_is_free(offset: int) -> bool:
    """Try a few ports of the range; a single foreign listener makes another range the better choice."""
    for port in (10005, 10009, 10010, 10104, 10204, 10300, 10387, 10420, 10425, 10461, 10500, 10600):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port + offset))
            except OSError:
                return False
    return True


@dataclass
class LiveFleet:
    """A fleet of its own, from a manifest.

    Attributes:
        manifest: YAML text; ``{offset}`` and ``{fleet}`` in it are replaced.
        name: of the fleet; unique by process id when empty.
        offset: added to each port; chosen on entering.
    """

    manifest: str
    name: str = ""
    offset: int = 0
    folder: Path = field(init=False)
    env: dict[str, str] = field(init=False)
    _lock: socket.socket | None = field(init=False, default=None)

    def __enter__(self) -> Self:
        """Take ports and folders, and bring the fleet up.

        Raises:
            HostError: no free range of ports, or the fleet does not come up; its logs are in the message.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="sz", dir="/tmp"))  # socket paths must be short
        self.folder.chmod(0o755)
        self.name = self.name or f"t{os.getpid()}"
        self._take_ports()
        self.env = {
            **os.environ,
            "SUTAZAI_STATE_ROOT": str(self.folder / "s"),
            "SUTAZAI_RUN_ROOT": str(self.folder / "r"),
            "SUTAZAI_MODELS": os.environ.get("SUTAZAI_MODELS", str(models_dir())),
            "SUTAZAI_FLEET": self.name,
        }
        self.path.write_text(self.manifest.replace("{offset}", str(self.offset)).replace("{fleet}", self.name))
        done = self.command("up", str(self.path))
        if done.returncode != 0:
            told = f"{done.stdout}\n{done.stderr}\n{self.log_tails()}"
            self.close()
            raise HostError(f"the fleet did not come up:\n{told}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the fleet and remove its folders, also after a failure."""
        self.close()

    @property
    def path(self) -> Path:
        """The manifest's file."""
        return self.folder / "sutazai.yaml"

    @property
    def state(self) -> Path:
        """The fleet's state folder."""
        return self.folder / "s" / self.name

    def port(self, port: int) -> int:
        """Translate a port of the blueprint to this fleet's."""
        return port + self.offset

    def command(self, *words: str, timeout_s: int = COMMAND_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run ``sutazai`` with these words on this fleet."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("sutazai")), *words],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        """Ask for the fleet's status.

        Raises:
            HostError: it does not answer.
        """
        done = self.command("status", "--json")
        if done.returncode != 0:
            raise HostError(done.stderr)
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def log_tails(self, characters: int = 1_500) -> str:
        """Collect the ends of all logs, for the message of a failure."""
        tails = []
        for path in sorted((self.state / "logs").glob("*.log")):
            text = path.read_text(errors="replace").strip()
            if text:
                tails.append(f"== {path.name}\n{text[-characters:]}")
        return "\n".join(tails)

    def close(self) -> None:
        """Stop the fleet, end what did not end by itself, and give the ports back."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.command("down", timeout_s=60)
        for pid in self.leftovers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 10
        while (self.leftovers() or self.groups()) and time.monotonic() < until:
            for group in sorted(self.groups(), key=lambda path: -len(path.parts)):
                with contextlib.suppress(OSError):
                    group.rmdir()
            time.sleep(0.02)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def leftovers(self) -> list[int]:
        """Find processes of this fleet by their environment; the caller's own is not among them."""
        mark = f"SUTAZAI_STATE_ROOT={self.folder / 's'}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def groups(self) -> list[Path]:
        """Find cgroups of this fleet, in every hierarchy."""
        found: list[Path] = []
        for hierarchy in GROUP_ROOTS:
            root = Path("/sys/fs/cgroup") / hierarchy
            if root.is_dir():
                found += [path for path in root.rglob(f"sutazai-{self.name}*") if path.is_dir()]
        return [inner for group in set(found) for inner in (group, *(p for p in group.rglob("*") if p.is_dir()))]

    def _take_ports(self) -> None:
        for offset in OFFSETS:
            lock = socket.socket(socket.AF_UNIX)
            try:
                lock.bind(f"\0sutazai-ports-{offset}")  # an abstract name: held by this process, gone with it, no file
            except OSError:
                lock.close()
                continue
            if _range_is_free(offset):
                self.offset, self._lock = offset, lock
                return
            lock.close()
        raise HostError("no free range of ports for another fleet on this machine")
