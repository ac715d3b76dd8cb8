"""An agent in JavaScript on a real fleet: its first task starts it, and nothing is lost when it is killed."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.client import TaskClient
from sutazai.host import procfs
from sutazai.host.languages import LANGUAGES
from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CODE = """
import { agent } from "sutazai";

export default agent({
  name: "shout",
  skills: {
    shout: {
      description: "Say it louder, after a while.",
      input: {
        type: "object", required: ["text"],
        properties: { text: { type: "string" }, ms: { type: "integer", default: 0 } },
      },
      run: async ({ text, ms }, ctx) => {
        await new Promise((done) => setTimeout(done, ms));
        const { processes } = await ctx.fact("/v1/status");
        return { text: text.toUpperCase(), uid: process.getuid(), processes: processes.length };
      },
    },
  },
});
"""
MANIFEST = """
fleet: {fleet}
port_offset: {offset}
runtime_pools: {node: {idle: 1s}}
agents:
  shout: {file: CODE, keep: 500ms}
llm: none
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LiveFleet]:
    """A fleet with one agent in JavaScript, in a folder that every user can read."""
    program, why = LANGUAGES["node"].find()
    if not program:
        pytest.skip(f"{why}; {LANGUAGES['node'].hint}")
    code = tmp_path / "shout.mjs"
    code.write_text(CODE)
    with LiveFleet(MANIFEST.replace("CODE", str(code))) as running:
        yield running


def _until(fleet: LiveFleet, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Look at the worker until something holds of it."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        worker = next(each for each in fleet.status()["processes"] if each["name"] == "node-0")
        if holds(worker):
            return worker
        time.sleep(0.1)
    raise TimeoutError(fleet.log_tails())


def test_a_task_wakes_it_and_survives_its_death(fleet: LiveFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is asleep, wakes, is killed in a turn, does the task all the same, and sleeps again."""
    for name in ("SUTAZAI_STATE_ROOT", "SUTAZAI_RUN_ROOT"):
        monkeypatch.setenv(name, fleet.env[name])
    assert _until(fleet, lambda worker: True)["state"] == "asleep"
    with TaskClient(fleet.name) as client:
        (task,) = client.submit([{"agent": "shout", "skill": "shout", "input": {"text": "hello", "ms": 1_500}}])
        pid = _until(fleet, lambda worker: worker["state"] == "ready" and worker["pid"] > 0)["pid"]
        unprivileged = procfs.uid(pid)
        while client.get(task["id"])["status"] != "leased":
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        done = client.wait(task["id"], 60)
    assert (done["status"], done["result"]["text"]) == ("succeeded", "HELLO"), done
    assert done["result"]["processes"] >= 5
    assert done["result"]["uid"] == unprivileged
    _until(fleet, lambda worker: worker["state"] == "asleep")
