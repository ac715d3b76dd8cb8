"""Why it exists: each question of the API is answered by one function from facts to JSON, apart from HTTP."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

from sutazai import __version__
from sutazai.client.supervisor import SupervisorClient
from sutazai.control import exposition, history, memory
from sutazai.control.logs import LEVELS, LogReader, Wanted
from sutazai.control.measure import series
from sutazai.control.sources import ANSWER_S_MAX, wall_ms
from sutazai.errors import InvalidInputError, NotFoundError, UnavailableError
from sutazai.telemetry.kinds import KINDS
from sutazai.telemetry.names import METRICS, Metric, series_name
from sutazai.telemetry.ring import Query, Ring

if TYPE_CHECKING:
    from sutazai.control.question import Question
    from sutazai.control.sampler import Look, Sampler
    from sutazai.telemetry.reduce import Reduce

#: A look that is older counts as none: the sampler hangs.
LOOK_MS_MAX = 10_000
METRICS_LAST_MS_DEFAULT = 600_000
POINTS_MAX = 100_000
MEMORY_KEPT_MS = 1_000
_encode = msgspec.json.Encoder().encode
_REDUCES: tuple[Reduce, ...] = ("mean", "max", "min", "last")
_STATUS_LISTS = (("pools", "pool", "name"), ("processes", "process", "name"), ("instances", "instance", "ticket"))


class Answers:
    """Answers questions from the sampler's newest look, the ring, the event log and the logs."""

    def __init__(self, sampler: Sampler) -> None:
        """Take the sampler; it may not have ticked yet."""
        self._sampler = sampler
        self._logs = LogReader(sampler.paths.logs, sampler.log_clock)
        self._memory: dict[str, Any] = {"at_wall_ms": 0}
        self._memory_lock = threading.Lock()

    def _look(self) -> Look:
        look = self._sampler.newest
        if wall_ms() - look.snapshot.at_wall_ms > LOOK_MS_MAX:
            raise UnavailableError("control has no sample of the last seconds; try again in a moment")
        return look

    def status(self, question: Question) -> dict[str, Any]:
        """``/v1/status``."""
        question.finish()
        look = self._look()
        snapshot = look.snapshot
        if snapshot.status is None:
            raise UnavailableError(f"sutazaid does not answer: {snapshot.supervisor.error}")
        at = snapshot.at_wall_ms
        answer = {key: value for key, value in snapshot.status.items() if key not in {"id", "ok"}}
        for key, kind, name in _STATUS_LISTS:
            entries = answer.get(key) or ()
            answer[key] = [{**entry, "source": f"status:{kind}/{entry.get(name)}@{at}"} for entry in entries]
        answer["host"] = {**(answer.get("host") or {}), "source": f"status:host/host@{at}"}
        answer["conditions"] = [_condition(entry) for entry in look.conditions]
        answer["at_wall_ms"] = at
        answer["broker"] = None
        if snapshot.stats is not None:
            answer["broker"] = {**snapshot.stats, "source": f"status:broker/broker@{at}"}
        answer["sources"] = self._sources(look)
        answer["source"] = f"status:fleet/{answer.get('fleet')}@{at}"
        return answer

    def conditions(self, question: Question) -> dict[str, Any]:
        """``/v1/conditions``."""
        with_history, roots_only = question.flag("history"), question.flag("roots")
        since_ms = question.since_ms()
        question.finish()
        look = self._look()
        if look.snapshot.status is None and not look.snapshot.supervisor.at_wall_ms and not look.conditions:
            raise UnavailableError("control has not reached sutazaid yet; try again in a moment")
        entries = [_condition(entry) for entry in look.conditions]
        answer: dict[str, Any] = {
            "at_wall_ms": look.snapshot.at_wall_ms,
            "roots": [f"{entry['name']}/{entry['subject']}" for entry in entries if entry["root"]],
            "conditions": [entry for entry in entries if entry["root"] or not roots_only],
        }
        if with_history:
            log = self._sampler.events
            if log is None:
                raise UnavailableError("the event log cannot be opened; see the log of control")
            answer["history"] = history.spans(log.newest_first(), look.conditions, since_ms)
        return answer

    def metrics(self, question: Question) -> dict[str, Any]:
        """``/v1/metrics``."""
        names = question.many("name")
        if not names:
            raise InvalidInputError("name is missing: which metric? see /v1/metrics/names")
        since_ms, until_ms = question.since_ms(METRICS_LAST_MS_DEFAULT), question.whole("until_ms", 0)
        step_ms = question.whole("step_ms", 0, 86_400_000)
        reduce = question.choice("reduce", ("", *_REDUCES), "")
        metrics = [_metric(name) for name in names]
        labels = question.rest()
        for name in labels:
            if not any(name in entry.labels for entry in metrics):
                has = ", ".join(sorted({label for entry in metrics for label in entry.labels})) or "none"
                raise InvalidInputError(f"{', '.join(names)} has no label {name!r}; its labels are: {has}")
        ring = self._ring()
        queries = [Query(entry.name, labels, since_ms, until_ms, step_ms, _reduce(entry, reduce)) for entry in metrics]
        step_ms = _bounded_step_ms(ring, queries, question.now_ms)
        found = []
        for entry, query in zip(metrics, queries, strict=True):
            wider = Query(query.name, labels, since_ms, until_ms, step_ms, query.reduce)
            for one, points in ring.stream(wider):
                source = f"metric:{series_name(one.name, dict(one.labels))}@{points[0][0]}..{points[-1][0]}"
                found.append(
                    {
                        "name": one.name,
                        "labels": dict(one.labels),
                        "type": entry.type,
                        "unit": entry.unit,
                        "reduce": query.reduce if step_ms else "raw",
                        "points": msgspec.Raw(_encode(points)),  # at once: the text is a tenth of the objects
                        "source": source,
                    }
                )
        return {"at_wall_ms": question.now_ms, "step_ms": step_ms, "series": found}

    def metric_names(self, question: Question) -> dict[str, Any]:
        """``/v1/metrics/names``."""
        question.finish()
        counts: dict[str, int] = {}
        for one in self._ring().series():
            counts[one.name] = counts.get(one.name, 0) + 1
        return {
            "metrics": [
                {
                    "name": entry.name,
                    "type": entry.type,
                    "unit": entry.unit,
                    "labels": list(entry.labels),
                    "help": entry.help,
                    "sampled": entry.sampled,
                    "series": counts.get(entry.name, 0),
                }
                for entry in METRICS.values()
            ]
        }

    def logs(self, question: Question) -> dict[str, Any]:
        """``/v1/logs``."""
        wanted = Wanted(
            processes=question.many("process"),
            since_ms=question.since_ms(),
            level=question.choice("level", LEVELS, "debug"),
            contains=question.one("contains"),
            limit=question.limit(),
        )
        question.finish()
        lines, truncated = self._logs.read(wanted)
        return {
            "at_wall_ms": question.now_ms,
            "truncated": truncated,
            "lines": [line.to_json() for line in lines],
        }

    def memory(self, question: Question) -> dict[str, Any]:
        """``/v1/memory``."""
        question.finish()
        with self._memory_lock:
            if question.now_ms - self._memory["at_wall_ms"] > MEMORY_KEPT_MS:
                # asked anew, because an instance that was started since the last tick would have no name
                fleet = self._sampler.paths.run.name
                with SupervisorClient(fleet, timeout_s=ANSWER_S_MAX, name="control.memory") as supervisor:
                    self._memory = memory.owners(supervisor.status(), supervisor.pid, wall_ms())
            return self._memory

    def events(self, question: Question) -> dict[str, Any]:
        """``/v1/events``."""
        since_ms, limit = question.since_ms(), question.limit()
        kinds, subjects = question.many("kind"), question.many("subject")
        question.finish()
        if self._sampler.events is None:
            raise UnavailableError("the event log cannot be opened; see the log of control")
        found, truncated = self._sampler.events.read(since_ms, kinds, subjects, limit)
        return {"events": [event.to_json() for event in found], "truncated": truncated}

    def agents(self, question: Question) -> dict[str, Any]:
        """``/v1/agents``."""
        question.finish()
        agents = self._look().agents
        return {
            "agents": [
                {
                    "name": agent.name,
                    "port": agent.port,
                    "version": agent.version,
                    "pool": agent.pool,
                    "description": str(agent.settings.get("description") or ""),
                    "instances_max": agent.instances_max,
                    "skills": agent.skills,
                    "source": f"agent:{agent.name}@{agent.version}",
                }
                for agent in agents.values()
            ]
        }

    def health(self, question: Question) -> dict[str, Any]:
        """``/v1/health``."""
        question.finish()
        look = self._sampler.newest
        fresh = wall_ms() - look.snapshot.at_wall_ms <= LOOK_MS_MAX
        fine = fresh and look.snapshot.supervisor.up and look.snapshot.broker.up and self._sampler.ring is not None
        return {
            "status": "ok" if fine else "degraded",
            "version": __version__,
            "at_wall_ms": look.snapshot.at_wall_ms,
            "sources": self._sources(look),
        }

    def prometheus(self) -> str:
        """``/metrics``."""
        values = dict(self._sampler.newest.values)
        ring = self._sampler.ring
        if ring is not None:
            statistics = ring.statistics()
            values[series("control_ring_series")] = statistics.series
            values[series("control_ring_dropped_total")] = statistics.dropped
        return exposition.text_of(values)

    def _ring(self) -> Ring:
        ring = self._sampler.ring
        if ring is None:
            raise UnavailableError("the metric ring cannot be opened; see the log of control")
        return ring

    def _sources(self, look: Look) -> dict[str, Any]:
        return {"sutazaid": look.snapshot.supervisor.to_json(), "broker": look.snapshot.broker.to_json()}


