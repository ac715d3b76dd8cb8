"""Every agent's folder is complete, stands alone, and speaks the common language of findings."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sutazai import checks
from sutazai.host.languages import LANGUAGES
from sutazai.spec.agent import builtin_agents_dir, load_agent_folder
from sutazai.units import MIB

if TYPE_CHECKING:
    from conftest import Broker

FOLDERS = sorted(path.parent for path in builtin_agents_dir().glob("*/manifest.toml"))
ROW = re.compile(r"^\| (\d{5}) \| \[([a-z0-9-]+)\]\(#[a-z0-9-]+\) \| (\w+), (\d+) MB \| (\w+) \|", re.MULTILINE)
REFERENCE = Path(__file__).parents[3] / "docs/reference/agents.md"
ALLOWED = (
    "sutazai.runtime",
    "sutazai.client",
    "sutazai.errors",
    "sutazai.clock",
    "sutazai.units",
    "sutazai.ids",
    "sutazai.limits",
    "sutazai.outside",
    "sutazai.workflow",
)


def test_the_reference_has_each_agents_port_pool_limit_and_family() -> None:
    """The table of agents says what the manifests say, no more and no less."""
    told = {(name, int(port), pool, int(size), family) for port, name, pool, size, family in ROW.findall(_reference())}
    agents = list(map(load_agent_folder, FOLDERS))
    assert told == {(it.name, it.port, it.pool, it.memory_bytes // MIB, it.family) for it in agents}
    assert len(agents) >= 5


def _reference() -> str:
    return REFERENCE.read_text()


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


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_checks_are_complete_and_name_real_skills(folder: Path) -> None:
    """Two golden tasks at least, one bad input with its error, a memory peak below the limit; skills exist."""
    found = checks.load(folder)
    skills = _skills(folder)
    assert len([check for check in found if check.expectations]) >= 2
    assert [check for check in found if check.error]
    assert {check.skill for check in found} <= set(skills)
    peak = checks.load_peak_max_bytes(folder)
    assert peak is not None
    assert peak <= load_agent_folder(folder).memory_bytes


def _skills(folder: Path) -> set[str]:
    """Ask an agent's language for its skills."""
    agent = load_agent_folder(folder)
    if agent.runtime == "py":
        return set(importlib.import_module(f"sutazai.agents.{folder.name}.agent").agent.skills)
    language = LANGUAGES[agent.runtime]
    program, why = language.find()
    if not program:
        pytest.skip(f"{why}; {language.hint}")
    if agent.runtime == "node" and not (language.folder / "node_modules/.package-lock.json").is_file():
        pytest.skip("its packages are not installed; run: scripts/bootstrap base node")
    done = subprocess.run([program, *language.describe, agent.module], capture_output=True, text=True, check=True)
    return {skill["name"] for skill in json.loads(done.stdout)[0]["skills"]}


RECORDED = [
    pytest.param(folder, check, id=f"{folder.name}: {check.name}")
    for folder in FOLDERS
    if (folder / "agent.py").is_file()  # Go's: integration/test_go.py, Node's: conformance/test_agents.py
    for check in checks.load(folder)
    if "live" not in check.name
]


@pytest.mark.parametrize(("folder", "check"), RECORDED)
def test_checks_on_recorded_facts_hold_without_a_fleet(broker: Broker, folder: Path, check: checks.Check) -> None:
    """The golden tasks that need no fleet pass here; `sutazai smoke` runs all of them on a live one."""
    answer = broker.ask(folder.name.replace("_", "-"), check.skill, check.input)
    verdict = checks.judge(check, {"status": answer.status, "result": answer.result, "error": answer.error})
    assert verdict.ok, verdict.text
