"""Agents are found in folders and files, and what is wrong with one is said in a line with its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sutazai.errors import ConfigError
from sutazai.runtime.describe import describe, describe_apart
from sutazai.runtime.loader import load_agent

GOOD = '''
from sutazai.runtime import Agent
agent = Agent("{name}")

@agent.skill
def greet(name: str) -> str:
    """Greet somebody."""
    return name
'''


def test_a_file_and_a_folder(tmp_path: Path) -> None:
    """A file, and a folder with ``agent.py`` that imports a module beside it, are both agents."""
    (tmp_path / "hello.py").write_text(GOOD.format(name="hello"))
    folder = tmp_path / "my_agent"
    folder.mkdir()
    (folder / "agent.py").write_text("import words_of_my_agent\n" + GOOD.format(name="my-agent"))
    (folder / "words_of_my_agent.py").write_text("WORD = 1")
    assert load_agent(tmp_path / "hello.py", "hello").name == "hello"
    assert list(load_agent(folder).skills) == ["greet"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1", "no Agent"),
        ("from sutazai.runtime import Agent\na, b = Agent('a'), Agent('b')", "several agents in the module: a, b"),
        (GOOD.format(name="other"), "'other' in the code and 'hello' in the manifest"),
    ],
)
def test_no_single_agent(tmp_path: Path, source: str, text: str) -> None:
    """No agent, two agents, and another name than the manifest's are refused."""
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(ConfigError, match=text):
        load_agent(tmp_path / "bad.py", "hello")


def test_no_file(tmp_path: Path) -> None:
    """A missing file, an empty folder and a file of another kind are refused."""
    (tmp_path / "a.txt").write_text("")
    for path in (tmp_path / "none.py", tmp_path, tmp_path / "a.txt"):
        with pytest.raises(ConfigError):
            load_agent(path)


def test_describe_does_not_die_with_an_agent(tmp_path: Path) -> None:
    """Whatever a module does while it is imported, its own entry says so and the others are described."""
    sources = {
        "good": GOOD.format(name="good"),
        "syntax": "def",
        "boom": "import json\njson.loads('{')",
        "leave": "import sys; sys.exit(3)",
        "crash": "import os; os._exit(1)",
        "noisy": "print('hello')\n" + GOOD.format(name="noisy"),
        "bad": GOOD.format(name="bad").replace(": str)", ")"),
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    process = subprocess.run(
        [sys.executable, "-m", "sutazai.runtime.describe", *(str(tmp_path / f"{name}.py") for name in sources)],
        capture_output=True,
        check=True,
        text=True,
    )
    found = {Path(entry["path"]).stem: entry for entry in json.loads(process.stdout)}
    assert found["good"]["skills"][0]["name"] == "greet"
    assert found["noisy"]["name"] == "noisy"
    assert f"{tmp_path}/syntax.py:1" in found["syntax"]["error"]
    assert f"{tmp_path}/boom.py:2: JSONDecodeError" in found["boom"]["error"]
    assert "SystemExit" in found["leave"]["error"]
    assert "process ended" in found["crash"]["error"]
    assert "bad.py:5" in found["bad"]["error"]
    assert "write name: str" in found["bad"]["error"]


def test_describe_bounds_the_import(tmp_path: Path) -> None:
    """A module whose import does not end is given up, and its process is gone."""
    (tmp_path / "slow.py").write_text("import threading; threading.Event().wait()")
    assert "longer than" in describe_apart(tmp_path / "slow.py", timeout_s=0.2)["error"]


def test_describe_of_nothing(tmp_path: Path) -> None:
    """A path that is not there is an entry with an error; no path at all is a wrong use."""
    assert "error" in describe(tmp_path / "none")
    process = subprocess.run([sys.executable, "-m", "sutazai.runtime.describe"], capture_output=True, check=False)
    assert process.returncode == 2


def test_the_example_is_an_agent() -> None:
    """The ten-line agent of the documentation is described as it stands."""
    found = describe(Path(__file__).parents[3] / "examples/hello/hello.py")
    assert (found["name"], found["skills"][0]["description"]) == ("hello", "Greet somebody by name.")
