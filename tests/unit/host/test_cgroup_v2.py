"""The v2 driver on trees of files: at the top, delegated by systemd, and in a container's namespace."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.errors import HostError
from sutazai.host.cgroup import NO_LIMITS, GroupLimits
from sutazai.host.cgroup_detect import Place, find_place
from sutazai.host.cgroup_v2 import GroupsV2
from sutazai.units import GIB, MIB

if TYPE_CHECKING:
    from pathlib import Path

Made = tuple[Place, Any]  # the second is the conftest's FakeKernel
Build = Callable[[str], Made]

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="as another user every writable folder counts as delegated")


@ROOT
def test_without_delegation_a_group_at_the_top(build: Build) -> None:
    """Root in a user's session makes a group beside the others and leaves the session's processes where they are."""
    place, kernel = build("v2_top")
    assert place.is_top
    groups = GroupsV2(place)
    groups.ensure("pool/p", NO_LIMITS)
    session = place.bases["unified"] / "user.slice/user-0.slice/session-3.scope"
    assert kernel.read(session, "cgroup.procs") == "500\n501"
    assert kernel.read(place.bases["unified"], "cgroup.procs") == "2"
    assert "cpuset" in kernel.read(place.bases["unified"], "cgroup.subtree_control").split()


@pytest.fixture
def delegated(build: Build, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A service with ``Delegate=yes``."""

    def getxattr(path: object, name: str) -> bytes:
        if str(path).endswith("sutazai.service") and name == "user.delegate":
            return b"1"
        raise OSError(61, "no attribute")

    monkeypatch.setattr(os, "getxattr", getxattr)
    return build("v2_delegated")


def test_delegated_base_gives_its_processes_to_a_leaf(delegated: Made, tmp_path: Path) -> None:
    """Only leaves hold processes: the unit's own go to a leaf of theirs, then controllers are switched on."""
    place, kernel = delegated
    base = place.bases["unified"]
    assert base.name == "sutazai.service"
    groups = GroupsV2(place)
    assert groups.ensure("pool/p", GroupLimits(memory_bytes=64 * MIB)) == ()
    assert kernel.read(base, "cgroup.procs") == ""
    assert kernel.read(base / "sutazai-f-1.self", "cgroup.procs") == "500\n501"
    assert kernel.read(base, "cgroup.subtree_control") == "cpu memory pids"
    assert groups.pids("") == [], "the leaf is beside the fleet's tree, not in it"
    own = tmp_path / "v2_delegated/proc/self/cgroup"
    own.write_text("0::/user.slice/sutazai.service/sutazai-f-1.self\n")
    (tmp_path / "state/cgroup.json").unlink()
    again = find_place("sutazai-f-1", tmp_path / "state", tmp_path / "v2_delegated", kernel)
    assert again is not None
    assert again.bases == place.bases
    assert groups.destroy()
    assert kernel.read(base, "cgroup.procs") == "500\n501"
    assert kernel.folders(base) == []


def test_missing_controller_is_told(delegated: Made) -> None:
    """Systemd does not hand down cpuset by default: limits of it are missing, by name, before and after asking."""
    groups = GroupsV2(delegated[0])
    assert [entry.limit for entry in groups.missing()] == ["cpuset"]
    assert groups.enforced() == ("memory", "cpu_quota", "cpu_weight", "pids", "freeze", "kill")
    missing = groups.ensure("pool/p", GroupLimits(cpuset="0-1", pids_max=9))
    assert [entry.limit for entry in missing] == ["cpuset"]


def test_namespace_root_counts_as_delegated(build: Build) -> None:
    """In a container the mounted root is a normal group: its processes move to a leaf."""
    place, kernel = build("v2_namespace")
    assert not place.is_top
    GroupsV2(place).ensure("pool/p", NO_LIMITS)
    assert kernel.read(place.bases["unified"] / "sutazai-f-1.self", "cgroup.procs") == "1\n500"