def _condition(entry: dict[str, Any]) -> dict[str, Any]:
    kind = KINDS.get(entry["name"])
    source = f"condition:{entry['name']}/{entry['subject']}@{entry.get('since_wall_ms', 0)}"
    return {"root": True, **entry, "meaning": kind.meaning if kind else "", "source": source}


def _metric(name: str) -> Metric:
    entry = METRICS.get(name)
    if entry is None:
        raise NotFoundError(f"there is no metric {name!r}; see /v1/metrics/names")
    return entry


def _reduce(entry: Metric, wanted: str) -> Reduce:
    for reduce in _REDUCES:
        if reduce == wanted:
            return reduce
    return "last" if entry.type == "counter" else "mean"


def _bounded_step_ms(ring: Ring, queries: list[Query], now_ms: int) -> int:
    """The wanted step, or a wider one when the answer would hold too many points."""
    step_ms = queries[0].step_ms
    counts = [ring.count(query) for query in queries]
    rows = max(count for _, count in counts)
    many = sum(number for number, _ in counts)
    span_ms = max(1, (queries[0].until_ms or now_ms) - queries[0].since_ms)
    buckets = min(rows, span_ms // step_ms + 1) if step_ms else rows
    if many * buckets <= POINTS_MAX:
        return step_ms
    seconds = -(-many * rows // POINTS_MAX)  # rows are a second apart; where they are sparser, this is still enough
    return max(step_ms, seconds * 1_000)
