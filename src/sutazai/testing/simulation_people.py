"""Why it exists: the clients and instances of the simulated world: they work, repeat themselves, freeze and die."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.ids import child_task_id
from sutazai.testing.simulation_checks import LATE

if TYPE_CHECKING:
    import random

    from sutazai.testing.simulation import Wire, World

_KINDS = ("ok", "ok", "flaky", "fatal", "poison", "fan", "fan", "slow", "emit", "saved", "late", "loop", "sign")
_SIGNAL = "go"
_ASKED_MAX = 10
_SESSION_KINDS = ("ok", "flaky", "saved", "fan", "slow")


class Person:
    """Somebody with a wire to the broker."""

    def __init__(self, world: World, pid: int) -> None:
        self.world, self.pid = world, pid
        self.wire: Wire | None = None
        self.welcome = False
        self._number = 0

    @property
    def rng(self) -> random.Random:
        """The world's luck."""
        return self.world.rng

    def number(self) -> int:
        """Number of the next request."""
        self._number += 1
        return self._number

    def say(self, message: dict[str, Any]) -> None:
        """Send, if there is a wire."""
        if self.wire is not None:
            self.wire.say(message)

    def act(self) -> None:
        """Do one thing: connect, notice that the wire is dead, read a message, or work."""
        if self.wire is None:
            self.welcome = False
            self.wire = self.world.connect(self.pid)
            if self.wire is not None:
                self.hello()
        elif self.wire.to_peer:
            message = self.wire.to_peer.popleft()
            if message["t"] == "welcome":
                self.welcome = True
                self.welcomed()
            elif message["t"] == "error" and message["code"] == "protocol":
                self.hang_up()
            else:
                self.hear(message)
        elif self.wire.broker_closed or (self.world.unlucky and self.world.chance(0.01)):
            self.hang_up()
        elif self.welcome:
            self.work()

    def hang_up(self) -> None:
        """Close the wire."""
        if self.wire is not None:
            self.wire.hang_up()
            self.wire = None

    def hello(self) -> None:
        """Say who it is."""

    def welcomed(self) -> None:
        """The broker knows it."""

    def hear(self, message: dict[str, Any]) -> None:
        """Read a message."""

    def work(self) -> None:
        """Nothing came: do what is to be done."""


