"""Why it exists: shows on the live fleet that each agent does its job, by the golden tasks in its own folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sutazai.cli import fleets
from sutazai.cli.down import FleetOption, JsonOption
from sutazai.cli.exits import FAILED, OK, REFUSED, CliError
from sutazai.cli.output import console, print_json
from sutazai.client import SupervisorClient, TaskClient

WAIT_S = 180.0


def run(
    agents: Annotated[list[str] | None, typer.Argument(help="Agents; without any, all of the fleet.")] = None,
    *,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> int:
    """Run each agent's checks: golden tasks on real input, a bad input, and its peak memory. 5 of 5 means 5 agents."""
    paths = fleets.paths_of(fleet)
    known = {entry["name"]: entry for entry in json.loads(paths.plan.read_text())["agents"]}
    if unknown := [name for name in agents or [] if name not in known]:
        raise CliError(f"no such agent: {', '.join(unknown)}; there are: {', '.join(sorted(known))}", REFUSED)
    rows = []
    with TaskClient(paths.run.name) as client, SupervisorClient(paths.run.name) as supervisor:
        for name in agents or sorted(known):
            rows.append(_agent(name, known[name], client, supervisor))
            if not as_json:
                _show(rows[-1])
    passed = sum(row["ok"] for row in rows)
    if as_json:
        print_json({"passed": passed, "agents": rows})
    else:
        print(f"{passed} of {len(rows)} agents passed")
    return OK if rows and passed == len(rows) else FAILED


def _agent(name: str, facts: dict[str, Any], client: TaskClient, supervisor: SupervisorClient) -> dict[str, Any]:
    from sutazai import checks

    module = Path(facts["module"])
    path = (module if module.is_dir() else module.parent) / "checks.toml"
    if not path.is_file():
        return {"agent": name, "ok": False, "checks": [], "error": f"no checks: {path} is missing"}
    results = []
    peak = 0
    for check in checks.load(path):
        task = {"agent": name, "skill": check.skill, "input": check.input, "session": check.session or None}
        accepted = client.submit([task])[0]
        reply = client.wait(accepted["id"], timeout_s=WAIT_S)
        verdict = checks.judge(check, reply)
        results.append({"check": check.name, "ok": verdict.ok, "text": verdict.text, "task": accepted["id"]})
        mine = [entry for entry in supervisor.status()["instances"] if entry["agent"] == name]
        peak = max([peak, *(entry["memory_peak_bytes"] for entry in mine)])
    limit = facts["limits"]["memory_bytes"]
    inside = peak <= limit if limit else True
    return {
        "agent": name,
        "ok": inside and bool(results) and all(result["ok"] for result in results),
        "checks": results,
        "memory_peak_bytes": peak,
        "memory_limit_bytes": limit,
    }


def _show(row: dict[str, Any]) -> None:
    from sutazai.units import format_bytes

    out = console()
    mark = "[green]✓[/]" if row["ok"] else "[red]✗[/]"
    memory = ""
    if row.get("memory_peak_bytes"):
        memory = f"  peak {format_bytes(row['memory_peak_bytes'])} of {format_bytes(row['memory_limit_bytes'])}"
    out.print(f"{mark} {row['agent']:<32} {sum(c['ok'] for c in row['checks'])} of {len(row['checks'])} checks{memory}")
    if row.get("error"):
        out.print(f"    {row['error']}")
    for check in row["checks"]:
        if not check["ok"]:
            out.print(f"    [red]{check['check']}[/]: {check['text']}")
