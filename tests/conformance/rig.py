"""A real broker, a real worker, and between the two a relay that hears, cuts and changes what they say."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sutazai.host.languages import LANGUAGES
from sutazai.testing.broker_process import BrokerProcess
from sutazai.wire.frames import Decoder, encode
from sutazai.wire.messages import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable

    Message = dict[str, Any]
    #: Gives what to hand on in a message's place; an empty list drops it.
    Change = Callable[[Message], list[Message]]

HERE = Path(__file__).parent
PATIENCE_S = 20.0
LEASE_MS = 1_000
TICKET = "k_conformance"


@dataclass(frozen=True)
class Runtime:
    """A runtime under test.

    Attributes:
        name: of its language.
        code: the fixture agent.
        hosts: whether it is a hosting worker, told by lines; else a process that is an instance.
        agent: whose code that is.
        memory_bytes: of the instance.
    """

    name: str
    code: Path
    hosts: bool = True
    agent: str = "conformance"
    memory_bytes: int = 256 << 20


#: Where the fixture agent of each language is; Go's is linked into its worker.
FIXTURES = {
    "node": HERE / "agents/conformance.mjs",
    "go": LANGUAGES["go"].folder / "conformance/agent.go",
}
RUNTIMES = [
    Runtime("python", HERE / "agents/conformance.py", hosts=False),
    *(Runtime(name, FIXTURES[name]) for name in LANGUAGES),
]


class Relay:
    """Stands where the worker looks for the broker.

    Attributes:
        said: messages of the instance, in order.
        heard: messages of the broker.
        to_broker: changes what the instance says.
        to_instance: changes what the broker says.
    """

    def __init__(self, path: Path, broker: Path) -> None:
        self.said: list[Message] = []
        self.heard: list[Message] = []
        self.to_broker: Change = lambda message: [message]
        self.to_instance: Change = lambda message: [message]
        self._broker = broker
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.socket(socket.AF_UNIX)
                try:
                    far.connect(str(self._broker))
                except OSError:
                    near.close()
                    continue
                self._pairs.append((near, far))
                for source, target, seen, to_broker in (
                    (near, far, self.said, True), (far, near, self.heard, False),
                ):  # fmt: skip
                    arguments = (source, target, seen, to_broker)
                    threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, seen: list[Message], to_broker: bool) -> None:  # noqa: FBT001
        decoder = Decoder()
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                for message, parts in decoder.feed(data):
                    change = self.to_broker if to_broker else self.to_instance
                    for each in change(message):
                        target.sendall(encode(each, parts if "blobs" in each else ()))
                    seen.append(message)  # it is on its way: what a test cuts now comes after it
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def inject(self, message: Message) -> None:
        """Say something to the instance in the broker's place."""
        self._pairs[-1][0].sendall(encode(message))

    def cut(self) -> None:
        """Break all connections."""
        for pair in self._pairs:
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for pair in self._pairs:
            for each in pair:
                each.close()


class Overseer:
    """The broker's sutazaid: it grants nothing, and while it is there a closed connection is not yet a lost turn."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listening.accept()
                threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:
            for line in peer.makefile():
                answer = {"id": json.loads(line)["id"], "ok": True, "status": "wait", "why": "it is there"}
                peer.sendall(json.dumps(answer).encode() + b"\n")

    def close(self) -> None:
        """End."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


