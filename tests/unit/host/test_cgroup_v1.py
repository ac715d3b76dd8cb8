"""The v1 driver on trees of files: hybrid (a v2 tree beside) and pure (inside a container)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.errors import HostError
from sutazai.host.cgroup import NO_LIMITS, GroupLimits, Missing
from sutazai.host.cgroup_detect import Place, find_place
from sutazai.host.cgroup_v1 import GroupsV1
from sutazai.units import GIB, MIB

if TYPE_CHECKING:
    from pathlib import Path

Made = tuple[Place, Any]  # the second is the conftest's FakeKernel
Build = Callable[[str], Made]


def test_base_is_our_own_group(build: Build) -> None:
    """Groups hang below the group that we are in, so that limits laid on us keep holding."""
    place, _ = build("v1_hybrid")
    assert place.version == "v1"
    assert str(place.bases["memory"]).endswith("/sys/fs/cgroup/memory/box/one")
    assert str(place.bases["cpu"]).endswith("/sys/fs/cgroup/cpu")
    assert place.features == {"cgroup.kill", "cgroup.freeze"}


def test_path_inside_a_container_without_its_folder(build: Build) -> None:
    """In a container ``/proc/self/cgroup`` may name folders that are not mounted there: the mount is the base."""
    place, _ = build("v1_pure")
    assert str(place.bases["memory"]).endswith("/sys/fs/cgroup/memory")
    assert place.bases["cpu"] == place.bases["cpuacct"]


def test_limits_are_written(build: Build) -> None:
    """Each limit reaches its file, in the kernel's unit."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    assert groups.ensure("critical/llm", GroupLimits(512 * MIB, 1.5, 200, "0-1", 64)) == ()
    memory = place.bases["memory"] / "sutazai-f-1/critical/llm"
    cpu = place.bases["cpu"] / "sutazai-f-1/critical/llm"
    cpuset = place.bases["cpuset"] / "sutazai-f-1/critical/llm"
    assert kernel.read(memory, "memory.limit_in_bytes") == str(512 * MIB)
    assert int(kernel.read(memory, "memory.memsw.limit_in_bytes")) == 516 * MIB
    assert kernel.read(cpu, "cpu.cfs_quota_us") == "150000"
    assert kernel.read(cpu, "cpu.shares") == "2048"
    assert kernel.read(cpuset, "cpuset.cpus") == "0-1"
    assert kernel.read(cpuset, "cpuset.mems") == "0"
    assert kernel.read(cpuset.parent, "cpuset.cpus") == "0-3", "a parent without a set of its own has its parent's"
    assert kernel.read(place.bases["pids"] / "sutazai-f-1/critical/llm", "pids.max") == "64"
    assert not (place.bases["freezer"] / "sutazai-f-1").exists(), "the v2 tree freezes, so no folder here"


def test_nodes_are_set_before_a_process_is_placed(build: Build) -> None:
    """A cpuset without nodes takes no process: they are written before the first pid."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    groups.ensure("pool/p", GroupLimits(cpuset="1"))
    groups.place("pool/p", 77)
    names = [name for folder, name, _ in kernel.writes if folder.startswith("cpuset")]
    assert names.index("cpuset.mems") < names.index("cgroup.procs")


def test_asking_twice_writes_once(build: Build) -> None:
    """The same limits again cost no write; other limits are written; no limit takes a limit away."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    groups.ensure("pool/p", GroupLimits(memory_bytes=64 * MIB))
    kernel.writes.clear()
    groups.ensure("pool/p", GroupLimits(memory_bytes=64 * MIB))
    assert kernel.writes == []
    groups.ensure("pool/p", NO_LIMITS)
    assert ("memory/box/one/sutazai-f-1/pool/p", "memory.limit_in_bytes", "-1") in kernel.writes


