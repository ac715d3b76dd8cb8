"""health-monitor orders causes before echoes and computes availability and time to repair from recorded facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sutazai.agents.health_monitor import outages
from sutazai.agents.health_monitor.models import EventFact

if TYPE_CHECKING:
    from conftest import Broker

AGENT = "health-monitor"
NOW = 1_764_000_300_000


def recorded(**facts: Any) -> dict[str, Any]:
    """Facts of a fleet with two processes."""
    processes = [{"name": "shop", "memory_bytes": 50, "memory_limit_bytes": 100}, {"name": "broker"}]
    return {"recorded": {"at_wall_ms": NOW, "processes": processes, **facts}}


def test_the_leaking_fleet(broker: Broker) -> None:
    """The shop is the worst; the kill is the root and the failed checks are its echo."""
    result = broker.ask(AGENT, "report", {}).require()
    assert (result["verdict"], result["worst"]) == ("unhealthy", "leaky-shop")
    assert [(item["name"], item["root"], item["depth"]) for item in result["problems"]] == [
        ("OomKilled", True, 0),
        ("Unhealthy", False, 1),
    ]
    shop = next(item for item in result["processes"] if item["name"] == "leaky-shop")
    assert shop["availability"]["value"] == pytest.approx(115 / 301, abs=0.001)
    assert shop["outages"]["value"] == 6
    assert shop["mttr"]["value"] == 31
    assert shop["oom_kills"]["value"] == 6


def test_a_healthy_fleet_is_healthy(broker: Broker) -> None:
    """Nothing wrong: no worst subject, and one statement that says so."""
    result = broker.ask(AGENT, "report", recorded()).require()
    assert (result["verdict"], result["worst"], result["problems"]) == ("healthy", "", [])
    assert [item["section"] for item in result["findings"]] == ["unhealthy"]


def test_an_empty_fleet_is_no_error(broker: Broker) -> None:
    """No process, no condition: healthy."""
    assert broker.ask(AGENT, "report", {"recorded": {"at_wall_ms": NOW}}).require()["verdict"] == "healthy"


def test_chains_of_causes_are_ordered_by_depth(broker: Broker) -> None:
    """Root, echo, echo of the echo, however severe each is and in whatever order they are given."""
    conditions = [
        {"name": "Unhealthy", "subject": "shop", "severity": "critical", "depends_on": ["CrashLoop/shop"]},
        {"name": "CrashLoop", "subject": "shop", "severity": "critical", "depends_on": ["HostMemoryLow/host"]},
        {"name": "HostMemoryLow", "subject": "host", "severity": "warning"},
    ]
    result = broker.ask(AGENT, "report", recorded(conditions=conditions)).require()
    assert [(item["name"], item["depth"]) for item in result["problems"]] == [
        ("HostMemoryLow", 0),
        ("CrashLoop", 1),
        ("Unhealthy", 2),
    ]


def test_a_circle_of_causes_ends(broker: Broker) -> None:
    """Two conditions that name each other do not hang the report."""
    conditions = [
        {"name": "A", "subject": "shop", "depends_on": ["B/shop"]},
        {"name": "B", "subject": "shop", "depends_on": ["A/shop"]},
    ]
    assert len(broker.ask(AGENT, "report", recorded(conditions=conditions)).require()["problems"]) == 2


def test_what_has_just_ended_is_still_reported(broker: Broker) -> None:
    """Right after a restart no condition is active; the kill and the failed checks of the window are told as recent."""
    facts = recorded(
        history=[
            {"name": "Unhealthy", "subject": "shop", "raised_wall_ms": NOW - 60_000, "cleared_wall_ms": NOW - 9_000}
        ],
        events=[{"at_wall_ms": NOW - 10_000, "kind": "oom-killed", "subject": "shop"}],
    )
    result = broker.ask(AGENT, "report", facts).require()
    assert (result["verdict"], result["worst"]) == ("degraded", "shop")
    assert [(item["name"], item["state"], item["root"]) for item in result["problems"]] == [
        ("OomKilled", "recent", True),
        ("Unhealthy", "recent", False),
    ]
    old = broker.ask(AGENT, "report", {**facts, "window_s": 10}).require()
    assert [item["name"] for item in old["problems"]] == ["OomKilled", "Unhealthy"]


def test_trouble_without_a_condition_is_derived(broker: Broker) -> None:
    """Memory at 95 % of the limit and three failed checks are named, marked as derived, cause first."""
    facts = recorded(
        processes=[{"name": "shop", "memory_bytes": 95, "memory_limit_bytes": 100}],
        probes=[{"process": "shop", "points": [[NOW - 3000 + 1000 * i, 0] for i in range(3)], "source": "metric:p"}],
    )
    result = broker.ask(AGENT, "report", facts).require()
    assert [(item["name"], item["derived"], item["root"]) for item in result["problems"]] == [
        ("MemoryPressure", True, True),
        ("Unhealthy", True, False),
    ]


def test_outages_by_probe_and_by_events() -> None:
    """An outage that lasts has no end, and only ended ones count for the mean."""
    points = [(1, 1.0), (2, 0.0), (3, 0.0), (5, 1.0), (6, 0.0)]
    found = outages.from_probe(points)
    assert found == [outages.Outage(2, 5), outages.Outage(6, None)]
    assert outages.mttr_s(found) == 0.003
    assert outages.availability(points) == 0.4
    assert outages.availability([]) is None
    assert outages.mttr_s([]) is None
    events = [
        EventFact(at_wall_ms=at, kind=kind, subject="x")
        for at, kind in ((1, "oom-killed"), (1, "process-exited"), (5, "process-ready"))
    ]
    assert outages.from_events(events) == [outages.Outage(1, 5)]


def test_history_tells_one_subject(broker: Broker) -> None:
    """Restarts, kills, outages and the ended condition of the shop, in order of time."""
    result = broker.ask(AGENT, "history", {"subject": "leaky-shop", "window_s": 600}).require()
    assert (result["restarts"]["value"], result["oom_kills"]["value"]) == (6, 6)
    times = [change["at"]["value"] for change in result["changes"]]
    assert times == sorted(times)
    assert any("Unhealthy" in change["what"]["value"] for change in result["changes"])


def test_an_unknown_subject_fails_for_good(broker: Broker) -> None:
    """The error names what there is."""
    answer = broker.ask(AGENT, "history", {"subject": "nobody"})
    assert answer.error is not None
    assert answer.error["code"] == "non-retryable"
    assert "leaky-shop" in answer.error["message"]
