"""What a newcomer does in the first minutes, with the real commands: up, look, ask, smoke, demo, change, down."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.spec import builtin_agents_dir, builtin_names
from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
AGENTS = {
    "agentzero-coordinator": 10300,
    "ram-hardware-optimizer": 10387,
    "system-performance-forecaster": 10420,
    "health-monitor": 10425,
    "incident-timeline-writer": 10461,
}
pytestmark = [pytest.mark.timeout(600), pytest.mark.model]


def demo_manifest() -> str:
    """Take the demonstration's fleet with the small test model, under a name and ports of its own."""
    text = (ROOT / "fleets/demo.yaml").read_text().replace("qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct")
    lines = [line for line in text.splitlines() if not line.startswith(("fleet:", "port_offset:"))]
    return "\n".join(["fleet: {fleet}", "port_offset: {offset}", *lines, ""])


@pytest.fixture(scope="module")
def fleet() -> Iterator[LiveFleet]:
    """Bring the demonstration's fleet up once for this file."""
    with LiveFleet(demo_manifest(), name="fm") as live:
        yield live


def http_json(
    fleet: LiveFleet, port: int, path: str, body: dict[str, Any] | None = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Ask a port of the fleet."""
    connection = http.client.HTTPConnection("127.0.0.1", fleet.port(port), timeout=60)
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request("POST" if body is not None else "GET", path, None if body is None else json.dumps(body), sent)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    kept = {name.lower(): value for name, value in response.getheaders()}
    return response.status, kept, json.loads(data) if "json" in kept.get("content-type", "") else data.decode()


def bearer(fleet: LiveFleet) -> str:
    """Read the token for writes."""
    return "Bearer " + (fleet.state / "token").read_text().strip()


def test_everything_is_ready(fleet: LiveFleet) -> None:
    """After `up` each process is ready, inside its limit, and the limits are the manifest's."""
    status = fleet.status()
    assert status["state"] == "up"
    assert {process["state"] for process in status["processes"]} == {"ready"}
    limits = {process["name"]: process["memory_limit_bytes"] for process in status["processes"]}
    assert limits["leaky-shop"] == 96 * 1024**2
    for process in status["processes"]:
        if status["enforcement"]["version"] != "none":
            assert process["memory_limit_bytes"] > 0
            assert process["memory_peak_bytes"] <= process["memory_limit_bytes"]


@pytest.mark.parametrize(("agent", "port"), sorted(AGENTS.items()))
def test_a_sleeping_agent_answers_on_its_own_port(fleet: LiveFleet, agent: str, port: int) -> None:
    """`/health` has the blueprint's exact form, `/skills` schemas, `/metrics` Prometheus text; nothing is woken."""
    before = {entry["agent"] for entry in fleet.status()["instances"]}
    status, _, health = http_json(fleet, port, "/health")
    assert status == 200
    assert list(health) == ["status", "agent", "version", "uptime", "memory_usage", "cpu_usage"]
    assert (health["status"], health["agent"]) == ("healthy", agent)
    status, _, skills = http_json(fleet, port, "/skills")
    assert status == 200
    assert all(skill["description"] and skill["input"]["type"] == "object" for skill in skills["skills"])
    status, headers, metrics = http_json(fleet, port, "/metrics")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert "# TYPE" in metrics
    assert agent not in {entry["agent"] for entry in fleet.status()["instances"]} - before


def test_smoke_passes_all_agents(fleet: LiveFleet) -> None:
    """Every agent passes its own golden tasks and its bad input on the live fleet."""
    done = fleet.command("smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = builtin_agents_dir()
    count = sum((folder / name.replace("-", "_") / "agent.py").exists() for name in builtin_names(folder))
    assert f"{count} of {count} agents passed" in done.stdout


def test_a_task_over_http(fleet: LiveFleet) -> None:
    """202 with an id, `Prefer: wait` for a direct answer, the same key gives the same task, no token gives 401."""
    body = {"skill": "report", "input": {"window_s": 30}}
    token = bearer(fleet)
    assert http_json(fleet, 10425, "/tasks", body)[0] == 401
    status, headers, first = http_json(fleet, 10425, "/tasks", body, Authorization=token, Idempotency_Key="a")
    assert status == 202
    assert headers["location"].endswith(first["id"])
    status, _, again = http_json(fleet, 10425, "/tasks", body, Authorization=token, Idempotency_Key="a")
    assert (status in {200, 202}, again["id"]) == (True, first["id"])
    status, _, answer = http_json(fleet, 10425, "/tasks", body, Authorization=token, Prefer="wait=30")
    assert (status, answer["status"]) == (200, "succeeded")
    assert len(answer["result"]["processes"]) >= 3
    status, _, found = http_json(fleet, 10425, f"/tasks/{first['id']}")
    assert (status, found["id"]) == (200, first["id"])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"skill": "reprot", "input": {}}, 404, "not-found"),
        ({"skill": "report", "input": {"window_s": "long"}}, 422, "invalid-input"),
        ({"skill": "report", "input": {"window": 3}}, 422, "invalid-input"),
        ({"input": {}}, 422, "invalid-input"),
    ],
)
def test_bad_requests_are_problems(fleet: LiveFleet, body: dict[str, Any], status: int, code: str) -> None:
    """A mistake of the caller is an RFC 9457 problem that says what is wrong, and makes no task."""
    got, headers, problem = http_json(fleet, 10425, "/tasks", body, Authorization=bearer(fleet))
    assert (got, headers["content-type"]) == (status, "application/problem+json")
    assert problem["code"] == code
    assert problem["detail"]