def test_limits_are_written(build: Build) -> None:
    """Each limit reaches its file, in the kernel's unit; swap is no way round the memory limit."""
    place, kernel = build("v2_namespace")
    groups = GroupsV2(place)
    assert groups.ensure("critical/llm", GroupLimits(512 * MIB, 1.5, 200, "0-1", 64)) == ()
    folder = place.bases["unified"] / "sutazai-f-1/critical/llm"
    written = {name: kernel.read(folder, name) for name in ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight")}
    assert written == {
        "memory.max": str(512 * MIB), "memory.swap.max": "0", "cpu.max": "150000 100000", "cpu.weight": "200",
    }  # fmt: skip
    assert kernel.read(folder, "cpuset.cpus") == "0-1"
    assert kernel.read(folder, "pids.max") == "64"
    groups.ensure("critical/llm", NO_LIMITS)
    assert kernel.read(folder, "memory.max") == "max"
    assert kernel.read(folder, "cpu.max") == "max 100000"
    assert kernel.read(folder, "cpuset.cpus") == ""


def test_limit_below_use_is_refused(build: Build) -> None:
    """v2 would kill a group whose new limit is below its use: it is asked to give back, then the old limit stays."""
    place, kernel = build("v2_namespace")
    groups = GroupsV2(place)
    groups.ensure("pool/p", GroupLimits(memory_bytes=2 * GIB))
    folder = place.bases["unified"] / "sutazai-f-1/pool/p"
    kernel.put(folder, "memory.current", str(GIB))
    missing = groups.ensure("pool/p", GroupLimits(memory_bytes=64 * MIB))
    assert [entry.limit for entry in missing] == ["memory"]
    assert kernel.read(folder, "memory.max") == str(2 * GIB)
    assert kernel.read(folder, "memory.high") == "max"


def test_usage_reads_all(build: Build) -> None:
    """Each figure comes from its file; the group's own OOM kills are counted, not those below it."""
    place, kernel = build("v2_namespace")
    groups = GroupsV2(place)
    groups.ensure("pool/p", NO_LIMITS)
    groups.place("pool/p", 77)
    folder = place.bases["unified"] / "sutazai-f-1/pool/p"
    kernel.put(folder, "memory.current", "100")
    kernel.put(folder, "memory.peak", "150")
    kernel.put(folder, "memory.stat", "anon 60\nfile 30\nshmem 10")
    kernel.put(folder, "memory.events.local", "max 7\noom 2\noom_kill 1")
    kernel.put(folder, "memory.events", "oom 9\noom_kill 9")
    kernel.put(folder, "cpu.stat", "usage_usec 1234")
    kernel.put(folder, "pids.current", "3")
    usage = groups.usage("pool/p")
    assert (usage.memory_bytes, usage.memory_peak_bytes, usage.limit_hits, usage.oom_kills) == (100, 150, 2, 1)
    assert (usage.anon_bytes, usage.file_bytes, usage.pids, usage.cpu_usec) == (70, 20, 3, 1234)
    assert usage.populated
    (folder / "memory.peak").unlink()  # before Linux 5.19; the kept descriptor still reads, a new driver does not
    assert GroupsV2(place).usage("pool/p").memory_peak_bytes in {0, 150}


def test_a_pool_takes_no_process(build: Build) -> None:
    """A group with groups below it may not hold processes itself: the error says so instead of misplacing."""
    groups = GroupsV2(build("v2_namespace")[0])
    groups.ensure("pool/p", NO_LIMITS)
    with pytest.raises(HostError, match="cannot place pid 77"):
        groups.place("pool", 77)


def test_freeze_kill_remove(build: Build) -> None:
    """One tree: freezing, killing and removing each take one write."""
    place, kernel = build("v2_namespace")
    groups = GroupsV2(place)
    groups.ensure("pool/p", NO_LIMITS)
    groups.place("pool/p", 77)
    groups.freeze("pool/p")
    groups.thaw("pool/p")
    assert not groups.remove("pool/p")
    groups.kill("pool")
    assert groups.remove("pool")
    assert not groups.exists("pool")
    pressure = groups.pressure("", "memory")
    assert pressure is not None
    assert pressure.some.total_usec == 0
    assert [text for _, name, text in kernel.writes if name == "cgroup.freeze"] == ["1", "0"]
