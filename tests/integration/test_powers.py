"""Powers on a real fleet: memory comes back, nobody loses anything, and who may not is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.testing.fleet import LiveFleet
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.timeout(300), pytest.mark.root]

WAIT_S = 60.0
FILE_BYTES = 64 * MIB
READER = f'''
"""Holds a file in the page cache of its own group, and answers."""
import http.server, os, sys

folder = sys.argv[2]
os.makedirs(folder, exist_ok=True)
path = os.path.join(folder, "large")
with open(path, "wb") as file:
    for _ in range({FILE_BYTES // MIB}):
        file.write(os.urandom({MIB}))
    file.flush()
    os.fsync(file.fileno())


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/read":
            with open(path, "rb") as file:
                while file.read({MIB}):
                    pass
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
'''
LEVER = '''
"""Asks for what it is told to ask for."""
import time

from sutazai.runtime import Agent, Context

agent = Agent("NAME")


@agent.skill
def act(ctx: Context, subject: str = "", bytes: int = 0, dry_run: bool = True) -> dict:
    """Give memory back."""
    return ctx.act("reclaim", subject=subject, bytes=bytes, dry_run=dry_run)


@agent.skill
def resize(ctx: Context, subject: str, mb: int, dry_run: bool = False) -> dict:
    """Change a limit."""
    return ctx.act("resize", subject=subject, memory_bytes=mb << 20, dry_run=dry_run)


@agent.skill
async def act_async(ctx: Context, action: str = "reclaim") -> dict:
    """Ask from a coroutine."""
    return ctx.act(action)


@agent.skill
def again(ctx: Context, seconds: float) -> int:
    """Act over and over for some time: however often the fleet is hurt meanwhile, this ends well."""
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until or not count:
        ctx.act("reclaim", subject="reader", dry_run=False)
        count += 1
    return count


@agent.skill
def count(ctx: Context) -> int:
    """Count in the session's state."""
    ctx.state["n"] = ctx.state.get("n", 0) + 1
    return ctx.state["n"]
