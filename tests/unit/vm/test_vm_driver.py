"""The driver of `make test-vm`, without a machine: what it reads, chooses and refuses."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

VM = Path(__file__).parents[2] / "vm"
sys.path.insert(0, str(VM))

import vm_image  # noqa: E402 the folder is no package
import vm_machine  # noqa: E402

NEW_FORM = """\
Types: deb deb-src
# a comment
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security/
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.test/debian
Suites: bookworm
Components: main
"""
OLD_FORM = """\
# deb http://comment.test/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://old.test/debian bookworm main
deb-src http://source.test/debian bookworm main
deb http://tools.test/apt cloud-sdk-bookworm main
deb http://sid.test/debian sid main
"""


def test_mirrors_are_read_from_apt() -> None:
    """Both of apt's forms give lines for the same release; other archives, sources and disabled ones are left out."""
    signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert vm_image.sources({"debian.sources": NEW_FORM, "sources.list": OLD_FORM}, "bookworm") == [
        f"deb {signed} http://mirror.test/debian bookworm main",
        f"deb {signed} http://mirror.test/debian bookworm-updates main",
        "deb http://mirror.test/debian-security/ bookworm-security main",
        "deb [signed-by=/usr/share/keyrings/k.gpg] http://old.test/debian bookworm main",
    ]
    assert vm_image.sources({"sources.list": OLD_FORM}, "trixie") == []


def test_release_is_read() -> None:
    """The code name, with and without quotes; none where the file has none."""
    assert vm_image.codename('ID=debian\nVERSION_CODENAME="bookworm"\n') == "bookworm"
    assert vm_image.codename("VERSION_CODENAME=noble\n") == "noble"
    assert vm_image.codename("ID=arch\n") == ""


def test_the_disk_is_named_by_what_it_is_made_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Other packages are another disk, so an old one is never used for new requirements; it lies in the cache."""
    before = vm_image.digest()
    assert vm_image.digest() == before
    monkeypatch.setattr(vm_image, "INSIDE", "less")
    assert vm_image.digest() != before
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert vm_image.cache() == tmp_path / "sutazai/vm"


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who is not root gets the exact line to run."""
    monkeypatch.setattr(vm_image, "TOOLS", {"no-such-program": "some-package"})
    monkeypatch.setattr(vm_image.os, "geteuid", lambda: 1000)
    with pytest.raises(
        vm_image.NotPossibleError, match=r"run: sudo apt-get update && sudo apt-get install .*some-package"
    ):
        vm_image.install_tools()


def test_a_disk_is_made_by_root_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Somebody who is not root and has no disk yet is told what to run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vm_image.os, "geteuid", lambda: 1000)
    with pytest.raises(vm_image.NotPossibleError, match="sudo make test-vm"):
        vm_image.image()


NOWHERE = vm_image.Image(Path("/nowhere/disk"), Path("/nowhere/kernel"), Path("/nowhere/initrd"))


def test_how_the_machine_runs_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """KVM when a kernel comes up on it, else emulation with the reason; asked for KVM, none is a refusal."""
    monkeypatch.setattr(vm_machine, "KVM", tmp_path / "kvm")
    assert vm_machine.accelerator(NOWHERE, "tcg")[0] == "tcg"
    way, why = vm_machine.accelerator(NOWHERE, "auto")
    assert (way, "there is no" in why) == ("tcg", True)
    with pytest.raises(vm_image.NotPossibleError, match="SUTAZAI_VM_ACCEL=tcg make test-vm"):
        vm_machine.accelerator(NOWHERE, "kvm")
    with pytest.raises(vm_image.NotPossibleError, match="write one of: auto, kvm, tcg"):
        vm_machine.accelerator(NOWHERE, "xen")
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(vm_machine, "try_kernel", lambda image, way: "")
    assert vm_machine.accelerator(NOWHERE, "auto") == ("kvm", "")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'assertion failed' >&2; exit 134", "qemu ended with 134: assertion failed"),
        ("echo Booting; exec sleep 60", "does not come up"),
        ("echo '(initramfs) '; exec sleep 60", ""),
    ],
)
def test_a_kernel_is_tried(script: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A crash, a silence and a kernel that came up are told apart, and the process is gone in each case."""
    qemu = tmp_path / "qemu"
    qemu.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{script}\n")
    qemu.chmod(0o755)
    monkeypatch.setattr(vm_machine, "QEMU", str(qemu))
    monkeypatch.setattr(vm_machine, "PROBE_S", {"kvm": 1.0})
    said = vm_machine.try_kernel(NOWHERE, "kvm")
    assert reason in said
    assert bool(said) == bool(reason)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_lines_of_a_port_are_put_together() -> None:
    """A line may come in parts, and several lines in one."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        lines = vm_machine._lines(mine)
        theirs.sendall(b"task a\ntas")
        assert next(lines) == b"task a"
        theirs.sendall(b"k b\ntask c\n")
        assert [next(lines), next(lines)] == [b"task b", b"task c"]
        theirs.shutdown(socket.SHUT_WR)
        assert list(lines) == []


def test_what_is_lost_or_doubled_is_seen(tmp_path: Path) -> None:
    """The question to the store finds a task that is missing and one that committed twice."""
    store = sqlite3.connect(tmp_path / "store.sqlite")
    store.execute("CREATE TABLE tasks (seq INTEGER PRIMARY KEY, id TEXT, status INTEGER)")
    store.execute("CREATE TABLE turns (task INTEGER, fence INTEGER, outcome TEXT)")
    store.executemany("INSERT INTO tasks (seq, id, status) VALUES (?, ?, ?)", [(1, "a", 3), (2, "b", 0)])
    turns = [(1, 1, "lost"), (1, 2, "result"), (1, 3, "result"), (2, 1, "result")]
    store.executemany("INSERT INTO turns VALUES (?, ?, ?)", turns)
    store.commit()
    store.close()
    command = [sys.executable, str(VM / "tasks.py"), str(tmp_path / "store.sqlite")]
    done = subprocess.run(command, input="a\nb\ngone\n", capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["lost"] == ["gone"]
    assert found["by_status"] == {"succeeded": 1, "queued": 1}
    assert (found["doubled"], found["turns_lost"], found["integrity"]) == (1, 1, "ok")
