"""Why it exists: one command from a manifest to a running fleet, each step visible, safe to repeat.

Steps: read the manifest, fetch the model when it is missing, compile and prove the plan, hand it to ``sutazaid``
(start it, or let it swap to the new plan), and show the stages until everything is ready.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sutazai.cli import fleets
from sutazai.cli.down import JsonOption
from sutazai.cli.exits import FAILED, NOT_UP, OK, REFUSED, CliError
from sutazai.cli.output import console, note, print_json
from sutazai.cli.plan import DEFAULT_MANIFEST, ManifestArgument, ProfileOption
from sutazai.client import SupervisorClient
from sutazai.errors import UnavailableError
from sutazai.ids import new_token
from sutazai.paths import FleetPaths

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_S = 0.05
SOCKET_WAIT_S = 15.0


def run(
    manifest: ManifestArgument = Path(DEFAULT_MANIFEST),
    *,
    timeout_s: Annotated[int, typer.Option("--timeout", min=1, help="Seconds until it counts as failed.")] = 180,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let it take the place of a fleet of this name from another manifest.")
    ] = False,
    profile: ProfileOption = "",
    as_json: JsonOption = False,
) -> int:
    """Bring the fleet up, or a running one to this manifest; doing it twice is fine.

    A plan that does not fit or a manifest with mistakes changes nothing: what runs, goes on. So does a fleet of the
    same name that another manifest has started, unless ``--replace`` is given.
    """
    from sutazai import spec

    started = time.monotonic()
    fleet = spec.load(manifest, profile=profile)
    paths = FleetPaths.of(fleet.fleet)
    if fleet.llm is not None and not fleet.llm.url:
        fetch_model(fleet.llm.model, as_json=as_json)
    _same_store(paths, fleet.profile, manifest)
    plan, code = compile_plan(manifest, paths, out=subprocess.DEVNULL if as_json else None, profile=profile)
    if plan is None:
        return code
    _hand_over(paths, plan, "" if replace else fleet.path)
    with SupervisorClient(fleet.fleet) as supervisor:
        status = _wait(supervisor, started + timeout_s, None if as_json else _progress())
    took_s = time.monotonic() - started
    failed = [process["name"] for process in status["processes"] if process["state"] not in {"ready", "done", "asleep"}]
    if as_json:
        print_json({"fleet": fleet.fleet, "state": status["state"], "seconds": round(took_s, 3), "not_ready": failed})
    elif failed:
        note(f"not ready after {took_s:.1f} s: {', '.join(failed)}; see: sutazai status, sutazai logs NAME")
        note(f"the fleet stays up and keeps trying; stop it with: sutazai down --fleet {fleet.fleet}")
    else:
        count = sum(not agent.planned for agent in fleet.agents.values())
        agents = f"{count} agent{'s' if count != 1 else ''}"
        later = sum(agent.planned for agent in fleet.agents.values())
        rest = f"; {later} more are planned, not started: sutazai status" if later else ""
        print(f"{fleet.fleet} is up after {took_s:.1f} s: {len(status['processes'])} processes, {agents}{rest}")
    return FAILED if failed else OK


def _same_store(paths: FleetPaths, profile: str, manifest: Path) -> None:
    """See that the fleet's tasks are where this profile looks for them: a change of it must not lose them.

    Raises:
        CliError: they are in the other one's store.
    """
    have = profile_of(paths)
    if have and have != profile:
        raise CliError(
            f"the tasks of {paths.state.name} are in the store of the profile {have}, and this is {profile}; "
            f"move them: sutazai down --fleet {paths.state.name}, then sutazai migrate {manifest} --to {profile}",
            REFUSED,
        )


def profile_of(paths: FleetPaths) -> str:
    """Tell which profile a fleet was last up with; empty when it never was."""
    try:
        processes = json.loads(paths.plan.read_text())["processes"]
        argv: list[str] = next(process["argv"] for process in processes if process["name"] == "broker")
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return ""
    return "standard" if "postgres" in argv else "embedded"


def fetch_model(model: str, *, as_json: bool) -> None:
    """Have the model file, fetched with a progress bar when it is missing.

    Raises:
        CliError: it cannot be had; the fetcher has said why.
    """
    command = [sys.executable, "-m", "sutazai.llm.fetch", model]
    out = subprocess.DEVNULL if as_json else None
    if subprocess.run(command, check=False, stdout=out).returncode != 0:
        raise CliError(f"the model {model} is missing; nothing was started", FAILED)


def compile_plan(manifest: Path, paths: FleetPaths, *, out: int | None, profile: str = "") -> tuple[Path | None, int]:
    """Prove the manifest on this host, and write what comes out beside the running plan.

    Args:
        manifest: the file.
        paths: of the fleet.
        out: descriptor for the proof, or None for the standard output.
        profile: in place of the manifest's.

    Returns:
        The file, or None when it does not fit or has mistakes, which were printed; and the exit code.
    """
    paths.state.mkdir(parents=True, exist_ok=True, mode=0o755)
    _make_token(paths.token)
    plan = paths.state / "plan.next.json"
    command = [sys.executable, "-m", "sutazai.control.compile", str(manifest), "--out", str(plan)]
    command += ["--profile", profile] if profile else []
    done = subprocess.run(command, check=False, stdout=out)
    return (plan, OK) if done.returncode == 0 else (None, done.returncode)


def _make_token(path: Path) -> None:
    """Make the secret for writes over HTTP, once; only its owner can read it.

    It is on disk before anybody is told it, and appears whole: a power cut must not leave an empty one.
    """
    if path.exists() and path.stat().st_size:
        return
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(new_token() + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def keep_plan(plan: Path, paths: FleetPaths) -> None:
    """Make a proved plan the one that ``sutazaid`` starts from; on disk, for a power cut may follow."""
    plan.replace(paths.plan)
    folder = os.open(paths.state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _hand_over(paths: FleetPaths, plan: Path, only_from: str) -> None:
    """Start ``sutazaid`` with a plan, or give it to the one that runs.

    Raises:
        CliError: it does not start, or the fleet that runs is not from the manifest ``only_from``.
    """
    if fleets.answers(paths.supervisor_socket):
        with SupervisorClient(paths.run.name) as supervisor:
            running = str(supervisor.status().get("manifest") or "")
            if only_from and running not in {"", only_from}:
                raise CliError(
                    f"the fleet {paths.run.name} runs already, from {running}; give this one another name and "
                    "port_offset, stop that one, or write --replace",
                    REFUSED,
                )
            supervisor.plan(plan)
        return
    keep_plan(plan, paths)
    paths.logs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sutazai.supervisor", "--plan", str(paths.plan)]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
    until = time.monotonic() + SOCKET_WAIT_S
    while done.returncode == 0 and time.monotonic() < until:
        if fleets.answers(paths.supervisor_socket):
            return
        time.sleep(POLL_S)
    raise CliError(f"sutazaid did not start; see {paths.logs / 'sutazaid.log'}", NOT_UP)


def _wait(supervisor: SupervisorClient, until: float, show: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
    status: dict[str, Any] = {"state": "starting", "processes": []}
    while time.monotonic() < until:
        try:
            status = supervisor.status()
        except UnavailableError:
            time.sleep(POLL_S)
            continue
        if show is not None:
            show(status)
        if status["state"] == "up":
            break
        time.sleep(POLL_S)
    return status


def _progress() -> Callable[[dict[str, Any]], None]:
    """Make a printer of each process' change of state, one line each, so that it also reads well in a log."""
    out = console(stderr=True)
    begun = time.monotonic()
    seen: dict[str, str] = {}
    marks = {"ready": "[green]✓[/]", "done": "[green]✓[/]", "asleep": "[dim]·[/]", "backoff": "[red]✗[/]"}

    def show(status: dict[str, Any]) -> None:
        for process in status["processes"]:
            name, state = process["name"], process["state"]
            if seen.get(name) == state or (state == "waiting" and name not in seen):
                continue
            first = name not in seen
            seen[name] = state
            if first and state == "starting":
                continue  # the line that matters is the one that says how it went
            why = f"  {process['last_exit']}" if state == "backoff" and process.get("last_exit") else ""
            at_s = time.monotonic() - begun
            out.print(
                f"  {marks.get(state, '[yellow]…[/]')} {at_s:5.1f} s  {process['stage']:<9} {name:<12} {state}{why}"
            )

    return show
