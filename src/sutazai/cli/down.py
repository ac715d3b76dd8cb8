"""Why it exists: ends a fleet so that no process, cgroup or socket of it is left."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from sutazai.cli import fleets
from sutazai.cli.exits import NOT_UP, CliError
from sutazai.cli.output import note, print_json
from sutazai.client import SupervisorClient

GUARD_WAIT_S = 5.0
POLL_S = 0.02
FleetOption = Annotated[str | None, typer.Option("--fleet", help="Name of the fleet; needed when several are up.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for another program.")]


def run(*, fleet: FleetOption = None, as_json: JsonOption = False) -> None:
    """Stop the fleet: new work is refused, running turns finish, then everything ends in reverse order.

    Tasks that are not finished stay stored; the next `up` goes on with them. Stopping a fleet that is down is fine.
    """
    try:
        paths = fleets.paths_of(fleet)
    except CliError as error:
        if error.code != NOT_UP:
            raise
        if as_json:
            print_json({"stopped": False, "reason": str(error)})
        else:
            note(str(error).partition(";")[0] + ": nothing to stop")
        return
    note(f"stopping {paths.run.name}: running turns finish first")
    with SupervisorClient(paths.run.name) as supervisor:
        supervisor.stop()
    until = time.monotonic() + GUARD_WAIT_S
    while paths.run.exists() and time.monotonic() < until:  # the guard leaves last, and takes the folder with it
        time.sleep(POLL_S)
    if as_json:
        print_json({"stopped": True, "fleet": paths.run.name})
    else:
        print(f"{paths.run.name} is down; its state is kept in {paths.state}")