class Client(Person):
    """Submits tasks under idempotency keys until they are accepted, waits, watches, cancels."""

    def __init__(self, world: World, number: int, tasks: int) -> None:
        super().__init__(world, 10 + number)
        self._specs = [self._spec(number, index) for index in range(tasks)]
        self.accepted: dict[str, str] = {}
        self._fans: list[str] = []
        self._on_duty = number == 0  # looks after dead letters until none is left
        self._letters: list[str] = []
        self._asked: dict[int, dict[str, Any]] = {}
        self._signals: list[tuple[str, str]] = []  # to send, task and key; sent ones too, to be sent again
        self._unsent: list[tuple[str, str]] = []

    def _spec(self, number: int, index: int) -> dict[str, Any]:
        session = self.rng.choice([None, None, "s1", "s2"])
        kind = self.rng.choice(_KINDS if session is None else _SESSION_KINDS)
        spec: dict[str, Any] = {
            "agent": self.rng.choice(["alpha", "beta"]), "skill": "do", "session": session,
            "input": {"kind": kind, "width": self.rng.randint(0, 3), "depth": self.rng.randint(0, 1)},
            "priority": self.rng.randint(0, 9), "idempotency_key": f"c{number}-{index}", "deadline_ms": 300_000,
        }  # fmt: skip
        if self.world.chance(0.2):
            spec["delay_ms"] = self.rng.randint(1, 2_000)
        if self.world.chance(0.3 if kind == "fan" else 0.1):
            spec["deadline_ms"] = self.rng.randint(300, 3_000)
        return spec

    def is_done(self) -> bool:
        """All its tasks are accepted, and of the dead ones those that are no replays are handled."""
        unsent = self._unsent or self.world.checks.signals_awaited()
        return len(self.accepted) == len(self._specs) and not unsent and not self.world.checks.letters()

    def hello(self) -> None:
        """Say who it is."""
        self._asked.clear()
        self.say({"t": "hello", "v": 1, "role": "client", "name": f"client{self.pid}", "id": self.number()})

    def work(self) -> None:
        """Submit what is not accepted yet; then be curious."""
        if len(self._asked) >= _ASKED_MAX:
            return
        missing = [spec for spec in self._specs if spec["idempotency_key"] not in self.accepted]
        if missing and (self.world.chance(0.5) or not self.world.unlucky):
            count = self.rng.randint(1, min(3, len(missing)))
            self._ask({"t": "submit", "tasks": missing[:count]})
        elif self._unsent and (self.world.chance(0.3) or not self.world.unlucky):
            self._signal(*self.rng.choice(self._unsent))
        elif not self.world.unlucky:
            self._tidy_up()
        elif self.accepted:
            self._be_curious()

    def _tidy_up(self) -> None:
        """Give those signals that nobody sends any more, and look after dead letters."""
        if self._on_duty and (awaited := self.world.checks.signals_awaited()):
            self._signal(self.rng.choice(awaited), LATE)
        elif self._on_duty and self.world.chance(0.2):
            self._handle_letters()

    def _be_curious(self) -> None:
        task = self.rng.choice([*self.accepted.values(), *self._fans])
        kind = self.rng.choice(["get", "watch", "wait", "wait", "tree"])
        if self.world.chance(0.2):
            self._handle_letters()
        elif self._signals and self.world.chance(0.2):
            self._signal(*self.rng.choice(self._signals))
        else:
            if self.world.chance(0.3 if task in self._fans else 0.03):
                kind = "cancel"
            self._ask({"t": kind, "task": task, "timeout_ms": 1_000} if kind == "wait" else {"t": kind, "task": task})

    def _signal(self, task: str, key: str) -> None:
        """Send a signal that may have been sent before: when it comes and how often decides nothing."""
        self._ask(
            {"t": "resolve", "task": task, "verdict": "signal", "by": str(self.pid), "skill": _SIGNAL, "key": key,
             "data": key}
        )  # fmt: skip

    def _handle_letters(self) -> None:
        """Look for dead letters; replay one that was seen, at times again, at times discard it."""
        if not self._letters or self.world.chance(0.3):
            self._ask({"t": "dead", "handled": self.world.chance(0.3)})
            return
        kind = "discard" if self.world.chance(0.2) else "replay"
        self._ask({"t": kind, "tasks": [self.rng.choice(self._letters)], "by": str(self.pid)})

    def _ask(self, message: dict[str, Any]) -> None:
        message["id"] = self.number()
        self._asked[message["id"]] = message
        self.say(message)

    def hear(self, message: dict[str, Any]) -> None:
        """Read an answer."""
        asked = self._asked.get(message["re"])
        if asked is None:
            self.world.fail(f"an answer that nobody asked for: {message}")
            return
        if message["t"] != "event":
            del self._asked[message["re"]]
        if asked["t"] == "resolve":
            self._signalled(asked, message)
        if message["t"] == "accepted":
            for spec, task in zip(asked["tasks"], message["tasks"], strict=True):
                self._accept(spec, task["id"])
        elif message["t"] == "task":
            self.world.checks.told(message["task"]["id"], message["task"]["status"])
        elif message["t"] == "list":
            found = [task["id"] for task in message["tasks"] if task["replay_of"] is None or self.world.unlucky]
            self._letters = list(dict.fromkeys([*found, *self._letters]))[:_ASKED_MAX]
        elif message["t"] == "handled":
            self.world.checks.handled(asked["t"], message["tasks"][0])
        elif message["t"] == "event":
            self.world.checks.watched(self.pid, message["re"], message["event"])

    def _accept(self, spec: dict[str, Any], task: str) -> None:
        if spec["input"]["kind"] == "fan":
            self._fans.append(task)
        if spec["input"]["kind"] == "sign" and spec["idempotency_key"] not in self.accepted:
            self._unsent += [(task, "one"), (task, "two")]
        self.accepted[spec["idempotency_key"]] = task
        self.world.checks.accepted(task, spec)

    def _signalled(self, asked: dict[str, Any], message: dict[str, Any]) -> None:
        entry = (asked["task"], asked["key"])
        if message["t"] == "task":
            self.world.checks.signalled(*entry)
            self._signals.append(entry)
        elif message["code"] not in {"refused", "not-found"}:
            return
        if entry in self._unsent:
            self._unsent.remove(entry)


