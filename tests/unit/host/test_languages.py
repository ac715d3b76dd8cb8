"""Finding what runs workers of other languages, and what a user without rights could not read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.host import languages

if TYPE_CHECKING:
    import pytest


def node_that_says(folder: Path, text: str) -> Path:
    """A program called node that prints a version."""
    program = folder / "node"
    program.write_text(f"#!/bin/sh\necho {text}\n")
    program.chmod(0o755)
    return program


def test_node_must_be_there_and_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, one that is too old, one that says nonsense, and one that will do."""
    monkeypatch.setattr(languages.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert languages.find_node() == ("", "there is no node here")
    node_that_says(tmp_path, "v18.20.0")
    assert "is v18.20.0, and 20.6 or newer is needed" in languages.find_node()[1]
    node_that_says(tmp_path, "hello")
    assert "does not say its version" in languages.find_node()[1]
    program = node_that_says(tmp_path, "v22.1.0")
    assert languages.find_node() == (str(program.resolve()), "")


def test_what_others_cannot_read_is_named(tmp_path: Path) -> None:
    """The first folder or file in the way; nothing when there is none."""
    assert languages.unreadable([Path("/usr/bin/env")]) == ""
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    inner = secret / "agent.mjs"
    inner.write_text("")
    found = languages.unreadable([inner])
    assert found
    assert str(inner).startswith(found)
