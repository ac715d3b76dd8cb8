"""Why it exists: what ``sutazaid`` knows of one process now is one record, changed in one place (``keeper``).

The plan's entry says what should be; the unit says what is.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sutazai.supervisor.facts import ProcessFacts
from sutazai.supervisor.stages import Standing, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.supervisor.contract import Process, Restart
    from sutazai.supervisor.loop import Timer
    from sutazai.supervisor.probe import Check, Outcome


@dataclass(slots=True)
class Health:
    """Result of the liveness checks.

    Attributes:
        last: outcome of the latest one.
        failures: in a row.
        checked_wall_ms: when the latest one ended.
    """

    last: Outcome | None = None
    failures: int = 0
    checked_wall_ms: int = 0

    def to_json(self) -> dict[str, Any] | None:
        """As it stands in ``status``; None before the first check."""
        if self.last is None:
            return None
        return {
            "ok": self.last.ok,
            "last_status": self.last.status,
            "latency_ms": self.last.latency_ms,
            "failures": self.failures,
            "text": self.last.text,
            "checked_wall_ms": self.checked_wall_ms,
        }


@dataclass(slots=True)
class Unit:
    """One process of the plan, as it is.

    Attributes:
        spec: what the plan says.
        group: path of its cgroup.
        state: of its life.
        begun: whether it was started before; from then on no stage holds it.
        wanted: whether it is to run; False while it is being stopped for good.
        pid: 0 when it does not run.
        start_ticks: with the pid, names it for ever.
        ticket: its admission, empty when it has none.
        started_wall_ms: of the running process.
        ready_since_ms: monotonic, 0 when it is not ready.
        not_before_ms: monotonic; no try to start before this.
        restarts: since the fleet came up.
        oom_kills: kills at its memory limit in groups that are gone; the running group counts its own.
        peak_bytes: most memory it held in those groups.
        failures_wall_ms: its latest unexpected ends.
        last_exit: how it ended the last time, for a person.
        failed_openly: it could not become ready, and a condition says so.
        why: what it waits for.
        doomed_by: why ``sutazaid`` itself is ending it, empty when it is not.
        health: of the liveness checks.
        planned: the plan's own entry, where ``spec`` is another by ``resize``; None where it is the same.
        oom: whether the running or latest process ended at its memory limit.
    """

    spec: Process
    group: str
    state: State = "waiting"
    begun: bool = False
    wanted: bool = True
    pid: int = 0
    start_ticks: int = 0
    ticket: str = ""
    started_wall_ms: int = 0
    ready_since_ms: int = 0
    not_before_ms: int = 0
    restarts: int = 0
    oom_kills: int = 0
    peak_bytes: int = 0
    failures_wall_ms: list[int] = field(default_factory=list)
    last_exit: str = ""
    failed_openly: bool = False
    why: str = ""
    doomed_by: str = ""
    health: Health = field(default_factory=Health)
    timers: dict[str, Timer] = field(default_factory=dict)
    check: Check | None = None
    report_fd: int = -1
    exec_error: str = ""
    planned: Process | None = None
    oom: bool = False
    on_stopped: list[Callable[[], None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name in the plan."""
        return self.spec.name

    @property
    def digest(self) -> str:
        """Of the plan's entry; a resized limit does not count, it needs no restart."""
        return spec_digest(self.planned or self.spec)

    @property
    def standing(self) -> Standing:
        """What the stages need to know."""
        return Standing(self.state, self.failed_openly)

    def set_timer(self, name: str, timer: Timer) -> None:
        """Keep a timer under a name; an older one of that name is cancelled."""
        self.cancel_timer(name)
        self.timers[name] = timer

    def cancel_timer(self, name: str) -> None:
        """Forget a timer; harmless when there is none."""
        if (timer := self.timers.pop(name, None)) is not None:
            timer.cancel()

    def cancel_all(self) -> None:
        """Forget all timers and the check under way."""
        for name in list(self.timers):
            self.cancel_timer(name)
        if self.check is not None:
            self.check.cancel()
            self.check = None

    def failed(self, wall_ms: int, rule: Restart) -> None:
        """Count an unexpected end."""
        self.failures_wall_ms.append(wall_ms)
        self.forget_old_failures(wall_ms, rule)

    def forget_old_failures(self, wall_ms: int, rule: Restart) -> None:
        """Keep only the failures inside the crash-loop window."""
        if self.failures_wall_ms:
            window_ms = rule.crash_loop_window_ms
            self.failures_wall_ms = [at for at in self.failures_wall_ms if 0 <= wall_ms - at < window_ms]

    def crash_loops(self, rule: Restart) -> bool:
        """Whether it failed too often inside the window."""
        return len(self.failures_wall_ms) >= rule.crash_loop_count

    def backoff_ms(self, share: float, rule: Restart) -> int:
        """Compute the pause before the next start.

        Exponential with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"); in a crash loop it stays
        in the upper half of the cap.

        Args:
            share: random, 0…1.
            rule: of the plan.
        """
        if self.crash_loops(rule):
            return int(rule.cap_ms * (0.5 + share / 2))
        ceiling = min(rule.cap_ms, rule.base_ms * 2 ** max(0, len(self.failures_wall_ms) - 1))
        return int(ceiling * share)

    def to_facts(self) -> ProcessFacts:
        """What the next ``sutazaid`` needs."""
        return ProcessFacts(
            pid=self.pid,
            start_ticks=self.start_ticks,
            cgroup=self.group,
            ticket=self.ticket,
            started_wall_ms=self.started_wall_ms,
            restarts=self.restarts,
            oom_kills=self.oom_kills,
            peak_bytes=self.peak_bytes,
            failures_wall_ms=self.failures_wall_ms,
            ready=self.state in {"ready", "done"},
            last_exit=self.last_exit,
            spec=self.digest,
            uid=self.spec.uid,
            listen=[listen.name for listen in self.spec.listen],
        )


def spec_digest(spec: Process) -> str:
    """Tell two versions of a plan's entry apart; two checksums, because a digest library costs 4 MB of memory."""
    data = repr(asdict(spec)).encode()
    return f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}{len(data):x}"
