"""Why it exists: some conditions only control can see (the broker's silence, its full disk); they join ``sutazaid``'s.

``sutazaid`` keeps the one registry of what holds. Control wishes its own kinds there on every tick until they are, so
that it does not matter who was restarted in between. Pure but for the ``tell`` that is handed in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from sutazai.limits import QUEUE_BYTES_MAX, QUEUE_TASKS_MAX, TASK_INPUT_BYTES_MAX
from sutazai.telemetry.conditions import Condition, ConditionSet
from sutazai.telemetry.kinds import KINDS

if TYPE_CHECKING:
    from sutazai.control.snapshot import Snapshot

#: A neighbour may be silent for so many samples before it is an alarm.
SILENT_TICKS = 3
#: A driver of dispatch may be away or blocked for so long before it is an alarm.
DISPATCH_ALARM_MS = 1_000
CPU_PRESSURE_HIGH = 0.6
CPU_PRESSURE_FINE = 0.3
QUEUE_FINE = 0.9
#: Kinds that control alone raises and clears.
OWN_KINDS = frozenset(
    {
        "BrokerDown", "CacheDown", "CircuitOpen", "CpuPressure", "DeadLetters", "DispatcherBlocked", "DispatcherDown",
        "LlmUnavailable", "QueueFull", "RetryBudgetEmpty", "StorageFull", "StoreDown",
    }
)  # fmt: skip


class Tell(Protocol):
    """Raises or clears a condition at ``sutazaid``."""

    def __call__(self, name: str, subject: str, *, active: bool, text: str) -> None:
        """Do it."""


class Board:
    """All conditions that hold: ``sutazaid``'s and, while it does not answer, control's own view."""

    def __init__(self) -> None:
        """Begin with none."""
        self._own = ConditionSet()
        self._told: list[dict[str, Any]] = []
        self._silent_ticks = 0
        self._llm_ticks = 0

    def update(self, snapshot: Snapshot, tell: Tell) -> list[dict[str, Any]]:
        """Take a snapshot, tell ``sutazaid`` what it does not know, and return all that holds, as JSON entries."""
        self._detect(snapshot)
        if snapshot.status is None:
            self._own.raise_("SupervisorDown", "sutazaid", "", snapshot.at_wall_ms)
            return merged(self._told, self._own.active())
        self._own.clear("SupervisorDown", "sutazaid")
        self._told = snapshot.conditions()
        self._reconcile(tell)
        return merged(self._told, [])  # what was told just now is in its next answer, with its own beginning

    def _detect(self, snapshot: Snapshot) -> None:
        waiting = snapshot.host.pressure_cpu_minute
        if waiting > CPU_PRESSURE_HIGH:
            text = f"work waited for a core in {waiting:.0%} of the last minute"
            self._own.raise_("CpuPressure", "host", text, snapshot.at_wall_ms)
        elif waiting < CPU_PRESSURE_FINE:
            self._own.clear("CpuPressure", "host")
        settled = (snapshot.status or {}).get("state") not in {"starting", "stopping"}
        self._model(snapshot, settled=settled)
        if snapshot.stats is not None:
            self._silent_ticks = 0
            self._own.clear("BrokerDown", "broker")
            self._work(snapshot.stats, snapshot.at_wall_ms)
            self._cache(snapshot.stats.get("cache") or {}, snapshot.at_wall_ms, settled=settled)
            self._dispatch(snapshot.stats.get("dispatch") or {}, snapshot.at_wall_ms, settled=settled)
            return
        self._silent_ticks += 1
        if self._silent_ticks >= SILENT_TICKS and settled:
            self._own.raise_("BrokerDown", "broker", "", snapshot.at_wall_ms)

    def _model(self, snapshot: Snapshot, *, settled: bool) -> None:
        if snapshot.status is None:
            return
        servers = [entry for entry in snapshot.processes() if entry.get("kind") == "llm"]
        away = [entry for entry in servers if not entry.get("ready")]
        elsewhere = bool(servers) and not snapshot.model_up
        self._llm_ticks = self._llm_ticks + 1 if away or elsewhere else 0
        if self._llm_ticks >= SILENT_TICKS and settled:
            text = "the server that runs its model is away; /health on its port says why"
            if away:
                text = f"{away[0].get('name')} is {away[0].get('state') or 'not ready'}"
            self._own.raise_("LlmUnavailable", "llm", text, snapshot.at_wall_ms)
        elif not away and not elsewhere:
            self._own.clear("LlmUnavailable", "llm")

    def _work(self, stats: dict[str, Any], at_wall_ms: int) -> None:
        dead = {agent: int(queue.get("dead") or 0) for agent, queue in (stats.get("queues") or {}).items()}
        texts = {agent: f"{count} tasks of {agent} used up their attempts" for agent, count in dead.items() if count}
        self._hold("DeadLetters", texts, at_wall_ms)
        self._hold("CircuitOpen", open_circuits(stats), at_wall_ms)
        self._hold("RetryBudgetEmpty", empty_budgets(stats), at_wall_ms)
        store = stats.get("store") or {}
        for name, holds in (("StorageFull", store.get("full")), ("StoreDown", store.get("away"))):
            if holds:
                self._own.raise_(name, "broker", "", at_wall_ms)
            else:
                self._own.clear(name, "broker")
        open_tasks = int(stats.get("open_tasks") or 0)
        open_bytes = int(stats.get("open_bytes") or 0)
        if open_tasks >= QUEUE_TASKS_MAX:
            text = f"{open_tasks} tasks are open, the bound is {QUEUE_TASKS_MAX}: new ones are answered 429"
            self._own.raise_("QueueFull", "broker", text, at_wall_ms)
        elif open_bytes >= QUEUE_BYTES_MAX - TASK_INPUT_BYTES_MAX:
            text = f"open tasks hold {open_bytes} bytes, the bound is {QUEUE_BYTES_MAX}: new ones are answered 429"
            self._own.raise_("QueueFull", "broker", text, at_wall_ms)
        elif open_tasks < QUEUE_TASKS_MAX * QUEUE_FINE and open_bytes < QUEUE_BYTES_MAX * QUEUE_FINE:
            self._own.clear("QueueFull", "broker")

    def _hold(self, name: str, texts: dict[str, str], at_wall_ms: int) -> None:
        """These subjects have the condition, and no others."""
        for subject, text in texts.items():
            self._own.raise_(name, subject, text, at_wall_ms)
        for condition in self._own.active():
            if condition.name == name and condition.subject not in texts:
                self._own.clear(name, condition.subject)

    def _dispatch(self, dispatch: dict[str, Any], at_wall_ms: int, *, settled: bool) -> None:
        """The broker works on without its driver; who must know of it is who looks after the driver's server."""
        state, why = dispatch.get("state"), str(dispatch.get("why") or "")
        if int(dispatch.get("for_ms") or 0) < DISPATCH_ALARM_MS:
            state = ""
        for name, holds in (("DispatcherDown", state == "away" and settled), ("DispatcherBlocked", state == "blocked")):
            if holds:
                self._own.raise_(name, "broker", f"tasks are looked for without RabbitMQ: {why}", at_wall_ms)
            else:
                self._own.clear(name, "broker")

    def _cache(self, cache: dict[str, Any], at_wall_ms: int, *, settled: bool) -> None:
        """Skills work on as if nothing were kept."""
        if cache.get("state") == "away" and int(cache.get("for_ms") or 0) >= DISPATCH_ALARM_MS and settled:
            text = f"the cache ({cache.get('driver')}) does not answer, agents work without: {cache.get('why')}"
            self._own.raise_("CacheDown", "broker", text, at_wall_ms)
        elif cache.get("state") != "away":
            self._own.clear("CacheDown", "broker")

    def _reconcile(self, tell: Tell) -> None:
        there = {(entry["name"], entry["subject"]): entry["text"] for entry in self._told}
        wished = {(item.name, item.subject): item.text for item in self._own.active() if item.name in OWN_KINDS}
        for (name, subject), text in wished.items():
            if there.get((name, subject)) != text:
                tell(name, subject, active=True, text=text)
        for name, subject in there:
            if name in OWN_KINDS and (name, subject) not in wished:
                tell(name, subject, active=False, text="")
        self._told = [entry for entry in self._told if entry["name"] not in OWN_KINDS or _key(entry) in wished]


