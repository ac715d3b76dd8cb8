"""Why it exists: the plan's schedules become tasks at their times, once each, also across restarts and clock jumps.

The wall clock says when; the store says what was decided on already. Each look takes the newest time that has come and
decides on it: older ones that were missed are never done one after the other. A jump forward is like having been down.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sutazai.bus import messages
from sutazai.cron import Cron
from sutazai.errors import RefusedError
from sutazai.ids import occurrence_task_id
from sutazai.limits import PRIORITY_DEFAULT, SCHEDULE_BACK_MS, SCHEDULE_LATE_MS
from sutazai.store.model import NewTask, Outcome
from sutazai.store.times import Occur, Schedules, Seen

if TYPE_CHECKING:
    from sutazai.bus.broker import Broker

Key = tuple[str, str]
_log = logging.getLogger(__name__)


class Scheduler:
    """Looks at the schedules of the plan.

    Args:
        broker: the whole.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._seen: dict[Key, Seen] | None = None  # None until the store was read
        self._crons: dict[tuple[str, str], Cron | None] = {}
        self._next: dict[Key, tuple[tuple[str, str], int, int]] = {}
        self._owed: dict[Key, int] = {}
        self._busy: set[Key | None] = set()

    def tick(self) -> None:
        """Decide on every time that has come."""
        if self._seen is None:
            self._read()
            return
        wall_ms = self._broker.clock.wall_ms()
        for agent, schedule in self._broker.directory.schedules():
            key = (agent, schedule["name"])
            cron = self._cron(schedule)
            if cron is not None and key not in self._busy:
                self._look(key, schedule, cron, wall_ms)

    def _read(self) -> None:
        if None in self._busy:
            return
        self._busy.add(None)

        def done(result: Outcome | RefusedError) -> None:
            self._busy.discard(None)
            if isinstance(result, Outcome):
                self._seen = {(seen.agent, seen.schedule): seen for seen in result.reply}

        self._broker.journal.enqueue(Schedules(), done)

    def _cron(self, schedule: dict[str, Any]) -> Cron | None:
        """Read an expression once; one that makes no sense here (zones of another machine) is passed over."""
        text = (schedule["cron"], schedule["timezone"])
        if text not in self._crons:
            try:
                self._crons[text] = Cron(*text)
            except ValueError as error:
                _log.error("the schedule %s is left out: %s", schedule["name"], error)
                self._crons[text] = None
        return self._crons[text]

    def _look(self, key: Key, schedule: dict[str, Any], cron: Cron, wall_ms: int) -> None:
        seen = (self._seen or {}).get(key)
        if seen is None or wall_ms < seen.seen_wall_ms - SCHEDULE_BACK_MS:
            self._decide(key, wall_ms, None)  # new here, or the clock was set back by far: begin now
            return
        if wall_ms < self._next_ms(key, schedule, cron, seen.seen_wall_ms):
            return
        at_ms = cron.newest(seen.seen_wall_ms, wall_ms)
        if not at_ms:
            return
        in_time = wall_ms - at_ms <= SCHEDULE_LATE_MS or self._owed.get(key) == at_ms
        wanted = in_time or schedule["catch_up"] == "last"
        self._decide(key, at_ms, self._task(key, schedule, at_ms) if wanted else None)

    def _next_ms(self, key: Key, schedule: dict[str, Any], cron: Cron, seen_ms: int) -> int:
        """The first time that is not decided on; kept, because a look comes four times a second."""
        text = (schedule["cron"], schedule["timezone"])
        kept = self._next.get(key)
        if kept is None or kept[:2] != (text, seen_ms):
            kept = self._next[key] = (text, seen_ms, cron.next_after(seen_ms))
        return kept[2] or 1 << 62

    def _task(self, key: Key, schedule: dict[str, Any], at_ms: int) -> NewTask:
        agent, directory = key[0], self._broker.directory
        return NewTask(
            id=occurrence_task_id(agent, key[1], at_ms), agent=agent, skill=schedule["skill"],
            input=messages.to_json(schedule.get("input")), priority=schedule.get("priority", PRIORITY_DEFAULT),
            deadline_ms=schedule.get("deadline_ms") or directory.deadline_ms(agent),
            attempts_max=directory.attempts_max(agent), schedule=key[1],
            queue=directory.queue(agent),
        )  # fmt: skip

    def _decide(self, key: Key, at_ms: int, task: NewTask | None) -> None:
        self._busy.add(key)

        def done(result: Outcome | RefusedError) -> None:
            self._busy.discard(key)
            if isinstance(
                result, RefusedError
            ):  # a full queue or disk: this very time is done as soon as there is room
                self._owed[key] = at_ms
                return
            self._owed.pop(key, None)
            if self._seen is not None:
                before = self._seen.get(key, Seen(*key, at_ms))
                made = (at_ms, task.id) if task is not None else (before.last_wall_ms, before.last_task)
                self._seen[key] = Seen(*key, at_ms, *made)
            if result.reply is not None and not result.reply.duplicate:
                self._broker.meters.totals.accepted += 1

        self._broker.journal.enqueue(Occur(*key, at_ms, task), done)

    def table(self, stored: list[Seen]) -> list[dict[str, Any]]:
        """All schedules of the plan, each with its next and its last time, by what is stored."""
        wall_ms = self._broker.clock.wall_ms()
        known = {(seen.agent, seen.schedule): seen for seen in stored}
        rows = []
        for agent, schedule in self._broker.directory.schedules():
            seen = known.get((agent, schedule["name"]))
            cron = self._cron(schedule)
            after_ms = wall_ms if seen is None else max(wall_ms, seen.seen_wall_ms)
            rows.append(
                {
                    "agent": agent,
                    **{name: schedule.get(name) for name in ("name", "cron", "timezone", "skill", "catch_up")},
                    "next_wall_ms": cron.next_after(after_ms) if cron is not None else 0,
                    "last_wall_ms": seen.last_wall_ms if seen else 0,
                    "last_task": seen.last_task if seen else "",
                }
            )
        return rows
