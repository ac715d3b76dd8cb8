"""Why it exists: proves on paper that a fleet fits a host, before anything is started.

The decision is ``sutazai.plan``'s, which is pure. Facts of this host are gathered by ``control.facts`` in a process of
its own; ``--host`` replaces them, so that any laptop can prove a plan for any machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sutazai.cli.down import JsonOption
from sutazai.cli.exits import BAD_MANIFEST, FAILED, OK, CliError
from sutazai.cli.output import console, note, print_json

if TYPE_CHECKING:
    from sutazai import plan as planner

DEFAULT_MANIFEST = "sutazai.yaml"
REGISTRY_ERRORS = ("port-twice", "port-too-high", "no-port-left")
ManifestArgument = Annotated[Path, typer.Argument(help="The manifest.", show_default=True)]
PortsOption = Annotated[
    Path | None, typer.Option("--ports", help="Also write the port registry (YAML) to this file; - prints it alone.")
]
ProfileOption = Annotated[
    str, typer.Option("--profile", help="embedded or standard, in place of what the manifest says.", show_default=False)
]
HostOption = Annotated[
    str | None, typer.Option("--host", help="Plan for another machine, like 12c,29.38GB, instead of this one.")
]


def run(
    manifest: ManifestArgument = Path(DEFAULT_MANIFEST),
    *,
    host: HostOption = None,
    ports: PortsOption = None,
    profile: ProfileOption = "",
    as_json: JsonOption = False,
) -> int:
    """Prove that the fleet fits: ports, memory at the start peak, CPU, start order. Starts nothing.

    Exit code 0: it fits. 1: it does not, each reason is named. 2: the manifest has mistakes, all are listed.
    """
    from sutazai import plan as planner
    from sutazai import spec
    from sutazai.plan.render import render

    fleet = spec.load(manifest, profile=profile)
    try:
        given = planner.parse_host(host) if host else None
    except ValueError as error:
        raise CliError(str(error), BAD_MANIFEST) from error
    facts = given or planner.HostFacts.from_json(host_facts(fleet.fleet))
    result = planner.make(fleet, facts)
    if ports is not None:
        _write_ports(ports, planner.to_registry(fleet, result), result)
        if str(ports) == "-":
            return OK if result.fits else FAILED
    if as_json:
        print_json(planner.to_json(result))
    else:
        console().print(render(result))
    return OK if result.fits else FAILED


def _write_ports(path: Path, text: str, result: planner.Plan) -> None:
    """Write the port registry, unless two want one port: then it would be no registry.

    Raises:
        CliError: ports clash, or the file cannot be written; an old one is left as it is.
    """
    wrong = [str(error) for error in result.errors if error.code in REGISTRY_ERRORS]
    if wrong:
        raise CliError("no port registry: " + "; ".join(wrong), FAILED)
    if str(path) == "-":
        print(text, end="")
        return
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise CliError(f"cannot write {path}: {error.strerror}", FAILED) from error
    note(f"{len(result.ports)} ports are written to {path}")


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
