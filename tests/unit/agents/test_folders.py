"""Every agent's folder is complete, stands alone, and speaks the common language of findings."""

from __future__ import annotations

import ast
import importlib
import tomllib
from typing import TYPE_CHECKING

import pytest

from sutazai.spec.agent import builtin_agents_dir, load_agent_folder
from sutazai.units import parse_bytes

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = sorted(path.parent for path in builtin_agents_dir().glob("*/manifest.toml"))
PORTS = {
    "agentzero-coordinator": 10300,
    "health-monitor": 10425,
    "incident-timeline-writer": 10461,
    "ram-hardware-optimizer": 10387,
    "system-performance-forecaster": 10420,
}
ALLOWED = (
    "sutazai.runtime",
    "sutazai.client",
    "sutazai.errors",
    "sutazai.clock",
    "sutazai.units",
    "sutazai.ids",
    "sutazai.limits",
)


def test_the_five_are_there_on_the_blueprints_ports() -> None:
    """Names and ports of the first five agents."""
    assert {agent.name: agent.port for agent in map(load_agent_folder, FOLDERS)} == PORTS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_agent_imports_its_own_folder_and_the_runtime_only(folder: Path) -> None:
    """Nothing is shared between agents but the runtime, the client and the foundation."""
    own = f"sutazai.agents.{folder.name}"
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.startswith("sutazai"):
                    assert name.startswith((own, *ALLOWED)), f"{path.name} imports {name}"


@pytest.mark.parametrize("name", ["Measure", "Finding"])
def test_measures_and_findings_are_the_same_everywhere(name: str) -> None:
    """The two models that reports are made of have one schema in all folders."""
    schemas = [
        getattr(importlib.import_module(f"sutazai.agents.{folder.name}.models"), name).model_json_schema()
        for folder in FOLDERS
    ]
    assert all(schema == schemas[0] for schema in schemas)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_checks_are_complete_and_name_real_skills(folder: Path) -> None:
    """Two golden tasks at least, one bad input with its error, a memory peak below the limit; skills exist."""
    checks = tomllib.loads((folder / "checks.toml").read_text())
    skills = importlib.import_module(f"sutazai.agents.{folder.name}.agent").agent.skills
    golden = [check for check in checks["check"] if "expect" in check]
    bad = [check for check in checks["check"] if "error" in check]
    assert len(golden) >= 2
    assert bad
    assert {check["skill"] for check in checks["check"]} <= set(skills)
    assert len({check["name"] for check in checks["check"]}) == len(checks["check"])
    assert parse_bytes(checks["memory"]["peak_max"]) <= load_agent_folder(folder).memory_bytes