def open_circuits(stats: dict[str, Any]) -> dict[str, str]:
    """Agents that are left alone, and why; a half-open one for whom nothing waits has nothing to say."""
    found = {}
    for agent, entry in (stats.get("breakers") or {}).items():
        queue = (stats.get("queues") or {}).get(agent) or {}
        waiting = int(queue.get("queued") or 0)
        state = entry.get("state")
        if state == "open" or (state == "half-open" and (waiting or queue.get("leased"))):
            found[agent] = f"{entry.get('why')}: its circuit is {state}, {waiting} tasks wait and keep their attempts"
    return found


def empty_budgets(stats: dict[str, Any]) -> dict[str, str]:
    """Agents whose retries wait for their budget."""
    return {
        agent: f"{math.ceil(-entry['tokens'])} retries wait longer than their pause"
        for agent, entry in (stats.get("budgets") or {}).items()
        if (entry.get("tokens") or 0) < 0
    }


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["name"], entry["subject"]


def merged(told: list[dict[str, Any]], own: list[Condition]) -> list[dict[str, Any]]:
    """One list of entries out of both, with causes and roots found anew.

    Kinds that this version does not know are passed on as they are.
    """
    known = ConditionSet.from_json([entry for entry in told if entry.get("name") in KINDS])
    for condition in own:
        known.raise_(condition.name, condition.subject, condition.text, condition.since_wall_ms)
    unknown = [entry for entry in told if entry.get("name") not in KINDS]
    return known.to_json() + unknown
