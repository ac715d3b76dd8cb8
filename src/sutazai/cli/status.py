"""Why it exists: one live table answers "how is the fleet": memory against limits, instances, queues, restarts.

It shows what ``sutazaid`` measured in its last tick, never an estimate of its own.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sutazai.cli import fleets
from sutazai.cli.down import FleetOption, JsonOption
from sutazai.cli.output import bar, colour_of, console, print_json
from sutazai.client import SupervisorClient
from sutazai.units import format_bytes, format_duration_ms

if TYPE_CHECKING:
    from rich.console import Group

STATE_COLOURS = {
    "ready": "green",
    "asleep": "dim",
    "up": "green",
    "starting": "yellow",
    "waiting": "yellow",
    "backoff": "red",
    "degraded": "red",
}


def run(
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every second until interrupted.")] = False,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show memory against limit by pool, processes, instances, queues, restarts and conditions."""
    paths = fleets.paths_of(fleet)
    with SupervisorClient(paths.run.name) as supervisor:
        status = supervisor.status()
        if as_json:
            print_json(status)
        elif watch and sys.stdout.isatty():
            _follow(supervisor, status)
        else:
            console().print(table(status))


def _follow(supervisor: SupervisorClient, status: dict[str, Any]) -> None:
    from rich.live import Live

    with Live(table(status), console=console(), refresh_per_second=4, screen=True) as live:
        while True:
            time.sleep(1)
            live.update(table(supervisor.status()))


def table(status: dict[str, Any]) -> Group:
    """Lay a status out for a person."""
    from rich.console import Group
    from rich.text import Text

    host = status["host"]
    head = Text.assemble(
        (f"{status['fleet']} ", "bold"),
        (status["state"], STATE_COLOURS.get(status["state"], "yellow")),
        f"   {host['cores']} cores, {format_bytes(host['memory_available_bytes'])} of "
        f"{format_bytes(host['memory_total_bytes'])} available, load {host['load1']:.2f}   "
        f"limits held by cgroup {status['enforcement']['version']}",
    )
    parts: list[Any] = [head, _pools(status), _processes(status)]
    if status["instances"]:
        parts.append(_instances(status))
    if queues := _queues(status):
        parts.append(queues)
    if planned := status.get("planned"):
        parts.append(_planned(planned))
    parts.append(_conditions(status))
    return Group(*parts)


def _grid(*headings: str) -> Any:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for heading in headings:
        right = heading in {
            "used",
            "size",
            "reserved",
            "memory",
            "limit",
            "peak",
            "restarts",
            "oom",
            "instances",
            "age",
        }
        grid.add_column(heading, justify="right" if right else "left", no_wrap=True)
    return grid


def _pools(status: dict[str, Any]) -> Any:
    grid = _grid("pool", "", "used", "reserved", "size", "instances")
    for pool in status["pools"]:
        size = pool["size_bytes"] or 1
        share = pool["used_bytes"] / size
        instances = f"{pool['instances']}" + (f"/{pool['instance_limit']}" if pool["instance_limit"] else "")
        waiting = f" (+{pool['waiting']} wait)" if pool.get("waiting") else ""
        grid.add_row(
            ("  " if pool["parent"] else "") + pool["name"],
            f"[{colour_of(share)}]{bar(share)}[/]",
            format_bytes(pool["used_bytes"]),
            format_bytes(pool["reserved_bytes"]),
            format_bytes(pool["size_bytes"]),
            instances + waiting,
        )
    return grid


def _processes(status: dict[str, Any]) -> Any:
    now_ms = time.time_ns() // 1_000_000
    grid = _grid("process", "state", "pid", "memory", "limit", "peak", "restarts", "oom", "age", "ports")
    for process in status["processes"]:
        limit = process["memory_limit_bytes"]
        share = process["memory_bytes"] / limit if limit else 0.0
        started = process.get("started_wall_ms") or 0
        ports = [str(entry["port"]) for entry in process.get("listen", []) if entry.get("port")]
        shown = " ".join(ports[:4]) + (f" … {len(ports)} in all" if len(ports) > 4 else "")  # noqa: PLR2004 a line's width
        grid.add_row(
            process["name"],
            f"[{STATE_COLOURS.get(process['state'], 'yellow')}]{process['state']}[/]",
            str(process["pid"] or "–"),
            f"[{colour_of(share)}]{format_bytes(process['memory_bytes'])}[/]",
            format_bytes(limit) if limit else "none",
            format_bytes(process["memory_peak_bytes"]),
            str(process["restarts"]),
            str(process["oom_kills"]),
            format_duration_ms(now_ms - started) if started and process["pid"] else "–",
            shown,
        )
    return grid


def _instances(status: dict[str, Any]) -> Any:
    grid = _grid("instance", "state", "worker", "pid", "memory", "limit", "peak", "oom")
    for instance in status["instances"]:
        limit = instance["memory_limit_bytes"]
        share = instance["memory_bytes"] / limit if limit else 0.0
        grid.add_row(
            instance["agent"],
            instance["state"],
            instance["worker"],
            str(instance["pid"] or "–"),
            f"[{colour_of(share)}]{format_bytes(instance['memory_bytes'])}[/]",
            format_bytes(limit) if limit else "none",
            format_bytes(instance["memory_peak_bytes"]),
            str(instance["oom_kills"]),
        )
    return grid


def _queues(status: dict[str, Any]) -> Any:
    busy = {agent: depth for agent, depth in status.get("queues", {}).items() if any(depth.values())}
    if not busy:
        return None
    grid = _grid("queue", "queued", "leased", "waiting")
    for agent, depth in sorted(busy.items()):
        grid.add_row(agent, *(str(depth.get(kind, 0)) for kind in ("queued", "leased", "waiting")))
    return grid


def _planned(planned: list[dict[str, Any]]) -> Any:
    """Name what the manifest plans for, kind by kind; none of it runs."""
    from rich.text import Text

    lines = Text("planned, not started", style="bold")
    for kind in ("agent", "service", "worker"):
        if names := [entry["name"] for entry in planned if entry["kind"] == kind]:
            lines.append(f"\n  {len(names)} {kind}{'s' if len(names) > 1 else ''}: ", style="not bold")
            lines.append(", ".join(names), style="not bold dim")
    return lines


def _conditions(status: dict[str, Any]) -> Any:
    from rich.text import Text

    if not status["conditions"]:
        return Text("no condition is raised", style="green")
    colours = {"critical": "red", "warning": "yellow", "info": "cyan"}
    lines = Text()
    for condition in status["conditions"]:
        lines.append("● ", style=colours.get(condition["severity"], "yellow"))
        lines.append(f"{condition['name']} {condition['subject']}: {condition['text']}")
        if condition.get("fix"):
            lines.append(f"\n    {condition['fix']}", style="dim")
        lines.append("\n")
    lines.rstrip()
    return lines
