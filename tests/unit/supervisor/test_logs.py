"""Rotation: what is kept, how much of it, and what a writer notices (nothing)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sutazai.supervisor.logs import LogKeeper, LogLimit
from sutazai.supervisor.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that gives the signal wake-up back."""
    made = Loop()
    yield made
    made.close()


def names(folder: Path) -> dict[str, bytes]:
    """Files and their content."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_rotation_keeps_the_newest_and_the_writer_goes_on(loop: Loop, tmp_path: Path) -> None:
    """The same descriptor writes on at the beginning of the emptied file; older parts move up and fall off the end."""
    keeper = LogKeeper(loop, tmp_path)
    keeper.limit("a", LogLimit(bytes_max=4, files_kept=2))
    writer = keeper.open("a")
    for part in (b"first", b"second", b"third", b"4th"):
        os.write(writer, part)
        keeper.check()
    os.close(writer)
    assert names(tmp_path) == {"a.log": b"4th", "a.log.1": b"hird", "a.log.2": b"cond"}
    assert keeper.rotations == 3


def test_only_the_tail_of_a_flood_is_kept(loop: Loop, tmp_path: Path) -> None:
    """A file far over its size does not become a rotated file of that size."""
    keeper = LogKeeper(loop, tmp_path)
    keeper.limit("a", LogLimit(bytes_max=10, files_kept=1))
    (tmp_path / "a.log").write_bytes(b"x" * 100_000 + b"0123456789")
    keeper.check()
    assert names(tmp_path) == {"a.log": b"", "a.log.1": b"0123456789"}


def test_keeping_none_just_empties(loop: Loop, tmp_path: Path) -> None:
    """With no file kept the log is cut."""
    keeper = LogKeeper(loop, tmp_path)
    keeper.limit("a", LogLimit(bytes_max=1, files_kept=0))
    (tmp_path / "a.log").write_bytes(b"xxx")
    keeper.check()
    assert names(tmp_path) == {"a.log": b""}


def test_logs_of_unknown_writers_are_limited_and_other_files_left_alone(loop: Loop, tmp_path: Path) -> None:
    """Instances open logs by themselves; links and foreign files are never touched."""
    keeper = LogKeeper(loop, tmp_path)
    (tmp_path / "agent.log").write_bytes(b"x" * (9 << 20))
    (tmp_path / "notes.txt").write_bytes(b"x" * (9 << 20))
    (tmp_path / "link.log").symlink_to(tmp_path / "notes.txt")
    keeper.check()
    assert (tmp_path / "agent.log").stat().st_size == 0
    assert (tmp_path / "notes.txt").stat().st_size == 9 << 20


def test_a_log_that_grows_swiftly_is_noticed(loop: Loop, tmp_path: Path) -> None:
    """Growth by more than a tenth of the limit between two looks says: look sooner."""
    keeper = LogKeeper(loop, tmp_path)
    keeper.limit("a", LogLimit(bytes_max=1_000))
    path = tmp_path / "a.log"
    path.write_bytes(b"")
    assert keeper.check() is False
    path.write_bytes(b"x" * 50)
    assert keeper.check() is False
    path.write_bytes(b"x" * 200)
    assert keeper.check() is True
