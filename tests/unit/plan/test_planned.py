"""What is only planned is part of the sum, marked, and shrinks with its pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai import plan, spec
from sutazai.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., Any]

PLACE = spec.Place("fleet.yaml", 5, 3)


def codes(result: plan.Plan) -> list[str]:
    """Name the findings."""
    return [finding.code for finding in result.findings]


def test_planned_things_are_counted_and_marked(fleet: Build, host: Build, service: Build, agent: Build) -> None:
    """Memory, ports and start order hold them; one note says how many there are."""
    parts = (
        service(
            "db", planned=True, memory_bytes=2 * GIB, start_peak_bytes=2 * GIB, ports=(spec.ServicePort("m", 10000),)
        ),
        agent("later", origin="planned", port=10301),
    )
    result = plan.make(fleet(*parts), host())
    assert result.fits
    infrastructure = next(row for row in result.pools if row.name == "infrastructure")
    assert infrastructure.processes_bytes == 2 * GIB
    assert next(row for row in result.processes if row.name == "db").planned
    assert next(row for row in result.agents if row.name == "later").planned
    ports = {row.number: (row.held_by, row.planned) for row in result.ports}
    assert ports[10000] == ("db", True)
    assert ports[10301] == ("gateway", True)
    assert ("db",) in [step for stage in result.stages for step in stage.steps]
    (note,) = result.notes
    assert note.text == "planned, not started: 1 agent, 1 service"


def test_planned_sizes_shrink_with_their_pool(fleet: Build, host: Build, service: Build, agent: Build) -> None:
    """On half the host a planned part has half its size; a real one keeps its limit; the note says so."""
    parts = (
        service("later", planned=True, memory_bytes=2 * GIB, start_peak_bytes=2 * GIB),
        service("now", memory_bytes=GIB, start_peak_bytes=MIB),
        agent("some", origin="planned", memory_bytes=256 * MIB, envelope_bytes=256 * MIB),
    )
    result = plan.make(fleet(*parts), host(memory_bytes=int(29.38 * GIB) // 2))
    sizes = {row.name: row.memory_bytes for row in result.processes} | {r.name: r.memory_bytes for r in result.agents}
    assert sizes["later"] in range(GIB - MIB, GIB + 1)
    assert sizes["now"] == GIB
    assert sizes["some"] in range(127 * MIB, 128 * MIB + 1)
    assert any("planned ones shrink with their pool" in note.hint for note in result.notes)


def test_too_much_that_is_planned_does_not_fit(fleet: Build, host: Build, service: Build) -> None:
    """The proof is not softer for what is planned."""
    result = plan.make(fleet(service("db", planned=True, memory_bytes=13 * GIB, start_peak_bytes=13 * GIB)), host())
    assert codes(result)[0] == "pool-too-small"


def test_on_demand_services_are_no_part_of_the_start(fleet: Build, host: Build, service: Build) -> None:
    """They must fit beside what always runs, one by one, and stand in no step of the start."""
    small = service("s", planned=True, on_demand=True, pool="standard", memory_bytes=GIB, start_peak_bytes=GIB)
    result = plan.make(fleet(small), host())
    standard = next(row for row in result.pools if row.name == "standard")
    assert (standard.processes_bytes, standard.on_demand) == (0, 1)
    assert not [step for stage in result.stages for step in stage.steps if "s" in step]
    large = service("s", planned=True, on_demand=True, pool="standard", memory_bytes=7 * GIB, start_peak_bytes=7 * GIB)
    (error,) = plan.make(fleet(large), host()).errors
    assert error.code == "service-never-starts"
    assert "it takes 7 GB, pool standard has 6 GB left" in error.text


def test_planned_workers(fleet: Build, host: Build) -> None:
    """Workers of a language of a later version are rows of the platform; on fewer cores there are fewer."""
    pools = {
        "python": spec.RuntimePool("python", 1, (spec.Family("base"),), 10500, 10507),
        "node": spec.RuntimePool("node", 4, (), 10508, 10511, planned=True, memory_bytes=96 * MIB),
    }
    manifest = fleet(runtime_pools=pools, host=spec.Host(cores=12))
    rows = [row for row in plan.make(manifest, host()).processes if row.planned]
    assert [(row.name, row.pool, row.ports) for row in rows] == [
        (f"node-{index}", "platform", (10508 + index,)) for index in range(4)
    ]
    assert len([row for row in plan.make(manifest, host(cores=3)).processes if row.planned]) == 1


def test_a_taken_port_of_a_planned_service_is_a_warning(
    fleet: Build, host: Build, service: Build, agent: Build
) -> None:
    """Nobody of the fleet listens there yet; a planned agent's port is the gateway's, and that is an error."""
    parts = (
        service("db", planned=True, ports=(spec.ServicePort("m", 10000),)),
        agent("later", origin="planned", port=10301),
    )
    result = plan.make(fleet(*parts), host(listening={10000: "postgres", 10301: "x"}))
    assert [finding.text for finding in result.warnings] == ["port 10000 of db is held by postgres"]
    assert [finding.text for finding in result.errors] == ["port 10301 of later is held by x"]


def test_a_built_agent_that_needs_a_planned_one_is_warned_of(fleet: Build, host: Build, agent: Build) -> None:
    """It starts, and what it asks of the planned one will fail."""
    result = plan.make(fleet(agent("a", needs=("b",)), agent("b", origin="planned")), host())
    assert [finding.text for finding in result.warnings] == ["a needs b, which is only planned"]


def test_a_service_without_a_limit(fleet: Build, host: Build, service: Build) -> None:
    """Each one is named with its place; the tables are filled all the same."""
    parts = [
        service(f"s{n}", memory_bytes=0, start_peak_bytes=0, place=spec.Place("f.yaml", n, 3)) for n in range(1, 35)
    ]
    result = plan.make(fleet(*parts), host())
    assert codes(result) == ["no-memory-limit"] * 34
    assert {error.where for error in result.errors} == {f"f.yaml:{n}:3" for n in range(1, 35)}
    assert all(error.hint for error in result.errors)


def test_pools_above_the_host_that_they_are_written_for(fleet: Build, host: Build) -> None:
    """The sum is written out, with by how much; pools that nobody wrote are scaled instead."""
    manifest = fleet(host=spec.Host(memory_bytes=16 * GIB))
    assert "pools-above-host" not in codes(plan.make(manifest, host()))
    pools = dict(manifest.pools, reserve=spec.Pool("reserve", GIB, 0, place=PLACE))
    result = plan.make(fleet(host=spec.Host(memory_bytes=16 * GIB), pools=pools), host())
    error = next(error for error in result.errors if error.code == "pools-above-host")
    assert "29 GB together, the host has 16 GB" in error.text
    assert "make them 13 GB smaller" in error.hint


def llm(**changes: Any) -> spec.Llm:
    """Build a model server with a quota of four cores."""
    base: dict[str, Any] = {
        "model": "m", "memory_bytes": GIB, "start_peak_bytes": GIB, "cpu_cores": 4.0, "cpu": spec.Share(),
        "slots": 1, "context": 4096, "place": PLACE,
    }  # fmt: skip
    return spec.Llm(**base | changes)


def test_threads_above_the_quota(fleet: Build, host: Build) -> None:
    """Eight threads on four cores are refused with the reason; as many or fewer are used as written."""
    (error,) = plan.make(fleet(llm=llm(threads=8)), host()).errors
    assert error.code == "llm-threads"
    assert "llm has 8 threads, but may use 4 cores" in error.text
    assert error.hint.startswith("write threads: 4")
    assert error.where == str(PLACE)
    for threads, used in ((4, 4), (2, 2), (None, 4)):
        result = plan.make(fleet(llm=llm(threads=threads)), host())
        assert result.fits
        assert result.llm is not None
        assert result.llm.threads == used


def test_threads_shrink_with_the_quota(fleet: Build, host: Build) -> None:
    """On a host with fewer cores than written, threads follow the scaled quota: that is no mistake of the manifest."""
    result = plan.make(fleet(llm=llm(threads=4), host=spec.Host(cores=12)), host(cores=3))
    assert result.fits
    assert result.llm is not None
    assert (result.llm.quota_cores, result.llm.threads) == (1.0, 1)


def test_ports_of_the_manifest_against_each_other_and_the_registry(
    fleet: Build, host: Build, service: Build, agent: Build
) -> None:
    """Each clash and each port outside its range is found, with the first owner's line, services and agents alike."""
    parts = (
        service("one", ports=(spec.ServicePort("main", 8080, spec.Place("f.yaml", 3, 9)),)),
        service("two", ports=(spec.ServicePort("main", 8080, spec.Place("f.yaml", 4, 9)),)),
        service("three", ports=(spec.ServicePort("web", 10425, spec.Place("f.yaml", 5, 9)),)),
        agent("me", port=10425, place=spec.Place("f.yaml", 8, 3)),
        agent("far", port=10600, place=spec.Place("f.yaml", 9, 3)),
    )
    errors = {(error.code, error.where): error for error in plan.make(fleet(*parts), host()).errors}
    assert set(errors) == {
        ("port-twice", "f.yaml:4:9"),
        ("port-twice", "f.yaml:8:3"),
        ("port-outside-range", "f.yaml:3:9"),
        ("port-outside-range", "f.yaml:4:9"),
        ("port-outside-range", "f.yaml:5:9"),
        ("port-outside-range", "f.yaml:9:3"),
    }
    assert errors["port-twice", "f.yaml:4:9"].text == "port 8080 of two belongs to one"
    assert "one has it in line 3" in errors["port-twice", "f.yaml:4:9"].hint
    assert "10600-10999 (reserved)" in errors["port-outside-range", "f.yaml:3:9"].hint


