"""Why it exists: every process and every agent writes one log; this reads them, newest last.

It reads the files, so that it works when nothing else does.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from sutazai.cli import fleets
from sutazai.cli.down import FleetOption
from sutazai.cli.exits import REFUSED, CliError
from sutazai.cli.output import note
from sutazai.paths import FleetPaths

if TYPE_CHECKING:
    from pathlib import Path

POLL_S = 0.25


def run(
    process: Annotated[str | None, typer.Argument(help="Process or agent; without it, the names are listed.")] = None,
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until interrupted.")] = False,
    fleet: FleetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, as written.")] = False,
) -> None:
    """Show the last lines of a process' or an agent's log."""
    paths = FleetPaths.of(fleets.choose(fleet))
    folder = paths.logs
    known = sorted(path.stem for path in folder.glob("*.log")) if folder.is_dir() else []
    if process is None:
        print("\n".join(known))
        return
    parent = _parent(paths, process)
    if process not in known and parent in known:
        note(f"{process} is forked by {parent} and writes to its log, which follows; agents have logs of their own")
        process = parent
    if process not in known:
        raise CliError(f"no log of {process!r} in {folder}; there are: {', '.join(known) or 'none'}", REFUSED)
    path = folder / f"{process}.log"
    text, offset = _tail(path, lines)
    if not text and not follow:
        note(f"{process} has logged nothing yet")
    _show(text, as_json=as_json)
    while follow:
        time.sleep(POLL_S)
        size = path.stat().st_size
        if size < offset:  # rotated
            offset = 0
        if size > offset:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(size - offset)
            offset += len(data)
            _show(data.decode(errors="replace"), as_json=as_json)


def _parent(paths: FleetPaths, process: str) -> str:
    """Name the process whose log a worker writes to; empty when this is no worker."""
    plan = fleets.plan_of(paths)
    if not any(worker["name"] == process for worker in plan.get("workers", ())):
        return ""
    return next((entry["name"] for entry in plan.get("processes", ()) if entry.get("kind") == "worker"), "")


def _tail(path: Path, lines: int) -> tuple[str, int]:
    block = 64 * 1024
    with path.open("rb") as file:
        end = file.seek(0, 2)
        start, data = end, b""
        while start > 0 and data.count(b"\n") <= lines:
            step = min(block, start)
            start -= step
            file.seek(start)
            data = file.read(step) + data
    kept = data.split(b"\n")
    tail = kept[-(lines + 1) :] if kept and not kept[-1] else kept[-lines:]
    return b"\n".join(tail).decode(errors="replace"), end


def _show(text: str, *, as_json: bool) -> None:
    for line in text.splitlines():
        print(line if as_json else _readable(line))


def _readable(line: str) -> str:
    """Turn a structured line into a readable one; anything else stays as it is."""
    if not line.startswith("{"):
        return line
    try:
        entry = json.loads(line)
        at_ms = int(entry.pop("at_wall_ms"))
    except (ValueError, KeyError, TypeError):
        return line
    clock = time.strftime("%H:%M:%S", time.localtime(at_ms / 1_000)) + f".{at_ms % 1_000:03d}"
    level = str(entry.pop("level", "info")).upper()
    text = entry.pop("text", "")
    rest = " ".join(f"{key}={value}" for key, value in entry.items())
    return f"{clock} {level:7} {text}" + (f"  {rest}" if rest else "")
