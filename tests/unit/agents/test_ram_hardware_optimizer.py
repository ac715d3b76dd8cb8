"""ram-hardware-optimizer says who holds memory and who leaks, from recorded and from live-shaped facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def test_reclaim_advises_and_changes_nothing(broker: Broker) -> None:
    """Idle instances come first, then the leaker; lower limits are not counted as memory."""
    result = broker.ask(AGENT, "reclaim", {"target_mb": 20}).require()
    assert result["dry_run"] is True
    assert [item["action"] for item in result["advice"]] == ["hibernate", "restart", "page-cache", "lower-limit"]
    assert result["enough"] is True
    assert result["advice"][1]["command"] == "sutazai restart leaky-shop"
    assert broker.ask(AGENT, "reclaim", {"target_mb": 4_000}).require()["enough"] is False
