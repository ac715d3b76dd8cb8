"""Restart loops, unbalanced cores, stray processes: each threshold from both sides, on facts written down."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Self

import pytest

from sutazai.cli import doctor_live
from sutazai.units import GIB, MIB

NOW_MS = 10_000_000


def status(restarts: int, up_ms: int, conditions: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """What ``sutazaid`` says of a fleet with one process."""
    process = {"name": "redis", "restarts": restarts, "last_exit": "exit code 1", "listen": [{"port": 10001}]}
    return {
        "since_wall_ms": NOW_MS - up_ms,
        "processes": [process],
        "conditions": list(conditions),
        "planned": [{"name": "neo4j", "kind": "service", "ports": [14002]}],
    }


def process(pid: int, label: str = "claude", **changes: Any) -> dict[str, Any]:
    """One process as ``control.outside`` tells of it."""
    base = {"pid": pid, "label": label, "memory_bytes": MIB, "cpu_cores": 0.0, "cores": [0, 1, 2, 3], "fleet": ""}
    return base | changes


def facts(*processes: dict[str, Any], cores: tuple[float, ...] = (0.1, 0.1, 0.1, 0.1)) -> dict[str, Any]:
    """A machine of 16 GB with as many cores as are given."""
    return {
        "window_ms": 1000,
        "cores": {str(core): ratio for core, ratio in enumerate(cores)},
        "usable": list(range(len(cores))),
        "memory_total_bytes": 16 * GIB,
        "processes": list(processes),
        "listeners": [],
    }


def levels(found: list[Any]) -> list[str]:
    """Levels of findings."""
    return [finding.level for finding in found]


def test_the_fleet_s_own_crash_loop_is_an_error() -> None:
    """What the policy calls a loop is one, with its reason and the log to read."""
    condition = {"name": "CrashLoop", "subject": "redis", "text": "5 ends in 2 m: exit code 1"}
    (finding,) = doctor_live.restart_loops("f", status(5, 60_000, (condition,)), NOW_MS)
    assert finding.level == "error"
    assert "redis is in a restart loop: 5 ends" in finding.text
    assert finding.fix == "sutazai logs redis --fleet f"


@pytest.mark.parametrize(
    ("restarts", "up_ms", "level"),
    [
        (3, 30 * 60_000, "warning"),
        (3, 31 * 60_000, "ok"),
        (2, 60_000, "ok"),
        (0, 1, "ok"),
        (100, 999 * 60_000, "warning"),
    ],
)
def test_slow_loops(restarts: int, up_ms: int, level: str) -> None:
    """Three restarts at least, and one every ten minutes on average."""
    found = doctor_live.restart_loops("f", status(restarts, up_ms), NOW_MS if up_ms < NOW_MS else up_ms + NOW_MS)
    if up_ms >= NOW_MS:
        found = doctor_live.restart_loops("f", status(restarts, up_ms) | {"since_wall_ms": NOW_MS}, NOW_MS + up_ms)
    assert levels(found) == [level]


def test_work_bound_to_a_full_core_beside_idle_ones() -> None:
    """The program that cannot move is named with its cores and the command that lets it move."""
    pinned = process(7, "trainer", cpu_cores=0.98, cores=[0])
    (finding,) = doctor_live.unbalanced_cores(facts(pinned, cores=(0.97, 0.05, 0.1, 0.02)))
    assert finding.level == "warning"
    assert "trainer (pid 7, cores 0)" in finding.text
    assert finding.fix.endswith("taskset -pc 0-3 7")


@pytest.mark.parametrize(
    ("one", "cores"),
    [
        (process(7, cpu_cores=0.98), (0.97, 0.05, 0.1, 0.02)),  # one thread that may move is no fault
        (process(7, cpu_cores=0.98, cores=[0]), (0.97, 0.5, 0.5, 0.5)),  # nobody idles
        (process(7, cpu_cores=0.98, cores=[0]), (0.89, 0.05, 0.1, 0.02)),  # not full
        (process(7, cpu_cores=0.1, cores=[0]), (0.97, 0.05, 0.1, 0.02)),  # not the one that fills it
        (process(7, cpu_cores=0.98, cores=[0]), (0.97,)),  # one core has no balance
        (process(7, cpu_cores=0.98, cores=[0]), (0.97, *[0.0] * 11)),  # one of twelve full: less than a quarter
    ],
)
def test_balance_that_is_no_fault(one: dict[str, Any], cores: tuple[float, ...]) -> None:
    """Each half of the condition alone reports nothing."""
    assert levels(doctor_live.unbalanced_cores(facts(one, cores=cores))) == ["ok"]


def test_six_of_a_name_with_two_gigabytes() -> None:
    """The blueprint's own case: the name, how many, how much, and their pids."""
    (finding,) = doctor_live.stray_processes(facts(*(process(pid, memory_bytes=400 * MIB) for pid in range(1, 7))))
    assert finding.level == "warning"
    assert "6 processes of claude with 2.34 GB" in finding.text
    assert "(pid 1 2 3 4 5 6)" in finding.text


