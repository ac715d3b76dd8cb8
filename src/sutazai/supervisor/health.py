"""Why it exists: "ready" and "healthy" are facts seen from outside, not a sleep and a hope.

Readiness: checks at short intervals until one passes or the time is over. Liveness: checks while it runs; enough
failures in a row raise ``Unhealthy`` with the evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.supervisor.probe import Check, Outcome, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.supervisor.alarms import Alarms
    from sutazai.supervisor.loop import Loop
    from sutazai.supervisor.unit import Unit

#: Checks get slower to this while a process needs long to come up, so that waiting costs nothing.
INTERVAL_MS_MAX = 500


class Doctor:
    """Checks units and says what it found."""

    def __init__(self, loop: Loop, alarms: Alarms) -> None:
        self._loop = loop
        self._alarms = alarms

    def await_ready(self, unit: Unit, on_ready: Callable[[], None], on_late: Callable[[str], None]) -> None:
        """Watch a started unit until it is ready or late.

        ``notify`` and ``exit`` are told by others (``keeper``); here only their time is watched.
        """
        ready = unit.spec.ready
        unit.why = {"notify": "has not said that it is ready", "exit": "the job is not done"}.get(ready.kind, "")
        unit.set_timer("late", self._loop.after(ready.timeout_ms, lambda: on_late(unit.why or "no check has passed")))
        if ready.kind in {"notify", "exit", "none"}:
            return
        target = Target(ready.kind, ready.host, ready.port, ready.path, min(ready.timeout_ms, 2_000))
        self._try_ready(unit, target, ready.interval_ms, on_ready)

    def _try_ready(self, unit: Unit, target: Target, interval_ms: int, on_ready: Callable[[], None]) -> None:
        def done(outcome: Outcome) -> None:
            unit.check = None
            if outcome.ok:
                on_ready()
                return
            unit.why = outcome.text
            slower_ms = min(INTERVAL_MS_MAX, interval_ms + interval_ms // 4)
            unit.set_timer(
                "ready", self._loop.after(interval_ms, lambda: self._try_ready(unit, target, slower_ms, on_ready))
            )

        unit.check = Check(self._loop, target, done)

    def watch_alive(self, unit: Unit, on_unhealthy: Callable[[str], None]) -> None:
        """Check a ready unit at its interval, from now until its timers are cancelled."""
        probe = unit.spec.probe
        if probe.kind == "none":
            return
        target = Target(probe.kind, probe.host, probe.port, probe.path, probe.timeout_ms)

        def again() -> None:
            unit.check = Check(self._loop, target, done)

        def done(outcome: Outcome) -> None:
            unit.check = None
            unit.set_timer("alive", self._loop.after(probe.interval_ms, again))
            self._seen(unit, outcome, on_unhealthy)

        unit.set_timer("alive", self._loop.after(probe.interval_ms, again))

    def _seen(self, unit: Unit, outcome: Outcome, on_unhealthy: Callable[[str], None]) -> None:
        health = unit.health
        health.last = outcome
        health.checked_wall_ms = self._loop.clock.wall_ms()
        health.failures = 0 if outcome.ok else health.failures + 1
        if outcome.ok:
            self._alarms.clear("Unhealthy", unit.name)
        elif health.failures >= unit.spec.probe.fail_after:
            text = f"{outcome.text}; {health.failures} checks in a row failed"
            self._alarms.raise_("Unhealthy", unit.name, text)
            if health.failures == unit.spec.probe.fail_after:
                on_unhealthy(text)
