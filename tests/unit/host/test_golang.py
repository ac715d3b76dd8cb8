"""The worker of agents in Go: found when it is built from the sources of now, and said plainly when it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai.host import golang

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without a worker."""
    monkeypatch.delenv("SUTAZAI_GO_WORKER", raising=False)
    monkeypatch.setattr(golang.sys, "prefix", str(tmp_path))
    (tmp_path / "go").mkdir()
    return tmp_path / "go"


def _program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_worker_is_found_only_when_built_from_the_sources_of_now(place: Path) -> None:
    """Missing, without a digest, with an old one, with that of now."""
    assert golang.find_worker() == ("", f"there is no {place / 'sutazai-go-worker'}")
    program = _program(place / "sutazai-go-worker")
    assert "other sources" in golang.find_worker()[1]
    (place / "digest").write_text("old\n")
    assert "other sources" in golang.find_worker()[1]
    (place / "digest").write_text(golang.digest() + "\n")
    assert golang.find_worker() == (str(program), "")


def test_a_worker_named_by_the_environment_is_taken_as_it_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever links agents of their own has no digest of ours."""
    own = _program(place / "my-worker")
    monkeypatch.setenv("SUTAZAI_GO_WORKER", str(own))
    assert golang.find_worker() == (str(own), "")
    own.unlink()
    assert golang.find_worker() == ("", f"there is no {own}")


def test_digest_changes_with_a_source_and_not_with_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is linked counts: names and contents of sources."""
    monkeypatch.setattr(golang, "_PACKAGE", tmp_path / "src" / "sutazai")
    monkeypatch.setattr(golang, "RUNTIME", tmp_path / "runtimes")
    monkeypatch.setattr(golang, "AGENTS", tmp_path / "src" / "sutazai" / "agents")
    for folder in (golang.RUNTIME, golang.AGENTS):
        folder.mkdir(parents=True)
    before = golang.digest()
    (golang.AGENTS / "agent_test.go").write_text("package x")
    assert golang.digest() == before
    (golang.AGENTS / "agent.go").write_text("package x")
    first = golang.digest()
    (golang.AGENTS / "agent.go").write_text("package y")
    second = golang.digest()
    (golang.AGENTS / "agent.go").rename(golang.RUNTIME / "agent.go")
    assert len({before, first, second, golang.digest()}) == 4


def test_a_toolchain_that_is_too_old_or_broken_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the program and the version that is needed."""
    monkeypatch.setattr(golang.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go1.18.3\n")
    go.chmod(0o755)
    assert golang.find_toolchain() == ("", f"{go} is 1.18; 1.19 is needed")
    go.write_text("#!/bin/sh\nexit 1\n")
    assert golang.find_toolchain() == ("", f"{go} is broken; 1.19 is needed")
    go.write_text("#!/bin/sh\necho go1.19.8\n")
    assert golang.find_toolchain() == (str(go), "")
    monkeypatch.setenv("PATH", "/nowhere")
    assert golang.find_toolchain() == ("", "there is no go here")


def test_go_builds_without_network_and_without_the_callers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy or flags of the caller do not reach the build."""
    monkeypatch.setenv("GOFLAGS", "-mod=vendor")
    monkeypatch.setenv("GOPROXY", "somewhere")
    given = golang.environment()
    assert given["GOPROXY"] == "off"
    assert given["GOFLAGS"] == ""
