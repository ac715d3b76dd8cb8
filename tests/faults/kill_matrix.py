"""The kill matrix: `kill -9` of every kind of process, one after the other, under load, on a real fleet.

Clients give tasks over the broker's socket and over HTTP, each with an idempotency key, and ask again when an answer
was cut off. At the end, what they were told is compared with what happened:

* lost: accepted, and not terminal or not successful;
* doubled: a task whose effect stands twice in its session's state, or more effects than successes.

usage: python tests/faults/kill_matrix.py [--profile standard] [--rounds N | --kills N [--seed N]]

``--rounds`` kills each kind of process in turn, so many times; ``--kills`` chooses kinds and moments at random.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sutazai.client import SupervisorClient, TaskClient
from sutazai.errors import SutazaiError
from sutazai.testing.fleet import LiveFleet

AGENT = '''
"""Counts in its session's state, over a call to itself, so that a doubled effect is seen."""
import time

from sutazai.runtime import Agent, Context, Result, Wait

agent = Agent("counter")


@agent.skill
def add(key: str, ctx: Context, pause_s: float = 0.01) -> int:
    """Write a key down in the session's state."""
    time.sleep(pause_s)
    ctx.state.setdefault("keys", []).append(key)
    return len(ctx.state["keys"])


@agent.skill
def through(key: str, ctx: Context, session: str = "s") -> Wait[int]:
    """Let another task write the key down, and wait for it."""
    return Wait([ctx.call("counter", "add", {"key": key}, session=session)], then=collect, carry={"key": key})


@agent.step
def collect(ctx: Context, results: list[Result], carry: dict) -> int:
    """Return what the other task returned."""
    return results[0].require()


@agent.skill
def talk(text: str, ctx: Context) -> int:
    """Ask the language model for two tokens."""
    return ctx.llm.chat(text, max_tokens=2).completion_tokens
