"""A fleet of one zygote, one broker and the fake sutazaid, for the tests beside it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sutazai.paths import FleetPaths
from sutazai.supervisor.contract import Agent, Limits, PlanFile, Pool, Worker
from sutazai.wire.messages import PROTOCOL_VERSION, TERMINAL
from sutazai.wire.transport import BlockingConnection

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
PATIENCE_S = 90.0


class Rig:
    """The fleet, and what a test asks of it."""

    def __init__(
        self, agents: dict[str, str], *, broker: bool = True, uids: bool = False, family: str = "base"
    ) -> None:
        self.family = family
        self.name = f"z{os.getpid()}x{time.monotonic_ns() % 100_000}"
        self.root = Path(f"/tmp/{self.name}")  # noqa: S108 a unix socket's path must be short
        self.environment = {
            **os.environ,
            "SUTAZAI_FLEET": self.name,
            "SUTAZAI_STATE_ROOT": str(self.root / "s"),
            "SUTAZAI_RUN_ROOT": str(self.root / "r"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(self.root / "agents"),
        }
        self.paths = FleetPaths(self.root / "s" / self.name, self.root / "r" / self.name)
        self.agents = agents
        self.with_broker, self.uids = broker, uids
        self.process: subprocess.Popen[bytes] | None = None
        self.client: BlockingConnection | None = None
        self.line: socket.socket | None = None
        self.code = self.root / "agents"  # not pytest's folder: every pytest that starts closes that to other users
        self.pids: set[int] = set()

    def __enter__(self) -> Self:
        for folder in (self.paths.logs, self.paths.run, self.code):
            folder.mkdir(parents=True)
        for folder in (self.root, self.code, *self.paths.logs.parents, *self.paths.run.parents, self.paths.run):
            if folder.is_relative_to(self.root):
                folder.chmod(0o755)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self.write_plan()
        arguments = [sys.executable, str(HERE / "fake_sutazaid.py"), str(self.paths.run), str(self.paths.state)]
        log = (self.paths.logs / "fake.log").open("ab")
        self.process = subprocess.Popen(
            [*arguments, *(["broker"] if self.with_broker else [])], env=self.environment, stdout=log, stderr=log
        )
        self.wait(self._line_is_open, "sutazaid.sock")
        self.wait(lambda: self.events("register", worker="python-0"), "python-0")
        if self.with_broker:
            self.client = self.connect()

    def write_plan(self, keep_ms: int = 60_000, preload: list[str] | None = None) -> None:
        """Write the plan; the worker reads it again when it forks next."""
        family = self.family
        agents = []
        for name, source in self.agents.items():
            file = Path(source) if source.startswith("/") else self.code / f"{name.replace('-', '_')}.py"
            if not source.startswith("/"):
                file.write_text(source)
            skills = [{"name": skill, "input": {}, "output": {}} for skill in _skills(file.read_text())]
            agents.append(
                Agent(
                    name=name, module=str(file), version="1", family=family, pool="standard", limits=Limits(),
                    envelope_bytes=1, instances_max=1, keep_ms=keep_ms, port=0, skills=skills,
                    settings={"colour": "blue"},
                )
            )  # fmt: skip
        plan = PlanFile(
            fleet=self.name, digest="d", state_dir=str(self.paths.state), run_dir=str(self.paths.run),
            python=sys.executable, pools=[Pool("standard", 1 << 30)], stages=["store"], processes=[],
            workers=[Worker("python-0", family, "standard", Limits(), 1, preload or [])], agents=agents,
            instance_uid_first=23_000 if self.uids else 0,
        )  # fmt: skip
        self.paths.plan.write_text(json.dumps(asdict(plan)))

    def connect(self) -> BlockingConnection:
        """Connect to the broker as a client."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                client = BlockingConnection.connect_until(self.paths.broker_socket, 30)
                client.request({"t": "hello", "v": PROTOCOL_VERSION, "role": "client", "name": "test"}, 30)
            except Exception:
                if time.monotonic() > give_up:
                    raise
            else:
                return client

    def reconnect(self) -> None:
        """Connect to a new broker."""
        if self.client is not None:
            self.client.close()
        self.client = self.connect()

    def _line_is_open(self) -> bool:
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(str(self.paths.supervisor_socket))
        except OSError:
            line.close()
            return False
        self.line = line
        return True

    def ask(self, **message: Any) -> dict[str, Any]:
        """Say a line to the fake sutazaid."""
        assert self.line is not None
        self.line.sendall(json.dumps({"id": 1, **message}).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            part = self.line.recv(1 << 20)
            assert part, "the fake sutazaid is gone"
            data += part
        reply: dict[str, Any] = json.loads(data)
        return reply

    def events(self, kind: str, **facts: Any) -> list[dict[str, Any]]:
        """What has happened so far."""
        reply = self.ask(op="events")
        for event in reply["events"]:
            self.pids.add(event.get("pid", 0))
        return [
            event for event in reply["events"] if event["kind"] == kind and facts.items() <= event.items()
        ]  # fmt: skip

    def live(self) -> list[dict[str, Any]]:
        """Instances that live."""
        found: list[dict[str, Any]] = self.ask(op="events")["live"]
        return found

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until something holds."""
        give_up = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            if time.monotonic() > give_up:
                raise AssertionError(f"waited in vain for {what}\n{self.logs()}")
            select.select([], [], [], 0.02)
        return value

    def submit(self, agent: str, skill: str, data: Any = None, **options: Any) -> str:
        """Submit a task; gives its id."""
        assert self.client is not None
        task = {"agent": agent, "skill": skill, "input": data or {}, **options}
        reply = self.client.request({"t": "submit", "tasks": [task]}, PATIENCE_S)
        identifier: str = reply["tasks"][0]["id"]
        return identifier

    def result(self, task: str) -> dict[str, Any]:
        """Wait for a task's end."""
        assert self.client is not None
        give_up = time.monotonic() + PATIENCE_S
        while True:
            reply = self.client.request({"t": "wait", "task": task, "timeout_ms": 10_000}, 60)
            if reply["task"]["status"] in TERMINAL:
                found: dict[str, Any] = reply["task"]
                return found
            if time.monotonic() > give_up:
                raise AssertionError(f"the task did not end: {reply}\n{self.logs()}")

    def run(self, agent: str, skill: str, data: Any = None, **options: Any) -> dict[str, Any]:
        """Submit and wait."""
        return self.result(self.submit(agent, skill, data, **options))

    def turns(self, task: str) -> list[dict[str, Any]]:
        """All turns of a task."""
        assert self.client is not None
        tree = self.client.request({"t": "tree", "task": task}, 60)["tasks"]
        turns: list[dict[str, Any]] = next(entry for entry in tree if entry["id"] == task)["turns"]
        return turns

    def wait_for_turn(self, task: str) -> dict[str, Any]:
        """Wait until a task's turn runs; gives the task, with the ``pid`` of its instance."""
        assert self.client is not None
        client = self.client
        self.wait(lambda: client.request({"t": "get", "task": task}, 60)["task"]["status"] == "leased", "a lease")
        found: dict[str, Any] = client.request({"t": "get", "task": task}, 60)["task"]
        return found

    def logs(self) -> str:
        """All logs, for a failure's message."""
        return "\n".join(f"--- {file.name}\n{file.read_text()[-3000:]}" for file in self.paths.logs.glob("*.log"))

    def stop(self) -> None:
        """End all processes of this fleet, and its files."""
        with contextlib.suppress(Exception):
            self.events("")
            self.pids |= {facts["pid"] for facts in self.live()}
        if self.client is not None:
            self.client.close()
        if self.line is not None:
            self.line.close()
        for pid in sorted(self.pids - {0, os.getpid()}):
            if self.name.encode() in _environment(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.root, ignore_errors=True)


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _skills(source: str) -> list[str]:
    lines = source.splitlines()
    found = []
    for number, line in enumerate(lines):
        if line.startswith("@agent.skill"):
            definition = next(text for text in lines[number:] if "def " in text)
            found.append(definition.split("def ")[1].split("(")[0])
    return found


def pss_kib(pid: int) -> dict[str, int]:
    """Read a process's memory: Pss, Private_Dirty … in KiB."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0])
    return found
