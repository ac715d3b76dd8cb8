"""The howto "write a workflow", followed word by word on a fleet of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^ *```(sh|yaml|python)(?: (\S+))?\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Ports(LiveFleet):
    """Ports and folders of a fleet that the howto brings up by itself."""

    def command(self, *words: str, timeout_s: int = 60) -> subprocess.CompletedProcess[str]:
        """Do all but bring it up."""
        if words[0] == "up":
            return subprocess.CompletedProcess(words, 0, "", "")
        return super().command(*words, timeout_s=timeout_s)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that instances can read."""
    made = Path(tempfile.mkdtemp(prefix="wf"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_the_howto_word_by_word(folder: Path) -> None:
    """Each block in its order: files are written where they say, commands succeed; only the ports are this test's."""
    blocks = BLOCK.findall((ROOT / "docs/howto/write-a-workflow.md").read_text())
    assert [kind for kind, *_ in blocks] == ["python", "yaml", "sh", "yaml", "sh", "sh", "sh", "sh", "sh", "python"]
    with Ports("fleet: {fleet}\nport_offset: {offset}\n") as other:
        offset = other.offset
        env = {**other.env, "PATH": f"{BIN}:{os.environ['PATH']}"}
        env.pop("SUTAZAI_FLEET")
        said = told = ""
        try:
            for kind, file, indented in blocks:
                text = "\n".join(line.removeprefix("   ") for line in indented.splitlines()) + "\n"
                if file:
                    path = folder / file
                    path.write_text(text.replace("fleet: flows\n", f"fleet: flows\nport_offset: {offset}\n"))
                command = ["bash", "-euo", "pipefail", "-c", text] if kind == "sh" else [sys.executable, folder / file]
                if kind == "sh" or file == "flow.py":
                    done = subprocess.run(
                        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120
                    )
                    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
                    said, told = said + done.stdout, told + done.stderr
        finally:
            subprocess.run([BIN / "sutazai", "down", "--fleet", "flows"], env=env, capture_output=True, check=False)
    assert "review: 8 steps, nothing wrong" in said
    assert '"words":[3,3]' in re.sub(r"\s", "", said)
    assert "step counted of item 1 failed: an empty text" in said
    assert "failed: step counted of item 1 failed: an empty text" in told, "the resumed run says it again"
    assert "the text is still empty" in said
    assert "counted 1" in said
    assert "looks fine" in said
    assert said.endswith("review 2\n")
