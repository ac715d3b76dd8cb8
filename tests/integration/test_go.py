"""The Go runtime and the agents in Go: their own tests, their style, and what the worker says without a fleet."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from sutazai import checks
from sutazai.host import golang

GO, _WHY = golang.find_toolchain()
WORKER, _WORKER_WHY = golang.find_worker()
needs_go = pytest.mark.skipif(not GO, reason=f"{_WHY}; {golang.HINT}")
needs_worker = pytest.mark.skipif(not WORKER, reason=f"{_WORKER_WHY}; {golang.HINT}")
PACKAGES = ("./...", "sutazai/agents/...")


def _environment() -> dict[str, str]:
    cache = golang.worker_path().with_name("cache")
    return golang.environment(cache if cache.is_dir() and os.access(cache, os.W_OK) else None)


def _go(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GO, *words], cwd=golang.RUNTIME, env=_environment(), capture_output=True, text=True, check=False, timeout=170
    )


@needs_go
def test_go_code_is_formatted() -> None:
    """Gofmt has nothing to say; the wheel and the distribution put it beside ``go``."""
    gofmt = Path(GO).with_name("gofmt")
    done = subprocess.run(
        [gofmt, "-l", golang.RUNTIME, golang.AGENTS], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""


@needs_go
def test_go_code_is_sound_and_passes_its_own_tests() -> None:
    """Go vet and go test, for the runtime and for the agents."""
    vetted = _go("vet", *PACKAGES)
    assert vetted.returncode == 0, vetted.stderr
    tested = _go("test", *PACKAGES)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_worker
def test_worker_describes_the_agents_that_have_a_folder() -> None:
    """Each folder with ``agent.go`` is linked in under its name; an unknown one is a mistake that lists the known."""
    folders = sorted(path.parent for path in golang.AGENTS.glob("*/agent.go"))
    names = [folder.name.replace("_", "-") for folder in folders]
    known = subprocess.run([WORKER, "agents"], capture_output=True, text=True, check=True).stdout.split()
    assert sorted({*names, "conformance"}) == known
    paths = [str(folder / "agent.go") for folder in folders]
    done = subprocess.run([WORKER, "describe", *paths, "no-such"], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert [entry.get("name") for entry in said] == [*names, None]
    assert all(skill["description"] and skill["input"]["type"] == "object" for e in said[:-1] for skill in e["skills"])
    assert "conformance" in said[-1]["error"]


RECORDED = [
    pytest.param(path.parent, check, id=f"{path.parent.name}: {check.name}")
    for path in sorted(golang.AGENTS.glob("*/agent.go"))
    for check in checks.load(path.parent)
    if "live" not in check.name
]


@needs_worker
@pytest.mark.parametrize(("folder", "check"), RECORDED)
def test_checks_on_recorded_facts_hold_without_a_fleet(folder: Path, check: checks.Check) -> None:
    """The golden tasks that need no fleet pass here; `sutazai smoke` runs all of them on a live one."""
    task = json.dumps({"skill": check.skill, "input": check.input, "session": check.session})
    done = subprocess.run(
        [WORKER, "try", folder.name], input=task, capture_output=True, text=True, check=True, timeout=60
    )
    verdict = checks.judge(check, json.loads(done.stdout))
    assert verdict.ok, verdict.text


@needs_worker
def test_worker_says_how_it_is_started() -> None:
    """Without the fleet's sockets in its environment it ends with 2 and a reason; so it does for a wrong word."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("SUTAZAI_")}
    for words, text in (((), "started by sutazaid"), (("dance",), "usage:"), (("describe",), "usage:")):
        done = subprocess.run([WORKER, *words], env=env, capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, text in done.stderr) == (2, True)


@needs_go
def test_the_howto_word_by_word(tmp_path: Path) -> None:
    """The agent of the howto, linked into a worker of its own by the commands there, does what the last line says."""
    text = (golang.RUNTIME.parents[1] / "docs/howto/write-an-agent-in-go.md").read_text()
    code = re.search(r"```go\n(.*?)```", text, re.DOTALL)
    commands = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert code is not None
    assert commands is not None
    (tmp_path / "adder").mkdir()
    (tmp_path / "adder" / "agent.go").write_text(code[1])
    env = _environment()
    env |= {"SUTAZAI": str(golang.RUNTIME.parents[1]), "PATH": f"{Path(GO).parent}:{env['PATH']}"}
    script = ["bash", "-euo", "pipefail", "-c", commands[1]]
    done = subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"] == {"total": 3}