'''

MANIFEST = """
fleet: {fleet}
port_offset: {offset}
profile: PROFILE
llm: {model: smollm2-135m-instruct, memory: 512MB, start_peak: 400MB}
agents:
  counter: {file: AGENT_FILE, port: 10480, pool: standard, memory: 96MB, instances: 3, keep: 20s}
policies:
  retry: {attempts: 8, deadline: 5m}
"""
SESSIONS = 4
TARGETS = ("instance", "worker", "zygote", "broker", "gateway", "llm", "control", "sutazaid", "guard")
#: Servers of the standard profile that work goes through.
SERVERS = ("postgres", "rabbitmq")
RECOVERY_S_MAX = 60.0


@dataclass
class Load:
    """Clients that give tasks until told to stop, and remember what they were told."""

    fleet: LiveFleet
    accepted: dict[str, str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)
    _count: Any = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start a client on the socket, one over HTTP, and one that lets the model speak."""
        for target in (self._socket_client, self._http_client, self._talker):
            thread = threading.Thread(target=target, daemon=True)
            thread.start()
            self._threads.append(thread)

    def finish(self) -> None:
        """Let the clients end."""
        self.stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _request(self) -> dict[str, Any]:
        number = next(self._count)
        key, session = f"k{number}", f"s{number % SESSIONS}"
        if number % 5 == 0:
            return {"skill": "through", "input": {"key": key, "session": session}, "idempotency_key": key}
        return {"skill": "add", "input": {"key": key}, "session": session, "idempotency_key": key}

    def _told(self, task: str, request: dict[str, Any]) -> None:
        with self._lock:
            self.accepted[task] = str(request["input"].get("key", ""))

    def _socket_client(self) -> None:
        self._submit_with(self._request, pause_s=0.01)

    def _talker(self) -> None:
        numbers = itertools.count()
        self._submit_with(
            lambda: {"skill": "talk", "input": {"text": "hi"}, "idempotency_key": f"talk{next(numbers)}"}, pause_s=0.5
        )

    def _submit_with(self, make: Any, pause_s: float) -> None:
        client = TaskClient(self.fleet.name)
        while not self.stop.is_set():
            request = make()
            while not self.stop.is_set():
                try:
                    task = client.submit([{"agent": "counter", **request}])[0]["id"]
                except SutazaiError as error:
                    self.refused[error.code] += 1
                    self.stop.wait(0.05)
                    continue
                self._told(task, request)
                break
            self.stop.wait(pause_s)
        client.close()

    def _http_client(self) -> None:
        token = (self.fleet.state / "token").read_text().strip()
        while not self.stop.is_set():
            request = self._request()
            body = {name: value for name, value in request.items() if name != "idempotency_key"}
            headers = {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Idempotency-Key": request["idempotency_key"],
            }
            while not self.stop.is_set():
                connection = http.client.HTTPConnection("127.0.0.1", self.fleet.port(10480), timeout=20)
                try:
                    connection.request("POST", "/tasks", json.dumps(body), headers)
                    response = connection.getresponse()
                    answer = json.loads(response.read() or b"{}")
                except (OSError, http.client.HTTPException, ValueError):
                    self.refused["cut off"] += 1
                    self.stop.wait(0.05)
                    continue
                finally:
                    connection.close()
                if response.status in {200, 202}:
                    self._told(answer["id"], request)
                    break
                self.refused[f"http {response.status}"] += 1
                self.stop.wait(0.05)
            self.stop.wait(0.02)


@dataclass
class Row:
    """One line of the matrix."""

    killed: str
    pid: int
    recovered_s: float
    accepted: int
    twins: list[str] = field(default_factory=list)


def victim(status: dict[str, Any], target: str, fleet: LiveFleet) -> int:
    """Find the process to kill; 0 when there is none at this moment."""
    if target == "instance":
        busy = [entry for entry in status["instances"] if entry["pid"]]
        return int(busy[0]["pid"]) if busy else 0
    if target in {"sutazaid", "guard"}:
        guard = _guard_pid(fleet)
        if target == "guard":
            return guard
        children = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
        named = [int(pid) for pid in children if b"guard.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return named[0] if named else 0
    name = "python-0" if target == "worker" else target
    return int(next(entry["pid"] or 0 for entry in status["processes"] if entry["name"] == name))


def _guard_pid(fleet: LiveFleet) -> int:
    return int((Path(fleet.env["SUTAZAI_RUN_ROOT"]) / fleet.name / "guard.pid").read_text().split()[0])


def wait_until_up(fleet: LiveFleet, dead_pid: int) -> None:
    """Wait until every process is ready again and none of them is the killed one.

    Raises:
        TimeoutError: it takes longer than ``RECOVERY_S_MAX``.
    """
    until = time.monotonic() + RECOVERY_S_MAX
    status: dict[str, Any] = {}
    while time.monotonic() < until:
        with contextlib.suppress(SutazaiError), SupervisorClient(fleet.name) as supervisor:
            status = supervisor.status()
            pids = {entry["pid"] for entry in (*status["processes"], *status["instances"])}
            pids.add(_guard_pid(fleet))
            if _is_whole(status) and dead_pid not in pids and _answers(fleet):
                return
        time.sleep(0.02)
    states = {entry["name"]: entry["state"] for entry in status.get("processes", [])}
    raise TimeoutError(f"not up again: {status.get('state')} {states}\n{fleet.log_tails()}")


def _is_whole(status: dict[str, Any]) -> bool:
    """Whether all runs. That a process was killed often enough to be called a crash loop is what this program does."""
    critical = {entry["name"] for entry in status["conditions"] if entry["severity"] == "critical"}
    usable = all(entry["state"] in {"ready", "done", "asleep"} for entry in status["processes"])
    return status["state"] == "up" or (status["state"] == "degraded" and usable and critical == {"CrashLoop"})


def twins(fleet: LiveFleet) -> list[str]:
    """Name each program of the platform that runs more than once: somebody started a second one beside a living one."""
    programs: Counter[str] = Counter()
    for pid in fleet.leftovers():
        with contextlib.suppress(OSError):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"-m" in argv[:-1]:
                programs[argv[argv.index(b"-m") + 1].decode()] += 1
    return [f"{program} runs {count} times" for program, count in programs.items() if count > 1]


def _answers(fleet: LiveFleet) -> bool:
    """Tell whether the edge and the broker behind it answer."""
    connection = http.client.HTTPConnection("127.0.0.1", fleet.port(10480), timeout=5)
    try:
        connection.request("GET", "/tasks/t_00000000000000000000000")
        return connection.getresponse().status == 404
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass(frozen=True)
class Choice:
    """What is killed, and when.

    Attributes:
        profile: of the fleet.
        rounds: times that each kind is killed in turn.
        kills: instead of rounds: so many, of kinds and at moments that the seed chooses.
        seed: for that.
    """

    profile: str = "embedded"
    rounds: int = 1
    kills: int = 0
    seed: int = 0

    def targets(self) -> tuple[str, ...]:
        """Kinds of process of the profile."""
        return (*TARGETS, *SERVERS) if self.profile == "standard" else TARGETS

    def kinds(self) -> list[tuple[str, float]]:
        """Kinds in their order, each with the seconds of work after everything is ready again."""
        if not self.kills:
            return [(target, 1.0) for target in self.targets() * self.rounds]
        chance = random.Random(self.seed)  # noqa: S311 repeatable, not secret
        return [(chance.choice(self.targets()), chance.uniform(0.0, 0.7)) for _ in range(self.kills)]


def kill_all(fleet: LiveFleet, load: Load, choice: Choice) -> list[Row]:
    """Kill what was chosen, under load."""
    rows = []
    for target, pause_s in choice.kinds():
        pid = 0
        until = time.monotonic() + RECOVERY_S_MAX
        while not pid and time.monotonic() < until:
            with contextlib.suppress(SutazaiError), SupervisorClient(fleet.name) as supervisor:
                pid = victim(supervisor.status(), target, fleet)
        if pid <= 1:
            raise TimeoutError(f"there is no {target} to kill")
        before = len(load.accepted)
        begun = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        wait_until_up(fleet, pid)
        rows.append(Row(target, pid, time.monotonic() - begun, 0))
        load.stop.wait(pause_s)
        rows[-1].accepted = len(load.accepted) - before
        rows[-1].twins = twins(fleet)
    return rows


def verdict(fleet: LiveFleet, load: Load) -> tuple[list[str], list[str]]:
    """Compare what clients were told with what happened; gives lost and doubled."""
    lost: list[str] = []
    with TaskClient(fleet.name) as client:
        for task in load.accepted:
            done = client.wait(task, timeout_s=120)
            if done["status"] != "succeeded":
                lost.append(f"{task} {done['status']} {done.get('error')}")
        keys: Counter[str] = Counter()
        for session in range(SESSIONS):
            state = client.state("counter", f"s{session}")
            keys.update((state or {}).get("keys", []))
    wanted = {key for key in load.accepted.values() if key}
    doubled = [key for key, count in keys.items() if count > 1]
    lost += [f"effect of {key}" for key in wanted - set(keys)]
    return lost, doubled


def run(choice: Choice) -> tuple[list[Row], Load, list[str], list[str]]:
    """Bring a fleet up, kill, and judge."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "counter.py")
        path.write_text(AGENT)
        text = MANIFEST.replace("AGENT_FILE", str(path)).replace("PROFILE", choice.profile)
        with LiveFleet(text, name=f"km{os.getpid()}") as fleet:
            before = {key: os.environ.get(key) for key in ("SUTAZAI_STATE_ROOT", "SUTAZAI_RUN_ROOT")}
            os.environ.update({key: fleet.env[key] for key in before})
            try:
                load = Load(fleet)
                load.start()
                try:
                    rows = kill_all(fleet, load, choice)
                finally:
                    load.finish()
                lost, doubled = verdict(fleet, load)
            finally:
                for key, value in before.items():
                    os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
    return rows, load, lost, doubled


def show(rows: list[Row], load: Load, lost: list[str], doubled: list[str]) -> None:
    """Print the matrix, a line for each kind of process."""
    print("\n| kill -9 of | times | all ready again after | tasks accepted meanwhile |\n| --- | --- | --- | --- |")
    for kind in dict.fromkeys(row.killed for row in rows):
        mine = [row for row in rows if row.killed == kind]
        longest = max(row.recovered_s for row in mine)
        told = " ".join(twin for row in mine for twin in row.twins)
        print(f"| {kind} | {len(mine)} | {longest:.2f} s at most | {sum(row.accepted for row in mine)} |{told}")
    refused = ", ".join(f"{count}× {code}" for code, count in load.refused.items()) or "nothing"
    print(
        f"\n{len(load.accepted)} tasks accepted, {len(lost)} lost, {len(doubled)} doubled; asked again after: {refused}"
    )
    for entry in (*lost[:10], *doubled[:10]):
        print(f"  {entry}")


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description="Kill processes of a real fleet under load.")
    parser.add_argument("--profile", choices=["embedded", "standard"], default="embedded")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    result = run(Choice(given.profile, given.rounds, given.kills, given.seed))
    show(*result)
    return 1 if result[2] or result[3] else 0


if __name__ == "__main__":
    sys.exit(main())
