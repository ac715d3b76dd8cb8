"""Why it exists: once a second the fleet is looked at, and everything else in control lives off that look.

A thread of its own with blocking connections, so that the event loop only answers questions. The newest look is one
immutable object that readers take without a lock.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sutazai.control.alarms import Board
from sutazai.control.changes import Seen, events_between, look
from sutazai.control.logclock import LogClock
from sutazai.control.measure import AgentTotals, values_of
from sutazai.control.snapshot import HostSample, Snapshot, SourceState
from sutazai.control.sources import Broker, Machine, ModelServer, Supervisor, wall_ms
from sutazai.errors import ConfigError, SutazaiError
from sutazai.limits import TICK_MS
from sutazai.telemetry.events import Event, EventLog
from sutazai.telemetry.ring import Ring
from sutazai.wire.planfacts import AgentFacts, load_agents

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.paths import FleetPaths
    from sutazai.telemetry.ring_file import Series

#: A ring or log that could not be opened is tried again after so many ticks.
REOPEN_TICKS = 30
KILLS_REMEMBERED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that the newest tick found.

    Attributes:
        snapshot: facts as they were given.
        conditions: all that hold, as JSON entries.
        values: all sampled numbers.
        agents: of the plan.
    """

    snapshot: Snapshot
    conditions: list[dict[str, Any]]
    values: dict[Series, float]
    agents: dict[str, AgentFacts]


class Sampler:
    """Looks at the fleet once a second. ``start`` it, read ``newest``, ``stop`` it."""

    def __init__(self, paths: FleetPaths) -> None:
        """Connects to nothing and opens nothing yet."""
        self.paths = paths
        self.ring: Ring | None = None
        self.events: EventLog | None = None
        self.log_clock = LogClock(paths.logs)
        self.ticks = 0
        self.newest = Look(Snapshot(0, None, None, HostSample(), SourceState(), SourceState()), [], {}, {})
        self._supervisor = Supervisor(paths.run.name, wall_ms)
        self._broker = Broker(paths.broker_socket, wall_ms)
        self._machine = Machine(paths.state)
        self._model = ModelServer()
        self._board = Board()
        self._totals = AgentTotals()
        self._seen = Seen()
        self._kills: Counter[str] = Counter()
        self._last_wall_ms = 0
        self._said: dict[str, str] = {}
        self._plan_changed_ns = 0
        self._agents: dict[str, AgentFacts] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Begin in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was sampled is on disk."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._supervisor.close()
        self._broker.close()
        if self.ring is not None:
            self.ring.close()
        if self.events is not None:
            self.events.close()

    def _run(self) -> None:
        period_s = TICK_MS / 1_000
        next_at = time.monotonic()
        while not self._stopping.is_set():
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 one bad answer must not end the sampling for ever
                self._say("tick", f"a sample failed: {type(error).__name__}: {error}")
            next_at = max(next_at + period_s, time.monotonic())
            self._stopping.wait(next_at - time.monotonic())

    def tick(self) -> None:
        """Look once."""
        if self.ticks % REOPEN_TICKS == 0:
            self._open()
        self.ticks += 1
        started = time.perf_counter()
        status, stats = self._supervisor.status(), self._broker.stats()
        snapshot = Snapshot(
            at_wall_ms=wall_ms(),
            status=status,
            stats=stats,
            host=self._machine.sample(),
            supervisor=self._supervisor.state,
            broker=self._broker.state,
            supervisor_pid=self._supervisor.pid,
        )
        model = self._model.values(snapshot.processes())
        snapshot = replace(snapshot, model_up=self._model.is_up())
        self._read_plan()
        conditions = self._board.update(snapshot, self._supervisor.condition)
        self.log_clock.tick(snapshot.at_wall_ms)
        snapshot = replace(snapshot, took_s=time.perf_counter() - started)
        self._notice(snapshot, conditions)
        values = values_of(snapshot, self._agents, self._totals, self._kills)
        values |= model
        self.newest = Look(snapshot, conditions, values, self._agents)
        self._keep(snapshot.at_wall_ms, values)

    def _keep(self, at_wall_ms: int, values: dict[Series, float]) -> None:
        if self.ring is not None:
            try:
                self.ring.append(at_wall_ms, values)
                self._said.pop("ring", None)
            except OSError as error:
                self._say("ring", f"a sample is not kept: {error.strerror}")

    def _notice(self, snapshot: Snapshot, conditions: list[dict[str, Any]]) -> None:
        seen = look(snapshot, conditions, self._seen)
        if seen == self._seen:
            self._last_wall_ms = snapshot.at_wall_ms
            return
        if seen.since_wall_ms != self._seen.since_wall_ms:
            self._kills.clear()
        for event in events_between(self._seen, seen, snapshot.at_wall_ms, self._last_wall_ms):
            if event.kind == "oom-killed":
                self._kills[event.subject] += 1
            self._write(event)
        self._seen, self._last_wall_ms = seen, snapshot.at_wall_ms
        with contextlib.suppress(OSError):  # the next change is written again
            temporary = self._seen_path.with_suffix(".new")
            temporary.write_text(json.dumps(seen.to_json()))
            temporary.replace(self._seen_path)

    def _write(self, event: Event) -> None:
        if self.events is not None:
            try:
                self.events.append(event)
                self._said.pop("events", None)
            except OSError as error:
                self._say("events", f"an event is not kept: {error.strerror}")

    @property
    def _seen_path(self) -> Path:
        return self.paths.metrics / "seen.json"

    def _open(self) -> None:
        """Open what is not open: a full disk at the start must not leave control blind for ever."""
        try:
            if self.ring is None:
                self.ring = Ring.open(self.paths.metrics / "ring")
                self._last_wall_ms = self.ring.newest_wall_ms()
            if self.events is None:
                self.events = EventLog(self.paths.metrics / "events.jsonl")
                self._remember(self.events)
                self._write(Event(wall_ms(), "control-started", "control", "samples begin"))
        except (OSError, SutazaiError) as error:
            self._say("open", f"metrics are not kept: {error}")

    def _remember(self, events: EventLog) -> None:
        """Go on from what an earlier control of this run of the fleet saw."""
        try:
            self._seen = Seen.from_json(json.loads(self._seen_path.read_text()))
        except (OSError, ValueError, TypeError):
            self._seen = Seen()
        killed, _ = events.read(self._seen.since_wall_ms, kinds=("oom-killed",), limit=KILLS_REMEMBERED_MAX)
        self._kills = Counter(event.subject for event in killed)

    def _read_plan(self) -> None:
        try:
            changed_ns = self.paths.plan.stat().st_mtime_ns
            if changed_ns != self._plan_changed_ns:
                self._agents = load_agents(self.paths.plan)
                self._plan_changed_ns = changed_ns
                self._said.pop("plan", None)
        except (OSError, ConfigError) as error:
            self._say("plan", f"the plan cannot be read: {error}")

    def _say(self, topic: str, text: str) -> None:
        """Write to the log, but not the same thing every second."""
        if self._said.get(topic) != text:
            self._said[topic] = text
            sys.stderr.write(f"control: {text}\n")
