"""The plan as a whole: start order, purity, JSON, the table for people."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from sutazai import plan, spec
from sutazai.plan import render
from sutazai.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., Any]


def show(result: plan.Plan, width: int = 110) -> str:
    """Render a plan as a pipe would get it."""
    out = StringIO()
    Console(file=out, width=width, color_system=None).print(render.render(result))
    return out.getvalue()


def test_start_order(fleet: Build, host: Build, service: Build) -> None:
    """Stages are fixed; services stand in steps behind what they wait for."""
    parts = (service("shop", after=("db", "llm")), service("db"), service("cache"))
    result = plan.make(fleet(*parts), host())
    assert [stage.name for stage in result.stages] == ["store", "control", "workers", "services", "edge"]
    assert result.stages[2].steps == (("zygote",), ("python-0", "python-1"))
    assert result.stages[3].steps == (("db", "cache"), ("shop",))
    names = [row.name for row in result.processes]
    assert names == [
        "sutazaid",
        "broker",
        "control",
        "zygote",
        "python-0",
        "python-1",
        "db",
        "cache",
        "shop",
        "gateway",
    ]


def test_pure(fleet: Build, host: Build, agent: Build) -> None:
    """The same manifest and the same facts give the same plan, and nothing in it can be changed."""
    manifest, facts = fleet(agent("x")), host()
    result = plan.make(manifest, facts)
    assert result == plan.make(manifest, facts)
    with pytest.raises(FrozenInstanceError):
        result.fleet = "other"  # type: ignore[misc]


def test_json_round_trip(fleet: Build, host: Build, agent: Build, service: Build) -> None:
    """The plan is plain JSON with its verdict first, and host facts survive their own round trip."""
    facts = host(listening={80: "pid 1 (nginx)"}, unenforced=("memory: none",))
    data = json.loads(json.dumps(plan.to_json(plan.make(fleet(agent("x"), service("s")), facts))))
    assert next(iter(data)) == "fits"
    assert data["fits"] is True
    assert data["pools"][0]["size_bytes"] == 12 * GIB
    assert data["scaling"]["memory_factor"] == 1.0
    assert plan.HostFacts.from_json(data["host"]) == facts


@pytest.mark.parametrize("data", [{}, {"memory_total_bytes": 1}, {"memory_total_bytes": None}])
def test_facts_that_are_none(data: dict[str, Any]) -> None:
    """Incomplete facts are refused, not guessed."""
    with pytest.raises(ValueError, match="no facts of a host"):
        plan.HostFacts.from_json(data)


def test_parse_host() -> None:
    """``--host`` names cores and memory in either order."""
    facts = plan.parse_host("12c,29.38GB")
    assert facts.cores == tuple(range(12))
    assert facts.memory_total_bytes == int(29.38 * GIB)
    assert plan.parse_host("4GB, 2c").usable_cores == 2


@pytest.mark.parametrize("text", ["", "12c", "29GB", "12,29GB", "0.5c,1GB", "12c,29", "a,b"])
def test_parse_host_mistakes(text: str) -> None:
    """A wrong ``--host`` says what to write."""
    with pytest.raises(ValueError, match=r"12c,29\.38GB"):
        plan.parse_host(text)


def test_no_cgroups_is_a_warning(fleet: Build, host: Build) -> None:
    """Without cgroups the plan still fits, and never pretends that the limits hold."""
    result = plan.make(fleet(), host(cgroup="none"))
    assert result.fits
    assert "limits are watched, not held" in result.warnings[0].text
    assert "limits watched only" in show(result)


def test_the_table_of_a_plan_that_fits(fleet: Build, host: Build, agent: Build, service: Build) -> None:
    """Everything a person asks for is on one page: pools, processes, agents, order, ports, verdict."""
    text = show(plan.make(fleet(agent("hello", port=10425), service("db")), host()))
    for part in (
        "memory pool",
        "infrastructure",
        "└ platform",
        "python-1 data",
        "hello",
        "10425",
        "all 1",
        "✓ a fits.",
    ):
        assert part in text
    assert "broker → control → zygote → python-0 + python-1 → db → gateway" in text
    assert "7 ports, 10005 to 10501, all free" in text


def test_the_table_of_a_plan_that_does_not_fit(fleet: Build, host: Build, service: Build) -> None:
    """Reasons come first, each with what to do and where; the verdict counts them."""
    big = service("db", memory_bytes=9 * GIB, start_peak_bytes=9 * GIB)
    result = plan.make(fleet(big), host(memory_bytes=8 * GIB, listening={10005: "pid 7 (nginx)"}))
    text = show(result, width=200)
    assert "✗ port 10005 of gateway is held by pid 7 (nginx)" in text
    assert "→ stop it" in text
    assert "−5.73 GB" in text
    assert "for 2 reasons (above). Nothing was started." in text
    assert text.index("✗ port") < text.index("memory pool")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_any_width(fleet: Build, host: Build, agent: Build, width: int) -> None:
    """A narrow terminal gets a narrow table, not an error."""
    text = show(plan.make(fleet(agent("a-very-long-name-of-an-agent-indeed")), host()), width)
    assert "a fits" in text
    assert all(len(line) <= width for line in text.splitlines())


def test_many_agents_are_cut_in_the_table_only(fleet: Build, host: Build, agent: Build) -> None:
    """Two hundred agents would scroll the verdict away."""
    parts = [agent(f"x{number}", envelope_bytes=MIB) for number in range(200)]
    ranges = {**fleet().port_ranges, "agents": spec.PortRange("agents", 10300, 10599)}
    result = plan.make(fleet(*parts, port_ranges=ranges), host())
    assert len(result.agents) == 200
    assert "and 120 more agents" in show(result)


def test_findings_are_sorted_by_weight(fleet: Build, host: Build, service: Build) -> None:
    """Errors stand before warnings, warnings before notes."""
    part = service("db", cpu=spec.Share(quota_cores=64))
    facts = host(memory_bytes=10 * GIB, listening={10005: "x"})
    severities = [finding.severity for finding in plan.make(fleet(part), facts).findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert set(severities) == {"error", "warning", "note"}


def test_finding_in_one_line(fleet: Build, host: Build, service: Build) -> None:
    """Other programs print a finding as text: place, what, what to do."""
    part = replace(service("s"), ports=(spec.ServicePort("main", 10005, spec.Place("f.yaml", 8, 11)),))
    (error,) = plan.make(fleet(part), host()).errors
    assert str(error) == "f.yaml:8:11: port 10005 of s belongs to gateway (edge) (give s another port)"
