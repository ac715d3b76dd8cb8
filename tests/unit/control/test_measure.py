"""From a snapshot to numbers, to events, to conditions: pure, without processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sutazai.control import exposition
from sutazai.control.alarms import SILENT_TICKS, Board, merged
from sutazai.control.changes import Seen, events_between, look
from sutazai.control.history import spans
from sutazai.control.measure import AgentTotals, series, values_of
from sutazai.control.snapshot import HostSample, Snapshot, SourceState
from sutazai.limits import QUEUE_TASKS_MAX
from sutazai.telemetry.conditions import ConditionSet
from sutazai.telemetry.events import Event
from sutazai.telemetry.names import METRICS

UP = SourceState(up=True, at_wall_ms=1)
DOWN = SourceState(error="gone")


def _snapshot(at: int = 1, *, stats: dict[str, Any] | None = None, **status: Any) -> Snapshot:
    body = {"fleet": "t", "state": "up", "since_wall_ms": 1, "digest": "d", **status}
    return Snapshot(at, body, stats, HostSample(), UP, UP if stats is not None else DOWN)


def _silent(at: int = 1) -> Snapshot:
    return Snapshot(at, None, None, HostSample(), DOWN, DOWN)


def _instance(ticket: str, agent: str = "a", **more: Any) -> dict[str, Any]:
    return {"ticket": ticket, "agent": agent, "pid": 7, "memory_bytes": 10, "cpu_usec": 0, "oom_kills": 0, **more}


def test_an_agents_counters_outlive_its_instances() -> None:
    """CPU time and wakes of ended instances stay in the sum; a reading that falls back changes nothing."""
    totals = AgentTotals()
    for instances in (
        [_instance("1", cpu_usec=1_000_000)],
        [_instance("1", cpu_usec=3_000_000), _instance("2", cpu_usec=500_000)],
        [_instance("2", cpu_usec=400_000)],
        [],
    ):
        totals.update(instances)
    values = totals.values()
    assert values[series("agent_cpu_seconds_total", "a")] == 3.5
    assert values[series("agent_wakes_total", "a")] == 2


def test_an_agent_without_an_instance_shows_zero_and_several_are_summed() -> None:
    """All agents of the plan have a series."""
    snapshot = _snapshot(instances=[_instance("1"), _instance("2", memory_bytes=30, memory_peak_bytes=40)])
    values = values_of(snapshot, ["a", "b"], AgentTotals())
    assert values[series("instances", "a")] == 2
    assert values[series("agent_memory_bytes", "a")] == 40
    assert values[series("agent_memory_peak_bytes", "a")] == 40
    assert values[series("instances", "b")] == 0


def test_a_source_that_is_away_gives_gaps_not_zeros() -> None:
    """Nothing is invented for what nobody said."""
    names = {key.name for key in values_of(_silent(), ["a"], AgentTotals())}
    assert "instances" not in names
    assert "queue_tasks" not in names
    assert "host_load1" in names


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=10,
    )
)
def test_odd_values_of_a_field_do_not_break_a_sample(odd: Any) -> None:
    """A field of another type is left out; what is written can be read by Prometheus."""
    process = {"name": "shop", "memory_bytes": odd, "pid": 1, "probe": odd}
    snapshot = _snapshot(processes=[process], pools=[{"name": "p", "size_bytes": odd}], stats={"totals": {"a": odd}})
    values = values_of(snapshot, [], AgentTotals())
    assert values[series("process_up", "shop")] == 1
    list(text_string_to_metric_families(exposition.text_of(values)))


def test_prometheus_reads_what_is_written() -> None:
    """Types, help and labels arrive, also with quotes and line ends in a label."""
    values = {series("process_up", 'a"b\\c\nd'): 1.0, series("process_cpu_seconds_total", "x"): 2.5}
    families = {family.name: family for family in text_string_to_metric_families(exposition.text_of(values))}
    assert families["process_cpu_seconds"].type == "counter"
    assert families["process_cpu_seconds"].samples[0].value == 2.5
    assert families["process_up"].samples[0].labels == {"process": 'a"b\\c\nd'}
    assert families["process_up"].documentation == METRICS["process_up"].help


def test_a_page_is_read_as_it_is_written() -> None:
    """The model server's numbers arrive; what the table does not know or does not sample is passed over."""
    values = {
        series("ai_model_memory_bytes", 'a"b\\c\nd'): 1.5e9,
        series("ai_tokens_processed_total", "m", "prompt"): 7.0,
    }
    text = exposition.text_of(values) + (
        '# HELP x y\nunknown 3\nai_inference_duration_seconds_bucket{le="1"} 2\nai_errors_total 3\n'
        'ai_model_memory_bytes{model="x"} NaN\nai_queue_requests{model="x"} many\nai_queue_requests{odd="x"} 1\n'
    )
    assert exposition.parse(text) == values


