"""A kernel made of files: trees of control files copied from ``tests/fixtures/cgroup``, for both cgroup versions."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sutazai.host.cgroup_detect import Place, find_place
from sutazai.host.cgroup_files import Files

FIXTURES = Path(__file__).parents[2] / "fixtures" / "cgroup"
V1_BUSY_BYTES = "memory.usage_in_bytes"


class FakeKernel(Files):
    """Makes new groups full of control files, moves pids, and refuses what the kernel refuses."""

    def __init__(self, system: Path) -> None:
        super().__init__()
        self.top = system / "sys/fs/cgroup"
        self.is_v2 = (self.top / "cgroup.controllers").exists()
        self.gone = {4_040}
        self.writes: list[tuple[str, str, str]] = []

    def _trees(self, folder: Path) -> list[str]:
        if self.is_v2:
            on = self.read(folder.parent, "cgroup.subtree_control").split()
            return ["base", *(name for name in ("memory", "cpu", "cpuset", "pids") if name in on)]
        return folder.relative_to(self.top).parts[0].split(",")

    def make(self, folder: Path) -> bool:
        if not super().make(folder):
            return False
        for tree in self._trees(folder):
            shutil.copytree(FIXTURES / "new_group" / ("v2" if self.is_v2 else "v1") / tree, folder, dirs_exist_ok=True)
        return True

    def drop(self, folder: Path) -> bool:
        if not folder.is_dir():
            return True
        if self.folders(folder) or self.read(folder, "cgroup.procs"):
            return False
        self.forget(str(folder))
        shutil.rmtree(folder)
        return True

    def write(self, folder: Path, name: str, text: str) -> None:
        if not (folder / name).exists():
            raise FileNotFoundError(errno.ENOENT, "no control", name)
        self.writes.append((str(folder.relative_to(self.top)), name, text))
        if name == "cgroup.procs":
            self._move(folder, text)
        elif name == "cgroup.subtree_control":
            self._switch(folder, text)
        elif name == "cgroup.kill":
            for group in self.tree(folder):
                (group / "cgroup.procs").write_text("")
                self._populate(group)
        elif name == "cpuset.cpus" and text == "900":
            raise OSError(errno.EINVAL, "no such core")
        elif name == "memory.limit_in_bytes" and 0 < int(text) < int(self.read(folder, V1_BUSY_BYTES) or 0):
            raise OSError(errno.EBUSY, "in use")
        elif name == "cgroup.freeze":
            self.put(folder, "cgroup.events", self.read(folder, "cgroup.events")[:-1] + text)
            self.put(folder, name, text)
        else:
            self.put(folder, name, text)

    def put(self, folder: Path, name: str, text: str) -> None:
        """Set the content of a control file, as the kernel would."""
        (folder / name).write_text(text if text.endswith("\n") else f"{text}\n")

    def _move(self, folder: Path, pid: str) -> None:
        if int(pid) in self.gone:
            raise ProcessLookupError(errno.ESRCH, "gone")
        if self.is_v2 and self.read(folder, "cgroup.subtree_control") and (folder / "cgroup.type").exists():
            raise OSError(errno.EBUSY, "no internal processes")
        tree = self.top if self.is_v2 else self.top / folder.relative_to(self.top).parts[0]
        for group in self.tree(tree):
            pids = self.read(group, "cgroup.procs").split()
            if pid in pids:
                pids.remove(pid)
                (group / "cgroup.procs").write_text("".join(f"{word}\n" for word in pids))
                self._populate(group)
        with (folder / "cgroup.procs").open("a") as file:
            file.write(f"{pid}\n")
        self._populate(folder)

    def _populate(self, group: Path) -> None:
        for folder in (group, *group.parents):
            if not (folder / "cgroup.events").exists():
                return
            is_populated = bool(self.pids(folder))
            frozen = self.read(folder, "cgroup.events")[-1]
            self.put(folder, "cgroup.events", f"populated {int(is_populated)}\nfrozen {frozen}")

    def _switch(self, folder: Path, text: str) -> None:
        if self.read(folder, "cgroup.procs") and (folder / "cgroup.type").exists():
            raise OSError(errno.EBUSY, "no internal processes")
        if text[0] == "+" and text[1:] not in self.read(folder, "cgroup.controllers").split():
            raise FileNotFoundError(errno.ENOENT, "no controller")
        on = set(self.read(folder, "cgroup.subtree_control").split())
        on = on | {text[1:]} if text[0] == "+" else on - {text[1:]}
        self.put(folder, "cgroup.subtree_control", " ".join(sorted(on)))
        for child in self.folders(folder):
            self.put(folder / child, "cgroup.controllers", " ".join(sorted(on)))

    def controllers(self, folder: Path) -> None:
        """Tell a new v2 group which controllers its parent hands down."""
        self.put(folder, "cgroup.controllers", self.read(folder.parent, "cgroup.subtree_control"))


class FakeKernelV2(FakeKernel):
    """The same, with controllers handed down to new groups."""

    def make(self, folder: Path) -> bool:
        made = super().make(folder)
        if made:
            self.controllers(folder)
        return made


Build = Callable[[str], tuple[Place, FakeKernel]]


@pytest.fixture
def system(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a fixture system."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(FIXTURES / name, tmp_path / name, dirs_exist_ok=True))

    return copy


@pytest.fixture
def build(tmp_path: Path, system: Callable[[str], Path]) -> Build:
    """Copy a fixture system and find the place for the fleet ``f`` in it."""
    (tmp_path / "state").mkdir()

    def make(name: str) -> tuple[Place, FakeKernel]:
        root = system(name)
        kernel = FakeKernelV2(root) if name.startswith("v2") else FakeKernel(root)
        place = find_place("sutazai-f-1", tmp_path / "state", root, kernel)
        assert place is not None
        return place, kernel

    return make
