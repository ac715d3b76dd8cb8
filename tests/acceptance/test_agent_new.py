"""`sutazai agent new` and the howto "add an agent", followed word by word on a fleet of its own."""

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

#: An agent's folder is no package: its file is loaded by its path.
RULES = ["--config", str(Path(__file__).parents[2] / "pyproject.toml"), "--extend-ignore", "INP001"]
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^ *```(sh|yaml|python|toml)(?: (\S+))?(?: ([+<]))?\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that instances can read."""
    made = Path(tempfile.mkdtemp(prefix="an"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def sutazai(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder."""
    command = [str(BIN / "sutazai"), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_the_howto_word_by_word(folder: Path) -> None:
    """Each block in its order: files are written where they say, commands succeed; only the ports are this test's."""
    blocks = BLOCK.findall((ROOT / "docs/howto/add-an-agent.md").read_text())
    assert [kind for kind, *_ in blocks] == ["sh", "yaml", "sh", "sh", "python", "toml", "sh"]
    with LiveFleet("fleet: {fleet}\nport_offset: {offset}\nagents:\n  health-monitor:\n") as other:
        offset, state = other.offset, other.folder / "s"
        env = {**other.env, "PATH": f"{BIN}:{os.environ['PATH']}"}
        env.pop("SUTAZAI_FLEET")
        assert other.command("down").returncode == 0  # its ports and folders are this test's now
        said = ""
        try:
            for kind, file, how, indented in blocks:
                text = "\n".join(line.removeprefix("   ") for line in indented.splitlines()) + "\n"
                text = text.replace("10480", str(10_480 + offset) if kind == "sh" else "10480")
                text = text.replace("/var/lib/sutazai", str(state))
                if kind == "sh":
                    done = subprocess.run(
                        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=env, capture_output=True, text=True,
                        check=False, timeout=120,
                    )  # fmt: skip
                    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
                    said += done.stdout
                    continue
                path = folder / file
                if file == "sutazai.yaml":
                    text = text.replace("fleet: mine\n", f"fleet: mine\nport_offset: {offset}\n")
                before = path.read_text() if how else ""
                path.write_text(before + "\n\n" + text if how == "+" else text + before)
        finally:
            subprocess.run([BIN / "sutazai", "down", "--fleet", "mine"], env=env, capture_output=True, check=False)
    assert "3 of 3 checks" in said
    assert "4 of 4 checks" in said
    assert "Hello, Ada, from task t_!" in said
    assert '"longest":"a"' in said.replace(" ", "")
    lint = subprocess.run(
        [BIN / "ruff", "check", *RULES, folder / "word-counter"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert lint.returncode == 0, lint.stdout


def test_what_is_made_passes_lint_and_types(folder: Path) -> None:
    """Ruff with all of this project's rules, its formatter and mypy strict have nothing to say; the files are named."""
    done = sutazai(folder, "agent", "new", "my-own-agent", "--in", "agents", "--json")
    assert done.returncode == 0, done.stderr
    assert '"agents/my-own-agent"' in done.stdout
    home = folder / "agents/my-own-agent"
    for command in (
        ["ruff", "check", *RULES, str(home)],
        ["ruff", "format", "--check", *RULES[:2], str(home)],
        ["mypy", "--strict", "--config-file", "", str(home / "agent.py")],
    ):
        lint = subprocess.run([BIN / command[0], *command[1:]], cwd=folder, capture_output=True, text=True, check=False)
        assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My-Agent", "is no name of an agent"),
        ("../up", "is no name of an agent"),
        ("", "is no name of an agent"),
        ("a" * 64, "is no name of an agent"),
        ("taken", "is there already"),
    ],
)
def test_names_that_are_refused(folder: Path, name: str, said: str) -> None:
    """A name that no fleet takes, and one that is taken, change nothing."""
    (folder / "taken").mkdir()
    (folder / "taken/agent.py").write_text("mine")
    done = sutazai(folder, "agent", "new", name)
    assert done.returncode not in {0, 1}
    assert said in done.stderr
    assert [path.name for path in folder.iterdir()] == ["taken"]
    assert (folder / "taken/agent.py").read_text() == "mine"


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    """A path below a file is told, not traced."""
    (folder / "file").write_text("")
    done = sutazai(folder, "agent", "new", "fresh", "--in", "file")
    assert done.returncode != 0
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