class Instance(Person):
    """An agent in memory: runs one turn at a time, repeats a commit until it is answered."""

    def __init__(self, world: World, agent: str, ticket: str, pid: int) -> None:
        super().__init__(world, pid)
        self.agent, self.ticket = agent, ticket
        self.alive, self.ever_connected = True, False
        self._frozen_until_ms = 0
        self._turn: dict[str, Any] | None = None
        self._commit: dict[str, Any] | None = None
        self._arrived: dict[str, Any] | None = None
        self._checkpointed = False
        self._left = 0
        self._version = 0
        self._leaving = False

    def as_push(self, kind: str) -> dict[str, Any]:
        """What the supervisor says of it."""
        return {
            "push": kind, "ticket": self.ticket, "agent": self.agent, "token": f"secret {self.ticket}",
            "uid": self.world.wires[0].uid if self.world.wires else _uid(), "pid": self.pid,
        }  # fmt: skip

    def held(self) -> dict[str, Any] | None:
        """The turn that it runs, for its hello."""
        return None if self._turn is None else {"task": self._turn["task"]["id"], "fence": self._turn["fence"]}

    def freeze(self, milliseconds: int) -> None:
        """SIGSTOP, for a time."""
        self._frozen_until_ms = self.world.clock.monotonic_ms() + milliseconds

    def die(self) -> None:
        """The process is gone."""
        self.alive = False
        self.hang_up()

    def hello(self) -> None:
        """Say who it is."""
        self._arrived = None
        self.ever_connected, self._leaving = True, False
        self.say(
            {"t": "hello", "v": 1, "role": "instance", "agent": self.agent, "ticket": self.ticket,
             "token": f"secret {self.ticket}", "pid": self.pid, "held": self.held(), "id": self.number()}
        )  # fmt: skip

    def act(self) -> None:
        """Do one thing, unless it is frozen."""
        if self.world.clock.monotonic_ms() >= self._frozen_until_ms:
            super().act()

    def welcomed(self) -> None:
        """Repeat the commit that was not answered, or ask for work."""
        if self._commit is not None:
            self.say(self._commit)
        elif self._turn is None:
            self.say({"t": "pull"})

    def hear(self, message: dict[str, Any]) -> None:
        """Read a message of the broker."""
        kind = message["t"]
        if kind == "turn":
            self._begin(message)
        elif kind in {"cancel", "lease"}:
            if self.held() == {"task": message["task"], "fence": message["fence"]} and message.get("cancel", True):
                self._stopped()
        elif kind in {"committed", "error"}:
            if self._commit is not None and message["re"] == self._commit["id"]:
                self._answered(message)
        elif kind == "stay":
            self._leaving = False
            self.say({"t": "pull"})
        elif kind == "bye":
            self.world.kill_instance(self, own=True)

    def _begin(self, message: dict[str, Any]) -> None:
        if self._turn is not None:  # as the real one: after the turn that it runs
            self.world.checks.is_over(self._turn, self.ticket)
            self._arrived = message
            return
        self._leaving = False
        self._turn, self._commit, self._checkpointed = message, None, False
        self._version = message["state_version"]
        self._left = self.rng.randint(0, 3)
        if message["task"]["input"]["kind"] == "slow":
            self._left = self.rng.randint(5, 25)
        self.world.checks.begun(message)
        self.world.log(f"{self.ticket} runs {self.held()} step {message['task']['step']!r}")

    def _stopped(self) -> None:
        """Told to stop: mostly obeys, at times finishes anyway and is refused."""
        if self.world.chance(0.8):
            self._commit = None
            self._end(pull=True)

    def _end(self, *, pull: bool) -> None:
        """The turn is over; go on with one that came meanwhile, or ask for one."""
        self._turn = None
        arrived, self._arrived = self._arrived, None
        if arrived is not None:
            self._begin(arrived)
        elif pull:
            self.say({"t": "pull"})

    def _answered(self, message: dict[str, Any]) -> None:
        commit, self._commit = self._commit, None
        if commit is None or self._turn is None:
            return
        if message["t"] == "committed":
            self.world.checks.committed(self._turn, commit, message["status"])
            if commit["outcome"] == "checkpoint" and message["status"] == "leased":
                self._version = message["state_version"]
                return
        else:
            self.world.checks.refused(self._turn, self.ticket, message["code"])
        self._end(pull=message["t"] == "error" or not commit["pull"])

    def work(self) -> None:
        """Work on the turn, or wait for one, or offer to leave."""
        if self._turn is None:
            if not self._leaving and self.world.chance(0.02):
                self._leaving = True
                self.say({"t": "hibernate", "id": self.number()})
        elif self._commit is not None:
            if self.world.chance(0.05):
                self.say(self._commit)
        elif self._turn["task"]["input"]["kind"] == "poison":
            self.world.kill_instance(self, own=True)
        elif self._left > 0:
            self._left -= 1
            self.say({"t": "heartbeat", **(self.held() or {}), "progress": {"fraction": 0.5, "text": str(self._left)}})
        else:
            self._send_commit(self._turn)

    def _send_commit(self, turn: dict[str, Any]) -> None:
        commit = {
            "t": "commit", "id": self.number(), "task": turn["task"]["id"], "fence": turn["fence"],
            "pull": self.world.chance(0.7), **self._outcome(turn),
        }  # fmt: skip
        self._commit = commit
        self.say(commit)
        if self.world.chance(0.1):
            self.say(commit)

    def _outcome(self, turn: dict[str, Any]) -> dict[str, Any]:
        task = turn["task"]
        kind = task["input"]["kind"]
        if kind == "late":
            self.freeze(1_000)
        if kind == "fatal":
            return {"outcome": "failed", "error": {"code": "no", "message": "never", "retryable": False}}
        if kind == "flaky" and self.world.unlucky and self.world.chance(0.5):
            return {"outcome": "failed", "error": {"code": "try", "message": "again", "retryable": True}}
        if kind == "saved" and task["session"] is not None and not self._checkpointed:
            self._checkpointed = True
            return {"outcome": "checkpoint", **self._state(turn, "saved")}
        if kind == "loop" and task["step"] != "round 3":
            return {"outcome": "wait", "wait": {"tasks": [], "then": _next_round(task["step"]), "carry": kind}}
        if kind == "fan" and task["step"] == "":
            children = [self._child(task, index) for index in range(task["input"]["width"])]
            wait = {"tasks": [child["id"] for child in children], "then": "collect", "carry": {"of": task["id"]}}
            return {"outcome": "wait", "wait": wait, "emits": children, **self._state(turn, "asked")}
        if kind == "sign" and task["step"] != "signal 2":
            return self._wait_for_signal(task)
        emits = [self._child(task, 0)] if kind == "emit" else []
        return {"outcome": "result", "result": {"of": task["id"], "got": [r["status"] for r in task["results"]]},
                "emits": emits, **self._state(turn, "done")}  # fmt: skip

    def _wait_for_signal(self, task: dict[str, Any]) -> dict[str, Any]:
        """Twice, one after the other, for the same name."""
        then = "signal 2" if task["step"] else "signal 1"
        child = {"id": child_task_id(task["id"], then, 0), "agent": "signal", "skill": _SIGNAL,
                 "input": {"kind": "ok", "width": 0},
                 "deadline_ms": 300_000}  # fmt: skip
        return {"outcome": "wait", "wait": {"tasks": [child["id"]], "then": then}, "emits": [child]}

    def _child(self, task: dict[str, Any], index: int) -> dict[str, Any]:
        depth = task["input"]["depth"]
        kind = ("fan", "ok", "flaky")[index % 3] if depth > 0 else ("slow", "flaky", "fatal")[index % 3]
        child = {
            "id": child_task_id(task["id"], "here", index), "agent": ("alpha", "beta")[index % 2], "skill": "do",
            "input": {"kind": kind, "width": 2, "depth": depth - 1}, "deadline_ms": 300_000,
        }  # fmt: skip
        instead = self.rng.choice([None, None, {"value": {"instead": index}}, {"agent": "alpha", "skill": "do"}])
        refuses = self.world.chance(0.1)
        return child | ({"fallback": instead} if instead else {}) | ({"when_open": "refuse"} if refuses else {})

    def _state(self, turn: dict[str, Any], what: str) -> dict[str, Any]:
        """Append to the session's journal what this commit is; an entry that is there is not written again."""
        if turn["task"]["session"] is None:
            return {}
        journal = list((turn["state"] or {}).get("journal", []))
        entry = f"{what} {turn['task']['id']}"
        if entry in journal:
            return {"state": None, "state_version": self._version}
        journal.append(entry)
        turn["state"] = {"journal": journal}
        return {"state": turn["state"], "state_version": self._version}


def _next_round(step: str) -> str:
    return {"": "round 1", "round 1": "round 2", "round 2": "round 3"}[step]


def _uid() -> int:
    import os

    return os.geteuid()
