"""Memory: pools, start peaks, scaling, instances."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from sutazai import plan, spec
from sutazai.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., Any]


def pool(result: plan.Plan, name: str) -> plan.PoolRow:
    """Pick a pool."""
    return next(row for row in result.pools if row.name == name)


def codes(result: plan.Plan) -> list[str]:
    """List the codes of all findings."""
    return [finding.code for finding in result.findings]


def test_the_blueprint_fits_its_own_host(fleet: Build, host: Build) -> None:
    """12 cores and 29.38 GB hold the blueprint's pools as written: nothing is scaled, nothing is found."""
    result = plan.make(fleet(), host())
    assert result.fits
    assert result.findings == ()
    assert result.scaling.memory_factor == 1.0
    assert pool(result, "critical").size_bytes == 8 * GIB


def test_pools_shrink_by_one_factor(fleet: Build, host: Build) -> None:
    """On a smaller host each pool keeps its share of the blueprint's 29.38 GB, and the plan says so."""
    result = plan.make(fleet(), host(memory_bytes=int(29.38 * GIB) // 2))
    shares = {row.name: row.size_bytes / row.written_bytes for row in result.pools if not row.parent}
    assert all(abs(share - 0.5) < 0.01 for share in shares.values())
    (note,) = result.notes
    assert note.text == "memory pools are scaled from 29.4 GB to 14.7 GB"
    assert sum(row.size_bytes for row in result.pools if not row.parent) <= result.budget_bytes


def test_instance_limit_and_process_limits_are_not_scaled(fleet: Build, host: Build, service: Build) -> None:
    """What is said of one process, and the number of instances, stays as written."""
    result = plan.make(fleet(service("db", memory_bytes=GIB, start_peak_bytes=MIB)), host(memory_bytes=10 * GIB))
    assert pool(result, "standard").instance_limit == 24
    assert next(row for row in result.processes if row.name == "db").memory_bytes == GIB


def test_use_outside_the_fleet_is_not_the_fleet_s(fleet: Build, host: Build) -> None:
    """The budget is what the machine has minus what others use."""
    result = plan.make(fleet(), host(memory_used_outside_bytes=5 * GIB))
    assert result.budget_bytes == int(29.38 * GIB) - 5 * GIB
    assert "memory-scaled" in codes(result)


def test_a_given_host_is_a_bound(fleet: Build, host: Build) -> None:
    """``host.memory`` bounds the fleet on a larger machine, and a smaller machine bounds it further."""
    manifest = fleet(host=spec.Host(memory_bytes=int(29.38 * GIB), cores=12))
    assert plan.make(manifest, host(memory_bytes=64 * GIB)).budget_bytes == int(29.38 * GIB)
    assert plan.make(manifest, host(memory_bytes=16 * GIB)).budget_bytes == 16 * GIB


def test_a_larger_host_does_not_blow_the_pools_up(fleet: Build, host: Build) -> None:
    """What was written is what the fleet takes."""
    assert pool(plan.make(fleet(), host(memory_bytes=64 * GIB)), "critical").size_bytes == 8 * GIB


def test_start_peaks_are_added_up(fleet: Build, host: Build, service: Build) -> None:
    """Processes that fit while they run but not while they start do not fit; the message does the sum."""
    parts = [service(f"s{number}", memory_bytes=7 * GIB, start_peak_bytes=5 * GIB) for number in range(3)]
    result = plan.make(fleet(*parts), host())
    (error,) = result.errors
    assert error.code == "pool-too-small"
    assert "pool infrastructure is 3 GB short: its processes need 15 GB when they start" in error.text
    assert "s0 5 GB" in error.text
    assert error.hint == "raise memory_pools.infrastructure"
    assert not result.fits


def test_limits_may_be_larger_than_peaks(fleet: Build, host: Build, service: Build) -> None:
    """Limits are ceilings, peaks are what is proved: together the limits may exceed the pool."""
    parts = [service(f"s{number}", memory_bytes=7 * GIB, start_peak_bytes=2 * GIB) for number in range(3)]
    result = plan.make(fleet(*parts), host())
    assert result.fits
    assert pool(result, "infrastructure").limits_bytes == 21 * GIB


def test_too_small_a_host_says_how_large_it_should_be(fleet: Build, host: Build, service: Build) -> None:
    """The hint names the memory at which it would fit, and with it, it fits."""
    part = service("db", memory_bytes=4 * GIB, start_peak_bytes=4 * GIB)
    result = plan.make(fleet(part), host(memory_bytes=8 * GIB))
    error = next(error for error in result.errors if "infrastructure" in error.text)
    assert "the host would need 9.79 GB free" in error.hint
    assert "(scaled from 12 GB)" in error.text
    assert plan.make(fleet(part), host(memory_bytes=int(9.8 * GIB))).fits


def test_the_platform_is_cut_from_critical(fleet: Build, host: Build) -> None:
    """Our own processes have a sub-pool as large as their limits together, and it counts in its parent."""
    result = plan.make(fleet(), host())
    platform, critical = pool(result, "platform"), pool(result, "critical")
    assert platform.parent == "critical"
    assert platform.size_bytes >= platform.limits_bytes > platform.processes_bytes > 0
    assert critical.processes_bytes == platform.size_bytes


def test_a_written_platform_that_is_too_small(fleet: Build, host: Build) -> None:
    """A platform that cannot start is refused, at the pool it is written in."""
    pools = {**fleet().pools, "critical": replace(fleet().pools["critical"], place=spec.Place("f.yaml", 5, 3))}
    result = plan.make(fleet(pools=pools, platform_bytes=100 * MIB), host())
    (error,) = result.errors
    assert "pool platform is" in error.text
    assert "memory_pools.critical.platform" in error.hint
    assert error.where == "f.yaml:5:3"


def test_the_platform_does_not_fit_a_tiny_host(fleet: Build, host: Build) -> None:
    """A Python interpreter does not become smaller: on 1 GB the critical pool is too small, and that is said."""
    result = plan.make(fleet(), host(cores=1, memory_bytes=GIB))
    assert "pool critical is" in result.errors[0].text
    assert "the platform's own processes" in result.errors[0].text


def test_every_process_has_a_limit(fleet: Build, host: Build, service: Build) -> None:
    """No process is without a limit, and none reserves more than its limit."""
    result = plan.make(fleet(service("db")), host())
    assert all(0 < row.envelope_bytes <= row.memory_bytes for row in result.processes)


def test_an_agent_that_could_never_wake(fleet: Build, host: Build, agent: Build) -> None:
    """An envelope larger than what is left for instances is an error: its tasks would wait for ever."""
    big = agent("big", envelope_bytes=200 * MIB)
    pools = {**fleet().pools, "standard": replace(fleet().pools["standard"], size_bytes=128 * MIB)}
    result = plan.make(fleet(big, pools=pools), host())
    (error,) = result.errors
    assert error.code == "agent-never-wakes"
    assert error.where == "fleet.yaml:9:3"


def test_agents_that_take_turns(fleet: Build, host: Build, agent: Build) -> None:
    """More agents than fit at once are fine, and it is said how many do."""
    pools = {**fleet().pools, "standard": replace(fleet().pools["standard"], size_bytes=256 * MIB)}
    result = plan.make(fleet(*(agent(f"x{number}") for number in range(10)), pools=pools), host())
    assert result.fits
    assert pool(result, "standard").awake_max == 4
    assert "4 of the 10 agents of pool standard fit into memory at once" in result.notes[0].text


def test_instance_limit_counts(fleet: Build, host: Build, agent: Build) -> None:
    """The blueprint's 24 instances are a limit although memory would allow more."""
    result = plan.make(fleet(*(agent(f"x{number}", instances_max=3) for number in range(20))), host())
    assert pool(result, "standard").awake_max == 24


def test_a_limit_above_its_scaled_pool_is_a_warning(fleet: Build, host: Build, service: Build) -> None:
    """On a small host the pool's limit may come before the process' own; that fits, but should be known."""
    part = service("db", memory_bytes=4 * GIB, start_peak_bytes=MIB)
    result = plan.make(fleet(part), host(memory_bytes=8 * GIB))
    assert result.fits
    assert any("the pool's limit holds first" in warning.text for warning in result.warnings)


@given(
    machine=st.tuples(st.integers(64 * MIB, 64 * GIB), st.integers(0, 8 * GIB), st.integers(1, 64)),
    peaks=st.lists(st.integers(MIB, 4 * GIB), max_size=8),
)
def test_what_fits_really_fits(
    fleet: Build, host: Build, service: Build, machine: tuple[int, int, int], peaks: list[int]
) -> None:
    """For any host: a plan that says it fits never gives away more than there is, in any pool or together."""
    memory, outside, cores = machine
    services = [service(f"s{index}", memory_bytes=peak, start_peak_bytes=peak) for index, peak in enumerate(peaks)]
    facts = host(cores=cores, memory_bytes=memory, memory_used_outside_bytes=outside)
    result = plan.make(fleet(*services), facts)
    together = sum(row.size_bytes for row in result.pools if not row.parent)
    assert together <= max(0, memory - outside)
    if result.fits:
        assert all(row.processes_bytes <= row.size_bytes for row in result.pools)
        start = sum(row.envelope_bytes for row in result.processes)
        assert start <= memory - outside
