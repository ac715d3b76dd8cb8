"""Why it exists: what happened is what differs between two looks at the fleet; a look is kept over restarts of control.

``Seen`` is the little that is needed to notice a change. It is written to disk when it differs, so that a restart of
control hides no crash that happened meanwhile. No I/O here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sutazai.telemetry.events import Event

if TYPE_CHECKING:
    from sutazai.control.snapshot import Snapshot

#: What ``sutazaid`` writes into ``last_exit``; the group's own counter is gone with the group.
OUT_OF_MEMORY = "out of memory"
_PROCESS_KEYS = ("pid", "restarts", "oom_kills", "ready")


@dataclass(frozen=True, slots=True)
class Seen:
    """The little of a snapshot that events are made from.

    Attributes:
        since_wall_ms: when the fleet came up; another value is another run of the fleet.
        digest: of its plan.
        state: of the fleet.
        processes: by name: pid, restarts, oom_kills, ready.
        instances: by ticket: agent, pid, oom_kills.
        conditions: by ``Kind/subject``: name, subject, text, severity, since_wall_ms.
        dead: dead letters by agent.
        up: whether each source answered.
        supervisor_pid: of the ``sutazaid`` that answered last.
        acts: what agents did to the fleet, as ``sutazaid`` remembers it, by number.
    """

    since_wall_ms: int = 0
    digest: str = ""
    state: str = ""
    processes: dict[str, dict[str, Any]] = field(default_factory=dict)
    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    conditions: dict[str, dict[str, Any]] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    up: dict[str, bool] = field(default_factory=dict)
    supervisor_pid: int = 0
    acts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For the file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Seen:
        """From the file.

        Raises:
            TypeError: another version wrote it.
        """
        return cls(**data)


def look(snapshot: Snapshot, conditions: list[dict[str, Any]], before: Seen) -> Seen:
    """Take the little out of a snapshot; of a source that does not answer, what was seen before is kept."""
    up = {"sutazaid": snapshot.supervisor.up, "broker": snapshot.broker.up}
    kept = {
        f"{entry['name']}/{entry['subject']}": {
            key: entry.get(key) for key in ("name", "subject", "text", "severity", "since_wall_ms")
        }
        for entry in conditions
    }
    dead = before.dead
    if snapshot.stats is not None:
        queues = snapshot.stats.get("queues") or {}
        dead = {agent: int(queue.get("dead") or 0) for agent, queue in queues.items() if queue.get("dead")}
    status = snapshot.status
    if status is None:
        return replace(before, conditions=kept, dead=dead, up=up)
    return Seen(
        since_wall_ms=int(status.get("since_wall_ms") or 0),
        digest=str(status.get("digest") or ""),
        state=str(status.get("state") or ""),
        processes={
            str(entry.get("name")): {key: entry.get(key) or 0 for key in _PROCESS_KEYS}
            | {"last_exit": str(entry.get("last_exit") or "")}
            for entry in snapshot.processes()
        },
        instances={
            str(entry.get("ticket")): {
                "agent": str(entry.get("agent")),
                "pid": entry.get("pid") or 0,
                "oom_kills": entry.get("oom_kills") or 0,
            }
            for entry in snapshot.instances()
        },
        conditions=kept,
        dead=dead,
        up=up,
        supervisor_pid=snapshot.supervisor_pid or before.supervisor_pid,
        acts={str(act.get("id")): dict(act) for act in status.get("acts") or ()},
    )


def events_between(before: Seen, after: Seen, at_wall_ms: int, before_wall_ms: int = 0) -> list[Event]:
    """What happened from one look to the next, causes before consequences.

    Args:
        before: the earlier look.
        after: the later one.
        at_wall_ms: time of the later one.
        before_wall_ms: time of the earlier one; when the fleet was stopped since, its conditions ended then.
    """
    found: list[Event] = []

    def say(kind: str, subject: str, text: str, **data: Any) -> None:
        found.append(Event(at_wall_ms, kind, subject, text, data))

    _sources(before, after, say)
    same_run = before.since_wall_ms == after.since_wall_ms
    if same_run and before.supervisor_pid and before.supervisor_pid != after.supervisor_pid:
        text = f"sutazaid was started again (pid {before.supervisor_pid}, then {after.supervisor_pid})"
        say("process-restarted", "sutazaid", text, pid=after.supervisor_pid, before_pid=before.supervisor_pid)
    if before.state != after.state or not same_run:
        say("fleet-state", "fleet", f"the fleet is {after.state}", state=after.state, before=before.state)
    if same_run and before.digest != after.digest:
        say("plan-swapped", "fleet", "another plan is in force", digest=after.digest, before=before.digest)
    _processes(before.processes if same_run else {}, after.processes, say)
    if same_run:
        for name in before.processes.keys() - after.processes.keys():
            say("process-removed", name, f"{name} is no longer part of the plan")
    _instances(before.instances if same_run else {}, after.instances, say)
    _acts(before.acts, after.acts, say)
    _conditions(before, after, at_wall_ms if same_run else before_wall_ms or at_wall_ms, say)
    for agent, count in after.dead.items():
        if count > (known := before.dead.get(agent, 0)):
            say("task-dead", agent, f"{count - known} more dead letters of {agent}, {count} in all", dead=count)
    return found


def _sources(before: Seen, after: Seen, say: Any) -> None:
    for name, up in after.up.items():
        if before.up.get(name, up) != up:
            say("source-back" if up else "source-lost", name, f"{name} {'answers again' if up else 'does not answer'}")


def _processes(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]], say: Any) -> None:
    for name, now in after.items():
        old = before.get(name, {"pid": 0, "restarts": 0, "oom_kills": 0, "ready": False})
        ended_by_limit = now["restarts"] > old["restarts"] and OUT_OF_MEMORY in now["last_exit"]
        if now["oom_kills"] > old["oom_kills"] or ended_by_limit:
            say(
                "oom-killed",
                name,
                f"{name} was killed at its memory limit: {now['last_exit'] or 'a part of it'}",
                **now,
            )
        if now["restarts"] > old["restarts"]:
            text = f"{name} was started again (restart {now['restarts']}); before: {now['last_exit'] or 'unknown end'}"
            say("process-restarted", name, text, **now)
        elif now["pid"] and now["pid"] != old["pid"]:
            say("process-started", name, f"{name} runs as pid {now['pid']}", **now)
        if old["pid"] and not now["pid"]:
            say("process-exited", name, f"{name} ended: {now['last_exit'] or 'unknown end'}", **now)
        if now["ready"] and (not old["ready"] or now["pid"] != old["pid"]):
            say("process-ready", name, f"{name} is ready", pid=now["pid"])


def _instances(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]], say: Any) -> None:
    for ticket, old in before.items():
        if ticket not in after:
            text = f"an instance of {old['agent']} ended (pid {old['pid']})"
            say("instance-ended", old["agent"], text, ticket=ticket, pid=old["pid"])
    for ticket, now in after.items():
        known = before.get(ticket)
        if known is None:
            text = f"an instance of {now['agent']} runs as pid {now['pid']}"
            say("instance-started", now["agent"], text, ticket=ticket, pid=now["pid"])
        if now["oom_kills"] > (known["oom_kills"] if known else 0):
            text = f"a part of an instance of {now['agent']} was killed at its memory limit"
            say("oom-killed", now["agent"], text, ticket=ticket, oom_kills=now["oom_kills"])


def _acts(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]], say: Any) -> None:
    for number, act in after.items():
        if number not in before:
            text = f"{act.get('action')} for {act.get('agent') or 'a person'}: {act.get('text')}"
            data = {key: act.get(key) for key in ("id", "action", "agent", "task", "numbers")}
            say("acted", str(act.get("subject") or "fleet"), text, **data)


def _conditions(before: Seen, after: Seen, ended_wall_ms: int, say: Any) -> None:
    processes = after.processes
    for key, now in after.conditions.items():
        old = before.conditions.get(key)
        if old is None or old["since_wall_ms"] != now["since_wall_ms"]:
            if old is not None:
                _cleared(old, int(now["since_wall_ms"]), say)
            text = f"{now['name']}: {now['text']}"
            data = {field: now[field] for field in ("name", "severity", "since_wall_ms")}
            say("condition-raised", now["subject"], text, **data)
            if now["name"] == "OomKilled" and now["subject"] not in processes:
                say("oom-killed", now["subject"], f"an instance of {now['subject']} was killed: {now['text']}")
    for key, gone in before.conditions.items():
        if key not in after.conditions:
            _cleared(gone, ended_wall_ms, say)


def _cleared(old: dict[str, Any], ended_wall_ms: int, say: Any) -> None:
    seconds = max(0, ended_wall_ms - int(old["since_wall_ms"])) / 1_000
    text = f"{old['name']} is over after {seconds:.0f} s"
    data = {key: old[key] for key in ("name", "severity", "since_wall_ms")}
    say("condition-cleared", old["subject"], text, **data, text_before=old["text"], ended_wall_ms=ended_wall_ms)
