"""Why it exists: says what this host can hold and what it cannot, and what to do, before or while a fleet runs.

It looks only: it starts nothing and leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sutazai.cli import fleets
from sutazai.cli.down import JsonOption
from sutazai.cli.exits import FAILED, OK
from sutazai.cli.output import console, print_json
from sutazai.paths import models_dir, run_root, state_root
from sutazai.units import GIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

DISK_FREE_BYTES_MIN = 2 * GIB
MEMORY_BYTES_MIN = 2 * GIB


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: name of the check.
        level: ``ok``, ``warning`` (works, with less), ``error`` (will not work).
        text: what was found.
        fix: what to do, empty when nothing.
    """

    what: str
    level: str
    text: str
    fix: str = ""


def run(
    manifest: Annotated[Path | None, typer.Argument(help="Also check ports and the model of this manifest.")] = None,
    *,
    as_json: JsonOption = False,
) -> int:
    """Check the host and what runs on it, and say what to do.

    The host: cgroups, user ids, cores, memory, disk, ports, model. What only a running host shows, watched for a
    second: restart loops, work bound to full cores while others idle, programs outside of every fleet that take much,
    strangers on ports of the registry.
    """
    checks: list[Callable[[], list[Finding]]] = [
        _cgroups, _user, _cores, _memory, _disk, _models, _languages, _fleets, _live,
    ]  # fmt: skip
    findings = [finding for check in checks for finding in check()]
    if manifest is not None:
        findings += _manifest(manifest)
    worst_is_error = any(finding.level == "error" for finding in findings)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        marks = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}
        out = console()
        for finding in findings:
            out.print(f"{marks[finding.level]} {finding.what:<12} {finding.text}")
            if finding.fix:
                out.print(f"  {'':<12} [dim]→ {finding.fix}[/]")
    return FAILED if worst_is_error else OK


def _cgroups() -> list[Finding]:
    from sutazai.host.cgroup import detect_groups

    with tempfile.TemporaryDirectory() as folder:
        groups = detect_groups(f"doctor{os.getpid()}", Path(folder))
        groups.destroy()
    level = "ok" if not groups.missing() else "warning"
    held = ", ".join(groups.enforced()) or "nothing"
    found = [Finding("cgroups", level, f"version {groups.version}: the kernel holds {held}")]
    fix = "" if os.geteuid() == 0 else "run as root, or in a scope: systemd-run --user --scope -p Delegate=yes …"
    found += [Finding("cgroups", "warning", f"{miss.limit}: {miss.why}", fix) for miss in groups.missing()]
    return found


def _user() -> list[Finding]:
    if os.geteuid() != 0:
        text = "not root: agents run under your own user id and share its rights"
        return [Finding("user", "warning", text, "run as root to give each instance a user id of its own")]
    blocked = next((path for path in _above(Path(sys.executable)) if not path.stat().st_mode & 0o005), None)
    if blocked is not None:
        text = f"other users cannot enter {blocked}: instances keep root's id (PrivilegesNotDropped)"
        return [Finding("user", "warning", text, f"chmod o+rx {blocked}, or put the checkout below /opt or /srv")]
    return [Finding("user", "ok", "root; instances drop to user ids of their own")]


def _above(path: Path) -> list[Path]:
    absolute = path.absolute()
    return [parent for parent in reversed(absolute.parents) if parent.exists()]


def _cores() -> list[Finding]:
    from sutazai.host import cpus

    cores = cpus.usable_cores()
    text = f"{cores:g} usable of {os.cpu_count()}"
    if cores < 2:  # noqa: PLR2004 the language model takes one
        return [Finding("cores", "warning", text, "the language model and the agents will share one core")]
    return [Finding("cores", "ok", text)]


def _memory() -> list[Finding]:
    from sutazai.host import procfs

    memory = procfs.meminfo()
    text = f"{format_bytes(memory.available_bytes)} available of {format_bytes(memory.total_bytes)}"
    if memory.available_bytes < MEMORY_BYTES_MIN:
        return [Finding("memory", "warning", text, "free some, or plan a smaller fleet: sutazai plan MANIFEST")]
    return [Finding("memory", "ok", text)]


def _disk() -> list[Finding]:
    root = state_root()
    existing = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return [
            Finding("disk", "error", f"cannot write below {existing}", "set SUTAZAI_STATE_ROOT to a folder of yours")
        ]
    free = shutil.disk_usage(existing).free
    text = f"{format_bytes(free)} free for {root}"
    if free < DISK_FREE_BYTES_MIN:
        return [Finding("disk", "warning", text, "new tasks are refused when it is full; free some space")]
    return [Finding("disk", "ok", text), Finding("sockets", "ok", f"in {run_root()}")]


def _models() -> list[Finding]:
    folder = models_dir()
    files = sorted(folder.glob("*.gguf")) if folder.is_dir() else []
    if not files:
        return [Finding("model", "ok", f"none in {folder} yet", "`sutazai up` fetches the manifest's model")]
    return [Finding("model", "ok", f"{path.name}, {format_bytes(path.stat().st_size)}") for path in files]


def _languages() -> list[Finding]:
    from sutazai.host.languages import LANGUAGES

    found = []
    for language in LANGUAGES.values():
        program, why = language.find()
        if program:
            found.append(Finding(language.name, "ok", f"{program}: agents of this language can run"))
        else:
            found.append(Finding(language.name, "ok", f"{why}: agents of this language cannot run", language.hint))
    return found


def _fleets() -> list[Finding]:
    names = fleets.running()
    return [Finding("fleets", "ok", f"up: {', '.join(names)}" if names else "none is up")]


def _live() -> list[Finding]:
    from sutazai.cli import doctor_live

    return doctor_live.findings()


def _manifest(manifest: Path) -> list[Finding]:
    from sutazai import plan as planner
    from sutazai import spec
    from sutazai.cli.plan import host_facts

    fleet = spec.load(manifest)
    result = planner.make(fleet, planner.HostFacts.from_json(host_facts(fleet.fleet)))
    if result.fits:
        return [Finding("plan", "ok", f"{manifest} fits this host")]
    return [Finding("plan", "error", str(error), f"sutazai plan {manifest}") for error in result.errors]