'''
MANIFEST = """
fleet: {fleet}
port_offset: {offset}
services:
  reader:
    command: ["{python}", "FOLDER/reader.py", "{port}", "{state}"]
    port: 10600
    memory: 160MB
    pool: monitoring
    ready: {http: /}
agents:
  lever: {file: FOLDER/lever.py, port: 10480, memory: 96MB, keep: 60s, powers: [reclaim, resize]}
  plain: {file: FOLDER/plain.py, port: 10481, memory: 96MB, keep: 60s}
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[LiveFleet]:
    """Bring up a fleet with a service that fills its page cache, an agent with powers, and one without.

    The agents' files are not in pytest's own folder: another run of pytest would close that to the agents' user ids.
    """
    with tempfile.TemporaryDirectory(prefix="sz") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "reader.py").write_text(READER)
        for agent in ("lever", "plain"):
            (folder / f"{agent}.py").write_text(LEVER.replace("NAME", agent))
        with LiveFleet(MANIFEST.replace("FOLDER", name), name=f"pw{os.getpid()}") as live:
            if "memory" not in live.status()["enforcement"]["enforced"]:
                pytest.skip("this host lets us limit no memory")
            yield live


def ask(fleet: LiveFleet, agent: str, skill: str, *words: str) -> dict[str, Any]:
    """Ask an agent and give the task as it ended."""
    done = fleet.command("ask", agent, skill, "--json", *words)
    text = done.stdout[done.stdout.index("\n{\n") + 1 :] if "\n{\n" in done.stdout else done.stdout
    task: dict[str, Any] = json.loads(text)
    return task


def fill(fleet: LiveFleet) -> None:
    """Let the service read its file."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{fleet.port(10600)}/read") as answer:
        assert answer.status == 200


def row(fleet: LiveFleet, name: str) -> dict[str, Any]:
    """One process as status shows it."""
    found: dict[str, Any] = next(each for each in fleet.status()["processes"] if each["name"] == name)
    return found


def instances(fleet: LiveFleet, agent: str) -> list[dict[str, Any]]:
    """Instances of an agent."""
    return [each for each in fleet.status()["instances"] if each["agent"] == agent]


def test_page_cache_comes_back_and_the_service_does_not_notice(fleet: LiveFleet) -> None:
    """A dry run changes nothing; the act frees most of the file, as the group counts; no restart, no limit moved."""
    fill(fleet)
    before = row(fleet, "reader")
    forecast = ask(fleet, "lever", "act", "subject=reader")["result"]
    assert forecast["dry_run"] is True
    assert forecast["freed_bytes"] >= FILE_BYTES // 2
    assert forecast["steps"][0]["done"] is False
    done = ask(fleet, "lever", "act", "subject=reader", "dry_run=false")["result"]
    step = done["steps"][0]
    assert (step["kind"], step["subject"], step["done"], step["why"]) == ("page-cache", "reader", True, "")
    assert step["before_bytes"] >= FILE_BYTES, "the dry run had dropped nothing"
    assert step["after_bytes"] < step["before_bytes"] - FILE_BYTES // 2
    assert done["freed_bytes"] == step["before_bytes"] - step["after_bytes"]
    after = row(fleet, "reader")
    kept = ("pid", "restarts", "oom_kills", "memory_limit_bytes")
    assert [after[key] for key in kept] == [before[key] for key in kept]
    fill(fleet)


def test_without_the_power_nothing_happens(fleet: LiveFleet) -> None:
    """The task fails at once, says why, and the fleet has no act of that agent."""
    for skill in ("act", "act_async"):
        task = ask(fleet, "plain", skill)
        assert (task["status"], task["attempt"], task["error"]["code"]) == ("failed", 1, "non-retryable")
        assert "plain has not the power 'reclaim'" in task["error"]["message"]
    assert "plain" not in {act["agent"] for act in fleet.status()["acts"]}


def test_what_makes_no_sense_is_refused_with_a_reason(fleet: LiveFleet) -> None:
    """An unknown subject and an unknown action fail for good; from a coroutine it works like from a function."""
    task = ask(fleet, "lever", "act", "subject=nobody")
    assert (task["status"], task["error"]["code"]) == ("failed", "non-retryable")
    assert "no process and no agent 'nobody'" in task["error"]["message"]
    assert "there is no action 'fly'" in ask(fleet, "lever", "act_async", "action=fly")["error"]["message"]
    assert ask(fleet, "lever", "act_async")["result"]["dry_run"] is True


def test_an_idle_instance_hibernates_early_and_keeps_its_state(fleet: LiveFleet) -> None:
    """It goes long before its keep time by its usual way; the next task finds the session's state; the asker stays."""
    assert ask(fleet, "plain", "count", "--session", "s")["result"] == 1
    before = instances(fleet, "plain")
    assert len(before) == 1
    done = ask(fleet, "lever", "act", "subject=plain", "dry_run=false")["result"]
    assert [(step["kind"], step["done"]) for step in done["steps"]] == [("hibernate", True)], done
    assert done["steps"][0]["ticket"] == before[0]["ticket"]
    assert done["freed_bytes"] == done["steps"][0]["before_bytes"] > 0
    assert instances(fleet, "plain") == []
    assert ask(fleet, "plain", "count", "--session", "s")["result"] == 2
    ask(fleet, "lever", "act", "dry_run=false")
    assert instances(fleet, "plain") == [], "the whole fleet was asked"
    assert instances(fleet, "lever"), "the one that asks is at work"


def test_the_act_is_seen(fleet: LiveFleet) -> None:
    """Who did what to whom stands in status, in the events and in the log of sutazaid."""
    fill(fleet)
    done = ask(fleet, "lever", "act", "subject=reader", "dry_run=false")
    act = fleet.status()["acts"][-1]
    assert (act["action"], act["subject"], act["agent"], act["task"]) == ("reclaim", "reader", "lever", done["id"])
    assert act["numbers"]["freed_bytes"] == done["result"]["freed_bytes"]
    assert act["text"] in (fleet.state / "logs" / "sutazaid.log").read_text()
    until = time.monotonic() + WAIT_S
    seen: list[dict[str, Any]] = []
    while not seen and time.monotonic() < until:
        answer = fleet_get(fleet, "/v1/events?kind=acted")
        seen = [event for event in answer["events"] if event["data"]["id"] == act["id"]]
    assert seen, "control has made an event of it"
    assert "reclaim for lever: freed" in seen[0]["text"]


def fleet_get(fleet: LiveFleet, path: str) -> Any:
    """Ask control."""
    done = subprocess.run(
        [sys.executable, "-c", _GET, path], env=fleet.env, capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


_GET = """
import http.client, json, os, socket, sys
from sutazai.paths import FleetPaths
c = http.client.HTTPConnection("fleet")
c.sock = socket.socket(socket.AF_UNIX)
c.sock.connect(str(FleetPaths.of(os.environ["SUTAZAI_FLEET"]).control_socket))
c.request("GET", sys.argv[1])
print(c.getresponse().read().decode())
"""


def shown(fleet: LiveFleet, task: str) -> dict[str, Any]:
    """A task as it is now; empty while the broker is away."""
    done = fleet.command("task", "show", task)
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def wait_for(fleet: LiveFleet, task: str, status: str) -> dict[str, Any]:
    """Wait until a task has a status."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        found = shown(fleet, task)
        if found.get("status") == status:
            return found
    raise AssertionError(f"{found}\n{fleet.log_tails()}")


def sutazaid_pid(fleet: LiveFleet) -> int:
    """The child of the guard that serves."""
    guard = int((Path(fleet.env["SUTAZAI_RUN_ROOT"]) / fleet.name / "guard.pid").read_text().split()[0])
    children = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
    return next(int(pid) for pid in children if b"guard.py" in Path(f"/proc/{pid}/cmdline").read_bytes())


@pytest.mark.parametrize("victim", ["broker", "sutazaid"])
def test_a_kill_in_the_middle_loses_nothing(fleet: LiveFleet, victim: str) -> None:
    """Broker or sutazaid die under acts without a pause: the turn asks again, and succeeds in its first execution."""
    submitted = fleet.command("ask", "lever", "again", "seconds=5", "--detach", "--json")
    task = json.loads(submitted.stdout)["id"]
    wait_for(fleet, task, "leased")
    until = time.monotonic() + WAIT_S
    while not any(act["task"] == task for act in fleet.status()["acts"]):
        assert time.monotonic() < until, fleet.log_tails()
    pid = row(fleet, "broker")["pid"] if victim == "broker" else sutazaid_pid(fleet)
    os.kill(pid, signal.SIGKILL)
    done = wait_for(fleet, task, "succeeded")
    assert (done["attempt"], done["losses"]) == (1, 0), fleet.command("task", "tree", task, "--json").stdout
    assert done["result"] >= 1
    assert row(fleet, "reader")["restarts"] == 0


def kernel_limit(fleet: LiveFleet, name: str) -> int:
    """The limit that the kernel holds for a process."""
    groups = [path for path in fleet.groups() if path.name == name]
    for path in groups:
        for control in ("memory.limit_in_bytes", "memory.max"):
            if (path / control).exists():
                return int((path / control).read_text())
    raise AssertionError(groups)


def until_limit(fleet: LiveFleet, name: str, size: int) -> dict[str, Any]:
    """Wait until a ready process has this limit in status."""
    until = time.monotonic() + WAIT_S
    while True:
        found = row(fleet, name)
        if found["ready"] and found["memory_limit_bytes"] == size:
            return found
        assert time.monotonic() < until, found


def test_a_limit_is_changed_while_the_process_runs(fleet: LiveFleet) -> None:
    """A dry run changes nothing; then kernel and status have the new limit, and the process did not notice."""
    before = row(fleet, "reader")
    forecast = ask(fleet, "lever", "resize", "subject=reader", "mb=200", "dry_run=true")["result"]
    assert (forecast["memory_bytes_before"], forecast["memory_bytes_after"]) == (160 * MIB, 200 * MIB)
    assert kernel_limit(fleet, "reader") == 160 * MIB
    done = ask(fleet, "lever", "resize", "subject=reader", "mb=200")["result"]
    assert (done["kind"], done["pool"], done["dry_run"]) == ("process", "monitoring", False)
    assert kernel_limit(fleet, "reader") == row(fleet, "reader")["memory_limit_bytes"] == 200 * MIB
    assert row(fleet, "reader")["pid"] == before["pid"]
    assert fleet.status()["resized"] == [
        {"subject": "reader", "kind": "process", "memory_bytes_before": 160 * MIB, "memory_bytes": 200 * MIB}
    ]


def test_a_changed_limit_outlives_sutazaid_and_the_process(fleet: LiveFleet) -> None:
    """After a kill of sutazaid the process is adopted and keeps its limit; a restart of the process, too."""
    before = until_limit(fleet, "reader", 200 * MIB)
    os.kill(sutazaid_pid(fleet), signal.SIGKILL)
    assert until_limit(fleet, "reader", 200 * MIB)["pid"] == before["pid"]
    assert kernel_limit(fleet, "reader") == 200 * MIB
    assert fleet.command("restart", "reader").returncode == 0
    assert until_limit(fleet, "reader", 200 * MIB)["pid"] != before["pid"]
    assert kernel_limit(fleet, "reader") == 200 * MIB


@pytest.mark.parametrize(
    ("subject", "size", "text"),
    [("reader", 1, "would kill reader"), ("reader", 1_000_000, "does not fit: the pool"), ("nobody", 64, "no process")],
)
def test_a_limit_that_cannot_be_is_refused(fleet: LiveFleet, subject: str, size: int, text: str) -> None:
    """Below what it holds, above its pool, for nobody: refused for good, and nothing has changed."""
    before = kernel_limit(fleet, "reader")
    task = ask(fleet, "lever", "resize", f"subject={subject}", f"mb={size}")
    assert (task["status"], task["error"]["code"]) == ("failed", "non-retryable")
    assert text in task["error"]["message"]
    assert kernel_limit(fleet, "reader") == before


def test_an_agents_next_instance_has_the_new_limit(fleet: LiveFleet) -> None:
    """The one that runs keeps its own; after it hibernated, the next is born with the new one."""
    assert ask(fleet, "plain", "count", "--session", "r")["result"] == 1
    assert instances(fleet, "plain")[0]["memory_limit_bytes"] == 96 * MIB, fleet.log_tails()
    assert ask(fleet, "lever", "resize", "subject=plain", "mb=80")["result"]["kind"] == "agent"
    assert instances(fleet, "plain")[0]["memory_limit_bytes"] == 96 * MIB
    ask(fleet, "lever", "act", "subject=plain", "dry_run=false")
    assert instances(fleet, "plain") == []
    assert ask(fleet, "plain", "count", "--session", "r")["result"] == 2
    assert instances(fleet, "plain")[0]["memory_limit_bytes"] == 80 * MIB


def test_the_next_plan_ends_what_was_changed(fleet: LiveFleet) -> None:
    """A new plan is the truth: limits are the manifest's again, and a process that it keeps runs on."""
    before = until_limit(fleet, "reader", 200 * MIB)
    fleet.path.write_text(fleet.path.read_text().replace("keep: 60s", "keep: 61s"))
    done = fleet.command("up", str(fleet.path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert until_limit(fleet, "reader", 160 * MIB)["pid"] == before["pid"]
    assert kernel_limit(fleet, "reader") == 160 * MIB
    assert fleet.status()["resized"] == []
