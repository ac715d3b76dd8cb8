"""Why it exists: an agent wakes by a fork of a process that has imported and warmed everything, in milliseconds.

``python -m sutazai.runtime.zygote`` is the root zygote. It forks the members (``python-0`` …), each of which pre-loads
its family once more and forks instances. A zygote has one thread and no event loop, keeps of root only the right to
change the user, never reads task data, and needs ``sutazaid`` only to be told what to fork. It forks twice, so that an
instance is a child of ``sutazaid`` and outlives its zygote.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sutazai.errors import ConfigError, ProtocolError, SutazaiError, UnavailableError
from sutazai.paths import FleetPaths
from sutazai.runtime import kernel, privileges
from sutazai.runtime.families import preload
from sutazai.runtime.forking import Spares, fork_twice, settle
from sutazai.runtime.instance import GUARD_FILE, Fleet, Order
from sutazai.runtime.loader import agent_file
from sutazai.runtime.log import Log
from sutazai.runtime.supervisor_link import SupervisorLink
from sutazai.wire.planfacts import AgentFacts, WorkerFacts, agents_of, load_plan, workers_of

ROOT = "zygote"
_FLEET_GONE = 0
_NOT_WANTED = 1
_REGISTER_ID = 1
GREETING_S_MAX = 1.0
SPARE_AFTER_S = 0.03


class Post:
    """What root and members have in common: stand at ``sutazaid``'s socket and do what it says.

    Args:
        name: as ``sutazaid`` knows this worker.
        fleet: shared facts.
        pre_ms: how long importing and warming took.
    """

    def __init__(self, name: str, fleet: Fleet, pre_ms: int) -> None:
        self.name, self.fleet, self.pre_ms = name, fleet, pre_ms
        self._log = Log({"worker": name}, descriptor=2)
        self.link = SupervisorLink(fleet.paths.supervisor_socket, fleet.paths.run / GUARD_FILE)
        self.idle_after_s: float | None = None

    def serve(self) -> int:
        """Work until the fleet is gone; returns the exit code."""
        while self.link.connect():
            try:
                self._register()
                while True:
                    message = self.link.receive(self.idle_after_s)
                    if message is None:
                        self.idle()
                    elif "push" in message:
                        self.handle(message)
                    elif not self._hear(message):
                        return _NOT_WANTED  # nobody would limit or watch this process
            except UnavailableError:
                continue
            except ProtocolError as error:
                self._log.error("sutazaid's message makes no sense", error=str(error))
        self._log.warning("the fleet is gone; leaving")
        return _FLEET_GONE

    def _hear(self, reply: dict[str, Any]) -> bool:
        """Take an answer; False when ``sutazaid`` does not want this process."""
        if reply.get("ok") is False:
            self._log.warning("sutazaid refused", error=reply.get("error"))
            return reply.get("id") != _REGISTER_ID
        if reply.get("id") == _REGISTER_ID:
            self.registered()
        elif "id" in reply:
            self.answered(reply)
        return True

    def _register(self) -> None:
        self.link.send({"op": "hello", "process": self.name})
        threads = kernel.thread_count()
        facts = {"worker": self.name, "pid": os.getpid(), "pre_ms": self.pre_ms, "threads": threads}
        self.link.send({"op": "register", "id": _REGISTER_ID, **facts})

    def registered(self) -> None:
        """``sutazaid`` knows this process now and has put it into its cgroup."""

    def idle(self) -> None:
        """Nothing came for ``idle_after_s`` seconds."""

    def answered(self, message: dict[str, Any]) -> None:
        """``sutazaid`` has answered a request of this process."""

    def handle(self, message: dict[str, Any]) -> None:
        """Do what a push says."""


class Member(Post):
    """A worker: it has its family in memory and forks instances."""

    def __init__(self, name: str, fleet: Fleet, pre_ms: int) -> None:
        super().__init__(name, fleet, pre_ms)
        self._agents: dict[str, AgentFacts] = {}
        self._plan_seen: tuple[int, int] = (0, 0)
        self._obstacles: dict[str, str] = {}
        self._spares = Spares(fleet, name, self.link.close)

    def registered(self) -> None:
        """Plan to fork a spare; what an earlier ``sutazaid`` left alive is offered to this one."""
        self.idle_after_s = SPARE_AFTER_S
        for pid in self._spares.forget_dead():
            self._spares.free.discard(pid)
            self._offer(pid)

    def idle(self) -> None:
        """Fork a spare now, when the instance that was just woken no longer needs the processor."""
        self.idle_after_s = None
        self._spares.forget_dead()  # sutazaid ends them when memory is short, and does not say so
        if not self._spares.free and (pid := self._spares.prepare()):
            self._offer(pid)

    def _offer(self, pid: int) -> None:
        """Tell ``sutazaid`` of a spare, which is in this worker's cgroup until it is placed into one of its own."""
        self.link.send({"op": "spare", "id": pid, "pid": pid})

    def answered(self, message: dict[str, Any]) -> None:
        """Keep a spare that was not placed for any order; fork another where one is wanted."""
        if message.get("placed") is not True:
            if message.get("ended") is not True:
                self._spares.free.add(int(message["id"]))
        elif message.get("more") is True:
            self.idle_after_s = SPARE_AFTER_S

    def handle(self, message: dict[str, Any]) -> None:
        """Fork an instance when told to."""
        if message["push"] != "fork":
            return
        pipe = self.link.take_descriptor() if message.get("cgroup_wait", True) else -1
        ticket = str(message.get("ticket", ""))
        try:
            if message.get("cgroup_wait", True) and pipe < 0:
                raise ProtocolError("the order to fork came without its pipe")
            order = self._order(message, ticket, pipe)
            pid = self._spares.hand_out(order, int(message.get("spare") or 0))
        except (SutazaiError, OSError) as error:
            self.link.send({"op": "fork-failed", "ticket": ticket, "error": str(error)})
        else:
            self.link.send({"op": "forked", "ticket": ticket, "pid": pid, "uid": order.uid or os.geteuid()})
        finally:
            if pipe >= 0:
                os.close(pipe)
        self.idle_after_s = SPARE_AFTER_S

    def _order(self, message: dict[str, Any], ticket: str, pipe: int) -> Order:
        name = str(message.get("agent", ""))
        facts = self._facts(name)
        uid = int(message.get("uid") or 0)
        if uid > 0 and self._obstacle(facts, uid):
            uid = 0
        return Order(facts=facts, ticket=ticket, token=str(message.get("token", "")), uid=uid, pipe=pipe)

    def _facts(self, name: str) -> AgentFacts:
        """Find an agent's facts, from the plan that is in force now."""
        path = self.fleet.paths.plan
        try:
            stat = path.stat()
        except OSError as error:
            raise ConfigError(f"cannot read the plan: {error.strerror}", path=str(path)) from error
        if (seen := (stat.st_mtime_ns, stat.st_ino)) != self._plan_seen:
            self._agents = agents_of(load_plan(path), str(path))
            self._plan_seen = seen
            self._obstacles.clear()
        if name not in self._agents:
            raise ConfigError(f"the plan has no agent {name!r}", path=str(path))
        return self._agents[name]

    def _obstacle(self, facts: AgentFacts, uid: int) -> str:
        """Say what an unprivileged instance of an agent could not read; asked once for each agent and plan."""
        if os.geteuid() != 0:
            return "not root"
        if facts.name not in self._obstacles:
            paths = privileges.needed_paths(agent_file_or_folder(facts))
            found = privileges.unreadable([*paths, self.fleet.scratch], uid)
            self._obstacles[facts.name] = found
            text = f"{facts.name} runs as root: user {uid} cannot read {found}; `sutazai doctor` says how to mend it"
            self.link.send(
                {
                    "op": "condition",
                    "name": "PrivilegesNotDropped",
                    "subject": facts.name,
                    "active": bool(found),
                    "text": text if found else "",
                }
            )
        return self._obstacles[facts.name]


