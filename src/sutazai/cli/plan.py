"""Why it exists: proves on paper that a fleet fits a host, before anything is started.

The decision is ``sutazai.plan``'s, which is pure. Facts of this host are gathered by ``control.facts`` in a process of
its own; ``--host`` replaces them, so that any laptop can prove a plan for any machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from sutazai.cli.down import JsonOption
from sutazai.cli.exits import BAD_MANIFEST, FAILED, OK, CliError
from sutazai.cli.output import console, print_json

DEFAULT_MANIFEST = "sutazai.yaml"
ManifestArgument = Annotated[Path, typer.Argument(help="The manifest.", show_default=True)]
HostOption = Annotated[
    str | None, typer.Option("--host", help="Plan for another machine, like 12c,29.38GB, instead of this one.")
]


def run(
    manifest: ManifestArgument = Path(DEFAULT_MANIFEST), *, host: HostOption = None, as_json: JsonOption = False
) -> int:
    """Prove that the fleet fits: ports, memory at the start peak, CPU, start order. Starts nothing.

    Exit code 0: it fits. 1: it does not, each reason is named. 2: the manifest has mistakes, all are listed.
    """
    from sutazai import plan as planner
    from sutazai import spec
    from sutazai.plan.render import render

    fleet = spec.load(manifest)
    try:
        given = planner.parse_host(host) if host else None
    except ValueError as error:
        raise CliError(str(error), BAD_MANIFEST) from error
    facts = given or planner.HostFacts.from_json(host_facts(fleet.fleet))
    result = planner.make(fleet, facts)
    if as_json:
        print_json(planner.to_json(result))
    else:
        console().print(render(result))
    return OK if result.fits else FAILED


def host_facts(fleet: str) -> dict[str, object]:
    """Ask this host for its facts; ports held by the fleet itself count as free.

    Raises:
        CliError: the host could not be read.
    """
    command = [sys.executable, "-m", "sutazai.control.facts", "--fleet", fleet]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise CliError(f"could not read this host: {done.stderr.strip()[-500:]}")
    facts: dict[str, object] = json.loads(done.stdout)
    return facts
