"""Why it exists: tasks that used up their attempts wait for a person, who reads why, mends it, and replays or discards.

The three verbs stand below ``sutazai task``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sutazai.cli import fleets
from sutazai.cli.down import FleetOption, JsonOption
from sutazai.cli.exits import BAD_MANIFEST, FAILED, OK, CliError
from sutazai.cli.output import console, note, print_json
from sutazai.client import TaskClient

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 1_000
TasksArgument = Annotated[list[str] | None, typer.Argument(help="Identifiers of dead tasks.")]
AgentOption = Annotated[str | None, typer.Option(help="All dead tasks of this agent that nobody has handled.")]


def dead(
    *,
    agent: Annotated[str | None, typer.Option(help="Only tasks of this agent.")] = None,
    handled: Annotated[bool, typer.Option("--handled", help="Also those that were replayed or discarded.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=PAGE, help="How many, newest first.")] = 20,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters: tasks that used up their attempts, each with its last error and turns."""
    with TaskClient(fleets.paths_of(fleet).run.name) as client:
        tasks = client.dead(agent=agent, handled=handled, limit=limit)
    if as_json:
        print_json(tasks)
        return
    if not tasks:
        note("there are no dead letters")
        return
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    grid = Table("task", "agent.skill", "attempts", "turns", "last error", box=box.SIMPLE_HEAD, pad_edge=False)
    for task in tasks:
        attempts = f"{task['attempt']} of {task['attempts_max']}"
        if task["losses"]:
            attempts += f", lost {task['losses']}"
        turns = ", ".join(turn["outcome"] or "running" for turn in task["turns"][-4:])
        grid.add_row(task["id"], f"{task['agent']}.{task['skill']}", attempts, turns, escape(_why(task)))
    console().print(grid)


def _why(task: dict[str, Any]) -> str:
    error = task.get("error") or {}
    text = f"{error.get('code', '')}: {error.get('message', '')}".strip(": ")
    if task.get("handled"):
        by = f"{task['handled']} by {task['handled_by']}"
        text += f" ({by} as {task['replayed_by']})" if task.get("replayed_by") else f" ({by})"
    return text


def replay(
    tasks: TasksArgument = None, *, agent: AgentOption = None, fleet: FleetOption = None, as_json: JsonOption = False
) -> int:
    """Do dead tasks again, each as a new task with the same input; doing it twice makes one task."""
    return _handle("replay", tasks, agent, fleet, as_json=as_json)


def discard(
    tasks: TasksArgument = None, *, agent: AgentOption = None, fleet: FleetOption = None, as_json: JsonOption = False
) -> int:
    """Put dead tasks aside: they count no more; their evidence stays until they are old."""
    return _handle("discard", tasks, agent, fleet, as_json=as_json)


def _handle(verb: str, tasks: list[str] | None, agent: str | None, fleet: str | None, *, as_json: bool) -> int:
    import getpass

    if bool(tasks) == bool(agent):
        raise CliError(f"say which: sutazai task {verb} ID…, or sutazai task {verb} --agent NAME", BAD_MANIFEST)
    done: list[dict[str, Any]] = []
    with TaskClient(fleets.paths_of(fleet).run.name) as client:
        act = client.replay if verb == "replay" else client.discard
        for page in _pages(client, tasks or [], agent):
            done += act(page, by=getpass.getuser())
            if any("error" in entry for entry in done):
                break
    if as_json:
        print_json(done)
    else:
        _tell(verb, done)
    return FAILED if any("error" in entry for entry in done) else OK


def _pages(client: TaskClient, tasks: list[str], agent: str | None) -> Iterator[list[str]]:
    """Give identifiers, so many at once as a request takes; those of an agent until there are no more."""
    for first in range(0, len(tasks), PAGE):
        yield tasks[first : first + PAGE]
    while agent and (found := client.dead(agent=agent, limit=PAGE)):
        yield [task["id"] for task in found]


def _tell(verb: str, done: list[dict[str, Any]]) -> None:
    for entry in done:
        if "error" in entry:
            note(f"{entry['task']}: {entry['error']['detail']}")
        elif verb == "discard":
            print(f"{entry['task']} is discarded")
        else:
            again = ", as it was asked before" if entry["duplicate"] else ""
            print(f"{entry['task']} runs again as {entry['replay']}{again}")
    if not done:
        note("there are no dead letters of this agent")
