"""Why it exists: a workflow file is checked, run, gone on with and told by the command line, like any other work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sutazai.cli import ask, fleets, task
from sutazai.cli.down import FleetOption, JsonOption
from sutazai.cli.exits import FAILED, OK, REFUSED, CliError
from sutazai.cli.output import console, note, print_json
from sutazai.client import TaskClient

run = typer.Typer(help="Workflows of agents' skills: check, run, resume, history.", no_args_is_help=True)
FileArgument = Annotated[Path, typer.Argument(help="YAML file of the workflow.")]
RunArgument = Annotated[str, typer.Argument(help="Task of the run, like t_1jx3…")]
DetachOption = Annotated[bool, typer.Option("--detach", "-d", help="Print the run's task and do not wait.")]
WordsArgument = Annotated[list[str] | None, typer.Argument(help="Inputs as NAME=VALUE; a value may be JSON.")]
InputOption = Annotated[str | None, typer.Option("--input", help="All inputs as a JSON object.")]
KeyOption = Annotated[str | None, typer.Option(help="Idempotency key: running twice makes one run.")]
NAME = "agent-orchestrator"


@run.command("check")
def check(file: FileArgument, *, fleet: FleetOption = None, as_json: JsonOption = False) -> None:
    """Say all that is wrong with a workflow, with file and line; skills too when a fleet is up."""
    from sutazai.workflow import checking, read_file

    flow = read_file(file)
    catalogue = _catalogue(fleet)
    checking.check(flow, catalogue, str(file))
    count = checking.count(flow)
    if as_json:
        print_json({"workflow": flow.name, "steps": count, "skills_checked": catalogue is not None})
        return
    print(f"{flow.name}: {count} steps, nothing wrong")
    if catalogue is None:
        note("agents and skills were not checked: there is no fleet here; name one with --fleet")


@run.command("run")
def run_workflow(  # noqa: PLR0913 an option each
    file: FileArgument,
    words: WordsArgument = None,
    *,
    input_json: InputOption = None,
    key: KeyOption = None,
    detach: DetachOption = False,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> int:
    """Run a workflow and wait for its result; interrupting this command does not interrupt the run.

    Example: sutazai workflow run review.yaml files='["a.txt"]'
    """
    from sutazai.workflow import checking, read_file

    flow = read_file(file)
    checking.check(flow, _catalogue(fleet), str(file))
    inputs = ask.read_input(words or [], input_json)
    if problems := checking.problems_of_inputs(flow, inputs):
        raise CliError(f"the inputs do not fit {flow.name}: {'; '.join(problems)}", REFUSED)
    request: dict[str, Any] = {"workflow": file.read_text(encoding="utf-8"), "inputs": inputs}
    return _ask("run", request, ask.Asked(key=key, detach=detach, fleet=fleet, as_json=as_json))


@run.command("resume")
def resume(
    run_id: RunArgument, *, detach: DetachOption = False, fleet: FleetOption = None, as_json: JsonOption = False
) -> int:
    """Go on with a run that failed, as a new run; what had finished is taken over, not done again."""
    return _ask("resume", {"run": run_id}, ask.Asked(detach=detach, fleet=fleet, as_json=as_json))


@run.command("history")
def history(run_id: RunArgument, *, fleet: FleetOption = None, as_json: JsonOption = False) -> int:
    """Tell what happened in a run: each step, how often it began, and that it was committed once."""
    with TaskClient(fleets.paths_of(fleet).run.name) as client:
        identifier = client.submit([{"agent": NAME, "skill": "history", "input": {"run": run_id}}])[0]["id"]
        done = client.wait(identifier, 60)
    if done["status"] != "succeeded":
        note((done.get("error") or {}).get("message") or done["status"])
        return FAILED
    if as_json:
        print_json(done["result"])
        return OK
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    grid = Table("step", "skill", "status", "starts", "commits", "s", "", box=box.SIMPLE_HEAD, show_edge=False)
    for step in done["result"]["steps"]:
        colour = task.COLOURS.get(step["status"], "cyan")
        name = "  " * (step["depth"] - 1) + escape(step["step"])
        grid.add_row(
            name, step["skill"], f"[{colour}]{step['status']}[/]", str(step["starts"]), str(step["commits"]),
            f"{step['took_s']:.2f}", escape(step["error"] or step.get("fallback", "")),
        )  # fmt: skip
    console().print(grid)
    return OK


def _ask(skill: str, given: dict[str, Any], asked: ask.Asked) -> int:
    return ask.submit_and_follow(NAME, skill, given, asked)


def _catalogue(fleet: str | None) -> dict[str, dict[str, Any]] | None:
    """Skills of the fleet's plan by agent; None when no fleet is known here."""
    try:
        plan = json.loads(fleets.paths_of(fleet).plan.read_text())
    except (CliError, OSError, ValueError):
        if fleet is not None:
            raise
        return None
    return {
        entry["name"]: {skill["name"]: skill.get("input", {}) for skill in entry["skills"]} for entry in plan["agents"]
    }
