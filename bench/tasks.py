"""Why it exists: what a durable task costs, beside blocking HTTP to FastAPI agents on the blueprint's fan-out.

480 calls of 50 ms to 24 agents: sequential HTTP is what the fleet does today; 24 threads are what a user would write
next, without any durability; here each call is a task that is synced to disk before it is accepted and committed
with its result.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fleets import sleepers
from measure import Row, fastapi_agents, percentile, show

from sutazai.client import TaskClient
from sutazai.testing.fleet import LiveFleet

AGENTS, CALLS, WORK_S = 24, 480, 0.05
SEQUENTIAL_CALLS = 60
ROUND_TRIPS = 400


def call(port: int, seconds: float) -> None:
    """Do one blocking HTTP call, as an agent calls another one today."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/work", json.dumps({"seconds": seconds}), {"content-type": "application/json"})
    connection.getresponse().read()
    connection.close()


def http_side() -> tuple[float, float, list[float]]:
    """Measure calls/s sequentially and with 24 threads, and round trips of an empty call in ms."""
    with fastapi_agents(AGENTS) as agents:
        ports = [port for _, port in agents]
        for port in ports:
            call(port, 0.0)
        begun = time.monotonic()
        for index in range(SEQUENTIAL_CALLS):
            call(ports[index % AGENTS], WORK_S)
        sequential = SEQUENTIAL_CALLS / (time.monotonic() - begun)
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(AGENTS) as pool:
            list(pool.map(lambda index: call(ports[index % AGENTS], WORK_S), range(CALLS)))
        threads = CALLS / (time.monotonic() - begun)
        trips = []
        for _ in range(ROUND_TRIPS):
            begun = time.monotonic()
            call(ports[0], 0.0)
            trips.append((time.monotonic() - begun) * 1_000)
    return sequential, threads, trips


def wait_all(client: TaskClient, ids: list[str]) -> None:
    """Wait for tasks; raises when one did not succeed, so that no loss looks like speed."""
    for task in ids:
        done = client.wait(task, timeout_s=120)
        if done["status"] != "succeeded":
            raise SystemExit(f"{task} ended {done['status']}: {done.get('error')}")


def fleet_side() -> tuple[float, list[float]]:
    """Measure durable tasks/s on the fan-out and round trips of an empty task in ms."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with LiveFleet(sleepers(Path(folder), AGENTS, keep="60s"), name="bt") as fleet:
            client = client_of(fleet)
            wake = [{"agent": f"sleeper-{i}", "skill": "work", "input": {}} for i in range(AGENTS)]
            wait_all(client, [entry["id"] for entry in client.submit(wake)])
            rates = []
            for _ in range(3):
                begun = time.monotonic()
                asked = [
                    {"agent": f"sleeper-{i % AGENTS}", "skill": "work", "input": {"seconds": WORK_S}}
                    for i in range(CALLS)
                ]
                wait_all(client, [entry["id"] for entry in client.submit(asked)])
                rates.append(CALLS / (time.monotonic() - begun))
            trips = []
            for _ in range(ROUND_TRIPS):
                begun = time.monotonic()
                accepted = client.submit([{"agent": "sleeper-0", "skill": "work", "input": {}}])[0]
                client.wait(accepted["id"], timeout_s=60)
                trips.append((time.monotonic() - begun) * 1_000)
            client.close()
    return sorted(rates)[1], trips


def client_of(fleet: LiveFleet) -> TaskClient:
    """Open a client of a fleet that has roots of its own."""
    import os

    os.environ.update({key: fleet.env[key] for key in ("SUTAZAI_STATE_ROOT", "SUTAZAI_RUN_ROOT")})
    return TaskClient(fleet.name)


def main() -> bool:
    """Measure both sides in one run and print the table."""
    sequential, threads, http_trips = http_side()
    durable, trips = fleet_side()
    bound = AGENTS / WORK_S
    rows = [
        Row(
            "fan-out, tasks/s (synced, 0 lost)",
            f"{durable:.0f}/s",
            f"{sequential:.1f}/s sequential HTTP",
            f"{durable / sequential:.1f}×",
            "≥ 20×",
            durable / sequential >= 20,
        ),
        Row(
            "the same against 24 threads",
            f"{durable:.0f}/s",
            f"{threads:.0f}/s, nothing durable",
            f"{durable / threads:.2f}×",
            "≥ 1×",
            durable >= threads,
        ),
        Row("share of the bound", f"{durable:.0f}/s", f"{bound:.0f}/s", f"{durable / bound:.0%}", "–", None),
        Row(
            "round trip p50",
            f"{percentile(trips, 0.5):.2f} ms",
            f"{percentile(http_trips, 0.5):.2f} ms, nothing durable",
            f"{percentile(trips, 0.5) / percentile(http_trips, 0.5):.2f}×",
            "–",
            None,
        ),
        Row(
            "round trip p99",
            f"{percentile(trips, 0.99):.2f} ms",
            f"{percentile(http_trips, 0.99):.2f} ms, nothing durable",
            f"{percentile(trips, 0.99) / percentile(http_trips, 0.99):.2f}×",
            "–",
            None,
        ),
    ]
    show(f"Durable tasks: {CALLS} calls of {WORK_S * 1_000:.0f} ms to {AGENTS} agents", rows)
    return all(row.met is not False for row in rows)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
