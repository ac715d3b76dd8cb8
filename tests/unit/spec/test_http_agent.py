"""``http:`` of an agent's entry: what is read, and every mistake with its hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai.errors import ConfigErrors
from sutazai.spec import load

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """fleet: t
services:
  server: {command: "{python} -m http.server {port}", port: 10610, pool: standard, memory: 64MB}
  silent: {command: "{python} -V", pool: standard, memory: 64MB}
agents:
  old:
    port: 10480
"""


def write(folder: Path, http: str, more: str = "") -> Path:
    """Write a manifest of one HTTP agent."""
    (folder / "openapi.json").write_text("{}")
    path = folder / "sutazai.yaml"
    path.write_text(f"{HEAD}    http: {http}\n{more}")
    return path


def test_what_is_read(tmp_path: Path) -> None:
    """Service, operations and document come out, with the port's owner and an instance of its own small size."""
    manifest = load(write(tmp_path, '{service: server, skills: {ask: POST /ask, show: "get /items/{item}"}}'))
    agent = manifest.agents["old"]
    assert (agent.origin, agent.port, agent.memory_bytes) == ("http", 10_480, 64 << 20)
    assert agent.http is not None
    assert agent.http.service == "server"
    assert [(skill.name, skill.method, skill.path) for skill in agent.http.skills] == [
        ("ask", "POST", "/ask"),
        ("show", "GET", "/items/{item}"),
    ]
    assert agent.http.skills[1].parameters == ("item",)
    outside = load(write(tmp_path, '{url: "http://127.0.0.1:9000/", openapi: openapi.json}')).agents["old"].http
    assert outside is not None
    assert (outside.url, outside.openapi) == ("http://127.0.0.1:9000", str(tmp_path / "openapi.json"))


@pytest.mark.parametrize(
    ("http", "problem"),
    [
        ("{skills: {ask: POST /ask}}", "one of service and url is needed"),
        ('{service: server, url: "http://a:1", skills: {ask: POST /ask}}', "one of service and url is needed"),
        ("{service: server, openapi: none.json}", "there is no file"),
        ("{service: server, skills: {ask: SEND /ask}}", "is no operation"),
        ("{service: server, skills: {ask: POST ask}}", "is no operation"),
        ("{service: server, skills: {Ask: POST /ask}}", "is no name of a skill"),
        ("{service: sever, skills: {ask: POST /ask}}", "there is no service 'sever'"),
        ("{service: silent, skills: {ask: POST /ask}}", "has no port"),
        ('{url: "https://a", skills: {ask: POST /ask}}', "is no URL of a server"),
        ('{url: "http://a/path", skills: {ask: POST /ask}}', "is no URL of a server"),
        ("{service: server, skills: {ask: POST /ask}, headers: {a: b}}", "unknown key"),
    ],
)
def test_mistakes(tmp_path: Path, http: str, problem: str) -> None:
    """Each is told with its line and what to write."""
    with pytest.raises(ConfigErrors) as caught:
        load(write(tmp_path, http))
    (mistake,) = [each for each in caught.value.exceptions if problem in str(each)]
    assert mistake.line
    assert mistake.hint


def test_code_or_server(tmp_path: Path) -> None:
    """An agent is a Python file or a server, and a server stands behind one agent only."""
    (tmp_path / "a.py").write_text("")
    path = write(tmp_path, "{service: server, skills: {ask: POST /ask}}", "    file: a.py\n")
    with pytest.raises(ConfigErrors, match="1 mistake") as caught:
        load(path)
    assert "http stands beside path or file" in str(caught.value.exceptions[0])
    other = "  other:\n    port: 10481\n    http: {service: server, skills: {ask: POST /ask}}\n"
    path = write(tmp_path, "{service: server, skills: {ask: POST /ask}}", other)
    with pytest.raises(ConfigErrors) as caught:
        load(path)
    assert "stands behind old already" in str(caught.value.exceptions[0])
