"""Why it exists: where a fleet's groups may be made depends on how the host mounts and delegates its cgroup trees.

* **v1**: below our own group of each hierarchy, so that limits laid on us keep holding.
* **v2**: below our own group when it was delegated to us (systemd's ``Delegate=yes``, a user's subtree, a container);
  as root without delegation: a group of its own at the top, beside the others.

The choice is written down at the first group and found again later, because ``sutazaid`` itself moves.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sutazai.host.cgroup import SYSTEM_ROOT
from sutazai.host.cgroup_files import Files

V1_CONTROLLERS = ("memory", "cpu", "cpuacct", "cpuset", "freezer", "pids")
V2_CONTROLLERS = ("memory", "cpu", "cpuset", "pids")
_DELEGATE_ATTRIBUTES = ("user.delegate", "trusted.delegate")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted tree.

    Attributes:
        folder: mount point.
        root: which part of the tree is mounted there; ``/`` is all of it.
    """

    folder: Path
    root: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fleet's groups are.

    Attributes:
        version: of the tree.
        name: of the fleet's root group.
        bases: v1: our base folder by controller, and ``unified`` where a tree without controllers is mounted beside;
            v2: only ``unified``.
        features: control files that new groups of ``unified`` have: ``cgroup.kill``, ``cgroup.freeze``.
        is_top: v2: the base is the machine's root group, which may hold processes itself.
        memory_file: where this is remembered.
        mounts: where the trees are mounted, by controller.
        files: access to the control files.
    """

    version: Literal["v1", "v2"]
    name: str
    bases: dict[str, Path]
    features: frozenset[str] = frozenset()
    is_top: bool = False
    memory_file: Path | None = None
    mounts: dict[str, Mount] = field(default_factory=dict)
    files: Files = field(default_factory=Files)

    def own_folder(self) -> Path | None:
        """Folder of the group that the calling process is in now, in the first tree that we use."""
        controller = "unified" if "unified" in self.bases else next(iter(self.bases))
        mount = self.mounts.get(controller)
        if mount is None:
            return None
        return _below(mount, _own_paths(SYSTEM_ROOT).get(controller, "/"))

    def remember(self) -> None:
        """Write down the bases, so that a later process finds the same groups."""
        if self.memory_file is None:
            return
        text = json.dumps(
            {"version": self.version, "name": self.name, "bases": {k: str(v) for k, v in self.bases.items()}}
        )
        temporary = self.memory_file.with_suffix(".new")
        with suppress(
            OSError
        ):  # a full disk must not stop the start; without the file the own group is looked at again
            temporary.write_text(text)
            temporary.replace(self.memory_file)

    def forget(self) -> None:
        """Delete what was written down: the tree is gone."""
        if self.memory_file is not None:
            with suppress(OSError):
                self.memory_file.unlink()


def find_place(name: str, state_dir: Path, system: Path, files: Files | None = None) -> Place | None:
    """Find the base folders for a fleet's root group ``name``; None when no tree can be written."""
    files = files or Files()
    mounts = _mounts(system)
    own = _own_paths(system)
    memory_file = state_dir / "cgroup.json"
    remembered = _remembered(memory_file, name, mounts)
    unified = mounts.get("unified")
    has_v2_controllers = unified is not None and bool(
        set(files.read(unified.folder, "cgroup.controllers").split()) & set(V2_CONTROLLERS)
    )
    if unified is not None and has_v2_controllers and "memory" not in mounts:
        base = remembered.get("unified") or _base_v2(unified, own.get("unified", "/"), name)
        writable, features = _probe(files, base, name) if base is not None else (False, frozenset())
        if base is None or not writable:
            return None
        is_top = base == unified.folder and not (base / "cgroup.type").exists()
        return Place("v2", name, {"unified": base}, features, is_top, memory_file, mounts, files)
    return _find_v1(name, mounts, own, remembered, Place("v1", name, {}, memory_file=memory_file, files=files))


def _find_v1(
    name: str, mounts: dict[str, Mount], own: dict[str, str], remembered: dict[str, Path], empty: Place
) -> Place | None:
    bases: dict[str, Path] = {}
    features: frozenset[str] = frozenset()
    for controller in (*V1_CONTROLLERS, "unified"):
        if controller not in mounts:
            continue
        base = remembered.get(controller) or _below(mounts[controller], _cut(own.get(controller, "/"), name))
        writable, found = _probe(empty.files, base, name)
        if writable:
            bases[controller] = base
        if writable and controller == "unified":
            features = found
    if not set(bases) & {"memory", "pids", "cpu", "freezer"}:
        return None
    return replace(empty, bases=bases, features=features, mounts=mounts)


