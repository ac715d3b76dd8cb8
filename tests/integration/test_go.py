"""The Go runtime and the agents in Go: their own tests, their style, and what the worker says without a fleet."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from sutazai import checks
from sutazai.host import golang
from sutazai.ids import child_task_id

GO, _WHY = golang.find_toolchain()
WORKER, _WORKER_WHY = golang.find_worker()
needs_go = pytest.mark.skipif(not GO, reason=f"{_WHY}; {golang.HINT}")
needs_worker = pytest.mark.skipif(not WORKER, reason=f"{_WORKER_WHY}; {golang.HINT}")
PACKAGES = ("./...", "sutazai/agents/...")


def _go(*words: str) -> subprocess.CompletedProcess[str]:
    cache = golang.worker_path().with_name("cache")
    env = golang.environment(cache if cache.is_dir() and os.access(cache, os.W_OK) else None)
    return subprocess.run(
        [GO, *words], cwd=golang.RUNTIME, env=env, capture_output=True, text=True, check=False, timeout=170
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


def test_child_ids_are_those_of_the_shared_vectors() -> None:
    """``runtimes/child_ids.json`` holds what each language must make; Go's own test reads it too."""
    vectors = json.loads((golang.RUNTIME.parent / "child_ids.json").read_text())
    assert len(vectors) >= 5
    for vector in vectors:
        assert child_task_id(vector["parent"], vector["site"], vector["index"]) == vector["id"]
