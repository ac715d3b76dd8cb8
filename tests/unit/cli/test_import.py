"""`sutazai import` as a person meets it: exit codes, tables, what is never written over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sutazai import spec
from sutazai.cli.app import main
from sutazai.cli.exits import BAD_MANIFEST, OK

COMPOSE = (
    "services:\n  web: {image: python, command: python -m http.server 8000, ports: ['8080:8000'], mem_limit: 2g}\n"
    "  other: {image: nginx, ports: ['8080:80']}\n"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of the test's own, with a Compose file in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMPOSE_PROFILES", raising=False)
    (tmp_path / "docker-compose.yml").write_text(COMPOSE)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the verb in this process and give its exit code."""
    monkeypatch.setattr(sys, "argv", ["sutazai", "import", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code if isinstance(stop.value.code, int) else 0


def test_the_file_of_this_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name the usual one is taken; tables show old and new, and the next step is said."""
    assert run(monkeypatch, "--host", "12c,4GB") == OK
    shown = capsys.readouterr()
    for word in ("8080 is taken by web", "10600", "planned", "2 GB of 4 GB (50%)", "proposed: usual for nginx"):
        assert word in shown.out, word
    assert "nothing was started. Next: sutazai plan sutazai.yaml" in shown.err
    assert spec.load("sutazai.yaml").services["web"].ports[0].number == 8080


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Another program gets the whole report as one document."""
    assert run(monkeypatch, "docker-compose.yml", "-o", "out.yaml", "--name", "mine", "--json") == OK
    report = json.loads(capsys.readouterr().out)
    assert report["fleet"] == "mine"
    assert report["manifest"] == "out.yaml"
    assert report["memory_bytes"] == 2 * 1024**3
    assert {row["service"]: row["new"] for row in report["ports"]} == {"web": 8080, "other": 10600}
    assert set(report) >= {"services", "ports", "limits", "links", "prepare", "notes", "host_memory_bytes"}


def test_an_existing_manifest_is_kept(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written over without --force; with it, it is."""
    (here / "sutazai.yaml").write_text("fleet: precious\n")
    assert run(monkeypatch) == BAD_MANIFEST
    assert "--force" in capsys.readouterr().err
    assert (here / "sutazai.yaml").read_text() == "fleet: precious\n"
    assert run(monkeypatch, "--force") == OK
    assert "precious" not in (here / "sutazai.yaml").read_text()


def test_a_mistake_keeps_even_a_forced_manifest(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stood there stays when the Compose file is wrong, and no draft is left."""
    (here / "sutazai.yaml").write_text("fleet: precious\n")
    (here / "docker-compose.yml").write_text("services:\n  a: {image: x, ports: [no]}\n")
    assert run(monkeypatch, "--force") == BAD_MANIFEST
    assert "docker-compose.yml:2:25: services.a.ports: 'no' is no port" in capsys.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["docker-compose.yml", "sutazai.yaml"]
    assert (here / "sutazai.yaml").read_text() == "fleet: precious\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("gone.yml",), "there is no such file"),
        (("-o", "nowhere/out.yaml"), "there is no folder nowhere"),
        (("-o", "."), "is a folder"),
        (("--host", "12x"), "12c,29.38GB"),
        (("--profile", "gpu"), "no service has the profile 'gpu'"),
        (("--env-file", "gone.env"), "gone.env"),
    ],
)
def test_wrong_arguments(
    words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is one clear message and exit code 2."""
    assert run(monkeypatch, *words) == BAD_MANIFEST
    assert told in capsys.readouterr().err
    assert not Path("sutazai.yaml").exists()


def test_no_compose_file(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without one says which names are looked for."""
    (here / "docker-compose.yml").unlink()
    assert run(monkeypatch) == BAD_MANIFEST
    assert "docker-compose.yml" in capsys.readouterr().err


def test_profiles_of_the_shell(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """COMPOSE_PROFILES counts, as it does in Compose."""
    (here / "docker-compose.yml").write_text("services:\n  a: {image: python, command: sleep 9, profiles: [x]}\n")
    monkeypatch.setenv("COMPOSE_PROFILES", "x")
    assert run(monkeypatch) == OK
    assert "a" in spec.load("sutazai.yaml").services


def test_an_import_starts_no_process(here: Path, tmp_path: Path) -> None:
    """Not a single process is made by an import: the interpreter's own audit events say so."""
    code = (
        "import sys\n"
        "seen = []\n"
        "bad = ('subprocess.Popen', 'os.system', 'os.exec', 'os.fork', 'os.posix_spawn', 'socket.connect')\n"
        "sys.addaudithook(lambda event, args: seen.append(event) if event in bad else None)\n"
        "sys.argv = ['sutazai', 'import', '--json']\n"
        "from sutazai.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    print(stop.code, seen, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "0 []"
