"""Why it exists: one process is restarted without touching the others."""

from __future__ import annotations

from typing import Annotated

import typer

from sutazai.cli import fleets
from sutazai.cli.down import FleetOption, JsonOption
from sutazai.cli.output import print_json
from sutazai.client import SupervisorClient


def run(
    process: Annotated[str, typer.Argument(help="Name of a process, as `status` shows it.")],
    *,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restart one process: it is asked to end, given its grace, and started anew."""
    paths = fleets.paths_of(fleet)
    with SupervisorClient(paths.run.name) as supervisor:
        supervisor.restart(process)
    if as_json:
        print_json({"restarted": process})
    else:
        print(f"{process} is being restarted; watch it with: sutazai status")