def test_the_page_of_a_real_library_is_read() -> None:
    """The model server writes its page with ``prometheus_client``."""
    registry = CollectorRegistry()
    Counter("ai_tokens_processed_total", "x", ("model", "kind"), registry=registry).labels("m", "prompt").inc(7)
    Gauge("ai_model_memory_bytes", "x", ("model",), registry=registry).labels('q"4').set(1.5e9)
    Histogram("ai_inference_duration_seconds", "x", ("model",), registry=registry).labels("m").observe(1)
    assert exposition.parse(generate_latest(registry).decode()) == {
        series("ai_tokens_processed_total", "m", "prompt"): 7,
        series("ai_model_memory_bytes", 'q"4'): 1.5e9,
    }


def test_quantiles_are_seconds() -> None:
    """The broker's milliseconds become the unit of the name."""
    stats = {"store": {"commit_ms_p50": 2, "commit_ms_p99": 40}, "latency": {"turn": {"count": 3, "p50_ms": 7}}}
    values = values_of(_snapshot(stats=stats), [], AgentTotals())
    assert values[series("store_commit_seconds", "0.5")] == 0.002
    assert values[series("store_commit_seconds", "0.99")] == 0.04
    assert values[series("task_latency_seconds", "turn", "0.5")] == 0.007


def _process(**more: Any) -> dict[str, Any]:
    return {"name": "shop", "pid": 7, "restarts": 0, "oom_kills": 0, "ready": True, "last_exit": "", **more}


def _kinds(before: Seen, after: Seen) -> list[str]:
    return [event.kind for event in events_between(before, after, 9)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"pid": 8, "restarts": 1}, ["process-restarted", "process-ready"]),
        ({"pid": 8, "restarts": 1, "ready": False}, ["process-restarted"]),
        ({"pid": 0, "ready": False}, ["process-exited"]),
        ({"oom_kills": 2}, ["oom-killed"]),
        (
            {"pid": 8, "restarts": 1, "last_exit": "signal 9: out of memory"},
            ["oom-killed", "process-restarted", "process-ready"],
        ),
        ({"pid": 8}, ["process-started", "process-ready"]),
        ({"memory_bytes": 5}, []),
    ],
)
def test_a_process_change_is_named(change: dict[str, Any], expected: list[str]) -> None:
    """Each kind of change gives its events and nothing else does."""
    before = look(_snapshot(processes=[_process()], stats={}), [], Seen())
    after = look(_snapshot(processes=[_process(**change)], stats={}), [], before)
    assert _kinds(before, after) == expected


def test_what_is_seen_survives_json_and_silence() -> None:
    """A source that is away changes only the word that it is away; the file gives the same again."""
    conditions = ConditionSet()
    conditions.raise_("Unhealthy", "shop", "", 3)
    seen = look(_snapshot(processes=[_process()], instances=[_instance("1")], stats={}), conditions.to_json(), Seen())
    assert Seen.from_json(seen.to_json()) == seen
    away = look(_silent(), conditions.to_json(), seen)
    assert _kinds(seen, away) == ["source-lost", "source-lost"]


def test_an_instance_that_was_killed_at_its_limit_is_an_event_of_its_agent() -> None:
    """The instance is gone before it can be sampled; the condition tells."""
    conditions = ConditionSet()
    conditions.raise_("OomKilled", "greeter", "an instance went over its 256 MB", 3)
    conditions.raise_("OomKilled", "shop", "", 3)
    before = look(_snapshot(processes=[_process()], stats={}), [], Seen())
    after = look(_snapshot(processes=[_process()], stats={}), conditions.to_json(), before)
    killed = [event.subject for event in events_between(before, after, 9) if event.kind == "oom-killed"]
    assert killed == ["greeter"]