class Rig:
    """One broker and one instance of the fixture agent.

    Args:
        runtime: under test.
        keep_ms: idle time after which the instance offers to leave.
    """

    def __init__(self, runtime: Runtime, keep_ms: int = 60_000) -> None:
        self.runtime, self.keep_ms = runtime, keep_ms
        self.folder = Path(tempfile.mkdtemp(prefix="cf", dir="/tmp"))
        self.broker = BrokerProcess("--lease-ms", str(LEASE_MS))
        self.process: subprocess.Popen[bytes] | None = None
        self.lines: list[Message] = []
        self._hosting: socket.socket | None = None
        self._link: socket.socket | None = None

    def __enter__(self) -> Self:
        try:
            self.overseer = Overseer(self.broker.socket.with_name("sutazaid.sock"))
            self.broker.start()
            self.client = self.broker.client()
            self.relay = Relay(self.folder / "broker.sock", self.broker.socket)
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for each in (self._link, self._hosting):
            if each is not None:
                each.close()
        if hasattr(self, "relay"):
            self.relay.close()
        self.broker.close()
        if hasattr(self, "overseer"):
            self.overseer.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("SUTAZAI_")}
        if not self.runtime.hosts:
            code = [str(HERE / "python_instance.py"), str(self.folder / "broker.sock"), str(self.runtime.code)]
            self._spawn([sys.executable, *code, TICKET, str(self.keep_ms)], env)
            return
        language = LANGUAGES[self.runtime.name]
        program, _ = language.find()
        self._hosting = socket.socket(socket.AF_UNIX)
        self._hosting.bind(str(self.folder / "sutazaid.sock"))
        self._hosting.listen()
        env |= {
            "TMPDIR": str(self.folder),
            "SUTAZAI_WORKER": f"{language.name}-0",
            "SUTAZAI_PROCESS": f"{language.name}-0",
            "SUTAZAI_SOCKET": str(self.folder / "sutazaid.sock"),
            "SUTAZAI_BROKER": str(self.folder / "broker.sock"),
            "SUTAZAI_FLEET": self.folder.name,
            "SUTAZAI_RUN_ROOT": str(self.folder.parent),
            "SUTAZAI_STATE_ROOT": str(self.folder.parent),
        }
        self._spawn([program, *language.worker], env)
        threading.Thread(target=self._serve, daemon=True).start()

    def _spawn(self, argv: list[str], env: dict[str, str]) -> None:
        with (self.folder / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _serve(self) -> None:
        """Be as much of sutazaid as a hosting worker needs."""
        if self._hosting is None:
            return
        with contextlib.suppress(OSError):
            self._link, _ = self._hosting.accept()
            for line in self._link.makefile():
                message = json.loads(line)
                self.lines.append(message)
                if "id" in message:
                    self.tell({"id": message["id"], "ok": True})
                if message["op"] == "hosting":
                    self.tell({
                        "push": "host", "ticket": TICKET, "agent": self.runtime.agent, "token": "no-token",
                        "module": str(self.runtime.code), "memory_bytes": self.runtime.memory_bytes,
                        "keep_ms": self.keep_ms,
                        "settings": {},
                    })  # fmt: skip

    def tell(self, message: Message) -> None:
        """Say something in sutazaid's place."""
        if self._link is not None:
            self._link.sendall(json.dumps(message).encode() + b"\n")

    # What tests ask

    def submit(self, skill: str, data: dict[str, Any], **fields: Any) -> str:
        """Submit a task."""
        task = {"agent": self.runtime.agent, "skill": skill, "input": data, **fields}
        reply = self.client.request({"t": "submit", "tasks": [task]}, PATIENCE_S)
        accepted: str = reply["tasks"][0]["id"]
        return accepted

    def ended(self, task: str) -> dict[str, Any]:
        """Wait until a task is terminal."""
        wait_ms = round(PATIENCE_S * 1_000)
        reply = self.client.request({"t": "wait", "task": task, "timeout_ms": wait_ms}, PATIENCE_S + 5)
        row: dict[str, Any] = reply["task"]
        if row["status"] not in TERMINAL:
            raise TimeoutError(f"{task} is {row['status']} after {PATIENCE_S} s\n{self.log()}")
        return row

    def run(self, skill: str, data: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Submit a task and wait until it is terminal."""
        return self.ended(self.submit(skill, data, **fields))

    def turns(self, task: str) -> list[dict[str, Any]]:
        """All turns of a task."""
        reply = self.client.request({"t": "tree", "task": task}, PATIENCE_S)
        turns: list[dict[str, Any]] = next(each for each in reply["tasks"] if each["id"] == task)["turns"]
        return turns

    def state(self, session: str) -> tuple[Any, int]:
        """State and version of a session."""
        asked = {"t": "state", "agent": "conformance", "session": session}
        reply = self.client.request(asked, PATIENCE_S)
        return reply["state"], reply["state_version"]

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait until something holds, and give it."""
        end_s = time.monotonic() + PATIENCE_S
        while not (found := holds()):
            if time.monotonic() > end_s:
                raise TimeoutError(f"{what} did not come true\n{self.log()}\nsaid: {self.relay.said[-5:]}")
            time.sleep(0.01)
        return found

    def begun(self, task: str) -> dict[str, Any]:
        """Wait until the turn of a task has been handed over; gives it."""
        return self.until(lambda: self.told("turn", task), f"a turn of {task}")  # type: ignore[no-any-return]

    def told(self, kind: str, task: str = "") -> dict[str, Any] | None:
        """The first message of this kind that the broker has said."""
        return _first(self.relay.heard, kind, task)

    def spoke(self, kind: str, task: str = "") -> list[dict[str, Any]]:
        """All messages of this kind that the instance has said."""
        return [each for each in list(self.relay.said) if each["t"] == kind and task in {"", each.get("task")}]

    def left(self) -> bool:
        """Whether the instance has ended in good order."""
        if self.runtime.hosts:
            return any(each["op"] == "ended" and each["reason"] == "ok" for each in list(self.lines))
        return self.process is not None and self.process.poll() == 0

    def log(self) -> str:
        """What the worker has printed."""
        return (self.folder / "worker.log").read_text(errors="replace")[-3_000:]


def _first(messages: list[Message], kind: str, task: str) -> Message | None:
    for each in list(messages):
        about = each["task"]["id"] if kind == "turn" and each["t"] == kind else each.get("task")
        if each["t"] == kind and task in {"", about}:
            return each
    return None
