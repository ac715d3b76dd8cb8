"""Why it exists: ours is driven like the peers: a running fleet, its instances as workers, callers on its socket."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.client import TaskClient

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import common

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "sutazai"
_own = threading.local()


def _client() -> TaskClient:
    if not hasattr(_own, "client"):
        _own.client = TaskClient(os.environ["SUTAZAI_FLEET"])
    client: TaskClient = _own.client
    return client


def _task(number: int, sleep_ms: int, log: str) -> dict[str, Any]:
    return {"agent": "work", "skill": "work", "input": {"number": number, "sleep_ms": sleep_ms, "log": log}}


def one(number: int, sleep_ms: int, log: str) -> Any:
    """See ``common.Peer``."""
    return _client().submit([_task(number, sleep_ms, log)])[0]["id"]


def many(numbers: Sequence[int], sleep_ms: int, log: str) -> list[Any]:
    """See ``common.Peer``."""
    return [entry["id"] for entry in _client().submit([_task(number, sleep_ms, log) for number in numbers])]


def result(handle: Any, timeout_s: float) -> bool:
    """See ``common.Peer``."""
    return str(_client().wait(handle, timeout_s=timeout_s)["status"]) == "succeeded"


def results(handles: list[Any], timeout_s: float) -> int:
    """Wait for all with one question."""
    return sum(ended["status"] == "succeeded" for ended in _client().wait_each(handles, timeout_s=timeout_s))


def name_of(handle: Any) -> str:
    """What a handle is remembered by."""
    return str(handle)


def handle_of(name: str) -> Any:
    """A handle again."""
    return name


if __name__ == "__main__":
    common.main(sys.modules[__name__])