@pytest.mark.parametrize(
    ("members", "level"),
    [
        ([process(pid, memory_bytes=180 * MIB) for pid in (1, 2, 3)], "warning"),  # 540 MB
        ([process(pid, memory_bytes=160 * MIB) for pid in (1, 2, 3)], "ok"),  # 480 MB
        ([process(pid, memory_bytes=400 * MIB) for pid in (1, 2)], "ok"),  # two are no crowd
        ([process(pid, cpu_cores=0.4) for pid in (1, 2, 3)], "warning"),
        ([process(1, memory_bytes=4 * GIB)], "warning"),  # a quarter of the memory
        ([process(1, memory_bytes=3 * GIB)], "ok"),
        ([process(1, cpu_cores=2.0)], "warning"),  # half of the cores
        ([process(1, cpu_cores=1.9)], "ok"),
        ([process(pid, memory_bytes=4 * GIB, fleet="f") for pid in (1, 2, 3)], "ok"),  # a fleet's own has a limit
    ],
)
def test_strays_from_both_sides(members: list[dict[str, Any]], level: str) -> None:
    """Many small, few large, and what is not enough."""
    assert levels(doctor_live.stray_processes(facts(*members))) == [level]


def test_strangers_on_ports_of_the_registry() -> None:
    """A listener of no fleet is named with its port; those of a fleet are not; many become one line."""
    own = {"port": 10005, "holder": "pid 3 (sutazaid)", "pid": 3, "fleet": "f"}
    other = {"port": 10010, "holder": "pid 9 (nginx)", "pid": 9, "fleet": ""}
    (finding,) = doctor_live.stray_listeners(facts() | {"listeners": [own, other]})
    assert finding.text == "port 10010 of the registry is held by pid 9 (nginx), which is of no fleet"
    many = [other | {"port": 10300 + index} for index in range(40)]
    (finding,) = doctor_live.stray_listeners(facts() | {"listeners": many})
    assert finding.text.startswith("40 ports of the registry")


def test_planned_ports_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports of a running fleet, the planned ones too, and its name are what the look is asked for."""

    class Supervisor:
        def __init__(self, _name: str) -> None: ...

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_error: object) -> None: ...

        def status(self) -> dict[str, Any]:
            return status(0, 60_000)

    commands: list[list[str]] = []

    def run(command: list[str], **_kw: Any) -> Any:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps(facts()), "")

    monkeypatch.setattr(doctor_live.fleets, "running", lambda: ["f"])
    monkeypatch.setattr(doctor_live, "SupervisorClient", Supervisor)
    monkeypatch.setattr(doctor_live.subprocess, "run", run)
    assert levels(doctor_live.findings()) == ["ok", "ok", "ok"]
    assert commands[0][3:] == ["--fleet", "f", "--port", "10001", "--port", "14002"]


def test_a_look_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the processes cannot be looked at, nobody is told that all is well."""
    monkeypatch.setattr(doctor_live.fleets, "running", list)
    failed = subprocess.CompletedProcess([], 1, "", "no /proc")
    monkeypatch.setattr(doctor_live.subprocess, "run", lambda *_a, **_k: failed)
    (finding,) = doctor_live.findings()
    assert (finding.level, "no /proc" in finding.text) == ("warning", True)
