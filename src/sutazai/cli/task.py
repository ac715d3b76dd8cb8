"""Why it exists: a task outlives the command that made it, so it can be looked at, followed and cancelled by its id."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from sutazai.cli import dead, fleets
from sutazai.cli.down import FleetOption, JsonOption
from sutazai.cli.exits import BAD_MANIFEST, FAILED, OK, CliError
from sutazai.cli.output import console, note, print_json
from sutazai.client import TaskClient

run = typer.Typer(
    help="Look at durable tasks: list, show, result, tree, watch, cancel, schedules; answer those that wait for a "
    "person or a signal; dead letters: dead, replay, discard.",
    no_args_is_help=True,
)
for _verb in (dead.dead, dead.replay, dead.discard):
    run.command(_verb.__name__)(_verb)
TaskArgument = Annotated[str, typer.Argument(help="Identifier of the task, like t_1jx3…")]
SAID = {"approve": "approved", "deny": "denied", "signal": "signalled"}
COLOURS = {"succeeded": "green", "failed": "red", "dead": "red", "expired": "red", "cancelled": "yellow"}


def print_whole(source: IO[bytes]) -> None:
    """Copy JSON text to standard output."""
    shutil.copyfileobj(source, sys.stdout.buffer, 1 << 20)
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def write_whole(source: IO[bytes], target: Path) -> None:
    """Write a file beside its place and give it its name when all of it is on disk.

    Raises:
        CliError: it cannot be written; what was there is as it was.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CliError(f"{target} cannot be written: {error.strerror or error}", FAILED) from error


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


@run.command("result")
def result(
    task: TaskArgument,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; else the terminal.")] = None,
    fleet: FleetOption = None,
) -> None:
    """Write the result of a task as JSON, also one that is too large to be shown."""
    with _client(fleet) as client, client.open_result(client.get(task)) as source:
        if output is None:
            print_whole(source)
            return
        write_whole(source, output)
    note(f"{output} has the result of {task}")


@run.command("tree")
def tree(task: TaskArgument, *, fleet: FleetOption = None, as_json: JsonOption = False) -> None:
    """Show a task, the tasks it asked for, and every turn of each: what started, what committed, what was lost."""
    with _client(fleet) as client:
        tasks = client.tree(task)
    if as_json:
        print_json(tasks)
        return
    from rich.markup import escape
    from rich.tree import Tree

    nodes: dict[str, Tree] = {}
    root = Tree(task)
    for entry in tasks:
        colour = COLOURS.get(entry["status"], "cyan")
        name = f"[bold]{escape(entry['label'])}[/] " if entry.get("label") else ""
        label = f"{name}{entry['agent']}.{entry['skill']} [{colour}]{entry['status']}[/] {entry['id']}"
        if used := entry.get("fallback"):
            label += (
                f" [yellow]fallback: {_escaped(used['by'])} after {_escaped(used['instead_of'])} {used['status']}[/]"
            )
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
    if outcome in SAID:
        said = turn.get("effects") or {}
        comment = f": {said['comment']}" if said.get("comment") else ""
        return f"[green]{SAID[outcome]}[/] by {_escaped(said.get('by', ''))}{_escaped(comment)}"
    colour = "green" if outcome in {"result", "wait"} else "yellow"
    return f"[dim]turn with token {turn['fence']}[/] [{colour}]{outcome}[/] [dim]{took} pid {turn.get('pid') or '–'}[/]"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


@run.command("schedules")
def schedules(*, fleet: FleetOption = None, as_json: JsonOption = False) -> None:
    """List the schedules of the plan: when each comes next, and what its last time has become."""
    with _client(fleet) as client:
        found = client.schedules()
    if as_json:
        print_json(found)
        return
    if not found:
        note("no agent of this fleet has a schedule; write schedules: below one in the manifest")
        return
    from rich import box
    from rich.table import Table

    heads = ("agent.skill", "schedule", "cron", "next (UTC)", "last (UTC)", "last task")
    grid = Table(*heads, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for entry in found:
        cron = entry["cron"] if entry["timezone"] == "UTC" else f"{entry['cron']} {entry['timezone']}"
        times = [_utc(entry["next_wall_ms"]), _utc(entry["last_wall_ms"])]
        grid.add_row(f"{entry['agent']}.{entry['skill']}", entry["name"], cron, *times, entry["last_task"] or "–")
    console().print(grid)


def _utc(wall_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(wall_ms / 1_000)) if wall_ms else "–"


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


ByOption = Annotated[str, typer.Option("--by", help="Who says it, for the history; your user name when left out.")]
CommentOption = Annotated[str, typer.Option("--comment", help="Why, for the history.")]
DataOption = Annotated[str | None, typer.Option("--data", help="JSON that is handed on to the task's result.")]
WaitingArgument = Annotated[str, typer.Argument(help="The waiting task, or one above it, like a workflow's run.")]


@run.command("waiting")
def waiting(*, fleet: FleetOption = None, as_json: JsonOption = False) -> None:
    """List tasks that wait for a person or a signal, with what they ask."""
    with _client(fleet) as client:
        tasks = client.waiting()
    if as_json:
        print_json(tasks)
        return
    if not tasks:
        print("nothing waits for a person or a signal")
    for entry in tasks:
        asked = entry["input"] if isinstance(entry.get("input"), dict) else {}
        left_s = (entry.get("deadline_left_ms") or 0) // 1_000
        wanted = "a person" if entry["agent"] == "human" else f"the signal {entry['skill']}"
        print(f"{entry['id']}  {entry.get('label') or ''}  waits for {wanted}, {left_s} s left".replace("    ", "  "))
        if text := asked.get("text"):
            print(f"    {text}")
        if asked.get("show") is not None:
            print_json(asked["show"])


def _answers(word: str, meaning: str) -> None:
    """Make the verb by which a person says yes or no."""

    def say(
        task: WaitingArgument,
        *,
        comment: CommentOption = "",
        data: DataOption = None,
        by: ByOption = "",
        fleet: FleetOption = None,
        as_json: JsonOption = False,
    ) -> None:
        with _client(fleet) as client:
            found = getattr(client, word)(task, by=by, comment=comment, data=_data(data))
        _told(found, SAID[word], as_json=as_json)

    run.command(word, help=meaning)(say)


_answers("approve", "Say yes to a task that waits for a person; what waits for it goes on.")
_answers("deny", "Say no to a task that waits for a person: it fails with the code denied.")


@run.command("signal")
def signal(
    task: WaitingArgument,
    name: Annotated[str, typer.Argument(help="Which signal; may be left out when only one is waited for.")] = "",
    *,
    data: DataOption = None,
    by: ByOption = "",
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a signal to a task that waits for it. Given by its name, it is kept when nobody waits for it yet."""
    with _client(fleet) as client:
        found = client.signal(task, name, by=by, data=_data(data))
    _told(found, SAID["signal"], as_json=as_json)


def _data(text: str | None) -> Any:
    import json

    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise CliError(f"--data is no JSON: {error}", BAD_MANIFEST) from error


def _told(found: dict[str, Any], word: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    elif kept := found.get("signal_kept"):
        print(f"nothing below {found['id']} waits for the signal {kept} yet: it is kept for who does, 7 days at most")
    else:
        print(f"{found['id']} is {word}")


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
