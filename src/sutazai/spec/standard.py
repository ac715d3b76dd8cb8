"""Why it exists: ``profile: standard`` brings servers with it: the store on PostgreSQL, dispatch over RabbitMQ, Valkey.

They are services like others, with the blueprint's names and ports, limits and a readiness by their own protocol; only
the command is ours (``sutazai.services``), and the broker starts behind those that it needs. A manifest may write one
of them to give it another port, limit, pool or share of the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from sutazai.spec.model import Check, Service, ServicePort, Share
from sutazai.units import MIB

if TYPE_CHECKING:
    from sutazai.spec.places import Mistakes, Place

#: What a fleet can stand on.
PROFILES = ("embedded", "standard")
STANDARD = "standard"
READY_MS = 60_000
PIDS_MAX = 256
#: PostgreSQL flushes and RabbitMQ closes its queues in this time.
STOP_GRACE_MS = 20_000


@dataclass(frozen=True, slots=True)
class Server:
    """One server of the profile.

    Attributes:
        name: the blueprint's.
        recipe: of ``python -m sutazai.services``.
        ports: option of the recipe, name and number of each port; the first is the main one.
        memory_bytes: limit, when the manifest writes none.
        start_peak_bytes: what its ticket reserves, measured.
        check: how it is asked whether it serves.
        stage: of boot: ``store`` when the broker needs it.
        description: one line for people.
    """

    name: str
    recipe: str
    ports: tuple[tuple[str, str, int], ...]
    memory_bytes: int
    start_peak_bytes: int
    check: Literal["postgres", "redis", "amqp"]
    stage: Literal["store", "services"]
    description: str


SERVERS = (
    Server(
        "postgres", "postgres", (("--port", "main", 10000),), 512 * MIB, 192 * MIB, "postgres", "store",
        "The broker's store: tasks, turns, states.",
    ),
    Server(
        "redis", "valkey", (("--port", "main", 10001),), 128 * MIB, 32 * MIB, "redis", "services",
        "Valkey: the cache of agents, and callers' rates.",
    ),
    Server(
        "rabbitmq", "rabbitmq", (("--port", "amqp", 10007), ("--management-port", "management", 10008)), 640 * MIB,
        320 * MIB, "amqp", "store", "Carries task numbers from the store to who looks for work.",
    ),
)  # fmt: skip
NAMES = frozenset(server.name for server in SERVERS)


def names_of(profile: str) -> frozenset[str]:
    """Services that a profile brings with it."""
    return NAMES if profile == STANDARD else frozenset()


def with_servers(services: dict[str, Service], mistakes: Mistakes, place: Place, folder: str) -> dict[str, Service]:
    """Add the servers of the standard profile, each as the manifest writes it where it does.

    Args:
        services: of the manifest.
        mistakes: gets what cannot be.
        place: of the word ``standard``.
        folder: of the manifest.
    """
    own = {}
    for server in SERVERS:
        written = services.get(server.name)
        if written is not None and written.argv:
            mistakes.add(
                f"services.{server.name}: the profile {STANDARD} runs this server itself",
                written.place,
                "remove its command; port, memory, pool and cpu may stay. Or give the service another name",
            )
        own[server.name] = _service(server, written, place, folder)
    return {**own, **{name: service for name, service in services.items() if name not in own}}


def _service(server: Server, written: Service | None, place: Place, folder: str) -> Service:
    ports = tuple(ServicePort(name, number) for _, name, number in server.ports)
    memory = server.memory_bytes
    if written is not None:
        ports = _ports(written.ports, ports)
        memory = written.memory_bytes or memory
    main = ports[0].number
    check = Check(server.check, port=main, timeout_ms=READY_MS)
    argv = ["{python}", "-m", "sutazai.services", server.recipe, "--state", "{state}", "--memory", str(memory)]
    for (option, _, _), port in zip(server.ports, ports, strict=True):
        argv += [option, f"{{port.{port.name}}}"]
    return Service(
        name=server.name,
        argv=tuple(argv),
        ports=ports,
        memory_bytes=memory,
        start_peak_bytes=min(memory, (written.start_peak_bytes if written else 0) or server.start_peak_bytes),
        cpu=written.cpu if written else Share(),
        pids_max=PIDS_MAX,
        pool=written.pool if written else "infrastructure",
        after=(),
        ready=check,
        probe=replace(check, timeout_ms=2_000, interval_ms=2_000),
        restart_when_unhealthy=False,
        env={},
        cwd=folder,
        log_bytes_max=0,
        stop_grace_ms=STOP_GRACE_MS,
        place=written.place if written else place,
        description=(written.description if written else "") or server.description,
        stage=server.stage,
    )


def _ports(written: tuple[ServicePort, ...], usual: tuple[ServicePort, ...]) -> tuple[ServicePort, ...]:
    """Take the ports that are written, in order or by name; what is missing is the blueprint's."""
    by_name = {port.name: port for port in written}
    if any(port.name in by_name for port in usual):
        return tuple(by_name.get(port.name, port) for port in usual)
    return (*written[: len(usual)], *usual[len(written) :])