def test_up_again_changes_nothing(fleet: LiveFleet) -> None:
    """A second `up` keeps every process."""
    before = {
        process["name"]: process["pid"] for process in fleet.status()["processes"] if process["name"] != "leaky-shop"
    }
    done = fleet.command("up", str(fleet.path))
    assert done.returncode == 0, done.stderr
    after = {
        process["name"]: process["pid"] for process in fleet.status()["processes"] if process["name"] != "leaky-shop"
    }
    assert after == before


def test_the_demonstration_survives_its_kills(fleet: LiveFleet) -> None:
    """The goal is reached while a worker and an instance are killed; nothing commits twice; the report has sources."""
    done = fleet.command("demo", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert {entry["what"] for entry in summary["killed"]} == {"worker", "instance"}
    assert summary["committed_twice"] == []
    assert summary["turns_lost"] >= 1
    assert len(summary["agents"]) >= 5
    assert summary["limit_held"]
    report = Path(summary["report"]).read_text()
    assert "leaky-shop" in report
    assert "## Sources" in report


def test_a_refused_manifest_leaves_the_fleet_running(fleet: LiveFleet, tmp_path: Path) -> None:
    """`up` with mistakes exits 2, with a plan that does not fit 1, and both change nothing."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(fleet.path.read_text().replace("memory: 96MB", "memory: 96"))
    assert fleet.command("up", str(bad)).returncode == 2
    large = tmp_path / "large.yaml"
    large.write_text(fleet.path.read_text().replace("start_peak: 48MB", "start_peak: 90GB").replace("96MB", "90GB"))
    assert fleet.command("up", str(large)).returncode in {1, 2}
    assert fleet.status()["state"] == "up"


def test_another_manifest_of_the_same_name_is_refused(fleet: LiveFleet, tmp_path: Path) -> None:
    """A copy of the manifest elsewhere does not take the running fleet's place, unless it is told to."""
    other = tmp_path / "copy.yaml"
    other.write_text(fleet.path.read_text())
    pids = {process["name"]: process["pid"] for process in fleet.status()["processes"] if process["kind"] != "service"}
    done = fleet.command("up", str(other))
    assert done.returncode == 4
    assert f"runs already, from {fleet.path}" in done.stderr
    assert fleet.status()["manifest"] == str(fleet.path)
    assert fleet.command("up", str(other), "--replace").returncode == 0
    assert fleet.status()["manifest"] == str(other)
    assert fleet.command("up", str(fleet.path), "--replace").returncode == 0
    after = {process["name"]: process["pid"] for process in fleet.status()["processes"] if process["kind"] != "service"}
    assert after == pids, "the same plan from another file restarts nothing"


def test_an_agent_of_ones_own_joins_a_running_fleet(fleet: LiveFleet) -> None:
    """The README's ten lines: written, named in the manifest, `up`, asked over the CLI and its own port."""
    readme = (ROOT / "README.md").read_text()
    code = next(block for block in readme.split("```python\n")[1:] if "Agent(" in block).split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (fleet.folder / "hello.py").write_text(code)
    manifest = fleet.path.read_text()
    entry = "agents:\n  hello: {file: hello.py, port: 10480, pool: standard, memory: 128MB}\n"
    fleet.path.write_text(manifest.replace("agents:\n", entry, 1))
    done = fleet.command("up", str(fleet.path))
    assert done.returncode == 0, done.stdout + done.stderr
    asked = fleet.command("ask", "hello", "greet", "name=Ada")
    assert asked.returncode == 0, asked.stderr
    assert "Ada" in asked.stdout
    assert http_json(fleet, 10480, "/health")[2]["agent"] == "hello"
    wrong = fleet.command("ask", "hello", "greet", "name=[1]")
    assert wrong.returncode != 0
    assert "name" in wrong.stderr
    page = (ROOT / "docs/howto/give-tasks-from-python.md").read_text()
    script = page.split("```python\n")[1].split("```")[0].replace('"mine"', repr(fleet.name))
    given = subprocess.run(
        [sys.executable, "-c", script], env=fleet.env, capture_output=True, text=True, timeout=60, check=False
    )
    wanted = [f"succeeded Hello, {name}!" for name in ("Ada", "Edsger", "Grace")]
    assert sorted(given.stdout.splitlines()) == wanted, given.stderr


def test_down_leaves_nothing() -> None:
    """After `down` there is no process, cgroup or socket of the fleet; tasks that were accepted are still there."""
    with LiveFleet("fleet: {fleet}\nport_offset: {offset}\nagents:\n  health-monitor:\n", name="dn") as live:
        asked = live.command("ask", "health-monitor", "report", "window_s=10", "--json")
        assert asked.returncode == 0, asked.stderr
        done = live.command("down")
        assert done.returncode == 0, done.stderr
        assert live.leftovers() == []
        assert live.groups() == []
        run = Path(live.env["SUTAZAI_RUN_ROOT"]) / live.name
        assert not list(run.rglob("*")) if run.exists() else True
        assert live.command("up", str(live.path)).returncode == 0
        kept = live.command("task", "show", json.loads(asked.stdout)["id"])
        assert json.loads(kept.stdout)["status"] == "succeeded"
