"""Why it exists: agents and people read the same facts about the running fleet, with sources that can be cited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from sutazai.client import http, where
from sutazai.client.facts import (
    AgentCard,
    Condition,
    ConditionSpan,
    Event,
    LogLine,
    MemoryOwner,
    Series,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S_DEFAULT = 5.0


class FleetClient:
    """Reads facts from control. Holds no connection, so it may be kept, shared and forked.

    Every method raises ``UnavailableError`` when the fleet or the process that knows the fact does not answer, and
    ``NotFoundError`` or ``InvalidInputError`` for a question that cannot be answered.
    """

    def __init__(self, fleet: str | None = None, *, timeout_s: float = TIMEOUT_S_DEFAULT) -> None:
        """Name the fleet; connects to nothing.

        Args:
            fleet: its name; without it ``SUTAZAI_FLEET``, else the only one that is up.
            timeout_s: longest wait for one answer.
        """
        self._fleet, self._timeout_s = fleet, timeout_s

    def status(self) -> Status:
        """The fleet now: processes, pools, instances, host, queues."""
        return Status.parse(self._get("/v1/status"))

    def conditions(self, *, roots: bool = False) -> list[Condition]:
        """What holds now, the most severe first.

        Args:
            roots: only those that no other one explains.
        """
        data = self._get("/v1/conditions", roots="1" if roots else "")
        return [Condition.of(entry) for entry in data["conditions"]]

    def condition_history(self, since_s: float = 3_600) -> list[ConditionSpan]:
        """Conditions that held at some time in the last ``since_s`` seconds, oldest first."""
        data = self._get("/v1/conditions", history="1", last_ms=_milliseconds(since_s))
        return [ConditionSpan.of(entry) for entry in data["history"]]

    def metrics(
        self,
        name: str,
        since_s: float = 600,
        *,
        step_s: float = 0,
        reduce: str = "",
        **labels: str | Sequence[str],
    ) -> list[Series]:
        """Points of a metric, one ``Series`` for each set of labels.

        Args:
            name: see ``docs/reference/metrics.md``.
            since_s: the last so many seconds; the ring keeps two hours.
            step_s: width of a bucket; 0 gives the samples themselves, one a second.
            reduce: ``mean``, ``max``, ``min`` or ``last`` of a bucket.
            **labels: wanted values, like ``process="leaky-shop"``; several values are alternatives.
        """
        query: dict[str, Any] = {"name": name, "last_ms": _milliseconds(since_s), "reduce": reduce}
        if step_s > 0:
            query["step_ms"] = _milliseconds(step_s)
        data = self._get("/v1/metrics", **query, **labels)
        return [Series.of(entry) for entry in data["series"]]

    def metric_names(self) -> list[dict[str, Any]]:
        """The table of metrics, each with the number of its series."""
        found: list[dict[str, Any]] = self._get("/v1/metrics/names")["metrics"]
        return found

    def logs(
        self,
        process: str | Sequence[str] = "",
        since_s: float = 600,
        *,
        level: str = "",
        contains: str = "",
        limit: int = 500,
    ) -> list[LogLine]:
        """The newest lines of logs, oldest first.

        Args:
            process: whose; empty for all.
            since_s: the last so many seconds.
            level: least level: ``debug``, ``info``, ``warning``, ``error``.
            contains: only lines with this text; case does not matter.
            limit: at most so many, up to 5 000.
        """
        query = {"process": process, "last_ms": _milliseconds(since_s), "level": level, "contains": contains}
        data = self._get("/v1/logs", **query, limit=str(limit))
        return [LogLine.of(entry) for entry in data["lines"]]

    def memory(self) -> list[MemoryOwner]:
        """Who uses which memory, the largest first."""
        return [MemoryOwner.of(entry) for entry in self._get("/v1/memory")["owners"]]

    def events(
        self,
        since_s: float = 3_600,
        *,
        kind: str | Sequence[str] = "",
        subject: str | Sequence[str] = "",
        limit: int = 500,
    ) -> list[Event]:
        """What happened in the last ``since_s`` seconds, oldest first."""
        data = self._get("/v1/events", last_ms=_milliseconds(since_s), kind=kind, subject=subject, limit=str(limit))
        return [Event.of(entry) for entry in data["events"]]

    def agents(self) -> list[AgentCard]:
        """All agents of the fleet with their skills."""
        return [AgentCard.of(entry) for entry in self._get("/v1/agents")["agents"]]

    def _get(self, path: str, **query: str | Sequence[str]) -> Any:
        paths = where.find(self._fleet)
        pairs = [
            (key, value)
            for key, values in query.items()
            for value in ([values] if isinstance(values, str) else values)
            if value
        ]
        target = quote(path) + (f"?{urlencode(pairs)}" if pairs else "")
        try:
            return http.get(paths.control_socket, target, self._timeout_s)
        except OSError as error:
            where.not_answering(paths, "control", error)


def _milliseconds(seconds: float) -> str:
    return str(max(0, int(seconds * 1_000)))