def _mounts(system: Path) -> dict[str, Mount]:
    """Read the mounted hierarchies by controller; ``unified`` is the v2 tree. See proc_pid_mountinfo(5)."""
    found: dict[str, Mount] = {}
    try:
        lines = (system / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        left, _, right = line.partition(" - ")
        parts, tail = left.split(" "), right.split(" ")
        if len(parts) < 6 or len(tail) < 3 or tail[0] not in {"cgroup", "cgroup2"}:  # noqa: PLR2004 columns of the format
            continue
        folder = system / parts[4].replace("\\040", " ").lstrip("/")
        if tail[0] == "cgroup2":
            found.setdefault("unified", Mount(folder, parts[3]))
            continue
        controllers = frozenset(tail[2].split(",")) & frozenset(V1_CONTROLLERS)
        for controller in controllers:
            found.setdefault(controller, Mount(folder, parts[3]))
    return found


def _own_paths(system: Path) -> dict[str, str]:
    """Read which group of each hierarchy we are in; ``unified`` is v2's. See cgroups(7)."""
    found: dict[str, str] = {}
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(",") if controllers else ["unified"]:
            found[controller] = path or "/"
    return found


def _cut(path: str, name: str) -> str:
    """Take the fleet's own groups off a path: what is left is the base that they hang below."""
    kept = []
    for part in path.split("/"):
        if part in {name, leaf_name(name)}:
            break
        kept.append(part)
    return "/".join(kept) or "/"


def leaf_name(name: str) -> str:
    """Name of the group that takes the processes of a delegated v2 base, beside the fleet's root."""
    return f"{name}.self"


def _below(mount: Mount, path: str) -> Path:
    """Turn a path of ``/proc/self/cgroup`` into a folder, also where only a part of the tree is mounted."""
    if mount.root not in {"", "/"}:
        path = path[len(mount.root) :] if (path + "/").startswith(mount.root.rstrip("/") + "/") else "/"
    folder = mount.folder / path.strip("/") if path.strip("/") else mount.folder
    return folder if ".." not in folder.parts and folder.is_dir() else mount.folder


def _base_v2(mount: Mount, own: str, name: str) -> Path | None:
    own_folder = _below(mount, _cut(own, name))
    if _is_delegated(own_folder, is_namespace_root=own_folder == mount.folder):
        return own_folder
    return mount.folder if os.access(mount.folder, os.W_OK) else None


def _is_delegated(folder: Path, *, is_namespace_root: bool) -> bool:
    if not (folder / "cgroup.type").exists():  # the machine's root group has no type
        return False
    if not all(os.access(folder / file, os.W_OK) for file in ("", "cgroup.procs", "cgroup.subtree_control")):
        return False
    if os.geteuid() != 0 or is_namespace_root:
        return True
    for attribute in _DELEGATE_ATTRIBUTES:
        with suppress(OSError):
            if os.getxattr(folder, attribute) == b"1":
                return True
    return False


def own_folders(controller: str, system: Path = SYSTEM_ROOT) -> list[Path]:
    """Folders of the group that we are in and all above it, as far as mounted, innermost first.

    Args:
        controller: whose tree (``memory``, ``cpu`` …); the v2 tree where v1 has none of it.
        system: root of the file system that holds ``proc`` and ``sys``.
    """
    mounts = _mounts(system)
    tree = controller if controller in mounts else "unified"
    mount = mounts.get(tree)
    if mount is None:
        return []
    folder = _below(mount, _own_paths(system).get(tree, "/"))
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(mount.folder))]


def _probe(files: Files, base: Path, name: str) -> tuple[bool, frozenset[str]]:
    """Try to make a group: mount flags, uid and namespaces decide, and only the kernel knows."""
    probe = base / f"{name}.probe-{os.getpid()}"
    try:
        files.make(probe)
    except OSError:
        return False, frozenset()
    features = frozenset(file for file in ("cgroup.kill", "cgroup.freeze") if (probe / file).exists())
    files.drop(probe)
    return True, features


def _remembered(memory_file: Path, name: str, mounts: dict[str, Mount]) -> dict[str, Path]:
    """Read the bases of a fleet that still has groups; empty when there are none, or the file does not fit the host."""
    try:
        data = json.loads(memory_file.read_text())
        bases = {str(key): Path(value) for key, value in data["bases"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    if data.get("name") != name or not bases:
        return {}
    for controller, base in bases.items():
        mount = mounts.get(controller)
        if mount is None or ".." in base.parts or not base.is_relative_to(mount.folder) or not base.is_dir():
            return {}
    alive = any((base / name).is_dir() for base in bases.values())
    return bases if alive else {}