def test_a_sutazaid_that_came_back_at_once_is_noticed_by_its_pid() -> None:
    """Its guard is faster than a sample, so silence alone would not show it."""
    before = replace(look(_snapshot(stats={}), [], Seen()), supervisor_pid=5)
    after = replace(before, supervisor_pid=6)
    (event,) = events_between(before, after, 9)
    assert (event.kind, event.subject, event.data) == ("process-restarted", "sutazaid", {"pid": 6, "before_pid": 5})


def test_counted_kills_outlive_the_group_that_counted_them() -> None:
    """The larger of the group's own counter and the events' count is shown, for a process and for an agent."""
    snapshot = _snapshot(processes=[_process(oom_kills=2), _process(name="other")])
    values = values_of(snapshot, ["greeter"], AgentTotals(), {"shop": 1, "other": 3, "greeter": 4})
    kills = "process_oom_kills_total"
    assert (values[series(kills, "shop")], values[series(kills, "other")]) == (2, 3)
    assert values[series("agent_oom_kills_total", "greeter")] == 4


def test_another_run_of_the_fleet_starts_from_nothing() -> None:
    """After ``down`` and ``up`` there are starts, not restarts or removals."""
    before = look(_snapshot(processes=[_process(restarts=5), _process(name="old")], stats={}), [], Seen())
    after = look(_snapshot(processes=[_process(pid=99)], stats={}, since_wall_ms=2), [], before)
    assert _kinds(before, after) == ["fleet-state", "process-started", "process-ready"]


def test_what_held_when_the_fleet_was_stopped_ended_then() -> None:
    """Conditions of the run before do not last until the next one."""
    conditions = ConditionSet()
    conditions.raise_("Unhealthy", "shop", "", 1_000)
    before = look(_snapshot(stats={}), conditions.to_json(), Seen())
    after = look(_snapshot(stats={}, since_wall_ms=90_000), [], before)
    events = events_between(before, after, 90_500, 5_000)
    (span,) = spans(reversed(events), [], 0)
    assert (span["raised_wall_ms"], span["cleared_wall_ms"]) == (1_000, 5_000)
    assert spans(reversed(events), [], 6_000) == []


def test_a_condition_that_came_back_is_two_spans() -> None:
    """A clear and a raise between two looks are seen by the other beginning."""
    first, second = ConditionSet(), ConditionSet()
    first.raise_("Unhealthy", "shop", "one", 1_000)
    second.raise_("Unhealthy", "shop", "two", 5_000)
    before = look(_snapshot(stats={}), first.to_json(), Seen())
    after = look(_snapshot(stats={}), second.to_json(), before)
    events = [
        *events_between(look(_snapshot(stats={}), [], Seen()), before, 1_500),
        *events_between(before, after, 6_000),
    ]
    assert [event.kind for event in events] == ["condition-raised", "condition-cleared", "condition-raised"]
    found = spans(reversed(events), second.to_json(), 0)
    assert [(span["raised_wall_ms"], span["cleared_wall_ms"], span["text"]) for span in found] == [
        (1_000, 5_000, "one"),
        (5_000, None, "two"),
    ]


def test_history_looks_only_at_its_window() -> None:
    """What ended before the window is not given; what still holds is, however old."""
    old = Event(10, "condition-cleared", "shop", "", {"name": "Unhealthy", "since_wall_ms": 1, "severity": "warning"})
    active = ConditionSet()
    active.raise_("MemoryPressure", "shop", "", 2)
    assert [span["name"] for span in spans([old], active.to_json(), 50)] == ["MemoryPressure"]
    assert [span["name"] for span in spans([old], active.to_json(), 0)] == ["Unhealthy", "MemoryPressure"]


class Told:
    """Plays ``sutazaid``'s registry."""

    def __init__(self) -> None:
        self.conditions = ConditionSet()

    def __call__(self, name: str, subject: str, *, active: bool, text: str) -> None:
        if active:
            self.conditions.raise_(name, subject, text, 1)
        else:
            self.conditions.clear(name, subject)


def test_a_full_store_and_a_full_queue_are_told_until_they_are_over() -> None:
    """The broker's own words become conditions; a registry that forgot is told again."""
    board, told = Board(), Told()
    full = {"store": {"full": True}, "open_tasks": QUEUE_TASKS_MAX}
    for stats, expected in (
        ({}, []),
        (full, ["StorageFull/broker", "QueueFull/broker"]),
        ({"open_tasks": QUEUE_TASKS_MAX - 1}, ["QueueFull/broker"]),
        ({}, []),
    ):
        board.update(_snapshot(stats=stats, conditions=told.conditions.to_json()), told)
        assert [item.key for item in told.conditions.active()] == expected
    board.update(_snapshot(stats=full, conditions=[]), told)
    told.conditions.clear("StorageFull", "broker")
    board.update(_snapshot(stats=full, conditions=[]), told)
    assert told.conditions.get("StorageFull", "broker") is not None


