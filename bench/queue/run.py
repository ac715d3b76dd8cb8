"""Why it exists: `make bench-queue` sets our queue beside the Python task queues that a team would take instead.

usage: bench/queue/run.py [--quick] [--only NAME…]

Each peer runs in one environment of its own (requirements/env-bench.txt), against real servers that are started here,
with results recorded and nothing faster than the disk: RabbitMQ with confirmed publishing, Valkey and SQLite that sync
every write, PostgreSQL as it comes. Candidates take turns, round by round; the table shows medians. A peer that loses
a task, or runs one again that had finished, when its workers are killed is not at equal durability, and is shown so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
import servers
from measure import pss_bytes

from sutazai.testing.broker_process import BrokerProcess
from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = HERE.parents[1]
PEERS_PYTHON = ROOT / ".venv/environments/bench/bin/python"
NEEDS = {
    "dramatiq": ("rabbitmq", "valkey"), "celery": ("rabbitmq", "valkey"), "taskiq": ("rabbitmq", "valkey"),
    "procrastinate": ("postgres",), "huey": (), "dbos": (), "sutazai": (),
}  # fmt: skip
OURS = "sutazai"
INSTANCES = 16
KILLS = 5
WAITING = 100_000
AGENT = '''
"""The task of the benchmark: the same body as the peers'."""
import sys

sys.path.insert(0, {peers!r})
import common

from sutazai.runtime import Agent

agent = Agent("work")


@agent.skill
def work(number: int, sleep_ms: int = 0, log: str = "") -> dict[str, int]:
    """Run one task."""
    return common.body(number, sleep_ms, log)
