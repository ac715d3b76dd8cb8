"""Why it exists: every peer is driven in the same way: the same tasks, the same number of clients, the same waiting.

Runs in the peers' own environment and imports nothing of ours. A peer is a module with the functions of ``Peer``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Callers that enqueue at the same time, one task at a time each.
CLIENTS = 16
#: Tasks that the workers of one peer run at the same time: PROCESSES x THREADS.
PROCESSES, THREADS = 2, 8
PLACE = Path(os.environ.get("BENCH_DIR", "."))
RABBITMQ = os.environ.get("BENCH_RABBITMQ", "")
VALKEY = os.environ.get("BENCH_VALKEY", "")
POSTGRES = os.environ.get("BENCH_POSTGRES", "")


class Peer(Protocol):
    """What a module of this folder offers."""

    def worker(self) -> list[str]:
        """Command line of the workers, PROCESSES with THREADS each, results recorded, late acknowledgement."""
        ...

    def one(self, number: int, sleep_ms: int, log: str) -> Any:
        """Enqueue one task, durable when this returns; gives its handle."""
        ...

    def many(self, numbers: Sequence[int], sleep_ms: int, log: str) -> list[Any] | None:
        """Enqueue a batch by the peer's own means; None when it has none."""
        ...

    def result(self, handle: Any, timeout_s: float) -> bool:
        """Wait for the recorded result of a task."""
        ...


def body(number: int, sleep_ms: int, log: str) -> dict[str, int]:
    """Do what a task does: work for a while, leave a line that says that it has finished, give a result."""
    if sleep_ms:
        time.sleep(sleep_ms / 1_000)
    if log:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(descriptor, f"{number}\n".encode())
        os.close(descriptor)
    return {"echo": number}


def enqueue(peer: Any, count: int, batch: int, sleep_ms: int = 0, log: str = "", first: int = 0) -> list[Any] | None:
    """Enqueue tasks: by CLIENTS callers one at a time, or in batches by one caller."""
    numbers = list(range(first, first + count))
    if batch > 1:
        handles: list[Any] = []
        for start in range(0, count, batch):
            found = peer.many(numbers[start : start + batch], sleep_ms, log)
            if found is None:
                return None
            handles += found
        return handles
    if hasattr(peer, "together"):
        return peer.together(numbers, CLIENTS, sleep_ms, log)
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(lambda number: peer.one(number, sleep_ms, log), numbers))


def _wait_all(peer: Any, handles: list[Any], timeout_s: float) -> int:
    until = time.monotonic() + timeout_s
    if hasattr(peer, "results"):
        return int(peer.results(handles, timeout_s))
    return sum(peer.result(handle, max(0.01, until - time.monotonic())) for handle in handles)


def drain(peer: Any, count: int, batch: int) -> dict[str, Any] | None:
    """Measure from the first enqueue to the last recorded result, workers running."""
    _wait_all(peer, enqueue(peer, 4 * CLIENTS, 1, sleep_ms=20, first=-4 * CLIENTS) or [], 60)  # all workers are there
    started = time.perf_counter()
    handles = enqueue(peer, count, batch)
    if handles is None:
        return None
    enqueued = time.perf_counter()
    finished = _wait_all(peer, handles, 300)
    ended = time.perf_counter()
    return {"finished": finished, "enqueue_s": enqueued - started, "total_s": ended - started}


def roundtrip(peer: Any, count: int) -> dict[str, float]:
    """Measure one task after the other: enqueue, run, recorded result seen by the caller."""
    for number in range(10):
        peer.result(peer.one(-1 - number, 0, ""), 60)
    times = []
    for number in range(count):
        started = time.perf_counter()
        peer.result(peer.one(number, 0, ""), 60)
        times.append((time.perf_counter() - started) * 1_000)
    times.sort()
    return {"p50_ms": statistics.median(times), "p99_ms": times[min(len(times) - 1, len(times) * 99 // 100)]}


def main(peer: Any) -> None:
    """Run one measurement and print it as a line of JSON; or become the workers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["worker", "drain", "roundtrip", "enqueue", "collect"])
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--sleep-ms", type=int, default=0)
    parser.add_argument("--log", default="")
    parser.add_argument("--timeout-s", type=float, default=60.0)
    arguments = parser.parse_args()
    if arguments.what == "worker":
        command = peer.worker()
        os.execv(command[0], command)  # noqa: S606 a program of the environment
    until = time.monotonic() + 60
    while hasattr(peer, "READY") and not peer.READY.exists() and time.monotonic() < until:
        time.sleep(0.02)
    if hasattr(peer, "open_client"):
        peer.open_client()
    found: Any
    kept = PLACE / "handles.json"
    if arguments.what == "drain":
        found = drain(peer, arguments.count, arguments.batch)
    elif arguments.what == "roundtrip":
        found = roundtrip(peer, arguments.count)
    elif arguments.what == "enqueue":
        handles = enqueue(peer, arguments.count, arguments.batch, arguments.sleep_ms, arguments.log) or enqueue(
            peer, arguments.count, 1, arguments.sleep_ms, arguments.log
        )
        kept.write_text(json.dumps([peer.name_of(handle) for handle in handles or []]))
        found = {"enqueued": len(handles or [])}
    else:
        handles = [peer.handle_of(name) for name in json.loads(kept.read_text())]
        found = {"finished": _wait_all(peer, handles, arguments.timeout_s), "of": len(handles)}
    print(json.dumps(found), flush=True)
    sys.stdout.flush()
    os._exit(0)  # some clients keep threads that wait for ever
