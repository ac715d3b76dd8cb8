"""Why it exists: shows on real input, in a minute, what the fleet is for, and proves it while a worker is killed.

A faulty program of the fleet leaks memory and starts to answer errors. One goal goes to the coordinator, which
delegates to the other agents over durable tasks. In the middle, this command sends SIGKILL to the worker and to the
agent instance that is at work. The run must finish, with no step committed twice.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sutazai.cli import fleets, task
from sutazai.cli.down import FleetOption, JsonOption
from sutazai.cli.exits import FAILED, OK, REFUSED, CliError
from sutazai.cli.output import console, note, print_json
from sutazai.client import SupervisorClient, TaskClient
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from pathlib import Path

COORDINATOR = "agentzero-coordinator"
GOAL = "Find out what is unhealthy in this fleet, why, and write the incident report."
SYMPTOM_WAIT_S = 90.0
POLL_S = 0.02
TERMINAL = {"succeeded", "failed", "dead", "cancelled", "expired"}


@dataclass
class Kills:
    """What was killed in the middle of the run.

    Attributes:
        killed: ``[{"what", "name", "pid"}]`` in order.
    """

    killed: list[dict[str, Any]] = field(default_factory=list)

    def kill(self, what: str, name: str, pid: int) -> None:
        """Send SIGKILL and remember it; a process that ended by itself in between is not counted."""
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.killed.append({"what": what, "name": name, "pid": pid})
        note(f"          kill -9 {pid}  ({what} {name})")


def run(
    *,
    goal: Annotated[str, typer.Option(help="What the coordinator is asked to achieve.")] = GOAL,
    service: Annotated[str, typer.Option(help="The faulty service that must show a symptom first.")] = "leaky-shop",
    kill: Annotated[bool, typer.Option("--kill/--no-kill", help="Kill a worker and an instance in the middle.")] = True,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> int:
    """Run the demonstration on the running fleet: find a real fault, survive kill -9, write the incident report."""
    paths = fleets.paths_of(fleet)
    name = paths.run.name
    with SupervisorClient(name) as supervisor:
        symptom = _symptom(supervisor, service)
    note(f"symptom   {symptom}")
    with TaskClient(name) as client:
        request = {"agent": COORDINATOR, "skill": "achieve", "input": {"goal": goal}}
        root = client.submit([request])[0]["id"]
        note(f"goal      {goal}\ntask      {root} is accepted and stored")
        kills = Kills()
        chaos = threading.Thread(target=_chaos, args=(name, root, kills), daemon=True)
        if kill:
            chaos.start()
        task.follow(client, root)
        if kill:
            chaos.join(timeout=10)
        done = client.get(root)
        tree = client.tree(root)
    with SupervisorClient(name) as supervisor:
        shop = _process(supervisor.status(), service)
    summary = _summary(done, tree, shop, kills)
    summary["report"] = str(_save(paths.state / "reports", root, done))
    if as_json:
        print_json(summary)
    else:
        _show(summary, done, shop)
    enough = len(kills.killed) == 2 or not kill  # noqa: PLR2004 a worker and an instance
    good = done["status"] == "succeeded" and not summary["committed_twice"] and summary["limit_held"] and enough
    return OK if good else FAILED


def _process(status: dict[str, Any], name: str) -> dict[str, Any]:
    found = next((entry for entry in status["processes"] if entry["name"] == name), None)
    if found is None:
        raise CliError(f"this fleet has no process {name!r}; the demonstration needs fleets/demo.yaml", REFUSED)
    return dict(found)


def _symptom(supervisor: SupervisorClient, service: str) -> str:
    """Wait until the faulty service shows that it is faulty.

    Raises:
        CliError: it does not within ``SYMPTOM_WAIT_S``.
    """
    until = time.monotonic() + SYMPTOM_WAIT_S
    told = False
    while time.monotonic() < until:
        status = supervisor.status()
        shop = _process(status, service)
        for condition in status["conditions"]:
            if condition["subject"] == service:
                return f"{condition['name']} {service}: {condition['text']}"
        if shop["oom_kills"]:
            limit = format_bytes(shop["memory_limit_bytes"])
            return f"{service} was killed {shop['oom_kills']} times at its limit of {limit}"
        if not told:
            note(f"waiting   {service} leaks; its first symptom shows within a minute")
            told = True
        time.sleep(0.25)
    raise CliError(f"{service} showed no symptom within {SYMPTOM_WAIT_S:.0f} s: is it up? see: sutazai logs {service}")


def _chaos(fleet: str, root: str, kills: Kills) -> None:
    """Kill one worker and one instance while a turn of this run is at work and another one has committed."""
    with TaskClient(fleet) as client, SupervisorClient(fleet) as supervisor:
        while len(kills.killed) < 2:  # noqa: PLR2004 a worker and an instance
            tasks = client.tree(root)
            if any(entry["id"] == root and entry["status"] in TERMINAL for entry in tasks):
                return
            committed = any(turn.get("outcome") == "committed" for entry in tasks for turn in entry["turns"])
            status = supervisor.status() if committed else {"instances": []}
            by_pid = {entry["pid"]: entry for entry in status["instances"]}
            for pid in (turn["pid"] for entry in tasks for turn in entry["turns"] if not turn.get("ended_wall_ms")):
                if pid in by_pid and len(kills.killed) < 2:  # noqa: PLR2004 the same two
                    victim = by_pid[pid]
                    kills.kill("instance", victim["agent"], pid)
                    worker = next((p for p in status["processes"] if p["name"] == victim["worker"]), None)
                    if worker and worker["pid"]:
                        kills.kill("worker", worker["name"], worker["pid"])
            time.sleep(POLL_S)


def _summary(done: dict[str, Any], tree: list[dict[str, Any]], shop: dict[str, Any], kills: Kills) -> dict[str, Any]:
    committed: dict[tuple[str, str], int] = {}
    lost = 0
    for entry in tree:
        for turn in entry["turns"]:
            if turn.get("outcome") == "committed":
                step = (entry["id"], str(turn.get("step", "")))
                committed[step] = committed.get(step, 0) + 1
            elif turn.get("outcome"):
                lost += 1
    return {
        "task": done["id"],
        "status": done["status"],
        "error": done.get("error"),
        "tasks": len(tree),
        "agents": sorted({entry["agent"] for entry in tree}),
        "turns_committed": sum(committed.values()),
        "turns_lost": lost,
        "committed_twice": sorted(f"{task_id} {step}" for (task_id, step), count in committed.items() if count > 1),
        "killed": kills.killed,
        "limit_bytes": shop["memory_limit_bytes"],
        "peak_bytes": shop["memory_peak_bytes"],
        "oom_kills": shop["oom_kills"],
        "limit_held": bool(shop["memory_limit_bytes"]) and shop["memory_peak_bytes"] <= shop["memory_limit_bytes"],
    }


def _save(folder: Path, root: str, done: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{root}.md"
    path.write_text(str((done.get("result") or {}).get("report", "")))
    return path


def _show(summary: dict[str, Any], done: dict[str, Any], shop: dict[str, Any]) -> None:
    out = console()
    report = str((done.get("result") or {}).get("report", "")).strip()
    if report:
        out.rule("incident report")
        out.print(report, markup=False)
        out.rule()
    killed = ", ".join(f"{kill['what']} {kill['name']}" for kill in summary["killed"]) or "nothing"
    out.print(f"task      {summary['task']}: {summary['status']}")
    if summary["error"]:
        out.print(f"error     {summary['error'].get('message')}", markup=False)
    out.print(f"agents    {', '.join(summary['agents'])}")
    out.print(
        f"killed    {killed}; turns: {summary['turns_committed']} committed, "
        f"{summary['turns_lost']} lost and done again, {len(summary['committed_twice'])} committed twice"
    )
    held = "held" if summary["limit_held"] else "NOT HELD"
    peak, limit = format_bytes(summary["peak_bytes"]), format_bytes(summary["limit_bytes"])
    out.print(
        f"limit     {shop['name']}: peak {peak} of {limit}, {held} by the kernel, killed {summary['oom_kills']} times"
    )
    out.print(f"report    {summary['report']}")
    out.print(f"look      sutazai status · sutazai task tree {summary['task']} · sutazai logs {COORDINATOR}")
