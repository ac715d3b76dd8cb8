"""Rates and retries of an agent: what is read, what the fleet overrides, and what is refused with a hint."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.bus import breaker as policy
from sutazai.bus import budget
from sutazai.limits import RETRY_BASE_MS, RETRY_CAP_MS
from sutazai.spec.pace import Breaker, Queue, Rate, Retry

if TYPE_CHECKING:
    from collections.abc import Callable

AGENT = "fleet: a\nagents:\n  ram-optimizer: "


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("{}", Rate()),
        ("{rate: 10/s}", Rate(100_000, 1)),
        ("{rate: 100/min, burst: 5}", Rate(600_000, 5)),
        ("{rate: 0.5/h}", Rate(7_200_000_000, 1)),
        ("{rate: 3/s}", Rate(333_334, 1)),
    ],
)
def test_rates(load: Callable[[str], Any], text: str, rate: Rate) -> None:
    """Microseconds from one start to the next, rounded up, so that the rate is never exceeded."""
    [agent] = load(AGENT + text + "\n").agents.values()
    assert agent.rate == rate


def test_retries(load: Callable[[str], Any]) -> None:
    """What is not written keeps its default; attempts may stand in either place."""
    [agent] = load(AGENT + "{retry: {attempts: 7, base: 1s, factor: 1.5, max: 2m, jitter: none}}\n").agents.values()
    assert (agent.attempts_max, agent.retry) == (7, Retry(1_000, 1.5, 120_000, "none"))
    [agent] = load(AGENT + "{attempts: 3}\n").agents.values()
    assert (agent.attempts_max, agent.retry) == (3, Retry(RETRY_BASE_MS, 2.0, RETRY_CAP_MS, "full"))


def test_breakers_and_budgets(load: Callable[[str], Any]) -> None:
    """What is not written keeps its default, whether nothing is written or a part."""
    [agent] = load(AGENT + "{}\n").agents.values()
    assert agent.breaker == Breaker()
    text = "{breaker: {failures: 9, ratio: 25%, window: 30s, when_open: refuse}, retry: {budget: 10%, least: 30/min}}"
    [agent] = load(AGENT + text + "\n").agents.values()
    assert agent.breaker == Breaker(failures=9, ratio=0.25, window_ms=30_000, when_open="refuse")
    assert (agent.retry.budget, agent.retry.least_us) == (0.1, 2_000_000)
    [agent] = load(AGENT + "{breaker: {enabled: false}}\n").agents.values()
    assert not agent.breaker.enabled


def test_what_the_manifest_says_is_what_the_broker_does(load: Callable[[str], Any]) -> None:
    """The defaults of both are the same, and every field of the one is a field of the other."""
    facts = asdict(load(AGENT + "{}\n").agents["ram-optimizer"].breaker)
    assert policy.Policy.of(facts) == policy.Policy()
    assert {*facts} - {"enabled"} == set(policy.Policy.__dataclass_fields__)
    assert policy.Policy.of({**facts, "enabled": False}) is None
    retry = asdict(load(AGENT + "{}\n").agents["ram-optimizer"].retry)
    assert budget.Policy.of(retry) == budget.Policy() == budget.Policy.of({})


def test_queues(load: Callable[[str], Any]) -> None:
    """Each bound by itself; without one there is none."""
    cases = {
        "{}": Queue(),
        "{queue: {tasks: 5}}": Queue(5, 0),
        "{queue: {bytes: 2MB}}": Queue(0, 2 << 20),
        "{queue: {per_caller: 50}}": Queue(0, 0, 50),
    }
    for text, queue in cases.items():
        [agent] = load(AGENT + text + "\n").agents.values()
        assert agent.queue == queue


def test_a_result_has_a_bound(load: Callable[[str], Any]) -> None:
    """64 MB, or what is written."""
    for text, size in (("{}", 64 << 20), ("{result_max: 200MB}", 200 << 20)):
        [agent] = load(AGENT + text + "\n").agents.values()
        assert agent.result_bytes_max == size


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("{rate: 10}", "10 has no unit", "write 10/s"),
        ("{rate: ten/s}", "is not a rate", "10/s"),
        ("{rate: 10/week}", "unknown unit", "/s, /min, /h, /d"),
        ("{rate: 0/s}", "0/s is nothing", "10/s"),
        ("{rate: 2000/s}", "more than a thousand", "1000/s"),
        ("{burst: 5}", "there is no rate", "write rate"),
        ("{rate: 1/s, burst: 0}", "out of bounds", "from 1"),
        ("{retry: {attempts: 2}, attempts: 3}", "also written", "one of them"),
        ("{retry: {factor: 0.5}}", "no factor", "from 1 to 10"),
        ("{retry: {factor: fast}}", "no factor", "from 1 to 10"),
        ("{retry: {base: 2m}}", "base is longer than max", "grows from base to max"),
        ("{retry: {max: 100ms}}", "base is longer than max", "grows from base to max"),
        ("{retry: {max: 2d}}", "longer than a day", "1d"),
        ("{retry: {jitter: some}}", "'some' is unknown", "full"),
        ("{retry: {atempts: 2}}", "unknown key 'atempts'", "attempts"),
        ("{breaker: {failures: 0}}", "out of bounds", "from 1"),
        ("{breaker: {window: 2h}}", "is longer than an hour", "at most 1h"),
        ("{breaker: {pause: 5m}}", "pause is longer than pause_max", "grows from pause"),
        ("{breaker: {ratio: 0%}}", "0% is nothing", "like 50%"),
        ("{breaker: {ratio: 150%}}", "is more than all", "at most 100%"),
        ("{breaker: {when_open: drop}}", "'drop'", "queue"),
        ("{breaker: off}", "keys with values", ""),
        ("{retry: {budget: 20}}", "20 has no unit", "20%"),
        ("{retry: {least: 2000/s}}", "more than a thousand", "1000/s"),
        ("{queue: {per_caller: 0}}", "out of bounds", "from 1"),
        ("{queue: {tasks: 0}}", "out of bounds", "from 1"),
        ("{queue: {bytes: 10}}", "10 has no unit", "10MB"),
        ("{queue: {bytes: 2GB}}", "is more than 512 MB", "at most 512 MB"),
        ("{result_max: 2GB}", "is more than 1 GB", "at most 1 GB"),
        ("{queue: 10}", "keys with values", "key: value"),
        ("{retry: 5}", "keys with values", "key: value"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_stands(
    wrong: Callable[[str], Any], text: str, problem: str, hint: str
) -> None:
    """One mistake with its line and what to write instead."""
    [mistake] = wrong(AGENT + text + "\n")
    assert problem in mistake.problem
    assert hint in mistake.hint
    assert mistake.line == 3
