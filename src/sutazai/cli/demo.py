"""Why it exists: shows on real input, in a minute, what the fleet is for, and proves it while a worker is killed.

A faulty program of the fleet leaks memory and starts to answer errors. One goal goes to the coordinator, which
delegates to the other agents over durable tasks. In the middle, this command sends SIGKILL to the worker and to the
agent instance that is at work. The run must finish, with no step committed twice.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sutazai.cli import fleets
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
POLL_S = 0.05
AT_WORK_MS = 200
TERMINAL = {"succeeded", "failed", "dead", "cancelled", "expired"}


#: Outcomes of a turn that mean: its effects are stored.
COMMITTED = {"result", "wait"}
LOST = "lost"


@dataclass
class Run:
    """The demonstration while it runs: what was seen, and what was killed.

    Attributes:
        root: the goal's task.
        killed: ``[{"what", "name", "pid"}]`` in order.
        seen: last state of each task, by id.
        begun: monotonic seconds.
    """

    root: str
    killed: list[dict[str, Any]] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Tell a person what happened, with the time since the start."""
        note(f"  {time.monotonic() - self.begun:5.1f} s  {text}")

    def kill(self, what: str, name: str, pid: int) -> None:
        """Send SIGKILL and remember it; a process that ended by itself in between is not counted."""
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.killed.append({"what": what, "name": name, "pid": pid})
        self.say(f"kill -9 {pid}: the {what} {name}")

    def has_killed(self, what: str) -> bool:
        """Tell whether one of this kind was killed already."""
        return any(entry["what"] == what for entry in self.killed)

    def show(self, tasks: list[dict[str, Any]]) -> None:
        """Print each task whose state has changed."""
        for entry in tasks:
            ended = [turn for turn in entry["turns"] if turn["outcome"]]
            lost = bool(ended) and ended[-1]["outcome"] == LOST
            state = entry["status"] if not lost else f"{entry['status']} {len(ended)}"
            if self.seen.get(entry["id"]) == state or entry["status"] == "queued":
                continue
            self.seen[entry["id"]] = state
            again = ", again: its last turn was lost" if lost else ""
            words = {"leased": "at work", "waiting": "waits for the others"}
            self.say(f"{entry['agent']}.{entry['skill']}: {words.get(entry['status'], entry['status'])}{again}")


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
    with SupervisorClient(name) as supervisor, TaskClient(name) as client:
        note(f"symptom   {_symptom(supervisor, service)}")
        request = {"agent": COORDINATOR, "skill": "achieve", "input": {"goal": goal}}
        root = client.submit([request])[0]["id"]
        note(f"goal      {goal}\ntask      {root} is accepted and stored")
        this = Run(root)
        tree = _follow(this, client, supervisor, kill=kill)
        done = client.get(root)
        shop = _process(supervisor.status(), service)
    summary = _summary(done, tree, shop, this.killed)
    summary["report"] = str(_save(paths.state / "reports", root, done))
    if as_json:
        print_json(summary)
    else:
        _show(summary, done, shop)
    enough = (this.has_killed("worker") and this.has_killed("instance")) or not kill
    good = done["status"] == "succeeded" and not summary["committed_twice"] and summary["limit_held"] and enough
    return OK if good else FAILED


def _follow(this: Run, client: TaskClient, supervisor: SupervisorClient, *, kill: bool) -> list[dict[str, Any]]:
    """Show every task of the run until the goal's task ends, and kill in the middle; gives the whole tree."""
    while True:
        tasks = client.tree(this.root)
        this.show(tasks)
        if any(entry["id"] == this.root and entry["status"] in TERMINAL for entry in tasks):
            return tasks
        if kill and not (this.has_killed("worker") and this.has_killed("instance")):
            _kill_in_the_middle(this, tasks, supervisor)
        time.sleep(POLL_S)


def _kill_in_the_middle(this: Run, tasks: list[dict[str, Any]], supervisor: SupervisorClient) -> None:
    """Kill an instance that is at work once another step has committed, and the worker that forked it."""
    if not any(turn["outcome"] in COMMITTED for entry in tasks for turn in entry["turns"]):
        return
    status = supervisor.status()
    # With a model, some turns take seconds: one that has run for a while is sure to be hit in its middle.
    has_model = any(entry["kind"] == "llm" for entry in status["processes"])
    before_ms = time.time_ns() // 1_000_000 - (AT_WORK_MS if has_model else 0)
    at_work = {
        entry["pid"]
        for entry in tasks
        if entry["status"] == "leased" and entry.get("pid") and (entry.get("leased_wall_ms") or 0) <= before_ms
    }
    for victim in status["instances"]:
        if victim["pid"] in at_work and not this.has_killed("instance"):
            this.kill("instance", victim["agent"], victim["pid"])
            worker = next((entry for entry in status["processes"] if entry["name"] == victim["worker"]), None)
            if worker is not None and worker["pid"]:
                this.kill("worker", worker["name"], worker["pid"])


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


def _summary(
    done: dict[str, Any], tree: list[dict[str, Any]], shop: dict[str, Any], killed: list[dict[str, Any]]
) -> dict[str, Any]:
    committed: dict[tuple[str, str], int] = {}
    lost = 0
    for entry in tree:
        for turn in entry["turns"]:
            if turn["outcome"] in COMMITTED:
                step = (entry["id"], str(turn.get("step", "")))
                committed[step] = committed.get(step, 0) + 1
            lost += turn["outcome"] == LOST
    return {
        "task": done["id"],
        "status": done["status"],
        "error": done.get("error"),
        "tasks": len(tree),
        "agents": sorted({entry["agent"] for entry in tree}),
        "turns_committed": sum(committed.values()),
        "turns_lost": lost,
        "committed_twice": sorted(f"{task_id} {step}" for (task_id, step), count in committed.items() if count > 1),
        "killed": killed,
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
        out.print(report, markup=False, soft_wrap=not out.is_terminal)
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
