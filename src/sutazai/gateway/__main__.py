"""Why it exists: the gateway as a process: ``python -m sutazai.gateway``, started by ``sutazaid`` with its sockets.

``--port N`` opens an edge of its own, for a try by hand. Exit status 1 when the plan cannot be read, 2 without a
socket or a fleet.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys

from prometheus_client import disable_created_metrics

from sutazai.errors import ConfigError, HostError
from sutazai.gateway.app import Gateway, Places
from sutazai.gateway.callers import CallerRate, Limiter, LocalLimiter, SharedLimiter
from sutazai.gateway.directory import Door
from sutazai.paths import FleetPaths
from sutazai.wire.aio import AsyncConnection
from sutazai.wire.notify import Notifier
from sutazai.wire.serving import inherited, listen, serve
from sutazai.wire.valkey import ValkeyLink


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(prog="python -m sutazai.gateway", description="Answer HTTP for all agents.")
    parser.add_argument("--port", type=int, default=-1, help="also open this port as the edge; 0 takes any")
    parser.add_argument("--caller-interval-us", type=int, default=0, help="of a caller's requests; 0 for no limit")
    parser.add_argument("--caller-burst", type=int, default=1, help="requests of a caller at once, after a pause")
    parser.add_argument("--shared-limits", action="store_true", help="count callers in the fleet's Valkey")
    options = parser.parse_args(arguments)
    disable_created_metrics()  # type: ignore[no-untyped-call] # each counter's time of birth doubles the pages and nobody reads it
    fleet = os.environ.get("SUTAZAI_FLEET", "")
    if not fleet:
        return _fail("SUTAZAI_FLEET is not set: the gateway is started by sutazaid", 2)
    try:
        paths = FleetPaths.of(fleet)
        named = inherited()
        if options.port >= 0:
            named["edge"] = [*named.get("edge", []), listen(options.port)]
        if not named:
            return _fail("no socket: start it with --port, or by sutazaid", 2)
        doors = {
            entry.getsockname()[1]: Door.of(name)
            for name, sockets in named.items()
            for entry in sockets
            if entry.family in {socket.AF_INET, socket.AF_INET6}  # what has no port is the edge
        }
        places = Places(paths.plan, paths.control_socket, paths.token, paths.payloads)
        limiter: Limiter | None = None
        if options.caller_interval_us:
            rate = CallerRate(options.caller_interval_us, options.caller_burst)
            shared = SharedLimiter(rate, ValkeyLink(paths.valkey_url), fleet)
            limiter = shared if options.shared_limits else LocalLimiter(rate)
        app = Gateway(places, lambda: AsyncConnection(paths.broker_socket, "gateway"), doors, limiter)
    except (ConfigError, HostError) as error:
        return _fail(str(error), 1)
    sys.stdout.write(f"gateway: {len(doors)} doors, edge on {_edge(doors)}\n")
    sys.stdout.flush()
    notifier = Notifier(os.environ.get("SUTAZAI_PROCESS", "gateway"))
    serve(app, [entry for sockets in named.values() for entry in sockets], notifier.ready)
    notifier.close()
    return 0


def _edge(doors: dict[int, Door]) -> str:
    return ", ".join(str(port) for port, door in doors.items() if door.kind == "edge") or "no port"


def _fail(text: str, status: int) -> int:
    sys.stderr.write(f"gateway: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
