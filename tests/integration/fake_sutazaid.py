"""A small sutazaid for tests of the zygote: it speaks the socket's protocol, places nobody into a cgroup.

Run as ``fake_sutazaid.py RUN_DIR STATE_DIR [broker]``: it becomes the subreaper, writes ``guard.pid``, starts the
zygote and, when asked, the broker, and does what lines on its socket say. A test's own lines: ``events`` (all that
happened), ``mode`` (``normal``, ``hold``: never release, ``eof``: close the pipe), ``start`` (a process again),
``fork`` (an instance, without a broker), ``quit``.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sutazai.ids import new_id
from sutazai.runtime.kernel import set_child_subreaper, start_ticks


class Peer:
    """A connection."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket, self.buffer, self.name = connected, b"", ""

    def send(self, message: dict[str, Any], descriptor: int = -1) -> None:
        data = json.dumps(message).encode() + b"\n"
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))] if descriptor >= 0 else []
        with contextlib.suppress(OSError):
            self.socket.sendmsg([data], rights)


class FakeSutazaid:
    """The process."""

    def __init__(self, run: Path, state: Path, *, with_broker: bool) -> None:
        self.run, self.state, self.with_broker = run, state, with_broker
        self.plan = json.loads((state / "plan.json").read_text())
        self.peers: dict[int, Peer] = {}
        self.workers: dict[str, Peer] = {}
        self.live: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.mode = "normal"
        self.next_uid = 23_000
        self.held: list[int] = []
        self.selector = selectors.DefaultSelector()
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.children: dict[int, str] = {}

    def start(self) -> None:
        set_child_subreaper()
        (self.run / "guard.pid").write_text(f"{os.getpid()} {start_ticks(os.getpid())}\n")
        signal.set_wakeup_fd(self.wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.run / "sutazaid.sock"))
        self.listener.listen()
        self.selector.register(self.listener, selectors.EVENT_READ, "listen")
        self.selector.register(self.wake_read, selectors.EVENT_READ, "child")
        if self.with_broker:
            self.spawn("broker", "sutazai.bus")
        self.spawn("zygote", "sutazai.runtime.zygote")

    def spawn(self, name: str, module: str) -> None:
        log = (self.state / "logs" / f"{name}.log").open("ab")
        process = subprocess.Popen([sys.executable, "-m", module], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.children[process.pid] = name
        self.note("started", process=name, pid=process.pid)

    def note(self, kind: str, **facts: Any) -> None:
        self.events.append({"kind": kind, "at": time.monotonic(), **facts})

    def serve(self) -> None:
        while True:
            for key, _ in self.selector.select():
                if key.data == "listen":
                    connected, _ = self.listener.accept()
                    peer = Peer(connected)
                    self.peers[connected.fileno()] = peer
                    self.selector.register(connected, selectors.EVENT_READ, peer)
                elif key.data == "child":
                    os.read(self.wake_read, 4096)
                    self.reap()
                else:
                    self.read(key.data)

    def read(self, peer: Peer) -> None:
        try:
            data = peer.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.selector.unregister(peer.socket)
            peer.socket.close()
            return
        peer.buffer += data
        *lines, peer.buffer = peer.buffer.split(b"\n")
        for line in lines:
            message = json.loads(line)
            reply = getattr(self, "do_" + message["op"].replace("-", "_"))(peer, message)
            if "id" in message:
                peer.send({"id": message["id"], "ok": True, **(reply or {})})

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            self.note("exit", pid=pid, code=code, process=self.children.pop(pid, ""))
            for ticket, facts in list(self.live.items()):
                if facts["pid"] == pid:
                    del self.live[ticket]
                    reason = "ok" if code == 0 else "signal" if code < 0 else "error"
                    self.push("broker", {"push": "exit", "ticket": ticket, "agent": facts["agent"], "pid": pid,
                                         "reason": reason, "status": code, "own": True})  # fmt: skip
                    self.push("broker", {"push": "room", "agent": facts["agent"]})

    def push(self, name: str, message: dict[str, Any]) -> None:
        for peer in self.peers.values():
            if peer.name == name and peer.socket.fileno() >= 0:
                peer.send(message)

    def do_hello(self, peer: Peer, message: dict[str, Any]) -> dict[str, Any]:
        peer.name = message["process"]
        if peer.name == "broker":
            peer.send({"push": "tickets", "tickets": list(self.live.values())})
        return {"fleet": "t", "pid": os.getpid()}

    def do_ready(self, peer: Peer, message: dict[str, Any]) -> None:
        self.note("ready", process=message.get("process", peer.name))

    def do_register(self, peer: Peer, message: dict[str, Any]) -> None:
        self.note("register", **{name: message[name] for name in ("worker", "pid", "pre_ms", "threads")})
        self.workers[message["worker"]] = peer
        if message["worker"] == "zygote":
            for worker in self.plan["workers"]:
                if worker["name"] not in self.workers:
                    peer.send({"push": "member", "worker": worker["name"]})

    def do_spare(self, _: Peer, __: dict[str, Any]) -> dict[str, Any]:
        return {"placed": False, "more": False}

    def do_wake(self, peer: Peer, message: dict[str, Any]) -> dict[str, Any]:
        facts = next(agent for agent in self.plan["agents"] if agent["name"] == message["agent"])
        if any(each["agent"] == facts["name"] for each in self.live.values()):
            return {"status": "wait", "why": "one lives", "tickets": []}
        worker = next((w["name"] for w in self.plan["workers"] if w["family"] == facts["family"]), "")
        if worker not in self.workers:
            return {"status": "wait", "why": "no worker", "tickets": []}
        return {"status": "yes", "why": "", "tickets": [self.fork(worker, facts["name"])]}

    def do_fork(self, _: Peer, message: dict[str, Any]) -> dict[str, Any]:
        return {"ticket": self.fork(message["worker"], message["agent"])}

    def fork(self, worker: str, agent: str) -> str:
        ticket = new_id("k")
        uid = self.next_uid if self.plan["instance_uid_first"] else 0
        self.next_uid += 1
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        self.live[ticket] = {"ticket": ticket, "agent": agent, "token": "x" + ticket, "uid": uid, "pid": 0,
                             "pipe": write_fd, "asked": time.monotonic()}  # fmt: skip
        order = {"push": "fork", "ticket": ticket, "agent": agent, "token": "x" + ticket, "uid": uid}
        self.workers[worker].send({**order, "cgroup_wait": True}, read_fd)
        os.close(read_fd)
        return ticket

    def do_forked(self, _: Peer, message: dict[str, Any]) -> None:
        facts = self.live[message["ticket"]]
        facts["pid"], facts["uid"] = message["pid"], message["uid"]
        pipe = facts.pop("pipe")
        self.note("forked", **facts)
        if self.mode == "hold":
            self.held.append(pipe)
            return
        if self.mode == "normal":
            os.write(pipe, b"g")
        os.close(pipe)
        self.push("broker", {"push": "ticket", **facts})

    def do_fork_failed(self, _: Peer, message: dict[str, Any]) -> None:
        os.close(self.live.pop(message["ticket"])["pipe"])
        self.note("fork-failed", ticket=message["ticket"], error=message["error"])

    def do_condition(self, _: Peer, message: dict[str, Any]) -> None:
        self.note("condition", **{name: message[name] for name in ("name", "subject", "active", "text")})

    def do_queues(self, _: Peer, message: dict[str, Any]) -> None:
        pass

    def do_kill(self, _: Peer, message: dict[str, Any]) -> None:
        facts = self.live.get(message.get("ticket", ""))
        self.note("kill", ticket=message.get("ticket"), reason=message.get("reason"))
        if facts:
            os.kill(facts["pid"], signal.SIGKILL)

    def do_events(self, _: Peer, message: dict[str, Any]) -> dict[str, Any]:
        return {"events": self.events, "live": list(self.live.values())}

    def do_mode(self, _: Peer, message: dict[str, Any]) -> None:
        self.mode = message["mode"]
        while self.held:
            os.close(self.held.pop())

    def do_start(self, _: Peer, message: dict[str, Any]) -> None:
        modules = {"zygote": "sutazai.runtime.zygote", "broker": "sutazai.bus"}
        self.spawn(message["process"], modules[message["process"]])

    def do_plan(self, _: Peer, message: dict[str, Any]) -> None:
        self.plan = json.loads((self.state / "plan.json").read_text())
        self.push("broker", {"push": "plan"})

    def do_forget(self, _: Peer, message: dict[str, Any]) -> None:
        self.workers.clear()

    def do_end(self, _: Peer, message: dict[str, Any]) -> None:
        for facts in self.live.values():
            if facts["agent"] == message["agent"]:
                os.kill(facts["pid"], signal.SIGTERM)

    def do_hang_up(self, asking: Peer, message: dict[str, Any]) -> None:
        self.workers.clear()
        for peer in list(self.peers.values()):
            if peer is not asking and peer.socket.fileno() >= 0:
                self.selector.unregister(peer.socket)
                peer.socket.close()

    def do_quit(self, _: Peer, message: dict[str, Any]) -> None:
        os._exit(0)


if __name__ == "__main__":
    fake = FakeSutazaid(Path(sys.argv[1]), Path(sys.argv[2]), with_broker="broker" in sys.argv[3:])
    fake.start()
    fake.serve()
