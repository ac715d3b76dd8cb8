"""ram-hardware-optimizer says who holds memory and who leaks, from recorded and from live-shaped facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Broker

MB = 1_048_576
AGENT = "ram-hardware-optimizer"


def test_the_leak_is_found_with_slope_limit_and_owners(broker: Broker) -> None:
    """On the fleet's facts the shop is the only leaker, with its slope, the time left and its share of memory."""
    result = broker.ask(AGENT, "analyse", {"window_s": 300}).require()
    assert result["leaking"] == ["leaky-shop"]
    first = result["growth"][0]
    assert first["slope"]["value"] == pytest.approx(1.75 * MB, rel=0.01)
    assert first["lives"]["value"] == 7
    assert first["confidence"] == "high"
    assert first["time_to_limit"]["value"] == pytest.approx((96 - 14 - 12 * 1.75) / 1.75, rel=0.01)
    assert [owner["name"] for owner in result["owners"]] == ["leaky-shop", "broker"]
    assert result["totals"]["pss"]["value"] == 80 * MB
    assert result["totals"]["saved_by_sharing"]["value"] == 12 * MB
    assert {item["verdict"] for item in result["growth"][1:]} == {"stable"}


def test_every_number_has_a_source(broker: Broker) -> None:
    """No measure of the result, however deep, lacks its source."""

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if "unit" in value:
                assert value["source"]
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(broker.ask(AGENT, "analyse", {}).require())


def test_recorded_series_need_no_fleet(broker: Broker) -> None:
    """A curve given inline is judged exactly, and no question goes to the fleet."""
    broker.fleet.fault = AssertionError("the fleet was asked")
    points = [[1000 * second, 10 * MB + second * MB] for second in range(40)]
    data = {"series": [{"process": "recorded", "points": points, "limit_bytes": 100 * MB}]}
    result = broker.ask(AGENT, "analyse", data).require()
    assert result["growth"][0]["slope"]["value"] == MB
    assert result["growth"][0]["time_to_limit"]["value"] == 51
    assert result["growth"][0]["slope"]["source"].endswith("input:series[0] recorded")


def test_nothing_known_is_said(broker: Broker) -> None:
    """A name without a curve gives no verdict of it and a note; who leaks is told all the same."""
    result = broker.ask(AGENT, "analyse", {"subject": "nobody"}).require()
    assert [item["process"] for item in result["growth"]] == ["leaky-shop"]
    assert result["notes"]


def test_the_subject_comes_first_and_other_leaks_are_told(broker: Broker) -> None:
    """Asked about a stable process, it answers for that one, and names the leaker beside it."""
    result = broker.ask(AGENT, "analyse", {"subject": "broker"}).require()
    assert [item["process"] for item in result["growth"]] == ["broker", "leaky-shop"]
    assert result["leaking"] == ["leaky-shop"]


def test_bad_input_is_refused(broker: Broker) -> None:
    """An empty curve does not fit the schema."""
    answer = broker.ask(AGENT, "analyse", {"series": [{"process": "x", "points": []}]})
    assert answer.error is not None
    assert answer.error["code"] == "invalid-input"


def given_back(_: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Answer for the fleet: an idle instance and a page cache, and one that was not done."""
    dry = arguments["dry_run"]
    steps = [
        {"kind": "hibernate", "subject": "idler", "ticket": "k1", "before_bytes": 30 * MB, "after_bytes": 0,
         "done": not dry, "why": ""},
        {"kind": "page-cache", "subject": "leaky-shop", "ticket": "", "before_bytes": 90 * MB,
         "after_bytes": 80 * MB, "done": not dry, "why": ""},
        {"kind": "page-cache", "subject": "broker", "ticket": "", "before_bytes": 9 * MB, "after_bytes": 9 * MB,
         "done": False, "why": "memory.force_empty: Permission denied"},
    ]  # fmt: skip
    return {"subject": arguments["subject"], "dry_run": dry, "before_bytes": 129 * MB, "after_bytes": 89 * MB,
            "freed_bytes": 40 * MB, "text": "freed 40 MB", "steps": steps}  # fmt: skip


def test_reclaim_is_a_dry_run_by_default(broker: Broker) -> None:
    """What would be done has its numbers; what costs something is advice for a person: the leaker, then limits."""
    broker.act = given_back
    result = broker.ask(AGENT, "reclaim", {"target_mb": 20}).require()
    assert broker.acts == [("reclaim", {"subject": "", "bytes": 20 * MB, "dry_run": True})]
    assert (result["dry_run"], result["enough"], result["freed"]["value"]) == (True, True, 40 * MB)
    assert [step["done"] for step in result["steps"]] == [False, False, False]
    assert "forecast" in result["steps"][0]["frees"]["source"]
    assert [item["action"] for item in result["advice"]] == ["restart", "lower-limit"]
    assert result["advice"][0]["command"] == "sutazai restart leaky-shop"
    assert any("nothing was changed" in note for note in result["notes"])
    assert broker.ask(AGENT, "reclaim", {"target_mb": 4_000}).require()["enough"] is False


def test_reclaim_acts_when_told_to_and_says_what_was_not_possible(broker: Broker) -> None:
    """Before and after are the groups'; a step that failed keeps its reason; another process gets no advice."""
    broker.act = given_back
    result = broker.ask(AGENT, "reclaim", {"subject": "leaky-shop", "dry_run": False}).require()
    assert broker.acts == [("reclaim", {"subject": "leaky-shop", "bytes": 0, "dry_run": False})]
    first = result["steps"][0]
    assert (first["action"], first["ticket"], first["done"]) == ("hibernate", "k1", True)
    assert (first["before"]["value"], first["after"]["value"], first["frees"]["value"]) == (30 * MB, 0, 30 * MB)
    assert result["steps"][2]["why"] == "memory.force_empty: Permission denied"
    assert {item["subject"] for item in result["advice"]} == {"leaky-shop"}


def test_reclaim_without_its_power_fails_once(broker: Broker) -> None:
    """A fleet that took the power away hears so, and nothing is tried again."""
    error = broker.ask(AGENT, "reclaim", {}).error
    assert error is not None
    assert (error["code"], error["retryable"]) == ("non-retryable", False)
