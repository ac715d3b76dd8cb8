"""CPU: sets, weights, the model's quota, the number of workers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sutazai import plan, spec
from sutazai.plan.cpu import core_list

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., Any]

SETS = {
    name: spec.CpuSet(name, cores, members)
    for name, cores, members in (
        ("infrastructure", (0, 1, 2, 3), ("db",)),
        ("model", (4, 5, 6, 7), ("llm",)),
        ("critical", (8, 9), ("critical",)),
        ("shared", (10, 11), ("standard",)),
    )
}


def llm(**changes: Any) -> spec.Llm:
    """Build a small model server."""
    values = {
        "model": "m", "memory_bytes": 2**20, "start_peak_bytes": 2**20, "cpu_cores": None, "cpu": spec.Share(),
        "slots": 2, "context": 512,
    }  # fmt: skip
    return spec.Llm(**{**values, **changes})


def row(result: plan.Plan, name: str) -> plan.ProcessRow:
    """Pick a process."""
    return next(entry for entry in result.processes if entry.name == name)


def test_sets_as_written_on_the_blueprint_s_host(fleet: Build, host: Build, service: Build) -> None:
    """Twelve cores: services, the model and whole pools are where the table says."""
    result = plan.make(fleet(service("db"), cpu_sets=SETS, llm=llm()), host())
    assert result.scaling.cpu_sets == "as written"
    assert row(result, "db").cpuset == "0-3"
    assert row(result, "llm").cpuset == "4-7"
    assert next(pool for pool in result.pools if pool.name == "critical").cpuset == "8-9"


def test_sets_shrink_by_the_same_share(fleet: Build, host: Build, service: Build) -> None:
    """On six cores each set has half of its cores."""
    result = plan.make(fleet(service("db"), cpu_sets=SETS, llm=llm()), host(cores=6))
    assert result.scaling.cpu_sets == "scaled"
    assert (row(result, "db").cpuset, row(result, "llm").cpuset) == ("0-1", "2-3")
    pools = {pool.name: pool.cpuset for pool in result.pools}
    assert (pools["critical"], pools["standard"]) == ("4", "5")


def test_under_four_cores_sets_become_weights(fleet: Build, host: Build, service: Build) -> None:
    """Disjoint sets of two cores would waste half the machine: the sizes become weights, and that is said."""
    result = plan.make(fleet(service("db"), cpu_sets=SETS, llm=llm()), host(cores=2))
    assert result.scaling.cpu_sets == "weights"
    assert row(result, "db").cpuset == ""
    assert row(result, "db").cpu_weight == 133
    assert any(note.text.startswith("cpu sets become weights") for note in result.notes)


def test_only_the_cores_that_we_may_use(fleet: Build, host: Build, service: Build) -> None:
    """With an affinity of cores 4 to 15, core 0 of a set is core 4 of the machine."""
    result = plan.make(fleet(service("db"), cpu_sets=SETS), replace(host(), cores=tuple(range(4, 16))))
    assert row(result, "db").cpuset == "4-7"


def test_a_ceiling_around_us_counts(fleet: Build, host: Build) -> None:
    """A container with a quota of 2.5 cores on a machine with twelve has two."""
    facts = host(cpu_quota_cores=2.5)
    assert facts.usable_cores == 2
    assert plan.make(fleet(cpu_sets=SETS), facts).scaling.cpu_sets == "weights"


@pytest.mark.parametrize(
    ("cores", "written", "quota", "threads"),
    [(12, None, 4.0, 4), (2, None, 1.0, 1), (1, None, 1.0, 1), (8, None, 2.0, 2), (12, 2.9, 2.9, 2), (12, 1.0, 1.0, 1)],
)
def test_threads_are_the_floor_of_the_quota(
    fleet: Build, host: Build, cores: int, written: float | None, quota: float, threads: int
) -> None:
    """Never more threads than quota; a third of the host unless it is written; at least one core."""
    result = plan.make(fleet(llm=llm(cpu_cores=written)), host(cores=cores))
    assert result.llm is not None
    assert (result.llm.quota_cores, result.llm.threads) == (quota, threads)
    assert row(result, "llm").cpu_quota_cores == quota


def test_quota_above_the_machine(fleet: Build, host: Build) -> None:
    """A quota that cannot be had is an error, unless the manifest says for which host it was written."""
    result = plan.make(fleet(llm=llm(cpu_cores=4.0)), host(cores=2))
    assert result.errors[0].text == "llm asks for 4 cores, there are 2"
    scaled = plan.make(fleet(llm=llm(cpu_cores=4.0), host=spec.Host(cores=12)), host(cores=6))
    assert scaled.fits
    assert scaled.llm is not None
    assert (scaled.llm.quota_cores, scaled.llm.threads) == (2.0, 2)
    assert "the manifest is written for 12 cores" in scaled.notes[0].text


@pytest.mark.parametrize(("cores", "written", "count"), [(12, 0, 8), (6, 0, 4), (2, 0, 2), (2, 5, 5), (64, 0, 8)])
def test_workers(fleet: Build, host: Build, cores: int, written: int, count: int) -> None:
    """Eight for twelve cores, fewer on fewer, at least one for each family, as written when they are written."""
    families = (spec.Family("base"), spec.Family("data"))
    pool = spec.RuntimePool("python", written, families, 10500, 10507)
    result = plan.make(fleet(runtime_pools={"python": pool}), host(cores=cores))
    workers = [entry for entry in result.processes if entry.family]
    assert len(workers) == count
    assert [entry.family for entry in workers[:3]] == ["base", "data", "base"][:count]
    assert [entry.ports for entry in workers] == [(10500 + index,) for index in range(count)]


def test_a_service_quota_above_the_machine_is_a_warning(fleet: Build, host: Build, service: Build) -> None:
    """It fits, and the quota is never reached."""
    result = plan.make(fleet(service("db", cpu=spec.Share(quota_cores=4))), host(cores=2))
    assert result.fits
    assert result.warnings[0].text == "db may use 4 cores, there are 2"


@pytest.mark.parametrize(
    ("cores", "text"), [([], ""), ([0], "0"), ([0, 1], "0-1"), ([0, 2, 3, 4, 8], "0,2-4,8"), ([5, 7], "5,7")]
)
def test_core_list(cores: list[int], text: str) -> None:
    """Cores are written as the kernel reads them."""
    assert core_list(cores) == text
