"""Giving page cache back, on control files of both cgroup versions: what is written, what a refusal means."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.host.cgroup import NO_LIMITS
from sutazai.host.cgroup_detect import Place
from sutazai.host.cgroup_none import NoGroups
from sutazai.host.cgroup_v1 import GroupsV1
from sutazai.host.cgroup_v2 import RECLAIM_PART_BYTES, GroupsV2
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

Build = Callable[[str], tuple[Place, Any]]
SOON_S = 1e12
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="as another user every writable folder counts as delegated")


def on_write(kernel: Any, monkeypatch: pytest.MonkeyPatch, effect: Callable[[Path, str, str], None]) -> None:
    """Let the fake kernel do something before a write."""
    plain = kernel.write

    def write(folder: Path, name: str, text: str) -> None:
        effect(folder, name, text)
        plain(folder, name, text)

    monkeypatch.setattr(kernel, "write", write)


def written(kernel: Any) -> list[tuple[str, str]]:
    """What was written for giving back, in order."""
    names = {"memory.force_empty", "memory.swappiness", "memory.reclaim"}
    return [(name, text) for _, name, text in kernel.writes if name in names]


def test_v1_empties_the_group_and_swaps_nothing(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swapping is off while the kernel works and as before afterwards; the answer is what the group uses then."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    groups.ensure("pool/p", NO_LIMITS)
    folder = place.bases["memory"] / "sutazai-f-1/pool/p"
    kernel.put(folder, "memory.usage_in_bytes", str(100 * MIB))
    kernel.put(folder, "memory.swappiness", "35")

    def effect(where: Path, name: str, _: str) -> None:
        if name == "memory.force_empty":
            assert kernel.read(where, "memory.swappiness") == "0"
            kernel.put(where, "memory.usage_in_bytes", str(30 * MIB))

    on_write(kernel, monkeypatch, effect)
    found = groups.reclaim("pool/p", 1 * MIB, SOON_S)
    assert (found.memory_bytes, found.why) == (30 * MIB, "")
    assert written(kernel) == [("memory.swappiness", "0"), ("memory.force_empty", "0"), ("memory.swappiness", "35")]
    assert groups.reclaim("pool/gone", 1, SOON_S).why == "its group has ended"


@pytest.mark.parametrize(
    ("control", "number", "why"),
    [
        ("memory.force_empty", errno.EBUSY, ""),
        ("memory.force_empty", errno.EINVAL, "memory.force_empty: Invalid argument"),
        ("memory.swappiness", errno.EACCES, "memory could be swapped out, which memory.swappiness cannot forbid"),
    ],
)
def test_v1_says_why_it_is_not_possible(
    build: Build, monkeypatch: pytest.MonkeyPatch, control: str, number: int, why: str
) -> None:
    """Less than all is no failure; a refusal is told, and the swappiness is as before in each case."""
    place, kernel = build("v1_hybrid")
    groups = GroupsV1(place)
    groups.ensure("pool/p", NO_LIMITS)
    folder = place.bases["memory"] / "sutazai-f-1/pool/p"
    kernel.put(folder, "memory.swappiness", "60")

    def effect(_: Path, name: str, __: str) -> None:
        if name == control:
            raise OSError(number, os.strerror(number))

    on_write(kernel, monkeypatch, effect)
    assert groups.reclaim("pool/p", 1 * MIB, SOON_S).why.startswith(why)
    assert bool(groups.reclaim("pool/p", 1 * MIB, SOON_S).why) is bool(why)
    assert kernel.read(folder, "memory.swappiness") == "60"


@pytest.fixture
def v2(build: Build) -> tuple[GroupsV2, Any, Path]:
    """A v2 driver with one group."""
    place, kernel = build("v2_top")
    groups = GroupsV2(place)
    groups.ensure("pool/p", NO_LIMITS)
    folder = place.bases["unified"] / "sutazai-f-1/pool/p"
    kernel.put(folder, "memory.current", str(50 * MIB))
    return groups, kernel, folder


@ROOT
def test_v2_asks_for_bytes_of_files_in_parts(v2: tuple[GroupsV2, Any, Path]) -> None:
    """A large wish is cut, so that it ends in time; only files are asked for."""
    groups, kernel, _ = v2
    assert groups.reclaim("pool/p", RECLAIM_PART_BYTES + 5, SOON_S).why == ""
    assert written(kernel) == [
        ("memory.reclaim", f"{RECLAIM_PART_BYTES} swappiness=0"),
        ("memory.reclaim", "5 swappiness=0"),
    ]
    kernel.writes.clear()
    assert groups.reclaim("pool/p", 5, 0.0).memory_bytes == 50 * MIB
    assert written(kernel) == [], "the time was over before it began"
    assert groups.reclaim("pool/gone", 1, SOON_S).why == "its group has ended"


@ROOT
def test_v2_less_than_asked_for_is_no_failure(v2: tuple[GroupsV2, Any, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """EAGAIN means that there is no more: the amount is what the group says."""
    groups, kernel, folder = v2

    def effect(_: Path, name: str, __: str) -> None:
        if name == "memory.reclaim":
            kernel.put(folder, "memory.current", str(20 * MIB))
            raise OSError(errno.EAGAIN, "less")

    on_write(kernel, monkeypatch, effect)
    found = groups.reclaim("pool/p", 40 * MIB, SOON_S)
    assert (found.memory_bytes, found.why) == (20 * MIB, "")


@ROOT
@pytest.mark.parametrize(("swap_max", "asked"), [("0", [("memory.reclaim", "7")]), ("max", [])])
def test_v2_before_linux_6_9_never_swaps(
    v2: tuple[GroupsV2, Any, Path], monkeypatch: pytest.MonkeyPatch, swap_max: str, asked: list[tuple[str, str]]
) -> None:
    """A kernel that does not know the word is asked without it only where the group cannot swap at all."""
    groups, kernel, folder = v2
    kernel.put(folder, "memory.swap.max", swap_max)

    def effect(_: Path, name: str, text: str) -> None:
        if name == "memory.reclaim" and "swappiness" in text:
            raise OSError(errno.EINVAL, "no such word")

    on_write(kernel, monkeypatch, effect)
    why = groups.reclaim("pool/p", 7, SOON_S).why
    assert written(kernel) == asked
    assert ("could be swapped out" in why) is not bool(asked)


@ROOT
def test_v2_without_the_control(v2: tuple[GroupsV2, Any, Path]) -> None:
    """Kernels before 5.19 have none: it is said."""
    groups, _, folder = v2
    (folder / "memory.reclaim").unlink()
    assert groups.reclaim("pool/p", 7, SOON_S).why == "memory.reclaim: this kernel has no such control"


def test_without_groups_nothing_can_be_given_back(tmp_path: Path) -> None:
    """There is no group whose cache could go, and it is said."""
    groups = NoGroups(tmp_path)
    groups.ensure("pool/p", NO_LIMITS)
    assert "cannot write any cgroup tree" in groups.reclaim("pool/p", 1, SOON_S).why
