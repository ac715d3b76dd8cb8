"""Snapshot, detectors and the first rung of the ladder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sutazai.governor.detectors import DETECTORS, Before, Thresholds
from sutazai.governor.engine import Engine, Policy
from sutazai.governor.requests import Ask, Wait, Waiter
from sutazai.governor.snapshot import Host, Member, PoolFacts, Snapshot, held_bytes, look, look_at_host
from sutazai.host.cgroup import Missing, Usage
from sutazai.telemetry.kinds import KINDS

if TYPE_CHECKING:
    from pathlib import Path

GB = 1 << 30
MB = 1 << 20


def member(name: str, used: int = 10 * MB, **facts: object) -> tuple[Member, Usage]:
    """An idle instance and its use."""
    values: dict[str, object] = {
        "ticket": f"k_{name}", "kind": "instance", "pool": "standard", "path": f"standard/{name}", "is_idle": True,
        "limit_bytes": 256 * MB, "charge_bytes": 64 * MB,
    }  # fmt: skip
    built = Member(name=name, **{**values, **facts})  # type: ignore[arg-type]
    return built, Usage(memory_bytes=used, anon_bytes=used, populated=True)


def snapshot(*members: tuple[Member, Usage], pool_used: int = 0, at_ms: int = 0, **facts: object) -> Snapshot:
    """A healthy fleet with one pool of 1 GB."""
    usages = {each.path: usage for each, usage in members}
    usages["standard"] = Usage(memory_bytes=pool_used, anon_bytes=pool_used)
    built = Snapshot(
        at_ms=at_ms,
        host=Host(8 * GB, 4 * GB),
        pools=(PoolFacts("standard", "standard", GB),),
        members=tuple(each for each, _ in members),
        usages=usages,
        headroom_bytes=GB,
        reserve_bytes=GB // 2,
    )
    return replace(built, **facts)  # type: ignore[arg-type]


def names(engine: Engine) -> list[tuple[str, str]]:
    """What holds."""
    return [(finding.name, finding.subject) for finding in engine.findings]


def test_a_healthy_fleet_is_left_alone() -> None:
    """Nothing found, nothing done."""
    engine = Engine()
    assert engine.tick(snapshot(member("a"), pool_used=MB)) == []
    assert engine.findings == ()
    assert engine.statistics().ticks == 1


def test_every_finding_is_a_condition() -> None:
    """Each detector's finding is a kind that the registry knows, with its numbers in the text."""
    broken = snapshot(
        (member("a")[0], Usage(memory_bytes=250 * MB, anon_bytes=250 * MB, oom_kills=1, limit_hits=1)),
        pool_used=GB, host=Host(8 * GB, 100 * MB), missing=(Missing("memory", "no cgroups"),),
    )  # fmt: skip
    engine = Engine()
    engine.tick(broken)
    assert set(names(engine)) == {
        ("HostMemoryLow", "host"), ("ReserveEntered", "host"), ("MemoryPressure", "standard"), ("MemoryPressure", "a"),
        ("OomKilled", "a"), ("LimitNotEnforced", "host"),
    }  # fmt: skip
    assert {finding.name for finding in engine.findings} <= set(KINDS)
    texts = {finding.name: finding.text for finding in engine.findings}
    assert "100 MB" in texts["HostMemoryLow"]
    assert "its own limit" in texts["OomKilled"]


def test_detectors_change_nothing() -> None:
    """A detector is a function: the same snapshot gives the same findings."""
    picture = snapshot(member("a", used=250 * MB), pool_used=GB)
    before = Before(frozenset(), {}, Thresholds())
    for detector in DETECTORS:
        assert detector(picture, before) == detector(picture, before)


def test_hysteresis() -> None:
    """Pressure that was found holds until it is clearly over, so that a condition does not flap."""
    engine = Engine()
    for used, held in ((0.84, False), (0.86, True), (0.80, True), (0.74, False), (0.80, False)):
        engine.tick(snapshot(pool_used=int(used * GB)))
        assert (("MemoryPressure", "standard") in names(engine)) is held, used
    for left, held in ((1.05, False), (0.99, True), (1.05, True), (1.2, False)):
        engine.tick(snapshot(host=Host(8 * GB, int(left * GB))))
        assert (("HostMemoryLow", "host") in names(engine)) is held, left


def test_page_cache_is_no_pressure() -> None:
    """What the kernel can drop does not count, or every program that reads a file would be in trouble."""
    usage = Usage(memory_bytes=900 * MB, anon_bytes=10 * MB, file_bytes=880 * MB)
    assert held_bytes(usage) == 20 * MB