def test_open_circuits_and_empty_budgets_are_told_and_measured() -> None:
    """A half-open circuit is an alarm only while something waits for its probe; closed, it is over."""
    board, told = Board(), Told()

    def look(state: str, tokens: float, queued: int) -> tuple[list[str], dict[Any, float]]:
        breaker = {"state": state, "why": "5 tasks failed one after the other", "opened": 2, "refused": 1}
        stats = {
            "breakers": {"a": breaker}, "budgets": {"a": {"tokens": tokens, "delayed": 4}},
            "queues": {"a": {"queued": queued, "leased": 0}},
        }  # fmt: skip
        snapshot = _snapshot(stats=stats, conditions=told.conditions.to_json())
        board.update(snapshot, told)
        return [item.key for item in told.conditions.active()], values_of(snapshot, [], AgentTotals())

    keys, values = look("open", -3.5, 7)
    assert keys == ["CircuitOpen/a", "RetryBudgetEmpty/a"]
    text = told.conditions.active()[0].text
    assert text == "5 tasks failed one after the other: its circuit is open, 7 tasks wait and keep their attempts"
    assert "4 retries wait" in told.conditions.active()[1].text
    assert (values[series("breaker_state", "a")], values[series("breaker_opened_total", "a")]) == (2, 2)
    assert (values[series("retry_budget_tokens", "a")], values[series("retries_delayed_total", "a")]) == (-3.5, 4)
    assert look("half-open", 0.5, 1)[0] == ["CircuitOpen/a"]
    keys, values = look("half-open", 0.5, 0)
    assert (keys, values[series("breaker_state", "a")]) == ([], 1)
    assert look("closed", 50, 3)[0] == []


def test_a_store_that_is_away_is_told_and_measured() -> None:
    """The broker says so itself, and it is over when it says so."""
    board, told = Board(), Told()
    for away, expected in ((True, ["StoreDown/broker"]), (False, [])):
        snapshot = _snapshot(stats={"store": {"away": away}}, conditions=told.conditions.to_json())
        board.update(snapshot, told)
        assert [item.key for item in told.conditions.active()] == expected
        assert values_of(snapshot, [], AgentTotals())[series("store_up")] == (not away)
    assert series("store_up") not in values_of(_snapshot(stats={}), [], AgentTotals())


def test_a_dispatcher_that_is_away_or_blocked_is_told_until_it_is_back() -> None:
    """The reason is in the text; while the fleet still starts, nobody is alarmed; the driver's numbers are measured."""
    board, told = Board(), Told()

    def look(state: str, fleet: str = "ready", for_ms: int = 1_000) -> list[str]:
        dispatch = {"driver": "rabbitmq", "state": state, "for_ms": for_ms, "why": "refused", "swept": 3}
        snapshot = _snapshot(stats={"dispatch": dispatch}, state=fleet, conditions=told.conditions.to_json())
        board.update(snapshot, told)
        values = values_of(snapshot, [], AgentTotals())
        assert values[series("dispatch_up", "rabbitmq")] == (state == "up")
        assert values[series("dispatch_signals_total", "swept")] == 3
        return [f"{item.key}: {item.text}" for item in told.conditions.active()]

    assert look("away", "starting") == []
    assert look("away", for_ms=900) == [], "a cut that is mended in a moment alarms nobody"
    assert look("away") == ["DispatcherDown/broker: tasks are looked for without RabbitMQ: refused"]
    assert look("blocked") == ["DispatcherBlocked/broker: tasks are looked for without RabbitMQ: refused"]
    assert look("up") == []


