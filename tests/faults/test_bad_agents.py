"""Agents that misbehave, on a real fleet: each ends as the state machine says, and nobody else is touched."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)

BAD = '''
"""Does everything wrong."""
import os, subprocess, sys, time

from sutazai.runtime import Agent, Context, NonRetryableError

agent = Agent("bad")


@agent.skill
def raises(ctx: Context) -> int:
    """Raise."""
    raise RuntimeError("broken on purpose")


@agent.skill
def gives_up(ctx: Context) -> int:
    """Raise for good."""
    raise NonRetryableError("will never work")


@agent.skill
def wrong_type(ctx: Context) -> int:
    """Return what it did not promise."""
    return "a word"


@agent.skill
def eats(ctx: Context) -> int:
    """Take more memory than it may."""
    held = []
    while True:
        held.append(bytearray(8 << 20))


@agent.skill
def hangs(ctx: Context) -> int:
    """Never return, and do not listen."""
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass


@agent.skill
def litters(ctx: Context) -> int:
    """Leave a child in a session of its own, then vanish."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", "litter-of-bad"], start_new_session=True)
    os._exit(3)


@agent.skill
def works(ctx: Context) -> int:
    """Return what it promised."""
    return 1
'''
MANIFEST = """
fleet: {fleet}
port_offset: {offset}
agents:
  bad: {file: BAD_FILE, port: 10480, pool: standard, memory: 64MB, instances: 2, keep: 20s}
  health-monitor:
policies:
  retry: {attempts: 2, deadline: 60s}
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    """Bring up a fleet with the bad agent in it."""
    folder = tmp_path_factory.mktemp("bad")
    path = folder / "bad.py"
    path.write_text(BAD)
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    with LiveFleet(MANIFEST.replace("BAD_FILE", str(path)), name=f"ba{os.getpid()}") as live:
        yield live


def ask(fleet: LiveFleet, skill: str, *words: str) -> dict[str, Any]:
    """Ask the bad agent and give the task as it ended."""
    done = fleet.command("ask", "bad", skill, "--json", *words)
    text = done.stdout[done.stdout.index("\n{\n") + 1 :] if "\n{\n" in done.stdout else done.stdout
    task: dict[str, Any] = json.loads(text)
    return task


@pytest.mark.parametrize(
    ("skill", "status", "code", "attempts"),
    [
        ("raises", "dead", "skill-failed", 2),
        ("gives_up", "failed", "non-retryable", 1),
        ("wrong_type", "failed", "invalid-output", 1),
    ],
)
def test_failures_end_as_they_should(fleet: LiveFleet, skill: str, status: str, code: str, attempts: int) -> None:
    """A failure is tried again and then dead; what cannot succeed fails at once; both say why."""
    task = ask(fleet, skill)
    assert (task["status"], task["attempt"]) == (status, attempts)
    assert task["error"]["code"] == code


@pytest.mark.root
def test_too_much_memory_ends_that_instance_only(fleet: LiveFleet) -> None:
    """The kernel holds the limit, both attempts are counted, the condition names the agent, the fleet stays up."""
    if "memory" not in fleet.status()["enforcement"]["enforced"]:
        pytest.skip("this host lets us limit no memory")
    task = ask(fleet, "eats")
    assert (task["status"], task["attempt"]) == ("dead", 2)
    status = fleet.status()
    assert ("OomKilled", "bad") in {(each["name"], each["subject"]) for each in status["conditions"]}
    assert status["state"] == "up"
    assert ask(fleet, "works")["result"] == 1


def test_a_skill_that_hangs_expires_and_is_ended(fleet: LiveFleet) -> None:
    """Past its deadline the task is terminal, and the process that does not listen is gone soon after."""
    task = ask(fleet, "hangs", "--deadline", "1s")
    assert task["status"] in {"expired", "failed"}
    until = time.monotonic() + 30
    while time.monotonic() < until:
        tree = json.loads(fleet.command("task", "tree", task["id"], "--json").stdout)
        pids = {turn["pid"] for turn in tree[0]["turns"]}
        if not pids & {entry["pid"] for entry in fleet.status()["instances"]}:
            break
        time.sleep(0.1)
    assert not pids & {entry["pid"] for entry in fleet.status()["instances"]}
    assert ask(fleet, "works")["result"] == 1


@pytest.mark.root
def test_children_end_with_their_instance(fleet: LiveFleet) -> None:
    """What an instance forked away, in a session of its own, does not outlive it."""
    if "kill" not in fleet.status()["enforcement"]["enforced"]:
        pytest.skip("this host gives us no groups of processes")
    task = ask(fleet, "litters")
    assert (task["status"], task["attempt"]) == ("dead", 2)
    until = time.monotonic() + 10
    while (left := _litter()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def _litter() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if b"litter-of-bad" in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
