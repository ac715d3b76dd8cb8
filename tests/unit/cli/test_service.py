"""`sutazai service`: what it writes is a unit that systemd can read, and it starts nothing."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sutazai.cli import service, up
from sutazai.cli.app import main
from sutazai.cli.exits import BAD_MANIFEST, FAILED, OK, REFUSED, CliError
from sutazai.paths import FleetPaths

MANIFEST = "fleet: mine\nport_offset: {offset}\nagents: {{hello: {{file: hello.py}}}}\n"
AGENT = """
from sutazai.runtime import Agent, Context
agent = Agent("hello")


@agent.skill
def greet(name: str, ctx: Context) -> str:
    "Greet."
    return name
"""


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small fleet with roots of its own."""
    monkeypatch.setenv("SUTAZAI_STATE_ROOT", str(tmp_path / "s"))
    monkeypatch.setenv("SUTAZAI_RUN_ROOT", str(tmp_path / "r"))
    monkeypatch.delenv("SUTAZAI_MODELS", raising=False)
    (tmp_path / "hello.py").write_text(AGENT)
    path = tmp_path / "sutazai.yaml"
    path.write_text(MANIFEST.format(offset=14_000))
    return path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line in this process and give its exit code."""
    monkeypatch.setattr(sys, "argv", ["sutazai", "service", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code if isinstance(stop.value.code, int) else 0


def unit(text: str) -> configparser.SectionProxy:
    """Read the unit's service section."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser["Service"]


def test_prints_a_unit_and_proves_the_fleet(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A fleet that never ran is compiled first; only the unit is on standard output, and nothing runs."""
    assert run(monkeypatch, str(manifest)) == OK
    out = capfd.readouterr().out
    found = unit(out)
    plan = tmp_path / "s/mine/plan.json"
    assert found["ExecStart"] == f'"{sys.executable}" -m sutazai.supervisor --plan "{plan}" --foreground'
    assert found["Delegate"] == "yes"
    assert found["OOMPolicy"] == "continue"
    assert f'Environment="SUTAZAI_STATE_ROOT={tmp_path / "s"}"' in out
    assert plan.exists()
    assert (tmp_path / "s/mine/logs").is_dir()
    assert not (tmp_path / "r/mine/sutazaid.sock").exists()


def test_keeps_the_plan_of_this_manifest(manifest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The unit starts what `up` proved last from this manifest; what another one left, or damage, is proved anew."""
    plan = tmp_path / "s/mine/plan.json"
    plan.parent.mkdir(parents=True)
    mine = json.dumps({"manifest": str(manifest)})
    plan.write_text(mine)
    assert run(monkeypatch, str(manifest)) == OK
    assert plan.read_text() == mine
    for old in ("", json.dumps({"manifest": "/another.yaml"})):
        plan.write_text(old)
        assert run(monkeypatch, str(manifest)) == OK
        assert json.loads(plan.read_text())["fleet"] == "mine"


def test_a_running_fleet_of_another_manifest_is_left_alone(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What runs keeps its plan; the message says what to do."""
    (tmp_path / "s/mine").mkdir(parents=True)
    (tmp_path / "s/mine/plan.json").write_text("{}")
    monkeypatch.setattr(service.fleets, "answers", lambda path: True)
    assert run(monkeypatch, str(manifest)) == REFUSED
    assert "sutazai up" in capsys.readouterr().err
    assert (tmp_path / "s/mine/plan.json").read_text() == "{}"


def test_a_bad_manifest_writes_nothing(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Mistakes are named, with no unit and no state."""
    manifest.write_text("fleet: mine\nagents: {nobody: }\n")
    assert run(monkeypatch, str(manifest)) == BAD_MANIFEST
    assert not (tmp_path / "s/mine/plan.json").exists()
    assert capsys.readouterr().out == ""


def test_a_fleet_that_does_not_fit_is_told_why(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The reasons go beside the unit's place, and there is no unit."""
    manifest.write_text(manifest.read_text() + "host: {memory: 100MB}\n")
    assert run(monkeypatch, str(manifest)) == FAILED
    said = capfd.readouterr()
    assert said.out == ""
    assert "does not fit" in said.err


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_reads_it(manifest: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Systemd itself finds nothing wrong with the unit."""
    assert run(monkeypatch, str(manifest)) == OK
    path = manifest.parent / "sutazai-mine.service"
    path.write_text(capfd.readouterr().out)
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert path.name not in done.stderr


def test_names_that_mean_something_to_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """`%`, `$` and spaces in a path are written so that they stay what they are; quotes are refused."""
    monkeypatch.setenv("SUTAZAI_STATE_ROOT", "/a b/50%/$x")
    monkeypatch.delenv("SUTAZAI_RUN_ROOT", raising=False)
    monkeypatch.delenv("SUTAZAI_MODELS", raising=False)
    paths = FleetPaths(state=Path("/a b/50%/$x/mine"), run=Path("/r/mine"))
    text = service.unit_text("mine", paths, is_root=True)
    assert '--plan "/a b/50%%/$$x/mine/plan.json"' in text
    assert 'Environment="SUTAZAI_STATE_ROOT=/a b/50%%/$x"' in text
    assert "WantedBy=multi-user.target" in text
    assert "WantedBy=default.target" in service.unit_text("mine", paths, is_root=False)
    monkeypatch.setenv("SUTAZAI_STATE_ROOT", '/a"b')
    with pytest.raises(CliError, match="a unit cannot hold") as refused:
        service.unit_text("mine", paths, is_root=True)
    assert refused.value.code == REFUSED


def fake_systemctl(folder: Path, code: int) -> None:
    """Put a systemctl in a folder that writes down how it was called."""
    (folder / "bin").mkdir()
    tool = folder / "bin/systemctl"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {folder}/called\necho "no bus" >&2\nexit {code}\n')
    tool.chmod(0o755)


@pytest.mark.parametrize("code", [0, 1])
def test_install(
    code: int,
    manifest: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """It writes the unit, has systemd read and enable it, and says how to start it; a refusal is passed on."""
    fake_systemctl(tmp_path, code)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(service, "SYSTEM_UNITS", tmp_path / "units")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run(monkeypatch, str(manifest), "--install") == (OK if code == 0 else FAILED)
    folder = tmp_path / "units" if os.geteuid() == 0 else tmp_path / "home/.config/systemd/user"
    assert "ExecStart" in (folder / "sutazai-mine.service").read_text()
    said = capsys.readouterr().err
    if code == 0:
        assert "enable --quiet sutazai-mine.service" in (tmp_path / "called").read_text()
        assert "start sutazai-mine.service" in said
    else:
        assert "no bus" in said


def test_install_without_systemd(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A host without systemd is told so."""
    assert run(monkeypatch, str(manifest)) == OK
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(service, "SYSTEM_UNITS", tmp_path / "units")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run(monkeypatch, str(manifest), "--install") == FAILED
    assert "no systemd" in capsys.readouterr().err


def test_the_token_is_never_empty(tmp_path: Path) -> None:
    """A token that a power cut left empty is made anew; a good one is kept."""
    path = tmp_path / "token"
    path.touch()
    up._make_token(path)
    first = path.read_text()
    assert len(first) > 20
    assert path.stat().st_mode & 0o777 == 0o600
    up._make_token(path)
    assert path.read_text() == first
    assert list(tmp_path.iterdir()) == [path]