def test_a_cache_that_is_away_is_told_until_it_is_back() -> None:
    """With its driver and its reason; not for a moment, not while the fleet starts; its answers are counted."""
    board, told = Board(), Told()

    def look(state: str, fleet: str = "ready", for_ms: int = 5_000) -> list[str]:
        cache = {"driver": "valkey", "state": state, "for_ms": for_ms, "why": "refused", "hit": 3, "failed": 2}
        snapshot = _snapshot(stats={"cache": cache}, state=fleet, conditions=told.conditions.to_json())
        values = values_of(snapshot, [], AgentTotals())
        assert values[series("cache_up", "valkey")] == (state == "up")
        assert values[series("cache_requests_total", "hit")] == 3
        assert values[series("cache_requests_total", "failed")] == 2
        board.update(snapshot, told)
        return [f"{item.key}: {item.text}" for item in told.conditions.active()]

    assert look("away", "starting") == []
    assert look("away", for_ms=900) == []
    text = "CacheDown/broker: the cache (valkey) does not answer, agents work without: refused"
    assert look("away") == [text]
    assert look("up") == []


def test_a_condition_of_somebody_else_is_never_cleared() -> None:
    """Only control's own kinds are taken back."""
    board, told = Board(), Told()
    told.conditions.raise_("DiskLow", "host", "", 1)
    board.update(_snapshot(stats={}, conditions=told.conditions.to_json()), told)
    assert told.conditions.get("DiskLow", "host") is not None


def test_a_model_server_that_stays_away_is_told() -> None:
    """Skills that need it fail meanwhile; one missed sample is no alarm."""
    board, told = Board(), Told()
    server = {"name": "llm", "kind": "llm", "state": "backoff", "ready": False}
    for _ in range(SILENT_TICKS):
        assert told.conditions.active() == []
        board.update(_snapshot(processes=[server], stats={}), told)
    assert [item.key for item in told.conditions.active()] == ["LlmUnavailable/llm"]
    ready = _snapshot(processes=[{**server, "ready": True}], stats={}, conditions=told.conditions.to_json())
    board.update(ready, told)
    assert told.conditions.active() == []


def test_a_model_elsewhere_that_stays_away_is_told_and_taken_back() -> None:
    """The server is ready, but says that its model is away; when it is there again the condition ends by itself."""
    board, told = Board(), Told()
    server = {"name": "llm", "kind": "llm", "state": "running", "ready": True}
    for _ in range(SILENT_TICKS):
        assert told.conditions.active() == []
        board.update(replace(_snapshot(processes=[server], stats={}), model_up=False), told)
    (condition,) = told.conditions.active()
    assert (condition.key, "runs its model is away" in condition.text) == ("LlmUnavailable/llm", True)
    board.update(_snapshot(processes=[server], stats={}, conditions=told.conditions.to_json()), told)
    assert told.conditions.active() == []


def test_a_silent_broker_is_told_after_some_ticks_but_not_while_the_fleet_starts() -> None:
    """One missed answer is no alarm."""
    board, told = Board(), Told()
    for _ in range(SILENT_TICKS + 1):
        board.update(_snapshot(state="starting"), told)
    assert told.conditions.active() == []
    board, told = Board(), Told()
    for tick in range(SILENT_TICKS):
        assert told.conditions.active() == [], tick
        board.update(_snapshot(), told)
    assert [item.key for item in told.conditions.active()] == ["BrokerDown/broker"]
    board.update(_snapshot(stats={}, conditions=told.conditions.to_json()), told)
    assert told.conditions.active() == []


def test_without_sutazaid_its_last_word_stays_and_its_silence_is_a_root() -> None:
    """What held goes on holding until somebody says otherwise."""
    board, told = Board(), Told()
    conditions = ConditionSet()
    conditions.raise_("Unhealthy", "shop", "", 1)
    board.update(_snapshot(stats={}, conditions=conditions.to_json()), told)
    entries = board.update(_silent(5), told)
    assert [(entry["name"], entry["root"]) for entry in entries] == [("SupervisorDown", True), ("Unhealthy", True)]
    assert [entry["name"] for entry in board.update(_snapshot(stats={}), told)] == []


def test_dead_letters_are_told_and_taken_back() -> None:
    """Replayed letters end the condition."""
    board, told = Board(), Told()
    board.update(_snapshot(stats={"queues": {"a": {"dead": 2}}}), told)
    held = told.conditions.get("DeadLetters", "a")
    assert held is not None
    assert "2 tasks" in held.text
    board.update(_snapshot(stats={"queues": {"a": {"dead": 0}}}, conditions=told.conditions.to_json()), told)
    assert told.conditions.active() == []


def test_a_kind_of_another_version_is_passed_on() -> None:
    """A newer ``sutazaid`` is not refused."""
    entry = {"name": "Newer", "subject": "x", "severity": "info", "text": "", "since_wall_ms": 1}
    assert merged([entry], []) == [entry]
