"""Why it exists: the plan is the product's face: tables and bars that a person reads in half a minute.

The only module of ``plan`` that loads ``rich``. ``render`` returns a renderable; the caller's console decides on width
and colours, so the same output reads well in a log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sutazai.units import format_bytes, format_duration_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sutazai.plan.model import AgentRow, Finding, Plan, PoolRow, ProcessRow

BAR_CELLS = 16
BAR_CELLS_SCALED = 11
STEP_SHOWN_MAX = 4
AGENTS_SHOWN_MAX = 80
_MARKS = {"error": ("✗", "bold red"), "warning": ("!", "bold yellow"), "note": ("·", "cyan")}


def render(plan: Plan) -> RenderableType:
    """Make the whole view of a plan."""
    parts: list[RenderableType] = [_head(plan)]
    if plan.findings:
        parts += [Text(), *_findings(plan.findings)]
    parts += [Text(), _pools(plan), Text(), _processes(plan)]
    if plan.agents:
        parts += [Text(), _agents(plan.agents)]
    parts += [Text(), _start(plan), _ports(plan), Text(), _verdict(plan)]
    return Group(*parts)


def _head(plan: Plan) -> Text:
    host = plan.host
    cores = f"{host.usable_cores} core{'s' if host.usable_cores != 1 else ''}"
    text = Text.assemble(
        (plan.fleet, "bold"),
        f" on {host.label}: {cores}, {format_bytes(host.memory_total_bytes)}",
    )
    if host.memory_used_outside_bytes:
        text.append(f", {format_bytes(host.memory_used_outside_bytes)} of it used by others")
    text.append(f" → {format_bytes(plan.budget_bytes)} for the fleet")
    holder = {"v1": "limits held by cgroup v1", "v2": "limits held by cgroup v2"}.get(
        host.cgroup, "limits watched only"
    )
    text.append(f"\n{plan.manifest} · {holder}", style="dim")
    if plan.port_offset:
        text.append(f" · port_offset {plan.port_offset}", style="dim")
    return text


def _findings(findings: Iterable[Finding]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for finding in findings:
        mark, style = _MARKS[finding.severity]
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=1)
        grid.add_column()
        text = Text(finding.text)
        if finding.hint:
            text.append(f"\n→ {finding.hint}", style="dim")
        if finding.where and finding.severity != "note":
            text.append(f"\n  {finding.where}", style="dim")
        grid.add_row(Text(mark, style=style), text)
        lines.append(grid)
    return lines


def _pools(plan: Plan) -> RenderableType:
    scaled = any(row.size_bytes < row.written_bytes for row in plan.pools)
    cells = BAR_CELLS_SCALED if scaled else BAR_CELLS
    table = _table("memory pool", "", "at start", "size", *(["written"] if scaled else []), "left", "awake at once")
    for column in table.columns[2:-1]:
        column.justify = "right"
    for row in plan.pools:
        over = row.processes_bytes > row.size_bytes
        short = f"[bold red]−{format_bytes(row.processes_bytes - row.size_bytes)}[/]"
        table.add_row(
            f"└ {row.name}" if row.parent else row.name,
            _bar(row, cells),
            format_bytes(row.processes_bytes),
            format_bytes(row.size_bytes),
            *([f"[dim]{format_bytes(row.written_bytes)}[/]"] if scaled else []),
            short if over else format_bytes(row.room_bytes),
            _awake(row),
        )
    legend = Text.assemble(
        ("█", "blue"), " always runs   ", ("▓", "green"), " one instance of each agent   ", ("░", "dim"), " free"
    )
    return Group(table, _caption(legend))


def _bar(row: PoolRow, cells: int) -> Text:
    """Draw a pool: what always runs, what its agents would take, what is left."""
    if row.processes_bytes > row.size_bytes:
        inside = max(1, cells * row.size_bytes // row.processes_bytes)
        return Text.assemble(("█" * inside, "blue"), ("█" * (cells - inside), "red"))
    fixed = _cells(row.processes_bytes, row.size_bytes, cells)
    agents = min(_cells(min(row.agents_bytes, row.room_bytes), row.size_bytes, cells), cells - fixed)
    return Text.assemble(("█" * fixed, "blue"), ("▓" * agents, "green"), ("░" * (cells - fixed - agents), "dim"))


def _cells(part: int, whole: int, cells: int) -> int:
    """Scale to cells; something is never drawn as nothing."""
    return max(1, round(cells * part / whole)) if part else 0


def _awake(row: PoolRow) -> str:
    if row.name == "reserve":
        return "[dim]never given out[/]"
    parts = []
    if row.agents:
        awake = f"all {row.agents}" if row.awake_max >= row.agents else f"{row.awake_max} of {row.agents}"
        parts.append(f"{awake} [dim]· max {row.instance_limit}[/]" if row.instance_limit else awake)
    if row.on_demand:
        parts.append(f"[dim]+ {row.on_demand} on demand[/]")
    return " ".join(parts)


def _processes(plan: Plan) -> RenderableType:
    services: dict[str, list[str]] = {}
    for port in plan.ports:
        if port.service:
            services.setdefault(port.owner, []).append(port.service)
    table = _table("process", "pool", "limit", "start peak", "cpu", "ports")
    table.columns[1].no_wrap = True
    for column in table.columns[2:4]:
        column.justify = "right"
    for row in plan.processes:
        table.add_row(
            _process_name(row, services.get(row.name, [])),
            row.pool,
            format_bytes(row.memory_bytes),
            format_bytes(row.envelope_bytes),
            _cpu(row),
            " ".join(str(port) for port in row.ports),
            style="dim" if row.planned else "",
        )
    if not any(row.planned for row in plan.processes):
        return table
    return Group(table, _caption(Text("planned: counted in the proof, not started")))


def _process_name(row: ProcessRow, services: list[str]) -> str:
    """Write a process with its family and with the services of the manifest that it is."""
    marks = [row.family] if row.family else []
    marks += services
    marks += ["planned"] if row.planned else []
    marks += ["on demand"] if row.on_demand else []
    return f"{row.name} [dim]{', '.join(marks)}[/]" if marks else row.name


def _cpu(row: ProcessRow) -> str:
    parts = [f"≤ {row.cpu_quota_cores:g} c"] if row.cpu_quota_cores else []
    parts += [f"on {row.cpuset}"] if row.cpuset else []
    return ", ".join(parts)


def _agents(agents: tuple[AgentRow, ...]) -> RenderableType:
    table = _table("agent", "port", "pool", "family", "limit", "peak", "max", "keep")
    for column in (1, 4, 5, 6, 7):
        table.columns[column].justify = "right"
    table.columns[0].no_wrap = True
    for row in agents[:AGENTS_SHOWN_MAX]:
        table.add_row(
            row.name,
            str(row.port) if row.port else "[bold red]none[/]",
            row.pool,
            row.family,
            format_bytes(row.memory_bytes),
            format_bytes(row.envelope_bytes),
            str(row.instances_max),
            "planned" if row.planned else format_duration_ms(row.keep_ms),
            style="dim" if row.planned else "",
        )
    more = f"… and {len(agents) - AGENTS_SHOWN_MAX} more agents (--json)\n" if len(agents) > AGENTS_SHOWN_MAX else ""
    return Group(
        table, _caption(Text(f"{more}limit, peak: of one instance · max: instances · keep: idle time until it sleeps"))
    )


def _caption(text: Text) -> RenderableType:
    text.style = "dim"
    return Padding(text, (0, 0, 0, 1))


def _start(plan: Plan) -> RenderableType:
    steps = [
        " + ".join(step) if len(step) <= STEP_SHOWN_MAX else f"{len(step)} processes"
        for stage in plan.stages
        for step in stage.steps
    ]
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text(" start", style="bold"), Text(" → ".join(steps)))
    return grid


def _ports(plan: Plan) -> RenderableType:
    text = Text(" ports  ", style="bold")
    if not plan.ports:
        return text
    taken = sum(row.number in plan.host.listening for row in plan.ports)
    state = "all free" if not taken else f"{taken} taken"
    text.append(f"{len(plan.ports)} ports, {plan.ports[0].number} to {plan.ports[-1].number}, {state}", style="default")
    return text


def _verdict(plan: Plan) -> Text:
    if plan.fits:
        warnings = len(plan.warnings)
        with_warnings = f", with {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
        return Text.assemble(("✓ ", "bold green"), (f"{plan.fleet} fits", "bold"), f"{with_warnings}.")
    count = len(plan.errors)
    reason = "for one reason" if count == 1 else f"for {count} reasons"
    return Text.assemble(
        ("✗ ", "bold red"), (f"{plan.fleet} does not fit", "bold"), f", {reason} (above). Nothing was started."
    )


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=True, padding=(0, 1), header_style="bold", collapse_padding=True)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
