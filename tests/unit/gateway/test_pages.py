"""Pages that only read: health in the blueprint's form, skills, metrics, agents; with control there and away."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

EDGE, HELLO, ADDER, WORKER = 10005, 10300, 10301, 10500
KEYS = {"status", "agent", "version", "uptime", "memory_usage", "cpu_usage"}


def status(at_wall_ms: int = 0, cpu_usec: int = 2_000_000) -> dict[str, Any]:
    """What control says: hello has two instances, adder sleeps, the worker runs."""
    now = at_wall_ms or int(time.time() * 1_000)
    instance = {"agent": "hello", "memory_bytes": 5 << 20, "memory_peak_bytes": 6 << 20, "state": "idle"}
    return {
        "at_wall_ms": now,
        "since_wall_ms": now - 60_000,
        "state": "up",
        "instances": [
            {**instance, "ticket": "k_1", "cpu_usec": cpu_usec, "started_wall_ms": now - 10_000},
            {**instance, "ticket": "k_2", "cpu_usec": 0, "started_wall_ms": now - 5_000},
        ],
        "processes": [
            {"name": "python-0", "state": "ready", "memory_bytes": 7, "cpu_usec": 0, "started_wall_ms": now - 30_000},
            {"name": "gateway", "state": "ready", "memory_bytes": 9, "cpu_usec": 0, "started_wall_ms": now},
        ],
        "queues": {"hello": {"queued": 3, "leased": 1, "waiting": 0}},
        "conditions": [],
    }


def test_health_of_an_agent_that_is_awake(fleet: Any) -> None:
    """Exactly the blueprint's six keys; memory in bytes over all instances, CPU in per cent of one core."""
    fleet.status = status()
    response = fleet.at(HELLO).get("/health")
    body = response.json()
    assert set(body) == KEYS
    assert (body["status"], body["agent"], body["version"]) == ("healthy", "hello", "1.2.3")
    assert body["memory_usage"] == 10 << 20
    assert body["cpu_usage"] == 20.0
    assert 59 < body["uptime"] < 600
    assert (response.headers["x-sutazai-state"], response.headers["x-sutazai-instances"]) == ("awake", "2")


def test_a_hibernated_agent_answers_without_being_woken(fleet: Any) -> None:
    """Health of a sleeping agent asks the broker for nothing."""
    fleet.status = status()
    response = fleet.at(ADDER).get("/health")
    assert response.json()["memory_usage"] == 0
    assert response.json()["status"] == "healthy"
    assert response.headers["x-sutazai-state"] == "hibernated"
    assert not fleet.broker.asked


def test_health_is_answered_when_control_is_down(fleet: Any) -> None:
    """What nobody knows is zero, and the header says so."""
    response = fleet.at(HELLO).get("/health")
    assert response.status_code == 200
    assert set(response.json()) == KEYS
    assert response.headers["x-sutazai-state"] == "unknown"


def test_health_says_degraded_when_work_cannot_be_stored_or_a_condition_is_open(fleet: Any) -> None:
    """A lost broker, or a condition about the agent, is not healthy."""
    fleet.status = {**status(), "conditions": [{"name": "CrashLoop", "subject": "hello", "severity": "warning"}]}
    assert fleet.at(HELLO).get("/health").json()["status"] == "degraded"
    assert fleet.at(ADDER).get("/health").json()["status"] == "healthy"
    fleet.broker.up = False
    assert fleet.at(ADDER).get("/health").json()["status"] == "degraded"
    assert fleet.at(EDGE).get("/health").json()["status"] == "degraded"


def test_a_worker_port_tells_about_the_worker(fleet: Any) -> None:
    """A worker's port has its health and metrics, and nothing else."""
    fleet.status = status()
    client = fleet.at(WORKER)
    assert client.get("/health").json()["agent"] == "python-0"
    assert "process_memory_bytes" in client.get("/metrics").text
    assert client.get("/tasks").status_code == 404


def test_a_worker_that_does_not_run_is_503(fleet: Any) -> None:
    """A worker that sutazaid does not list is unhealthy."""
    fleet.status = {**status(), "processes": []}
    response = fleet.at(WORKER).get("/health")
    assert (response.status_code, response.json()["status"]) == (503, "unhealthy")


def test_skills_and_agents(fleet: Any) -> None:
    """Skills come with their schemas; the edge lists all agents and shows each below /agents."""
    fleet.status = status()
    skills = fleet.at(HELLO).get("/skills").json()["skills"]
    assert skills[0]["input"]["required"] == ["name"]
    assert fleet.at(EDGE).get("/agents/hello/skills").json()["skills"] == skills
    agents = fleet.at(EDGE).get("/agents").json()["agents"]
    assert [(a["name"], a["state"], a["skills"]) for a in agents] == [
        ("hello", "awake", ["greet"]),
        ("adder", "hibernated", ["add"]),
    ]
    assert fleet.at(HELLO).get("/").json() == agents[0] == fleet.at(EDGE).get("/agents/hello").json()


def test_metrics_are_prometheus_text(fleet: Any) -> None:
    """The pages parse, an agent's page holds that agent only, and requests are counted by door and status."""
    fleet.status = status()
    fleet.at(HELLO).get("/health")
    fleet.at(ADDER).get("/nothing")
    families = {f.name: f for f in text_string_to_metric_families(fleet.at(HELLO).get("/metrics").text)}
    assert {s.labels["agent"] for s in families["agent_memory_bytes"].samples} == {"hello"}
    queue = {s.labels["state"]: s.value for s in families["queue_tasks"].samples}
    assert queue == {"queued": 3, "leased": 1, "waiting": 0}
    doors = {s.labels["door"] for s in families["http_requests"].samples}
    assert doors == {"agent:hello"}
    edge = fleet.at(EDGE).get("/metrics").text
    assert 'http_requests_total{door="agent:adder",status="404"} 1.0' in edge


def test_a_new_plan_is_noticed_and_a_broken_one_is_not_taken(fleet: Any) -> None:
    """Changed skills need no restart of the gateway; a plan that is no JSON leaves the old facts in force."""
    plan = json.loads(fleet.plan.read_text())
    plan["agents"][0]["skills"][0]["name"] = "welcome"
    fleet.plan.write_text(json.dumps(plan))
    os.utime(fleet.plan, ns=(1, 1))
    directory = fleet.app._directory
    directory._looked_s = float("-inf")
    assert fleet.at(HELLO).get("/skills").json()["skills"][0]["name"] == "welcome"
    fleet.plan.write_text("{")
    directory._looked_s = float("-inf")
    assert fleet.at(HELLO).get("/skills").json()["skills"][0]["name"] == "welcome"


def test_reads_from_elsewhere_need_the_token(fleet: Any) -> None:
    """A client that is not on this machine reads nothing without the token."""
    from starlette.testclient import TestClient

    client = TestClient(fleet.app, base_url=f"http://10.0.0.1:{HELLO}", client=("10.0.0.9", 5))
    assert client.get("/health").status_code == 401
    assert (
        client.get("/health", headers={"Authorization": f"Bearer {fleet.token.read_text().strip()}"}).status_code == 200
    )


def test_head_is_answered_like_get(fleet: Any) -> None:
    """Probes often ask with HEAD."""
    assert fleet.at(HELLO).head("/health").status_code == 200
