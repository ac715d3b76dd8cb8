"""It is documented: each verb, route, message, metric, condition, setting and package stands in the reference."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"


def _source(package: str) -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "src/sutazai" / package).rglob("*.py")))


def test_generated_pages_are_current() -> None:
    """The pages that the code writes are those that are committed (`make docs` mends it)."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/generate_reference.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_verb_and_option_is_in_the_reference() -> None:
    """Each verb of the command line, with each option, has its line."""
    from typer.main import get_command

    from sutazai.cli.app import app

    page = (REFERENCE / "cli.md").read_text()
    for name, verb in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"## sutazai {name}" in page
        for parameter in verb.params:
            for option in (option for option in parameter.opts if option.startswith("--")):
                assert f"`{option}`" in page, f"{name} {option}"


def test_every_route_is_in_the_reference() -> None:
    """Each HTTP route of gateway, control and llm is described."""
    pages = "\n".join((REFERENCE / name).read_text() for name in ("http.md", "control-api.md", "llm.md"))
    for package in ("gateway", "control", "llm"):
        for route in re.findall(r'(?:Route|fact|route)\(\s*f?"(/[^"]*)"', _source(package)):
            path = route.replace("{prefix}", "").replace("{name:path}", "{name}")
            assert path in pages, f"{package}: {route}"


def test_every_message_of_the_protocol_is_in_the_reference() -> None:
    """Each kind of message that a worker or a client may send or get has its row."""
    from sutazai.wire import messages

    page = (REFERENCE / "protocol.md").read_text()
    for kind in messages.TABLE:
        assert f"`{kind.type}`" in page, kind.type


def test_every_operation_of_sutazaid_is_in_the_reference() -> None:
    """Each operation on sutazaid's socket is described."""
    page = (REFERENCE / "sutazaid-socket.md").read_text()
    found = set(re.findall(r'"op": "([a-z-]+)"', _source("")))
    assert found
    for operation in found:
        assert f"`{operation}`" in page, operation


def test_every_metric_and_condition_is_in_the_reference() -> None:
    """Each name in the two tables has its row."""
    from sutazai.telemetry import kinds, names

    metrics = (REFERENCE / "metrics.md").read_text()
    for metric in re.findall(r'"([a-z_]+_(?:bytes|total|seconds|ratio|cores|up))"', Path(names.__file__).read_text()):
        assert metric in metrics, metric
    conditions = (REFERENCE / "conditions.md").read_text()
    for kind in re.findall(r'^\s+"([A-Z][A-Za-z]+)",$', Path(kinds.__file__).read_text(), re.MULTILINE):
        assert kind in conditions, kind


def test_every_environment_variable_is_documented() -> None:
    """Each variable that a user may set, or that a process is handed, is named somewhere in docs."""
    docs = "\n".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    for variable in sorted(set(re.findall(r"\bSUTAZAI_[A-Z_]+\b", _source("")))):
        assert variable in docs, variable


def test_every_link_between_pages_resolves() -> None:
    """No page points to a page that is not there."""
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} → {target}"


def test_the_architecture_names_every_package() -> None:
    """ARCHITECTURE.md's table of packages is complete."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for package in sorted((ROOT / "src/sutazai").iterdir()):
        if (package / "__init__.py").is_file():
            assert f"`{package.name}`" in text or f"`{package.name}/<name>`" in text, package.name


def test_every_agent_is_in_the_reference() -> None:
    """Each built-in agent with each of its skills is described."""
    page = (REFERENCE / "agents.md").read_text()
    folders = [path.parent for path in (ROOT / "src/sutazai/agents").glob("*/agent.py")]
    command = [sys.executable, "-m", "sutazai.runtime.describe", *map(str, folders)]
    described = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(described) == len(folders) >= 5
    for agent in described:
        assert agent["name"] in page
        for skill in agent["skills"]:
            assert f"`{skill['name']}" in page, f"{agent['name']}.{skill['name']}"