def test_an_oom_kill_is_found_once() -> None:
    """The counter's rise is the event; a pool's limit is told apart from the member's own."""
    engine = Engine()
    dead = (member("a")[0], Usage(oom_kills=1, memory_peak_bytes=30 * MB))
    engine.tick(snapshot(dead))
    assert names(engine) == [("OomKilled", "a")]
    assert "limit of its pool" in engine.findings[0].text
    engine.tick(snapshot(dead))
    assert names(engine) == []


def test_idle_instances_make_room_under_lasting_pressure() -> None:
    """After the policy's time, as many idle instances go as are needed: the least urgent, then the longest idle."""
    engine = Engine()
    crowd = (
        member("urgent", used=100 * MB, priority=1, idle_ms=90_000),
        member("old", used=100 * MB, idle_ms=60_000),
        member("new", used=100 * MB, idle_ms=1_000),
        member("busy", used=100 * MB, is_idle=False),
    )
    used = int(0.87 * GB)
    assert engine.tick(snapshot(*crowd, pool_used=used, at_ms=0)) == []
    assert engine.tick(snapshot(*crowd, pool_used=used, at_ms=4_000)) == []
    decisions = engine.tick(snapshot(*crowd, pool_used=used, at_ms=5_000))
    assert [decision.name for decision in decisions] == ["old", "new"]
    assert decisions[0].frees_bytes == 100 * MB
    assert "the pool standard uses" in decisions[0].why
    assert engine.tick(snapshot(*crowd, pool_used=used, at_ms=6_000)) == [], "they are on their way"
    again = engine.tick(snapshot(*crowd, pool_used=used, at_ms=16_000))
    assert [decision.name for decision in again] == ["old", "new"], "they did not go: asked again"


def test_nothing_protected_is_ever_touched() -> None:
    """Protected, busy, services and other pools' members stay, however bad it is."""
    engine = Engine(Policy(pressure_ms=0))
    crowd = (
        member("protected", is_protected=True),
        member("busy", is_idle=False),
        member("service", kind="process"),
        member("elsewhere", pool="critical"),
    )
    for at_ms in range(0, 60_000, 1_000):
        assert engine.tick(snapshot(*crowd, pool_used=GB, at_ms=at_ms)) == []


def waiter(reason: str, need: int, name: str = "w", pool: str = "standard") -> Waiter:
    """Somebody who waits for a ticket."""
    return Waiter(Ask("instance", name, pool, need), 0, 0, Wait("short", need, reason))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reason", "need", "expected"),
    [("pool", 100 * MB, ["a", "b"]), ("pool", 1, ["a"]), ("instances", 0, ["a"]), ("turn", GB, []), ("host", 1, ["z"])],
)
def test_idle_instances_make_room_for_who_waits(reason: str, need: int, expected: list[str]) -> None:
    """A waiting agent gets the place of idle ones, at once; the charge counts, not what they happen to use."""
    crowd = (member("a", idle_ms=9), member("b", idle_ms=8), member("c"), member("z", pool="critical", idle_ms=99))
    decisions = Engine().tick(snapshot(*crowd, waiting=(waiter(reason, need),)))
    assert [decision.name for decision in decisions] == expected


def test_an_agents_own_idle_instance_is_not_its_victim() -> None:
    """Hibernating what is about to be woken again would help nobody."""
    assert Engine().tick(snapshot(member("w"), waiting=(waiter("pool", MB),))) == []


def test_dry_run() -> None:
    """In a dry run everything is decided and marked, so that nobody acts on it."""
    decisions = Engine(Policy(dry_run=True)).tick(snapshot(member("a"), waiting=(waiter("pool", MB),)))
    assert [decision.dry_run for decision in decisions] == [True]


class Readings:
    """Groups that only have usage."""

    def usage(self, path: str) -> Usage:
        return Usage(pids=len(path))


def test_looking(tmp_path: Path) -> None:
    """A look reads each path once; a machine without proc and pressure gives zeros, not errors."""
    assert look(Readings(), ["a", "bb"])["bb"].pids == 2  # type: ignore[arg-type]
    empty = look_at_host(tmp_path)
    assert (empty.memory_total_bytes, empty.memory) == (0, None)
    real = look_at_host()
    assert 0 < real.memory_available_bytes <= real.memory_total_bytes
    assert Snapshot(0, real).usage("nowhere") == Usage()


def test_a_pool_without_a_group() -> None:
    """Without cgroups a pool's use is the sum of its members'."""
    picture = snapshot(member("a", used=10 * MB), member("b", used=5 * MB))
    assert picture.pool_used_bytes(picture.pools[0]) == 15 * MB
