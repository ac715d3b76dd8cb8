"""A fleet on paper: a plan, a token, a broker and a control that answer from memory."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from sutazai.errors import NotFoundError, SutazaiError, UnavailableError
from sutazai.gateway import status as status_module
from sutazai.gateway.app import Gateway, Places
from sutazai.gateway.directory import Door

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TOKEN = "secret-of-the-test"
EDGE, HELLO, ADDER, LATER, WORKER = 10005, 10300, 10301, 10302, 10500

GREET = {
    "name": "greet",
    "description": "Greet somebody by name.",
    "input": {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 10}, "times": {"type": "integer", "minimum": 1}},
        "required": ["name"],
        "additionalProperties": False,
    },
    "output": {"type": "string"},
}


def plan() -> dict[str, Any]:
    """A plan with two agents, as far as the gateway reads it."""
    agent = {"module": "/nowhere", "version": "1.2.3", "pool": "standard", "limits": {"memory_bytes": 1 << 28}}
    return {
        "version": 1,
        "agents": [
            {**agent, "name": "hello", "port": HELLO, "skills": [GREET]},
            {**agent, "name": "adder", "port": ADDER, "skills": [{"name": "add", "description": "", "input": {}}]},
        ],
        "planned": [
            {"name": "later", "kind": "agent", "ports": [LATER], "description": "Does it one day."},
            {"name": "postgres", "kind": "service", "ports": [10000]},
        ],
    }


class FakeBroker:
    """Keeps tasks in a dictionary.

    Attributes:
        failure: raised by the next requests instead of an answer.
        done: whether ``wait`` finds the task succeeded.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.asked: list[dict[str, Any]] = []
        self.failure: SutazaiError | None = None
        self.done = False
        self.up = True
        self.closed = 0
        self.events: list[dict[str, Any]] = []

    @property
    def connected(self) -> bool:
        return self.up

    async def connect(self) -> None:
        if not self.up:
            raise UnavailableError("down")

    async def close(self) -> None:
        self.closed += 1

    async def request(self, message: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        self.asked.append(message)
        if self.failure is not None:
            raise self.failure
        answer: dict[str, Any] = getattr(self, f"_{message['t']}")(message)
        return answer

    def _resolve(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"task": self.tasks[message["task"]] | {"status": "succeeded"}}

    def _waiting(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"tasks": [*self.tasks.values()]}

    async def stream(self, message: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        for event in self.events:
            await asyncio.sleep(0)
            yield {"t": "event", "event": event}

    def _submit(self, message: dict[str, Any]) -> dict[str, Any]:
        (task,) = message["tasks"]
        key = (task["agent"], task.get("idempotency_key", ""))
        if key[1] and key in self.keys:
            return {"tasks": [{"id": self.keys[key], "status": "queued", "duplicate": True}]}
        name = f"t_{len(self.tasks)}"
        self.keys[key] = name
        self.tasks[name] = {**task, "id": name, "status": "queued", "result": None}
        return {"tasks": [{"id": name, "status": "queued", "duplicate": False}]}

    def _get(self, message: dict[str, Any]) -> dict[str, Any]:
        if message["task"] not in self.tasks:
            raise NotFoundError(f"there is no task {message['task']}")
        return {"task": self.tasks[message["task"]]}

    def _wait(self, message: dict[str, Any]) -> dict[str, Any]:
        task = self.tasks[message["task"]]
        if self.done:
            task.update(status="succeeded", result="Hello!")
        return {"task": task}

    def _cancel(self, message: dict[str, Any]) -> dict[str, Any]:
        self.tasks[message["task"]]["status"] = "cancelled"
        return {"task": self.tasks[message["task"]]}

    def _dead(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"tasks": [task for task in self.tasks.values() if task["status"] == "dead"]}

    def _replay(self, message: dict[str, Any]) -> dict[str, Any]:
        (task,) = message["tasks"]
        if self.tasks[task]["status"] != "dead":
            return {"tasks": [{"task": task, "error": {"code": "refused", "detail": f"{task} is not dead"}}]}
        duplicate = bool(self.tasks[task].get("handled"))
        self.tasks[task]["handled"] = "replayed"
        return {"tasks": [{"task": task, "replay": "t_new", "status": "queued", "duplicate": duplicate}]}

    def _list(self, message: dict[str, Any]) -> dict[str, Any]:
        wanted = message["agent"]
        return {"tasks": [task for task in self.tasks.values() if wanted in {None, task["agent"]}]}


class Fleet:
    """The gateway with its doubles; ``at(port)`` is a client that comes in there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plan = folder / "plan.json"
        self.plan.write_text(json.dumps(plan()))
        self.token = folder / "token"
        self.token.write_text(TOKEN + "\n")
        self.broker = FakeBroker()
        self.status: dict[str, Any] | None = None
        monkeypatch.setattr(status_module, "get_json", self._get_json)
        doors = {
            EDGE: Door.of("edge"),
            HELLO: Door.of("agent:hello"),
            ADDER: Door.of("agent:adder"),
            LATER: Door.of("agent:later"),
            WORKER: Door.of("worker:python-0"),
        }
        self.payloads = folder / "payloads"
        places = Places(self.plan, folder / "control.sock", self.token, self.payloads)
        self.app = Gateway(places, lambda: self.broker, doors)

    async def _get_json(self, socket: Path, path: str) -> dict[str, Any]:
        if self.status is None:
            raise UnavailableError("control is down")
        return self.status

    def at(self, port: int, **headers: str) -> TestClient:
        """A client at a local port, with the token."""
        given = {"Authorization": f"Bearer {TOKEN}", **headers}
        return TestClient(self.app, base_url=f"http://127.0.0.1:{port}", headers=given)


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A gateway of a fleet on paper."""
    return Fleet(tmp_path, monkeypatch)