def test_refused_limits_are_told(build: Build) -> None:
    """What the kernel refuses is in the answer and is tried again at the next call."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    groups.ensure("pool/p", NO_LIMITS)
    memory = place.bases["memory"] / "sutazai-f-1/pool/p"
    kernel.put(memory, "memory.usage_in_bytes", str(GIB))
    limits = GroupLimits(memory_bytes=64 * MIB, cpuset="900")
    missing = groups.ensure("pool/p", limits)
    assert [entry.limit for entry in missing] == ["memory", "cpuset"]
    assert missing[0].why == "Device or resource busy"
    kernel.put(memory, "memory.usage_in_bytes", "0")
    assert [entry.limit for entry in groups.ensure("pool/p", limits)] == ["cpuset"]


def test_without_a_controller(build: Build) -> None:
    """Without the memory tree the group is made, and the limit is missing, by name."""
    place, _ = build("v1_hybrid")
    bases = {name: base for name, base in place.bases.items() if name not in {"memory", "cpuset"}}
    groups = GroupsV1(Place("v1", place.name, bases, place.features, files=place.files))
    assert {entry.limit for entry in groups.missing()} == {"memory", "cpuset"}
    assert groups.enforced() == ("cpu_quota", "cpu_weight", "pids", "freeze", "kill")
    missing = groups.ensure("pool/p", GroupLimits(memory_bytes=MIB, pids_max=5))
    assert missing == (Missing("memory", "no cgroup v1 tree of the controller memory"),)
    assert groups.usage("pool/p").memory_bytes == 0


def test_place_reaches_all_trees(build: Build) -> None:
    """A pid is moved in each tree; in cpuset to the nearest set above, else back to the base."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    groups.ensure("pool", GroupLimits(cpuset="2"))
    groups.ensure("pool/p", NO_LIMITS)
    groups.ensure("other/p", NO_LIMITS)
    groups.place("pool/p", 77)
    assert groups.pids("pool/p") == groups.pids("pool") == groups.pids("") == [77]
    assert groups.pids("pool", recursive=False) == []
    assert kernel.read(place.bases["cpuset"] / "sutazai-f-1/pool", "cgroup.procs") == "77"
    for tree in ("memory", "cpu", "pids", "unified"):
        assert kernel.read(place.bases[tree] / "sutazai-f-1/pool/p", "cgroup.procs") == "77"
    groups.place("other/p", 77)
    assert kernel.read(place.bases["cpuset"] / "sutazai-f-1", "cgroup.procs") == "77"


def test_place_errors(build: Build) -> None:
    """A dead pid and a group that does not exist are different errors."""
    groups = GroupsV1(build("v1_hybrid")[0])
    groups.ensure("pool/p", NO_LIMITS)
    with pytest.raises(ProcessLookupError):
        groups.place("pool/p", 4_040)
    with pytest.raises(HostError, match="ensure it before"):
        groups.place("pool/q", 77)


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/..", "a b", "a/\n", ".a", "a" * 300, "ü", "a/"])
def test_paths_cannot_leave_the_tree(build: Build, path: str) -> None:
    """No name of a group leads out of the fleet's own tree."""
    groups = GroupsV1(build("v1_hybrid")[0])
    with pytest.raises(HostError):
        groups.ensure(path, NO_LIMITS)
    with pytest.raises(HostError):
        groups.kill(path)


def test_usage_reads_all(build: Build) -> None:
    """Each figure comes from its file; shared memory counts as memory that cannot be dropped."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    groups.ensure("pool/p", NO_LIMITS)
    groups.place("pool/p", 77)
    memory = place.bases["memory"] / "sutazai-f-1/pool/p"
    kernel.put(memory, "memory.usage_in_bytes", "100")
    kernel.put(memory, "memory.max_usage_in_bytes", "150")
    kernel.put(memory, "memory.failcnt", "4")
    kernel.put(memory, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3")
    kernel.put(memory, "memory.stat", "cache 1\ntotal_cache 30\ntotal_rss 60\ntotal_shmem 10")
    kernel.put(place.bases["pids"] / "sutazai-f-1/pool/p", "pids.current", "9")
    kernel.put(place.bases["unified"] / "sutazai-f-1/pool/p", "cpu.stat", "usage_usec 1234\nuser_usec 1")
    usage = groups.usage("pool/p")
    assert (usage.memory_bytes, usage.memory_peak_bytes, usage.limit_hits, usage.oom_kills) == (100, 150, 4, 3)
    assert (usage.anon_bytes, usage.file_bytes, usage.pids, usage.cpu_usec) == (70, 20, 9, 1234)
    assert usage.populated


def test_usage_of_garbage_is_zero(build: Build) -> None:
    """Missing files and garbage are zeros, never an error: a tick must not stop the supervisor."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    groups.ensure("pool/p", NO_LIMITS)
    memory = place.bases["memory"] / "sutazai-f-1/pool/p"
    (memory / "memory.stat").unlink()
    (memory / "memory.oom_control").write_bytes(b"\xff\xfe\x00oom_kill x")
    kernel.put(memory, "memory.usage_in_bytes", "-7 bananas")
    usage = groups.usage("pool/p")
    assert (usage.memory_bytes, usage.oom_kills, usage.anon_bytes, usage.populated) == (0, 0, 0, False)
    assert groups.usage("never/made") == groups.usage("never/made2")


