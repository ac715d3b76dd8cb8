"""Why it exists: RabbitMQ inside a fleet's limits: a folder, ports, user, cookie and port mapper of its own, one core.

The distribution's wrapper script changes to another user, reads ``/etc/rabbitmq`` and takes its memory watermark from
the host's memory, so the server's own script is called, and each of these is set here. Erlang's port mapper (``epmd``)
would outlive the server; this one is started first, on a port of its own, and the kernel ends it with the server.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from sutazai.errors import HostError
from sutazai.services.files import own_folder, secret, write_private
from sutazai.services.ports import free_ports
from sutazai.units import MIB

INSTALL = "apt-get install -y --no-install-recommends rabbitmq-server"
USER = "sutazai"
NODE = "sutazai@localhost"
#: RabbitMQ 3.10 with the management page uses 90 to 130 MB before it holds a message.
MEMORY_BYTES_MIN = 256 * MIB
#: Share of the limit at which RabbitMQ stops taking messages; garbage collection needs room above it.
WATERMARK_SHARE = 0.7
_DISK_FREE_BYTES_MIN = 64 * MIB
_PORT_MAX = 65_535
_PR_SET_PDEATHSIG = 1
_LIBRARY = Path("/usr/lib/rabbitmq/lib")


@dataclass(frozen=True, slots=True)
class Settings:
    """One RabbitMQ.

    Attributes:
        state: its folder.
        port: of AMQP, on 127.0.0.1.
        management_port: of the management page and API, on 127.0.0.1.
        memory_bytes: of its control group; the watermark follows from it.
        mapper_port: of its own ``epmd``.
        distribution_port: of Erlang's distribution, which ``rabbitmqctl`` uses; on 127.0.0.1.
    """

    state: Path
    port: int
    management_port: int
    memory_bytes: int
    mapper_port: int
    distribution_port: int

    @property
    def watermark_bytes(self) -> int:
        """Use of memory at which publishers are blocked."""
        return int(self.memory_bytes * WATERMARK_SHARE)


def programs() -> Path:
    """Folder of the newest installed RabbitMQ's own scripts.

    Raises:
        HostError: there is none; the message names the command.
    """

    def version(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", path.name)]

    found = [path for path in _LIBRARY.glob("rabbitmq_server-*") if (path / "sbin/rabbitmq-server").is_file()]
    if not found or shutil.which("epmd") is None:
        raise HostError(f"RabbitMQ is not installed; run: {INSTALL}")
    return max(found, key=version) / "sbin"


def environment(settings: Settings) -> dict[str, str]:
    """What the server and ``rabbitmqctl`` need to find this node and nothing of another installation."""
    state = settings.state
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    return {
        "PATH": os.defpath, "LANG": "C.UTF-8", **kept,
        "HOME": str(state / "home"),  # of Erlang's cookie
        "ERL_EPMD_PORT": str(settings.mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": NODE,
        "RABBITMQ_CONF_ENV_FILE": str(state / "no-environment"),  # else /etc/rabbitmq/rabbitmq-env.conf
        "RABBITMQ_CONFIG_FILE": str(state / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(state / "no-advanced"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(state / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(state / "data"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(state / "generated"),
        "RABBITMQ_LOG_BASE": str(state / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(state / "pid"),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(settings.port),
        "RABBITMQ_DIST_PORT": str(settings.distribution_port),
        "RABBITMQ_ALLOW_INPUT": "1",  # the script then becomes the server, and leaves no shell beside it
        "RABBITMQ_SERVER_START_ARGS": "-noinput",
        # One scheduler that sleeps when there is nothing to do: an idle server costs no processor time.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none "
                                               "-kernel inet_dist_use_interface {127,0,0,1}",
    }  # fmt: skip


def prepare(settings: Settings) -> None:
    """Write settings, user and plugins; the user's password is made once.

    Raises:
        HostError: the folder cannot be used.
    """
    state = own_folder(settings.state)
    for name in ("home", "data", "log", "generated"):
        own_folder(state / name)
    password = secret(state / "password")
    write_private(state / "enabled_plugins", "[rabbitmq_management].\n")
    write_private(state / "rabbitmq.conf", configuration(settings))
    write_private(state / "definitions.json", json.dumps(definitions(password), indent=1))
    write_private(state / "url", f"amqp://{USER}:{password}@127.0.0.1:{settings.port}/%2F\n")
    write_private(state / "management-url", f"http://{USER}:{password}@127.0.0.1:{settings.management_port}\n")
    write_private(state / "settings.json", json.dumps({**asdict(settings), "state": str(state)}))


def configuration(settings: Settings) -> str:
    """The text of ``rabbitmq.conf``."""
    lines = {
        "listeners.tcp.1": f"127.0.0.1:{settings.port}",
        "management.tcp.ip": "127.0.0.1",
        "management.tcp.port": settings.management_port,
        "vm_memory_high_watermark.absolute": settings.watermark_bytes,
        "disk_free_limit.absolute": _DISK_FREE_BYTES_MIN,
        "load_definitions": settings.state / "definitions.json",
        "heartbeat": 10,
        "log.file": "false",
        "log.console": "true",
        "log.console.level": "info",
        "collect_statistics_interval": 5_000,
    }
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def definitions(password: str) -> dict[str, object]:
    """The one user, by a salted hash; because there are definitions, the server makes no guest."""
    salt = secrets.token_bytes(4)
    hashed = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    return {
        "users": [{"name": USER, "password_hash": hashed, "hashing_algorithm": "rabbit_password_hashing_sha256",
                   "tags": ["administrator"], "limits": {}}],
        "vhosts": [{"name": "/"}],
        "permissions": [{"user": USER, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
    }  # fmt: skip


def load(state: Path) -> Settings:
    """Read the settings that a server was started with.

    Raises:
        HostError: none was started from this folder.
    """
    try:
        read = json.loads((state / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HostError(f"no RabbitMQ was started from {state}: {error}") from error
    return Settings(**{**read, "state": Path(read["state"])})


def _read(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="python -m sutazai.services rabbitmq", description="Become RabbitMQ.")
    parser.add_argument("--state", type=Path, required=True, help="folder of its data, settings and secrets")
    parser.add_argument("--port", type=int, required=True, help="of AMQP")
    parser.add_argument("--management-port", type=int, required=True, help="of the management page")
    parser.add_argument("--memory", type=int, required=True, metavar="BYTES", help="its limit; the watermark follows")
    parser.add_argument("--mapper-port", type=int, default=0, help="of its epmd (default: a free one)")
    parser.add_argument("--distribution-port", type=int, default=0, help="for rabbitmqctl (default: a free one)")
    given = parser.parse_args(arguments)
    ports = [given.port, given.management_port, given.mapper_port, given.distribution_port]
    if not all(0 <= port <= _PORT_MAX for port in ports) or 0 in ports[:2]:
        raise HostError(f"a port is a number from 1 to {_PORT_MAX}")
    named = [port for port in ports if port]
    if len(set(named)) < len(named):
        raise HostError("each port of RabbitMQ must be another one")
    if given.memory < MEMORY_BYTES_MIN:
        least = MEMORY_BYTES_MIN // MIB
        raise HostError(f"RabbitMQ needs a limit of at least {least} MB (--memory {MEMORY_BYTES_MIN})")
    free = free_ports(2)
    return Settings(
        given.state.absolute(), given.port, given.management_port, given.memory, given.mapper_port or free[0],
        given.distribution_port or free[1],
    )  # fmt: skip


def _start_mapper(settings: Settings) -> None:
    """Start ``epmd`` as a child that the kernel ends when this process, the later server, ends in whatever way."""
    libc = ctypes.CDLL(None)
    subprocess.Popen(
        ["epmd", "-port", str(settings.mapper_port), "-address", "127.0.0.1"],
        env=environment(settings), stdin=subprocess.DEVNULL,
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 one thread, before the exec
    )  # fmt: skip


def main(arguments: list[str]) -> None:
    """Become RabbitMQ.

    Raises:
        HostError: it is not installed, or its settings cannot be.
    """
    settings = _read(arguments)
    script = programs() / "rabbitmq-server"
    prepare(settings)
    _start_mapper(settings)
    os.chdir(settings.state)
    os.execve(script, [str(script)], environment(settings))  # noqa: S606 to become the server is the point
