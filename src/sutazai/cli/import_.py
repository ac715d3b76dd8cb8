"""Why it exists: whoever has a fleet in a Compose file gets a manifest of it, and sees what became of each line.

All decisions are ``sutazai.compose``'s. It reads files and writes one; nothing is started, fetched or installed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sutazai.cli.down import JsonOption
from sutazai.cli.exits import BAD_MANIFEST, OK, CliError
from sutazai.cli.output import console, note, print_json
from sutazai.cli.plan import DEFAULT_MANIFEST, HostOption
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from sutazai.compose import Report

FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="Compose files; each later one is laid over those before it. Default: the one in this folder."),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="The manifest to write.")]
NameOption = Annotated[str, typer.Option("--name", help="Name of the fleet; default: the project's.")]
ProfileOption = Annotated[list[str] | None, typer.Option("--profile", help="A profile to take along; may be repeated.")]
EnvFileOption = Annotated[
    list[Path] | None, typer.Option("--env-file", help="Variables, in place of the .env beside the Compose file.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Write over an existing manifest.")]


def run(  # noqa: PLR0913 each is an option of the verb
    files: FilesArgument = None,
    *,
    out: OutOption = Path(DEFAULT_MANIFEST),
    name: NameOption = "",
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    host: HostOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> int:
    """Make a manifest out of a Compose file. Reads and writes files only: it starts, fetches and builds nothing.

    Missing memory limits are proposed, ports that clash are moved, names of other services become their ports; tables
    show old and new. What has no place in a manifest is listed with its reason. Exit code 2: the file has mistakes.
    """
    from sutazai.compose import Source, save, take_over

    _check_out(out, force=force)
    total_bytes = _host_bytes(host)
    chosen = profile or [word for word in os.environ.get("COMPOSE_PROFILES", "").split(",") if word]
    source = Source(tuple(files or [_beside()]), dict(os.environ), tuple(env_file or ()), tuple(chosen))
    imported = take_over(source, out, fleet=name)
    save(imported, out)
    report = imported.report
    if as_json:
        print_json({"manifest": str(out), "host_memory_bytes": total_bytes, **report.to_json()})
        return OK
    _show(console(), report, total_bytes)
    note(f"{out} is written; nothing was started. Next: sutazai plan {out}")
    return OK


def _check_out(out: Path, *, force: bool) -> None:
    """Refuse what must not be written over, before anything is read.

    Raises:
        CliError: it exists, is a folder, or its folder does not exist.
    """
    if out.is_dir():
        raise CliError(f"{out} is a folder; write -o {out / DEFAULT_MANIFEST}", BAD_MANIFEST)
    if not out.parent.is_dir():
        raise CliError(f"there is no folder {out.parent}; make it, or name another file with -o", BAD_MANIFEST)
    if out.exists() and not force:
        raise CliError(f"{out} exists; write over it with --force, or name another file with -o", BAD_MANIFEST)


def _beside() -> Path:
    """Find the Compose file of the current folder.

    Raises:
        CliError: there is none.
    """
    from sutazai.compose import DEFAULT_NAMES

    for name in DEFAULT_NAMES:
        if Path(name).is_file():
            return Path(name)
    raise CliError(f"there is no Compose file here ({', '.join(DEFAULT_NAMES)}); name one", BAD_MANIFEST)


def _host_bytes(host: str | None) -> int:
    """Memory of the named machine, else of this one."""
    from sutazai import plan as planner

    if host is None:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return planner.parse_host(host).memory_total_bytes
    except ValueError as error:
        raise CliError(str(error), BAD_MANIFEST) from error


def _show(out: Console, report: Report, total_bytes: int) -> None:
    """Show what became of everything, as tables for a person."""
    from rich.markup import escape

    _table(out, ("service", "becomes", "name", "how"), [(r.service, r.becomes, r.name, r.how) for r in report.services])
    ports = [(r.service, str(r.inside), str(r.old or "–"), str(r.new or "none"), r.reason) for r in report.ports]
    _table(out, ("port of", "inside", "old", "new", "why"), ports)
    limits = [
        (r.service, format_bytes(r.memory_bytes), r.source if r.runs else f"{r.source}; not started")
        for r in report.limits
    ]
    _table(out, ("memory of", "limit", "from"), limits)
    share = report.memory_bytes / total_bytes if total_bytes else 0
    colour = "red" if share > 1 else "green"
    together = f"{format_bytes(report.memory_bytes)} of {format_bytes(total_bytes)}"
    out.print(f" limits of what is started: [{colour}]{together} ({share:.0%})[/]\n")
    _table(out, ("address in", "where", "old", "new"), [(r.service, r.where, r.old, r.new) for r in report.links])
    for service, text in report.prepare:
        out.print(f" [yellow]first[/] {escape(service)}: {escape(text)}")
    for entry in report.notes:
        mark = "[yellow]![/]" if entry.warning else "[dim]·[/]"
        key = ".".join(word for word in (entry.service, entry.key) if word)
        out.print(f" {mark} [dim]{escape(entry.where)}[/] {escape(key)}: {escape(entry.text)}")


def _table(out: Console, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    from rich.markup import escape
    from rich.table import Table

    table: Any = Table(box=None, pad_edge=True, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    out.print(table)
    out.print()
