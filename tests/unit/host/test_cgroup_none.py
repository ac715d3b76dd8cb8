"""The fallback without cgroups: it says what nobody holds, and still knows and ends its processes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from sutazai.errors import HostError
from sutazai.host import procfs
from sutazai.host.cgroup import GroupLimits, detect_groups, root_name
from sutazai.host.cgroup_none import NoGroups
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

TREE = "import os, time\nif os.fork() == 0: time.sleep(600)\nprint('up', flush=True); time.sleep(600)"


def test_no_tree_means_none(tmp_path: Path) -> None:
    """A host without any cgroup mount gets the fallback, which names every limit that is not held."""
    groups = detect_groups("f", tmp_path, system=tmp_path)
    assert groups.version == "none"
    assert {"memory", "cpu_quota", "pids"} <= {entry.limit for entry in groups.missing()}
    missing = groups.ensure("pool/p", GroupLimits(memory_bytes=MIB, pids_max=3))
    assert [entry.limit for entry in missing] == ["memory", "pids"]
    assert all(entry.why for entry in missing)


def test_names_of_roots(tmp_path: Path) -> None:
    """Fleets of one name with other state folders have other root groups; the same fleet always has the same."""
    assert root_name("f", tmp_path) == root_name("f", tmp_path)
    assert root_name("f", tmp_path) != root_name("f", tmp_path / "x")
    assert root_name("f", tmp_path).startswith("sutazai-f-")


def test_members_children_and_the_end(tmp_path: Path) -> None:
    """Children of members are members, a restart finds them by the file, and all of them end."""
    groups = NoGroups(tmp_path)
    groups.ensure("pool/p", GroupLimits(memory_bytes=512 * MIB, cpuset="0"))
    process = subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE)
    try:
        groups.place("pool/p", process.pid)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]  # untouched, so that a member of another group gets its own
        assert resource.prlimit(process.pid, resource.RLIMIT_DATA) == (512 * MIB, hard)
        assert os.sched_getaffinity(process.pid) == {0}
        again = NoGroups(tmp_path)
        pids = again.pids("pool")
        assert len(pids) == 2
        assert process.pid in pids
        assert again.children("") == ["pool"]
        assert again.children("pool") == ["p"]
        assert again.usage("pool/p").memory_bytes > 0
        assert not again.remove("pool")
        again.freeze("pool")
        again.thaw("pool")
        members = [procfs.identity(pid) for pid in pids]
        again.kill("pool")
        assert process.wait(60) == -signal.SIGKILL
        process.stdout.read()  # ends when the grandchild, too, has closed its files: it is about to be gone
        until = time.monotonic() + 60
        while any(procfs.is_alive(who) for who in members if who) and time.monotonic() < until:
            time.sleep(0.01)
        assert not any(procfs.is_alive(who) for who in members if who)
        assert again.remove("pool")
        assert NoGroups(tmp_path).children("") == []
    finally:
        groups.kill("")
        process.kill()
        process.wait()


def test_placing_needs_a_group_and_a_process(tmp_path: Path) -> None:
    """The same errors as with real groups."""
    groups = NoGroups(tmp_path)
    groups.ensure("pool/p", GroupLimits())
    with pytest.raises(HostError):
        groups.place("pool/q", os.getpid())
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(ProcessLookupError):
        groups.place("pool/p", process.pid)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": [["x", 1]]}', '{"a": [[1]]}'])
def test_damaged_file_of_members(tmp_path: Path, text: str) -> None:
    """A damaged file of members is as good as none."""
    (tmp_path / "groups.json").write_text(text)
    assert NoGroups(tmp_path).pids("") == []