'''
MANIFEST = """fleet: {fleet}
port_offset: {offset}
memory_pools: {standard: {instance_limit: INSTANCES}}
agents:
  work: {file: FILE, port: 10480, pool: standard, memory: 48MB, instances: INSTANCES, keep: 600s, attempts: 20}
"""


class Candidate:
    """One queue with its workers.

    Args:
        name: of the peer, or ours.
        folder: for its files.
        environment: where the servers are.
    """

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.name, self.folder = name, folder
        self.environment = {**os.environ, **environment, "BENCH_DIR": str(folder)}
        self._workers: subprocess.Popen[bytes] | None = None
        self._fleet: LiveFleet | None = None

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Run its workers."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        """Start the workers, or the fleet."""
        if self.name != OURS:
            log = (self.folder / "workers.log").open("ab")
            self._workers = subprocess.Popen(
                [*self._argv(), "worker"], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
            return
        path = self.folder / "work.py"
        path.write_text(AGENT.format(peers=str(HERE / "peers")))
        text = MANIFEST.replace("FILE", str(path)).replace("INSTANCES", str(INSTANCES))
        self._fleet = LiveFleet(text, name="bq").__enter__()
        self.environment |= {key: self._fleet.env[key] for key in self._fleet.env if key.startswith("SUTAZAI_")}

    def stop(self) -> None:
        """End them."""
        if self._workers is not None:
            self.kill()
        if self._fleet is not None:
            self._fleet.close()
            self._fleet = None

    def kill(self) -> None:
        """``kill -9`` of all workers at once: of ours, all instances of the agent."""
        if self._fleet is not None:
            done = self._fleet.command("status", "--json")
            for instance in json.loads(done.stdout)["instances"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(instance["pid"], signal.SIGKILL)
        elif self._workers is not None:
            os.killpg(self._workers.pid, signal.SIGKILL)
            self._workers.wait()
            self._workers = None

    def run(self, what: str, *words: str, timeout_s: float = 900) -> dict[str, Any] | None:
        """Run the client of a measurement and read its line."""
        done = subprocess.run(
            [*self._argv(), what, *words], env=self.environment, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
        if done.returncode != 0 or not done.stdout.strip():
            raise SystemExit(f"{self.name} {what} failed:\n{done.stderr[-2_000:]}")
        found: dict[str, Any] | None = json.loads(done.stdout.splitlines()[-1])
        return found

    def _argv(self) -> list[str]:
        python = sys.executable if self.name == OURS else str(PEERS_PYTHON)
        return [python, str(HERE / "peers" / f"{self.name}_peer.py")]


def speed(candidate: Candidate, count: int, trips: int) -> dict[str, float]:
    """Measure one round."""
    found: dict[str, float] = {}
    with candidate.working():
        for key, batch in (("one", 1), ("batch", 100)):
            done = candidate.run("drain", "--count", str(count), "--batch", str(batch))
            if done is not None:
                if done["finished"] != count:
                    raise SystemExit(f"{candidate.name}: {done['finished']} of {count} tasks finished")
                found[key] = count / done["total_s"]
        found |= candidate.run("roundtrip", "--count", str(trips)) or {}
    return found


def killed(candidate: Candidate, count: int) -> dict[str, int]:
    """Kill all workers some times under load; count what has no result, and what ran again after it had finished."""
    log = candidate.folder / "finished.log"
    log.write_text("")
    log.chmod(0o666)
    words = ("--count", str(count), "--sleep-ms", "20", "--log", str(log), "--batch", "100")
    with candidate.working():
        candidate.run("enqueue", *words)
        for number in range(KILLS):
            _until_lines(log, (number + 1) * count // (KILLS + 2))
            candidate.kill()
            if candidate.name != OURS:
                candidate.start()
        done = candidate.run("collect", "--timeout-s", "90") or {}
    lines = Counter(log.read_text().split())
    return {
        "lost": int(done["of"]) - int(done["finished"]),
        "again": sum(times - 1 for times in lines.values() if times > 1),
    }


def _until_lines(log: Path, lines: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and log.read_bytes().count(b"\n") < lines:
        time.sleep(0.02)


def waiting(count: int) -> int:
    """Measure the memory of our broker with so many tasks waiting, bytes more than without."""
    with BrokerProcess() as broker:
        before = pss_bytes([broker.pid])
        client = broker.client()
        for start in range(0, count, 500):
            tasks = [
                {"agent": "work", "skill": "work", "input": {"number": number}} for number in range(start, start + 500)
            ]
            client.request({"t": "submit", "id": start + 1, "tasks": tasks}, 60)
        client.close()
        return pss_bytes([broker.pid]) - before


def main() -> int:
    """Measure, print the table, and say whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--only", nargs="*", default=list(NEEDS))
    arguments = parser.parse_args()
    rounds, count, trips = (1, 400, 100) if arguments.quick else (3, 2_000, 500)
    names = [name for name in NEEDS if name in arguments.only]
    with tempfile.TemporaryDirectory(prefix="bq", dir="/tmp") as text:
        folder = Path(text)
        folder.chmod(0o755)
        wanted = {server for name in names for server in NEEDS[name]}
        with servers.running(wanted, folder) as (environment, absent):
            names = [name for name in names if not set(absent) & set(NEEDS[name])]
            for server, why in absent.items():
                print(f"SKIPPED: {', '.join(n for n in NEEDS if server in NEEDS[n])}: {why}")
            candidates = {}
            for name in names:
                (folder / name).mkdir()
                (folder / name).chmod(0o777)
                candidates[name] = Candidate(name, folder / name, environment)
            speeds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for _ in range(rounds):
                for name, candidate in candidates.items():
                    speeds[name].append(speed(candidate, count, trips))
            faults = {
                name: killed(candidate, 300 if arguments.quick else 600) for name, candidate in candidates.items()
            }
    missed = report(speeds, faults)
    if OURS in names:
        tasks = WAITING // (10 if arguments.quick else 1)
        print(f"our broker with {tasks} tasks waiting: {waiting(tasks) / 2**20:.0f} MB more than without")
    print(f"targets missed: {'; '.join(missed)}" if missed else "all targets met")
    return 1 if missed else 0


def report(speeds: dict[str, list[dict[str, float]]], faults: dict[str, dict[str, int]]) -> list[str]:
    """Print the table; gives the targets that were missed."""

    def median(name: str, key: str) -> float:
        values = [found[key] for found in speeds[name] if key in found]
        return statistics.median(values) if values else 0.0

    print("| queue | tasks/s, 16 callers | tasks/s, batches of 100 | round trip p50 | p99 | lost | run again |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in speeds:
        batch = f"{median(name, 'batch'):.0f}" if median(name, "batch") else "–"
        print(
            f"| {name} | {median(name, 'one'):.0f} | {batch} | {median(name, 'p50_ms'):.1f} ms | "
            f"{median(name, 'p99_ms'):.1f} ms | {faults[name]['lost']} | {faults[name]['again']} |"
        )
    if OURS not in speeds:
        return []
    peers = [name for name in speeds if name != OURS]
    equal = [name for name in peers if not faults[name]["lost"]]
    missed = []
    for key, what in (("one", "16 callers"), ("batch", "batches")):
        best = max(equal, key=lambda name: median(name, key), default="")
        if best and median(best, key):
            ratio = median(OURS, key) / median(best, key)
            print(f"{what}: {ratio:.1f}x the best peer that lost nothing ({best}); target 4x")
            if ratio < 4:
                missed.append(f"{what} {ratio:.1f}x")
    quickest = min((median(name, "p99_ms") for name in peers), default=0.0)
    if peers and median(OURS, "p99_ms") >= quickest:
        missed.append(f"p99 {median(OURS, 'p99_ms'):.1f} ms, the quickest peer's {quickest:.1f} ms")
    if any(faults[OURS].values()):
        missed.append(f"faults {faults[OURS]}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
