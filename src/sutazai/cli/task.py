"""Why it exists: a task outlives the command that made it, so it can be looked at, followed and cancelled by its id."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from sutazai.cli import fleets
from sutazai.cli.down import FleetOption, JsonOption
from sutazai.cli.exits import FAILED, OK
from sutazai.cli.output import console, note, print_json
from sutazai.client import TaskClient

run = typer.Typer(help="Look at durable tasks: list, show, tree, watch, cancel.", no_args_is_help=True)
TaskArgument = Annotated[str, typer.Argument(help="Identifier of the task, like t_1jx3…")]
COLOURS = {"succeeded": "green", "failed": "red", "dead": "red", "expired": "red", "cancelled": "yellow"}


def _client(fleet: str | None) -> TaskClient:
    return TaskClient(fleets.paths_of(fleet).run.name)


@run.command("list")
def list_tasks(
    *,
    status: Annotated[str | None, typer.Option(help="Only tasks in this state.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only tasks of this agent.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many, newest first.")] = 20,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List tasks, newest first."""
    with _client(fleet) as client:
        tasks = client.list(status=status, agent=agent, limit=limit)
    if as_json:
        print_json(tasks)
        return
    from rich import box
    from rich.table import Table

    grid = Table("task", "agent.skill", "status", "turns", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for task in tasks:
        grid.add_row(
            task["id"],
            f"{task['agent']}.{task['skill']}",
            f"[{COLOURS.get(task['status'], 'cyan')}]{task['status']}[/]",
            str(task.get("turns_ended", "")),
        )
    console().print(grid)


@run.command("show")
def show(task: TaskArgument, *, fleet: FleetOption = None) -> int:
    """Show a task as JSON: input, status, result or error."""
    with _client(fleet) as client:
        found = client.get(task)
    print_json(found)
    return FAILED if found["status"] in {"failed", "dead", "expired", "cancelled"} else OK


@run.command("tree")
def tree(task: TaskArgument, *, fleet: FleetOption = None, as_json: JsonOption = False) -> None:
    """Show a task, the tasks it asked for, and every turn of each: what started, what committed, what was lost."""
    with _client(fleet) as client:
        tasks = client.tree(task)
    if as_json:
        print_json(tasks)
        return
    from rich.tree import Tree

    nodes: dict[str, Tree] = {}
    root = Tree(task)
    for entry in tasks:
        colour = COLOURS.get(entry["status"], "cyan")
        label = f"{entry['agent']}.{entry['skill']} [{colour}]{entry['status']}[/] {entry['id']}"
        if entry["id"] == task:
            root.label = label
            nodes[task] = root
        else:
            nodes[entry["id"]] = nodes.get(entry.get("parent") or "", root).add(label)
        for turn in entry["turns"]:
            nodes[entry["id"]].add(_turn(turn))
    console().print(root)


def _turn(turn: dict[str, Any]) -> str:
    started = turn.get("started_wall_ms") or 0
    ended = turn.get("ended_wall_ms")
    took = f"{(ended - started) / 1_000:.2f} s" if ended else "running"
    outcome = turn.get("outcome") or "running"
    colour = "green" if outcome in {"result", "wait"} else "yellow"
    return f"[dim]turn with token {turn['fence']}[/] [{colour}]{outcome}[/] [dim]{took} pid {turn.get('pid') or '–'}[/]"


@run.command("watch")
def watch(task: TaskArgument, *, fleet: FleetOption = None, as_json: JsonOption = False) -> int:
    """Follow a task until it ends."""
    with _client(fleet) as client:
        follow(client, task, as_json=as_json)
        found = client.get(task)
    return OK if found["status"] == "succeeded" else FAILED


@run.command("cancel")
def cancel(task: TaskArgument, *, fleet: FleetOption = None, as_json: JsonOption = False) -> None:
    """Cancel a task and the tasks it asked for; a running turn is told, and its result is dropped."""
    with _client(fleet) as client:
        found = client.cancel(task)
    if as_json:
        print_json(found)
    else:
        print(f"{task} is {found['status']}")


def follow(client: TaskClient, task: str, *, as_json: bool = False) -> None:
    """Print a task's events until its last one, to standard error for a person, as JSON lines for a program."""
    import json

    started = time.monotonic()
    for event in client.watch(task):
        if as_json:
            print(json.dumps(event), flush=True)
            continue
        data = event.get("data") or {}
        error = data.get("error")
        text = data.get("text") or (error.get("message") if isinstance(error, dict) else error) or ""
        share = f" {data['fraction']:.0%}" if data.get("fraction") is not None else ""
        note(f"  {time.monotonic() - started:6.1f} s  {event['kind']}{share} {text}".rstrip())
