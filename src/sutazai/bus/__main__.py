"""Why it exists: starts the broker process: ``python -m sutazai.bus``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import random
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from sutazai.bus.broker import Broker
from sutazai.bus.cache import DRIVERS as CACHES
from sutazai.bus.cache import FileCache, ServerCache
from sutazai.bus.clock import BrokerClock
from sutazai.bus.directory import Directory
from sutazai.bus.dispatch import DRIVERS, Inproc, RabbitMQ
from sutazai.bus.link import Link
from sutazai.bus.options import Options
from sutazai.bus.server import Server, bind
from sutazai.bus.spill_files import SpillFiles, Thread
from sutazai.bus.writer import Writer
from sutazai.clock import SystemClock
from sutazai.errors import ConfigError, SutazaiError
from sutazai.limits import HEARTBEAT_MS, LEASE_MS, REATTACH_GRACE_MS, STORE_BALLAST_BYTES
from sutazai.paths import FleetPaths
from sutazai.store.opening import DRIVERS as STORES
from sutazai.store.opening import open_store
from sutazai.wire.planfacts import agents_of, load_plan, planned_of
from sutazai.wire.valkey import ValkeyLink

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sutazai.bus.cache.protocol import CacheDriver
    from sutazai.bus.dispatch.protocol import Driver

_log = logging.getLogger("sutazai.bus")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sutazai.bus", description="The broker of a fleet.")
    parser.add_argument("--fleet", default=os.environ.get("SUTAZAI_FLEET", ""), help="name of the fleet")
    parser.add_argument(
        "--open",
        action="store_true",
        default=os.environ.get("SUTAZAI_BROKER_OPEN") == "1",
        help="take instances of the same uid without a ticket, and tasks for any agent (tests, benchmarks)",
    )
    parser.add_argument("--lease-ms", type=int, default=LEASE_MS, help="silence after which a turn is lost")
    parser.add_argument("--reattach-ms", type=int, default=REATTACH_GRACE_MS, help="grace after a restart")
    parser.add_argument("--ballast-bytes", type=int, default=STORE_BALLAST_BYTES, help="room kept for a full disk")
    parser.add_argument(
        "--dispatch",
        choices=[driver.name for driver in DRIVERS],
        default=Inproc.name,
        help="who says where to look for due tasks",
    )
    parser.add_argument(
        "--dispatch-url-file",
        type=Path,
        help="file of mode 600 with RabbitMQ's URL (default: services/rabbitmq/url in the fleet's state folder)",
    )
    parser.add_argument("--store", choices=STORES, default="sqlite", help="database that the tasks are in")
    parser.add_argument("--cache", choices=[driver.name for driver in CACHES], default=FileCache.name, help="of agents")
    parser.add_argument("--store-dsn-file", type=Path, help="file of mode 600 with libpq's connection string")
    arguments = parser.parse_args()
    if not arguments.fleet:
        parser.error("name the fleet: --fleet, or SUTAZAI_FLEET")
    return arguments


def _listening(paths: FleetPaths) -> socket.socket:
    handed: dict[str, list[int]] = json.loads(os.environ.get("SUTAZAI_LISTEN", "{}"))
    descriptors = handed.get("broker", [])
    return socket.socket(fileno=descriptors[0]) if descriptors else bind(paths.broker_socket)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _directory(plan: Path, *, is_open: bool) -> Directory:
    """Read the agents of the plan; without one an open broker knows every agent, another one none."""
    try:
        read = load_plan(plan)
        return Directory(agents_of(read, str(plan)), planned_of(read))
    except ConfigError as error:
        if not is_open:
            _log.warning("no agents are known: %s", error)
        return Directory(None if is_open else {})


def _driver(arguments: argparse.Namespace, paths: FleetPaths) -> Driver:
    if arguments.dispatch == Inproc.name:
        return Inproc()
    return RabbitMQ(arguments.fleet, arguments.dispatch_url_file or paths.state / "services/rabbitmq/url")


class Process:
    """The broker with its socket, its thread and its line to ``sutazaid``.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._paths = FleetPaths.of(arguments.fleet)
        self._stop = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve until a signal says stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        system = SystemClock()
        given = self._arguments
        store = open_store(
            given.store, self._paths, ballast_bytes=given.ballast_bytes, wall_ms=system.wall_ms(),
            dsn_file=given.store_dsn_file,
        )  # fmt: skip
        clock = BrokerClock(system, store.reading(), _boot())
        link = Link(self._paths.supervisor_socket, self._told, self._linked)
        options = Options(
            open=self._arguments.open, lease_ms=self._arguments.lease_ms, reattach_ms=self._arguments.reattach_ms,
            heartbeat_ms=min(HEARTBEAT_MS, self._arguments.lease_ms // 4),
        )  # fmt: skip
        directory = _directory(self._paths.plan, is_open=options.open)
        self._broker = Broker(store, clock, directory, options, rng=random.SystemRandom(), supervisor=link.send)
        driver = _driver(self._arguments, self._paths)
        self._broker.dispatch_by(driver)
        self._server = Server(self._broker)
        writer = Writer(loop, self._broker, self._server.flush)
        spilling = Thread(loop, self._server.flush)
        self._broker.spill.serve(SpillFiles(self._paths.payloads, 2 * given.ballast_bytes), spilling)
        await self._server.start(_listening(self._paths))
        lease_count = len(self._broker.leases.by_task)
        _log.info("the store holds %d open tasks, %d of them leased", store.counts.open, lease_count)
        hello = [{"op": op, "process": os.environ.get("SUTAZAI_PROCESS", "broker")} for op in ("hello", "ready")]
        cache = self._serve_cache(loop)
        line, signals = loop.create_task(link.run(hello)), loop.create_task(driver.run())
        self._tick()
        gc.collect()
        gc.freeze()
        await self._stop.wait()
        line.cancel()
        signals.cancel()
        cache.cancel()
        if self._timer is not None:
            self._timer.cancel()
        spilling.close()
        await writer.close()
        await self._server.close()
        await asyncio.gather(signals, cache, return_exceptions=True)
        store.close()

    def _serve_cache(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Let agents use the cache; gives the task that looks after its driver until it is cancelled."""
        desk, running = self._broker.cache, set[asyncio.Task[None]]()

        def ended(task: asyncio.Task[None]) -> None:
            running.discard(task)
            self._server.flush()

        def run(work: Coroutine[Any, Any, None]) -> None:
            task = loop.create_task(work)
            running.add(task)
            task.add_done_callback(ended)

        link = ValkeyLink(self._paths.valkey_url)
        now_ms = self._broker.clock.now_ms
        driver: CacheDriver = FileCache(self._paths.cache, now_ms)
        if self._arguments.cache == ServerCache.name:
            driver = ServerCache(link, self._arguments.fleet)
        desk.driver, desk.run = driver, run

        async def keep() -> None:
            try:
                await (link.watch() if isinstance(driver, ServerCache) else asyncio.Event().wait())
            finally:
                await driver.close()

        return loop.create_task(keep())

    def _tick(self) -> None:
        broker = self._broker
        broker.tick()
        self._server.flush()
        wait_ms = max(1, broker.next_tick_ms() - broker.clock.now_ms())
        self._timer = asyncio.get_running_loop().call_later(wait_ms / 1_000, self._tick)

    def _linked(self, up: bool) -> None:  # noqa: FBT001 a callback
        self._broker.linked(up=up)
        self._server.flush()

    def _told(self, push: dict[str, Any]) -> None:
        if push.get("push") == "plan":
            directory = _directory(self._paths.plan, is_open=self._broker.options.open)
            self._broker.replan(directory.agents)
        else:
            self._broker.told(push)
        self._server.flush()


def main() -> int:
    """Start the broker; ends with 0 after SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    arguments = _arguments()
    try:
        uvloop.run(_serve(arguments))
    except SutazaiError as error:
        _log.critical("%s", error)
        return 1
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    await Process(arguments).run()


if __name__ == "__main__":
    sys.exit(main())
