"""Ports: offsets, holders, the ephemeral range, agents without a port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai import plan, spec

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., Any]


def test_the_platform_s_ports(fleet: Build, host: Build, agent: Build) -> None:
    """Gateway, control, workers and agents stand on the blueprint's ports."""
    result = plan.make(fleet(agent("x", port=10425)), host())
    table = {row.number: (row.owner, row.name, row.held_by) for row in result.ports}
    assert table == {
        10005: ("gateway", "edge", "gateway"),
        10009: ("control", "resource-manager", "control"),
        10010: ("control", "backend", "control"),
        10204: ("control", "metrics", "control"),
        10425: ("x", "agent:x", "gateway"),
        10500: ("python-0", "worker:python-0", "gateway"),
        10501: ("python-1", "worker:python-1", "gateway"),
    }


def test_offset_moves_every_port(fleet: Build, host: Build, agent: Build, service: Build) -> None:
    """Two fleets on one machine differ by their offset in every port."""
    parts = (agent("x", port=10425), agent("y"), service("s", ports=(spec.ServicePort("main", 10600),)))
    first = {row.number for row in plan.make(fleet(*parts), host()).ports}
    second = {row.number for row in plan.make(fleet(*parts, port_offset=1000), host()).ports}
    assert {number + 1000 for number in first} == second
    assert not first & second


def test_a_taken_port_names_its_holder(fleet: Build, host: Build) -> None:
    """Who holds the port is in the message, and what to do."""
    result = plan.make(fleet(), host(listening={10005: "pid 4711 (nginx)"}))
    (error,) = result.errors
    assert error.text == "port 10005 of gateway is held by pid 4711 (nginx)"
    assert error.hint == "stop it, or give this fleet another port_offset"


def test_the_holder_is_looked_up_behind_the_offset(fleet: Build, host: Build) -> None:
    """With an offset another port matters."""
    facts = host(listening={10005: "pid 4711 (nginx)", 10205: "pid 1 (x)"})
    assert plan.make(fleet(port_offset=10), host(listening={10005: "x"})).fits
    assert "port 10205 of python" not in str(plan.make(fleet(port_offset=1), facts).errors)
    assert "port 10205 of control" in plan.make(fleet(port_offset=1), facts).errors[0].text


def test_many_taken_ports_are_summed_up(fleet: Build, host: Build) -> None:
    """When another fleet runs on the same offset, thirty lines would help nobody."""
    facts = host(listening=dict.fromkeys(range(10000, 11000), "pid 9 (python)"))
    errors = plan.make(fleet(), facts).errors
    assert len(errors) == 6
    assert "does another fleet run with this port_offset?" in errors[-1].hint


def test_ephemeral_range(fleet: Build, host: Build) -> None:
    """A port from which the kernel serves outgoing connections may be gone when we want it."""
    result = plan.make(fleet(port_offset=25000), host())
    (error,) = result.errors
    assert error.code == "port-ephemeral"
    assert "32768-60999" in error.text
    limit = int(error.hint.rpartition(" ")[2])
    assert plan.make(fleet(port_offset=limit), host()).fits
    assert not plan.make(fleet(port_offset=limit + 1), host()).fits


def test_a_low_ephemeral_range_without_an_offset(fleet: Build, host: Build) -> None:
    """Some machines start the range at 10000; then the hint is another one."""
    (error,) = plan.make(fleet(), host(ephemeral=(10000, 65535))).errors
    assert "ip_local_port_range" in error.hint


def test_beyond_the_last_port(fleet: Build, host: Build) -> None:
    """An offset that leads beyond 65535 is refused with the largest one that does not."""
    result = plan.make(fleet(port_offset=60000), host())
    assert any(error.code == "port-too-high" and "at most" in error.hint for error in result.errors)


def test_agents_without_a_port_get_free_ones(fleet: Build, host: Build, agent: Build) -> None:
    """A user's own agents get ports behind the workers', in the order of the manifest, never a taken one."""
    result = plan.make(fleet(agent("one"), agent("two"), agent("three", port=10509)), host())
    ports = {row.name: row.port for row in result.agents}
    assert ports == {"one": 10508, "two": 10510, "three": 10509}


def test_no_port_is_left(fleet: Build, host: Build, agent: Build) -> None:
    """When the range is full, the agents without a port are an error."""
    ranges = {**fleet().port_ranges, "agents": spec.PortRange("agents", 10300, 10301)}
    result = plan.make(fleet(*(agent(f"x{number}") for number in range(4)), port_ranges=ranges), host())
    (error,) = result.errors
    assert error.text == "10300-10301 is full: no port for x2 and 1 more"


def test_a_service_on_a_port_of_the_platform(fleet: Build, host: Build, service: Build) -> None:
    """Our own ports are taken, at the place where the service asks for one."""
    place = spec.Place("fleet.yaml", 8, 11)
    result = plan.make(fleet(service("s", ports=(spec.ServicePort("main", 10005, place),))), host())
    (error,) = result.errors
    assert error.text == "port 10005 of s belongs to gateway (edge)"
    assert error.where == "fleet.yaml:8:11"