def test_pure_v1_uses_freezer_and_cpuacct(build: Build) -> None:
    """Without a v2 tree beside, the freezer freezes and cpuacct counts; folders of joint trees are made once."""
    place, kernel = build("v1_pure")
    groups = GroupsV1(place)
    groups.ensure("pool/p", GroupLimits(cpu_quota_cores=0.5))
    kernel.put(place.bases["cpuacct"] / "sutazai-f-1/pool/p", "cpuacct.usage", "5000000")
    assert groups.usage("pool/p").cpu_usec == 5_000
    groups.freeze("pool/p")
    assert kernel.read(place.bases["freezer"] / "sutazai-f-1/pool/p", "freezer.state") == "FROZEN"
    groups.thaw("pool/p")
    assert kernel.read(place.bases["freezer"] / "sutazai-f-1/pool/p", "freezer.state") == "THAWED"
    assert groups.pressure("pool/p", "memory") is None


def test_freeze_kill_remove(build: Build) -> None:
    """The v2 tree beside freezes and kills; a populated group stays, an empty one goes in all trees."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    groups.ensure("pool/p", NO_LIMITS)
    groups.place("pool/p", 77)
    groups.freeze("pool/p")
    assert kernel.read(place.bases["unified"] / "sutazai-f-1/pool/p", "cgroup.freeze") == "1"
    assert not groups.remove("pool/p")
    assert not groups.remove("pool")
    groups.kill("pool")
    for tree in ("memory", "cpu", "pids"):  # the kernel empties them all; the file fixture only one
        (place.bases[tree] / "sutazai-f-1/pool/p/cgroup.procs").write_text("")
    assert groups.remove("pool")
    for base in place.bases.values():
        assert not (base / "sutazai-f-1/pool").exists()
    assert groups.children("") == []
    groups.ensure("pool/p", NO_LIMITS)
    assert groups.children("") == ["pool"]


def test_quota_above_the_parents(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """v1 refuses a child's quota above its parent's: then the parent's holds and nothing is missing."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    groups.ensure("pool", GroupLimits(cpu_quota_cores=0.5))
    real = kernel.write

    def write(folder: Path, name: str, text: str) -> None:
        if name == "cpu.cfs_quota_us" and folder.name == "p" and int(text) > 50_000:
            raise OSError(22, "invalid")
        real(folder, name, text)

    monkeypatch.setattr(kernel, "write", write)
    assert groups.ensure("pool/p", GroupLimits(cpu_quota_cores=2)) == ()
    assert kernel.read(place.bases["cpu"] / "sutazai-f-1/pool/p", "cpu.cfs_quota_us") == "-1"


def test_remembered_place(build: Build, tmp_path: Path) -> None:
    """A later process in other groups finds the fleet's groups; without any group left it starts where it is."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    groups.ensure("pool/p", NO_LIMITS)
    root = tmp_path / "v1_hybrid"
    own = root / "proc/self/cgroup"
    own.write_text(own.read_text().replace("memory:/box/one", "memory:/"))
    again = find_place("sutazai-f-1", tmp_path / "state", root, kernel)
    assert again is not None
    assert again.bases == place.bases
    assert groups.destroy()
    assert not (tmp_path / "state/cgroup.json").exists()
    after = find_place("sutazai-f-1", tmp_path / "state", root, kernel)
    assert after is not None
    assert str(after.bases["memory"]).endswith("/memory")


def test_own_group_inside_the_fleet(build: Build, tmp_path: Path) -> None:
    """A supervisor that sits in its own tree, without the remembered file, does not nest a second tree in the first."""
    place, kernel = build("v1_hybrid")
    GroupsV1(place).ensure("infra/sutazaid", NO_LIMITS)
    (tmp_path / "state/cgroup.json").unlink()
    root = tmp_path / "v1_hybrid"
    own = root / "proc/self/cgroup"
    own.write_text(own.read_text().replace("/box/one", "/box/one/sutazai-f-1/infra/sutazaid"))
    again = find_place("sutazai-f-1", tmp_path / "state", root, kernel)
    assert again is not None
    assert again.bases["memory"] == place.bases["memory"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"name": "sutazai-f-1"}', '{"name": "sutazai-f-1", "bases": {"memory": "/etc"}}',
     '{"name": "sutazai-f-1", "bases": {"memory": 7}}', '{"name": "sutazai-f-1", "bases": {"nosuch": "/"}}'],
)  # fmt: skip
def test_remembered_garbage_is_not_followed(build: Build, tmp_path: Path, text: str) -> None:
    """A damaged or foreign ``cgroup.json`` is as good as none."""
    (tmp_path / "state").mkdir(exist_ok=True)
    (tmp_path / "state/cgroup.json").write_text(text)
    place, _ = build("v1_hybrid")
    assert str(place.bases["memory"]).endswith("/box/one")
