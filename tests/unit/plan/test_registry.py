"""The port registry as a file: read back, it is the plan; a clash is never written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sutazai import plan, spec
from sutazai.cli.app import main

ROOT = Path(__file__).parents[3]
MANIFEST = ROOT / "fleets" / "blueprint.yaml"


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line and give its exit code."""
    monkeypatch.setattr(sys, "argv", ["sutazai", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def rows(result: plan.Plan) -> dict[int, dict[str, Any]]:
    """The plan's ports as the registry is to hold them."""
    found = {}
    for row in result.ports:
        entry = {"owner": row.service or row.owner, "name": row.name.partition(":")[0], "held_by": row.held_by}
        found[row.number] = entry | ({"status": "planned"} if row.planned else {})
    return found


@pytest.mark.parametrize("offset", [0, 4000])
def test_read_back_it_is_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int) -> None:
    """Ranges and every port, offset added, come back from the file as the planner has them."""
    path, out = tmp_path / "m.yaml", tmp_path / "port-registry.yaml"
    path.write_text(MANIFEST.read_text().replace("port_offset: 0", f"port_offset: {offset}"))
    assert run(monkeypatch, "plan", str(path), "--host", "12c,29.38GB", "--ports", str(out)) == 0
    registry = yaml.safe_load(out.read_text())
    result = plan.make(spec.load(path), plan.parse_host("12c,29.38GB"))
    assert registry["ports"] == rows(result)
    assert registry["port_assignments"]["agents"] == f"{10300 + offset}-{10599 + offset}"
    assert list(registry["port_assignments"]) == ["infrastructure", "monitoring", "agents", "reserved"]
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_printed_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A dash prints the registry and nothing else."""
    assert run(monkeypatch, "plan", str(MANIFEST), "--host", "12c,29.38GB", "--ports", "-") == 0
    registry = yaml.safe_load(capsys.readouterr().out)
    assert registry["ports"][10005] == {"owner": "kong", "name": "edge", "held_by": "gateway"}
    assert registry["ports"][10000]["status"] == "planned"


def test_a_clash_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two owners of one port: exit code 1, both are named, and the old file stays."""
    path, out = tmp_path / "m.yaml", tmp_path / "ports.yaml"
    entry = "{command: x, memory: 1MB, port: 10600}"
    path.write_text(f"fleet: a\nservices:\n  one: {entry}\n  two: {entry}\n")
    out.write_text("old")
    assert run(monkeypatch, "plan", str(path), "--host", "2c,8GB", "--ports", str(out)) == 1
    assert "port 10600 of two belongs to one" in capsys.readouterr().err
    assert out.read_text() == "old"


def test_a_file_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that does not exist is said in one line."""
    path = tmp_path / "m.yaml"
    path.write_text("fleet: a\n")
    assert run(monkeypatch, "plan", str(path), "--host", "2c,8GB", "--ports", str(tmp_path / "no" / "p.yaml")) == 1
    assert "cannot write" in capsys.readouterr().err
