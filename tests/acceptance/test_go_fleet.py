"""Agents in Go on a real fleet: woken, run, killed in the middle, asleep again, and their worker with them."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.host import golang
from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 60.0
MANIFEST = """\
fleet: {fleet}
port_offset: {offset}
host: {memory: 2GB, cores: 2c}
memory_pools:
  infrastructure: {size: 16MB}
  critical: {size: 512MB, max_per_agent: 128MB, platform: {size: 448MB}}
  standard: {size: 320MB, max_per_agent: 128MB}
  monitoring: {size: 16MB}
  reserve: {size: 32MB}
runtime_pools:
  go: {workers: 1, idle: 1s}
agents:
  log-aggregator-loki: {keep: 300ms}
  metrics-collector-prometheus: {keep: 300ms}
  honeypot-deployment-agent: {keep: 300ms}
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[LiveFleet]:
    """A fleet with agents in Go."""
    program, why = golang.find_worker()
    if not program:
        pytest.skip(f"{why}; {golang.HINT}")
    with LiveFleet(MANIFEST) as running:
        yield running


def _until(holds: Callable[[], Any], what: str, fleet: LiveFleet) -> Any:
    """Wait until something holds, and give it."""
    end_s = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < end_s, f"{what} did not come true\n{fleet.log_tails()}"
        time.sleep(0.05)
    return found


def _row(fleet: LiveFleet, kind: str, **wanted: Any) -> dict[str, Any] | None:
    rows = fleet.status()[kind]
    return next((row for row in rows if all(row.get(name) == value for name, value in wanted.items())), None)


def _ask(fleet: LiveFleet, agent: str, skill: str, data: dict[str, Any], *words: str) -> dict[str, Any]:
    done = fleet.command("ask", agent, skill, "--input", json.dumps(data), "--json", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    task: dict[str, Any] = json.loads(done.stdout)
    return task


def test_golden_tasks_hold_on_a_live_fleet(fleet: LiveFleet) -> None:
    """``sutazai smoke``: all checks of all three, those on the live fleet too, within their memory."""
    done = fleet.command("smoke")
    assert done.returncode == 0, done.stdout + done.stderr + fleet.log_tails()


def test_a_decoy_survives_the_kill_of_its_worker(fleet: LiveFleet) -> None:
    """Kill -9 in the middle of a turn: the next worker stands up the same decoy on the same port, and it ends well."""
    asked = {"kind": "redis", "listen_s": 30, "contacts": 2}
    task = _ask(fleet, "honeypot-deployment-agent", "deploy", asked, "--session", "decoy", "--detach")["id"]
    first = fleet.port(10_600)
    _until(lambda: _greets(first), "a decoy that answers", fleet)
    _until(lambda: _stored(fleet) == 1, "the contact in the state", fleet)
    worker = _row(fleet, "processes", name="go-0")
    assert worker is not None
    killed_ms = time.time_ns() // 1_000_000
    os.kill(worker["pid"], signal.SIGKILL)
    _until(
        lambda: (_row(fleet, "processes", name="go-0") or {}).get("pid") not in {None, 0, worker["pid"]},
        "another worker",
        fleet,
    )
    _until(lambda: _greets(first), "the decoy again", fleet)
    fleet.command("task", "watch", task)
    ended = json.loads(fleet.command("task", "show", task).stdout)
    assert ended["status"] == "succeeded", ended
    said = ended["result"]
    assert (said["port"], said["ended"], said["count"]) == (first, "contacts", 2)
    assert said["since_wall_ms"] < killed_ms < said["until_wall_ms"]
    _until(lambda: _stored(fleet) == 2, "both contacts in the state", fleet)


def _stored(fleet: LiveFleet) -> int:
    total: int = _ask(fleet, "honeypot-deployment-agent", "events", {"kind": "redis"})["result"]["total"]
    return total


def _greets(port: int) -> bool:
    """Say PING as Redis' clients do."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as decoy:
            decoy.sendall(b"PING\r\n")
            return decoy.recv(16) == b"+PONG\r\n"
    except OSError:
        return False


def test_all_is_given_back_when_nobody_asks(fleet: LiveFleet) -> None:
    """The instances hibernate, and their worker, which hosts nobody, is stopped; a question starts it again."""
    _ask(fleet, "log-aggregator-loki", "labels", {"where": "fleet"})
    _until(lambda: not fleet.status()["instances"], "no instance", fleet)
    _until(lambda: not (_row(fleet, "processes", name="go-0") or {}).get("pid"), "no worker", fleet)
    found = _ask(fleet, "log-aggregator-loki", "labels", {"where": "fleet", "name": "source"})
    assert found["result"]["data"] == ["fleet"]