def agent_file_or_folder(facts: AgentFacts) -> Path:
    """Find an agent's file; where there is none, the path itself: the import will say what is wrong."""
    try:
        return agent_file(Path(facts.module))
    except ConfigError:
        return Path(facts.module)


class RootZygote(Post):
    """Forks the members."""

    def handle(self, message: dict[str, Any]) -> None:
        """Fork a member when told to."""
        if message["push"] != "member":
            return
        name = str(message.get("worker", ""))
        try:
            workers = workers_of(load_plan(self.fleet.paths.plan))
            fork_twice(lambda: self._member(workers.get(name, WorkerFacts(name))))
        except (SutazaiError, OSError) as error:
            self._log.error("cannot fork a worker", member=name, error=str(error))
            condition = {"name": "WorkerCannotFork", "subject": name, "active": True, "text": str(error)}
            self.link.send({"op": "condition", **condition})

    def _member(self, worker: WorkerFacts) -> int:
        self.link.close()
        kernel.set_name(worker.name)
        kernel.set_command_line(f"sutazai: worker {worker.name} ({worker.family})")
        os.environ["SUTAZAI_PROCESS"] = worker.name
        self._greet(worker.name)
        return Member(worker.name, self.fleet, load(worker.family, worker.preload, worker.name)).serve()

    def _greet(self, name: str) -> None:
        """Let ``sutazaid`` move this member into its own cgroup before it loads; else the root's would be charged."""
        with contextlib.suppress(UnavailableError, ProtocolError):
            if self.link.connect():
                self.link.send({"op": "hello", "id": 0, "process": name})
                self.link.receive(GREETING_S_MAX)
        self.link.close()


def load(family: str, modules: tuple[str, ...], name: str) -> int:
    """Import and warm, then settle; gives the milliseconds it took."""
    began = time.monotonic()
    try:
        missing = preload([] if family == "base" and name != ROOT else [family], modules)  # members inherit base
    except ConfigError as error:
        missing = [str(error)]
    for text in missing:
        Log({"worker": name}, descriptor=2).warning("not pre-loaded", error=text)
    settle()
    return round((time.monotonic() - began) * 1_000)


def scratch_root(paths: FleetPaths) -> Path:
    """Make the folder of scratch folders where every user can reach it: in the state folder, else the run folder."""
    for folder in (paths.state / "scratch", paths.run / "scratch"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o1777)
        except OSError:
            continue
        if all(parent.stat().st_mode & 0o001 for parent in folder.parents):
            return folder
    return paths.state / "scratch"


def main() -> int:
    """Run the root zygote of the fleet that ``SUTAZAI_FLEET`` names."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # a numerical library must not start threads here
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    kernel.use_one_arena()
    name = os.environ.get("SUTAZAI_FLEET", "")
    if not name:
        sys.stderr.write("SUTAZAI_FLEET is not set: this process is started by sutazaid\n")
        return 2
    paths = FleetPaths.of(name)
    fleet = Fleet(name, paths, scratch_root(paths), os.environ.get("SUTAZAI_LLM_URL", ""))
    kernel.set_name(ROOT)
    pre_ms = load("base", (), ROOT)
    if os.geteuid() == 0:
        owned = paths.state.exists() and paths.state.stat().st_uid == 0
        own = (kernel.CAP_SETUID, kernel.CAP_SETGID)
        kernel.keep_capabilities(own if owned else (*own, kernel.CAP_DAC_OVERRIDE))
    return RootZygote(ROOT, fleet, pre_ms).serve()


if __name__ == "__main__":
    sys.exit(main())
