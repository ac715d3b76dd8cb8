"""Ports of one's own choice, and ports of other services in commands and environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Load, Wrong

TWO = """
fleet: a
port_ranges: {{services: [3000, 8000-8010]}}
llm: {{memory: 1GB}}
services:
  web: {{command: x, memory: 9MB, ports: {{main: 3000, admin: 8005}}}}
  bare: {{command: x, memory: 9MB}}
  user: {{command: x, memory: 9MB, env: {{URL: "{text}"}}}}
"""


def test_services_may_have_ports_of_their_own_choice(load: Load) -> None:
    """Single ports and ranges beside the blueprint's; the others stay as they are."""
    manifest = load(TWO.format(text="http://127.0.0.1:{port_of.web.admin}/{port_of.web}/{port_of.llm}"))
    assert [port.number for port in manifest.services["web"].ports] == [3000, 8005]
    ranges = [(entry.first, entry.last) for entry in manifest.port_ranges.values() if entry.name == "services"]
    assert ranges == [(3000, 3000), (8000, 8010)]
    assert manifest.port_ranges["agents"].first == 10300


@pytest.mark.parametrize("text", ["x", "0", "70000", "9-3", "-1"])
def test_what_is_no_port_is_said(wrong: Wrong, text: str) -> None:
    """A wrong entry of the list has its place and an example."""
    mistake = wrong(f"fleet: a\nport_ranges:\n  services: ['{text}']\n")[0]
    assert (mistake.line, mistake.hint) == (3, "write 8080 or 8000-8099")


def test_two_owners_of_a_port(wrong: Wrong) -> None:
    """The list may not reach into the ranges of others."""
    assert "overlap" in wrong("fleet: a\nport_ranges: {services: [10350]}\n")[0].problem


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{port_of}", "names no process"),
        ("{port_of.wbe}", "there is no service wbe"),
        ("{port_of.bare}", "bare has no port"),
        ("{port_of.web.amdin}", "web has no port amdin"),
        ("{port_of.llm.main}", "llm has no port main"),
        ("{port.main.x}", "unknown placeholder"),
    ],
)
def test_a_port_of_nobody(wrong: Wrong, text: str, told: str) -> None:
    """What points at nothing is found before a start."""
    assert any(told in str(mistake) for mistake in wrong(TWO.format(text=text)))
