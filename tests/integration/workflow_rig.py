"""A fleet with the orchestrator and a worker that leaves a trace of each execution."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from sutazai.client import SupervisorClient, TaskClient
from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKER = '''
import os
import time
from pathlib import Path

from sutazai.runtime import Agent, Context, NonRetryableError

agent = Agent("worker")


def trace(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(text + "\\n")


@agent.skill
def add(a: float, b: float = 1, trace_to: str = "", seconds: float = 0) -> float:
    """Add two numbers."""
    if trace_to:
        trace(trace_to, f"begin {a} {time.monotonic()}")
    time.sleep(seconds)
    if trace_to:
        trace(trace_to, f"end {a} {time.monotonic()}")
    return a + b


@agent.skill
def flaky(path: str, fails: int) -> int:
    """Fail so many times, then give the number of tries."""
    trace(path, "try")
    tries = len(Path(path).read_text().splitlines())
    if tries <= fails:
        raise RuntimeError("not yet")
    return tries


@agent.skill
def refuse(why: str = "no") -> int:
    """Fail for good."""
    raise NonRetryableError(why)
'''
MANIFEST = """
fleet: {fleet}
port_offset: {offset}
agents:
  agent-orchestrator: {instances: 2}
  worker: {file: worker.py, port: 10480, pool: standard, memory: 64MB, instances: 4, attempts: 12}
"""


@contextlib.contextmanager
def workflow_fleet(folder: Path) -> Iterator[LiveFleet]:
    """Bring the fleet up; ``fleet.folder / "t"`` is where workers may write."""
    (folder / "worker.py").write_text(WORKER)
    live = LiveFleet(MANIFEST.replace("worker.py", str(folder / "worker.py")))
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o011)
    with live:
        (live.folder / "t").mkdir()
        (live.folder / "t").chmod(0o777)
        yield live


def client_of(fleet: LiveFleet) -> TaskClient:
    """A client of the fleet."""
    os.environ["SUTAZAI_RUN_ROOT"] = fleet.env["SUTAZAI_RUN_ROOT"]
    os.environ["SUTAZAI_STATE_ROOT"] = fleet.env["SUTAZAI_STATE_ROOT"]
    return TaskClient(fleet.name)


def start(client: TaskClient, workflow: str | dict[str, Any], skill: str = "run", **inputs: Any) -> str:
    """Start a run; gives its task."""
    given: dict[str, Any] = {"workflow": workflow, "inputs": inputs} if skill == "run" else inputs
    name: str = client.submit([{"agent": "agent-orchestrator", "skill": skill, "input": given}])[0]["id"]
    return name


def until(what: Any, seconds: float = 60) -> Any:
    """Ask until something is so."""
    give_up_at = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < give_up_at, "it did not come to it"
        time.sleep(0.02)


def process(fleet: LiveFleet, name: str) -> int:
    """Process id of one of the fleet's own processes."""
    with SupervisorClient(fleet.name) as supervisor:
        return int(next(row["pid"] for row in supervisor.status()["processes"] if row["name"] == name))


def kill(pid: int) -> None:
    """Kill a process of the fleet."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
