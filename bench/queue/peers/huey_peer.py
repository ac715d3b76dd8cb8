"""Why it exists: huey on SQLite with synchronous=FULL (``fsync``), results in the same file."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huey import SqliteHuey

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import common

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "huey"
huey = SqliteHuey("huey_peer", filename=str(common.PLACE / "huey.db"), fsync=True, timeout=30)


@huey.task(retries=20)
def work(number: int, sleep_ms: int, log: str) -> dict[str, int]:
    """Run one task."""
    return common.body(number, sleep_ms, log)


def worker() -> list[str]:
    """See ``common.Peer``."""
    os.chdir(HERE)
    return [
        f"{sys.prefix}/bin/huey_consumer", "huey_peer.huey", "-k", "thread", "-w",
        str(common.PROCESSES * common.THREADS), "-d", "0.001", "-m", "0.02", "-q", "-n",
    ]  # fmt: skip


def one(number: int, sleep_ms: int, log: str) -> Any:
    """See ``common.Peer``."""
    return work(number, sleep_ms, log)


def many(numbers: Sequence[int], sleep_ms: int, log: str) -> None:
    """See ``common.Peer``: it has no batches."""


def result(handle: Any, timeout_s: float) -> bool:
    """See ``common.Peer``."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if handle.get(preserve=True) is not None:
            return True
        time.sleep(0.001)
    return False


def name_of(handle: Any) -> str:
    """What a handle is remembered by."""
    return str(handle.id)


def handle_of(name: str) -> Any:
    """A handle again."""
    return _Kept(name)


class _Kept:
    """A result that another process asked for."""

    def __init__(self, name: str) -> None:
        self.id = name

    def get(self, *, preserve: bool) -> Any:
        """Read it."""
        return huey.result(self.id, preserve=preserve)


if __name__ == "__main__":
    import huey_peer  # by its own name, as the workers know the task

    common.main(huey_peer)
