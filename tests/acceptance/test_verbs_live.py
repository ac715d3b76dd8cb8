"""The verbs for a person, on a real fleet and a real terminal: answers to read, a worker's log, agents and restart."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITER = '''
from sutazai.runtime import Agent

agent = Agent("writer")


@agent.skill
def write() -> dict:
    """Write a report."""
    return {"report": "# Title\\n\\nAll is \\x1b[31mwell.", "complete": True}
'''
MANIFEST = """
fleet: {fleet}
port_offset: {offset}
agents:
  writer: {file: FOLDER/writer.py, port: 10480, pool: standard, memory: 64MB}
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    """One agent that writes."""
    folder = tmp_path_factory.mktemp("verbs")
    folder.chmod(0o755)
    (folder / "writer.py").write_text(textwrap.dedent(WRITER))
    with LiveFleet(MANIFEST.replace("FOLDER", str(folder)), name=f"vl{os.getpid()}") as live:
        yield live


def on_a_terminal(fleet: LiveFleet, *words: str) -> str:
    """Run a verb whose standard output is a terminal, and give what appeared there."""
    ours, theirs = pty.openpty()
    program = str(Path(sys.executable).with_name("sutazai"))
    process = subprocess.Popen([program, *words], stdout=theirs, stderr=subprocess.DEVNULL, env=fleet.env)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65_536):
            shown += block
    except OSError:  # a terminal whose other side is gone ends with EIO
        pass
    finally:
        os.close(ours)
        assert process.wait(60) == 0
    return shown.decode().replace("\r\n", "\n")


def test_a_report_is_text_on_a_terminal_and_json_in_a_pipe(fleet: LiveFleet) -> None:
    """The same answer, for a person without an escape sequence, for a program as it is."""
    assert on_a_terminal(fleet, "ask", "writer", "write") == "# Title\n\nAll is \N{REPLACEMENT CHARACTER}[31mwell.\n"
    answer = {"report": "# Title\n\nAll is \x1b[31mwell.", "complete": True}
    assert json.loads(fleet.command("ask", "writer", "write").stdout) == answer
    assert json.loads(on_a_terminal(fleet, "ask", "writer", "write", "--json"))["result"] == answer


def test_a_worker_writes_to_the_log_that_is_shown(fleet: LiveFleet) -> None:
    """The worker's standard error is the file of the zygote's log, so its lines are where we say."""
    worker = next(row for row in fleet.status()["processes"] if row["name"] == "python-0")
    zygote_log = fleet.state / "logs/zygote.log"
    assert Path(f"/proc/{worker['pid']}/fd/2").resolve() == zygote_log.resolve()
    done = fleet.command("logs", "python-0")
    assert (done.returncode, done.stdout) == (0, fleet.command("logs", "zygote").stdout)
    assert "forked by zygote" in done.stderr


def test_restart_of_an_agent_says_what_to_do(fleet: LiveFleet) -> None:
    """Refused, with the reason; of a worker it works."""
    done = fleet.command("restart", "writer")
    assert done.returncode == 4
    assert "writer is an agent, not a process" in done.stderr
    assert fleet.command("restart", "python-0").returncode == 0
