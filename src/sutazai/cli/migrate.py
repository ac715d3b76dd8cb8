"""Why it exists: a fleet can be taken to the other profile, and back, with all of its tasks and states.

The fleet is down. The plan for the other profile is proved first; then the tasks are copied in one transaction; then
the new plan comes into force; then the old store is set aside. A kill before the plan changes leaves the fleet as it
was, and one after it leaves it moved. Doing it again is safe.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sutazai.cli import fleets, up
from sutazai.cli.down import JsonOption
from sutazai.cli.exits import FAILED, OK, REFUSED, CliError
from sutazai.cli.output import note, print_json
from sutazai.cli.plan import DEFAULT_MANIFEST, ManifestArgument
from sutazai.paths import FleetPaths

if TYPE_CHECKING:
    from collections.abc import Iterator

STORES = {"embedded": "sqlite", "standard": "postgres"}
STOP_WAIT_S = 30.0
SERVER = "postgres"


def run(
    manifest: ManifestArgument = Path(DEFAULT_MANIFEST),
    *,
    to: Annotated[str, typer.Option("--to", help="The profile to move to: embedded or standard.")],
    as_json: JsonOption = False,
) -> int:
    """Move a fleet that is down to another profile, with its tasks and states; the old store is kept aside.

    Example: sutazai migrate fleets/demo.yaml --to standard
    """
    from sutazai import spec

    if to not in STORES:
        raise CliError(f"there is no profile {to!r}: it is one of {', '.join(STORES)}", REFUSED)
    fleet = spec.load(manifest, profile=to)
    paths = FleetPaths.of(fleet.fleet)
    if fleets.answers(paths.supervisor_socket):
        raise CliError(f"{fleet.fleet} is up; stop it first: sutazai down --fleet {fleet.fleet}", REFUSED)
    have = up.profile_of(paths)
    if not have:
        raise CliError(f"{fleet.fleet} was never up, so there is nothing to move: sutazai up --profile {to}", REFUSED)
    if have == to:
        note(f"{fleet.fleet} has the profile {to} already")
        return OK
    plan, code = up.compile_plan(manifest, paths, out=subprocess.DEVNULL if as_json else None, profile=to)
    if plan is None:
        return code
    with _server(plan if to == "standard" else paths.plan):
        moved = _ask("--fleet", fleet.fleet, "--from", STORES[have], "--to", STORES[to])
        up.keep_plan(plan, paths)
        left, why = _set_aside(fleet.fleet, STORES[have])
    rows = moved["rows"]
    if as_json:
        print_json({"fleet": fleet.fleet, "profile": to, "left": left, **moved})
    else:
        kept = f"what it left is kept as {left}" if left else "what it left is kept where it was"
        print(
            f"{fleet.fleet} has the profile {to}: {rows['tasks']} tasks ({moved['open_tasks']} of them open) and "
            f"{rows['states']} states were moved; {kept}"
        )
    if why:
        note(
            f"the move is done, only the old store has no other name: {why}. It is not in use; the next move names it."
        )
    if as_json:
        return OK
    if missing := moved["files_missing"]:
        note(f"{missing} results lie in files that are gone from {paths.payloads}: those cannot be read")
    written = spec.load(manifest).profile == to
    option = "" if written else f" --profile {to}, or write profile: {to} into the manifest"
    note(f"bring it up: sutazai up {manifest}{option}")
    return OK


def _set_aside(fleet: str, driver: str) -> tuple[str | None, str]:
    """Give the store that was left another name; gives it, or why it has none. The move is done either way."""
    try:
        return _ask("--fleet", fleet, "--set-aside", driver)["name"], ""
    except CliError as error:
        return None, str(error)


def _ask(*words: str) -> dict[str, Any]:
    """Have the broker's package do it.

    Raises:
        CliError: it could not; nothing has changed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "sutazai.bus.move", *words], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise CliError(done.stderr.strip() or "the store could not be moved", FAILED)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def _server(plan: Path) -> Iterator[None]:
    """Run the PostgreSQL of a plan for as long as it is needed, without the fleet.

    Raises:
        CliError: it ends by itself.
    """
    processes = json.loads(plan.read_text())["processes"]
    process = next(process for process in processes if process["name"] == SERVER)
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            process["argv"], env={**os.environ, **process["env"]}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            with _stopping(server):
                yield
        except CliError as error:
            log.seek(0)
            told = log.read().decode(errors="replace").strip().splitlines()[-5:]
            raise CliError("\n".join([str(error), "PostgreSQL said last:", *told]), FAILED) from error


@contextmanager
def _stopping(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop the server in the end."""
    try:
        yield
    finally:
        server.send_signal(signal.SIGINT)  # its clients are told to go; SIGTERM would wait for them
        try:
            server.wait(STOP_WAIT_S)
        finally:
            server.kill()
            server.wait()