def test_a_service_that_we_are_has_our_port(fleet: Build, host: Build) -> None:
    """The registry gives the blueprint's name to the port of our process; another port is an error."""
    port = spec.ServicePort("main", 10005, PLACE)
    result = plan.make(fleet(provided={"kong": spec.Provided("kong", "gateway", (port,))}), host())
    assert result.fits
    assert next(row.service for row in result.ports if row.number == 10005) == "kong"
    for by, number in (("gateway", 10006), ("llm", 10104), ("broker", 10007)):
        wrong = spec.Provided("x", by, (spec.ServicePort("main", number, PLACE),))
        (error,) = plan.make(fleet(provided={"x": wrong}), host()).errors
        assert error.code == "port-not-provided"


def test_hosting_workers_start_when_needed(fleet: Build, host: Build, agent: Build) -> None:
    """They stand in the agents' pool, are no part of the start, and the gateway answers their ports."""
    pools = {
        "python": spec.RuntimePool("python", 1, (spec.Family("base"),), 10500, 10507),
        "node": spec.RuntimePool("node", 2, (spec.Family("node"),), 10508, 10511, hosts=True),
    }
    manifest = fleet(agent("page", runtime="node"), runtime_pools=pools, host=spec.Host(cores=12))
    result = plan.make(manifest, host(cores=12))
    rows = [row for row in result.processes if row.family == "node"]
    assert [(row.name, row.pool, row.ports, row.on_demand) for row in rows] == [
        (f"node-{index}", "standard", (10508 + index,), True) for index in range(2)
    ]
    assert all(0 < row.envelope_bytes <= row.memory_bytes for row in rows)
    assert [row.held_by for row in result.ports if row.owner == "node-0"] == ["gateway"]
    assert [row.family for row in result.agents if row.name == "page"] == ["node"]
    assert not [step for stage in result.stages for step in stage.steps if "node-0" in step]
