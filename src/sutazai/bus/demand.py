"""Why it exists: an agent with due tasks and no free instance must be woken, again and again, until somebody is there.

``sutazaid`` is asked for so many more and counts those that it is starting, so that asking twice is harmless. It
answers yes, wait or no; each has its own pause before the next question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.bus.directory import Directory
    from sutazai.store.counts import Counts

_YES_PAUSE_MS = 3_000  # an instance is ready in milliseconds; it failed silently if it is not there by then
_FIRST_PAUSE_MS = 250
_PAUSE_MS_MAX = 5_000
_QUEUES_EVERY_MS = 1_000


@dataclass(slots=True)
class _Asked:
    """What was asked for an agent.

    Attributes:
        want: more instances.
        next_ms: not again before.
        pause_ms: grows while the answer is not yes.
        why: of the last answer that was not yes.
        under_way: no answer yet.
    """

    want: int = 0
    next_ms: int = 0
    pause_ms: int = _FIRST_PAUSE_MS
    why: str = ""
    under_way: bool = False


class Demand:
    """Asks for instances.

    Args:
        send: sends a request to ``sutazaid``; the second argument gets the answer. False when nobody is there.
        directory: how many instances an agent may have.
        startable: how many turns of an agent its rate and the pressure let start at a time; None for any number.
    """

    def __init__(
        self, send: Callable[[dict[str, Any], Callable[[dict[str, Any]], None] | None], bool], directory: Directory,
        startable: Callable[[str, int], int | None],
    ) -> None:  # fmt: skip
        self._send, self.directory, self._startable = send, directory, startable
        self._asked: dict[str, _Asked] = {}
        self._queues: dict[str, dict[str, int]] = {}
        self._queues_next_ms = 0
        self.stopped = False

    def why(self, agent: str) -> str:
        """Why an agent has no instance, as ``sutazaid`` said last."""
        asked = self._asked.get(agent)
        return asked.why if asked else ""

    def look(self, counts: Counts, free: Callable[[], dict[str, list[int]]], now_ms: int) -> None:
        """Ask for what is missing.

        Args:
            counts: tasks by agent.
            free: gives the instances by agent: all that are there or coming, and of them those without a turn; only
                asked when a task is due.
            now_ms: broker's time.
        """
        if self.stopped:
            return
        missing, held = set(), set()
        due = [(agent, entry) for agent, entry in counts.agents.items() if entry.ready > 0]
        instances = free() if due else {}
        for agent, entry in due:
            present, unused = instances.get(agent, (0, 0))
            startable = self._startable(agent, now_ms)
            if startable == 0:
                held.add(agent)  # nobody is woken to wait for it; what was asked before is remembered
                continue
            wanted = entry.ready if startable is None else min(entry.ready, startable)
            more = min(self.directory.instances_max(agent) - present, wanted - unused)
            if more > 0:
                missing.add(agent)
                self._ask(agent, more, now_ms)
        for agent, asked in list(self._asked.items()) if self._asked else ():
            if agent not in missing and agent not in held and not asked.under_way:
                del self._asked[agent]
        self._tell_queues(counts, now_ms)

    def _ask(self, agent: str, want: int, now_ms: int) -> None:
        asked = self._asked.setdefault(agent, _Asked())
        if asked.under_way or (now_ms < asked.next_ms and want <= asked.want):
            return
        asked.want = want

        def answered(reply: dict[str, Any]) -> None:
            asked.under_way = False
            status = reply.get("status") if reply.get("ok") else "no"
            asked.why = "" if status == "yes" else str(reply.get("why") or reply.get("error") or status)
            asked.pause_ms = _YES_PAUSE_MS if status == "yes" else min(_PAUSE_MS_MAX, asked.pause_ms * 2)
            asked.next_ms = now_ms + asked.pause_ms
            if status == "yes":
                asked.pause_ms = _FIRST_PAUSE_MS

        asked.under_way = self._send({"op": "wake", "agent": agent, "want": want}, answered)
        asked.next_ms = now_ms + asked.pause_ms

    def room(self, agent: str) -> None:
        """There is room again, or an instance is gone: the next look may ask at once."""
        asked = self._asked.get(agent)
        if asked is not None:
            asked.next_ms, asked.want = 0, 0

    def linked(self) -> None:
        """``sutazaid`` is there (again): it knows nothing of what was asked before."""
        self._asked.clear()
        self._queues = {}
        self._queues_next_ms = 0

    def _tell_queues(self, counts: Counts, now_ms: int) -> None:
        if now_ms < self._queues_next_ms:
            return
        queues = {
            agent: {"queued": entry.queued, "leased": entry.leased, "waiting": entry.waiting}
            for agent, entry in counts.agents.items()
        }
        if queues != self._queues and self._send({"op": "queues", "queues": queues}, None):
            self._queues = queues
            self._queues_next_ms = now_ms + _QUEUES_EVERY_MS
