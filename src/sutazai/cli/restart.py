"""Why it exists: one process is restarted without touching the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sutazai.cli import fleets
from sutazai.cli.down import FleetOption, JsonOption
from sutazai.cli.exits import REFUSED, CliError
from sutazai.cli.output import print_json
from sutazai.client import SupervisorClient
from sutazai.errors import NotFoundError

if TYPE_CHECKING:
    from sutazai.paths import FleetPaths


def run(
    process: Annotated[str, typer.Argument(help="Name of a process, as `status` shows it.")],
    *,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restart one process: it is asked to end, given its grace, and started anew."""
    paths = fleets.paths_of(fleet)
    with SupervisorClient(paths.run.name) as supervisor:
        try:
            supervisor.restart(process)
        except NotFoundError as error:
            if told := _of_agent(paths, process):
                raise CliError(told, REFUSED) from error
            raise
    if as_json:
        print_json({"restarted": process})
    else:
        print(f"{process} is being restarted; watch it with: sutazai status")


def _of_agent(paths: FleetPaths, name: str) -> str:
    """Say what to do instead when the name is an agent's; empty when it is not."""
    agents = fleets.plan_of(paths).get("agents", ())
    agent = next((entry for entry in agents if entry["name"] == name), None)
    if agent is None:
        return ""
    told = f"{name} is an agent, not a process: its instances start when it has tasks and end when it has none"
    upstream = agent.get("upstream") or {}
    if service := upstream.get("service"):
        return f"{told}; what answers for it is a process: sutazai restart {service}"
    if url := upstream.get("url"):
        return f"{told}; what answers for it is the server at {url}, which this fleet does not run"
    return f"{told}. A new instance reads its code anew; after a change of its manifest: sutazai up MANIFEST"
