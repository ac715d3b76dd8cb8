"""The agents in JavaScript do their golden tasks on a real worker and a real broker, within their memory."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from sutazai import checks, spec
from sutazai.host.languages import LANGUAGES
from sutazai.spec import builtin_agents_dir, load_agent_folder

_SPEC = importlib.util.spec_from_file_location("conformance_rig", Path(__file__).parent / "rig.py")
if _SPEC is None or _SPEC.loader is None:
    raise ImportError("rig.py is gone")
rig_module = importlib.util.module_from_spec(_SPEC)
sys.modules["conformance_rig"] = rig_module
_SPEC.loader.exec_module(rig_module)

FOLDERS = sorted(path.parent for path in builtin_agents_dir().glob("*/agent.mjs"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))
def test_golden_tasks(folder: Path) -> None:
    """Each check of checks.toml holds."""
    agent: spec.Agent = load_agent_folder(folder)
    language = LANGUAGES[agent.runtime]
    program, why = language.find()
    if not program:
        pytest.skip(f"{why}; {language.hint}")
    if language.name == "node" and not (language.folder / "node_modules/.package-lock.json").is_file():
        pytest.skip("its packages are not installed; run: scripts/bootstrap base node")
    runtime = rig_module.Runtime(agent.runtime, Path(agent.module), agent=agent.name, memory_bytes=agent.memory_bytes)
    wrong: list[Any] = []
    golden = checks.load(folder)
    assert len(golden) >= 3
    with rig_module.Rig(runtime) as rig:
        for check in golden:
            session = {"session": check.session} if check.session else {}
            task = rig.run(check.skill, check.input, attempts_max=1, **session)
            verdict = checks.judge(check, task)
            if not verdict.ok:
                wrong.append((check.name, verdict, task["error"]))
    assert not wrong
