"""``fleets/blueprint.yaml`` is the blueprint: its tables are typed anew in a fixture and compared one by one."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from sutazai import plan, spec
from sutazai.cli.app import main
from sutazai.plan.render import render
from sutazai.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
MANIFEST = ROOT / "fleets" / "blueprint.yaml"
TABLES: dict[str, Any] = tomllib.loads((ROOT / "tests" / "fixtures" / "blueprint.toml").read_text())
HOST = plan.parse_host("12c,29.38GB")


@pytest.fixture(scope="module")
def blueprint() -> spec.Manifest:
    """The manifest as it is shipped."""
    return spec.load(MANIFEST)


@pytest.fixture(scope="module")
def proof(blueprint: spec.Manifest) -> plan.Plan:
    """The plan for the blueprint's host."""
    return plan.make(blueprint, HOST)


def services_of(manifest: spec.Manifest) -> dict[str, list[int]]:
    """All services of the blueprint with their ports: those with a process, those that we are, and workers."""
    found = {name: [port.number for port in service.ports] for name, service in manifest.services.items()}
    found |= {name: [port.number for port in entry.ports] for name, entry in manifest.provided.items()}
    for pool in manifest.runtime_pools.values():
        found |= {f"{pool.name}-{index}": [pool.port_first + index] for index in range(pool.workers)}
    return found


def test_there_are_69_agents_on_the_blueprint_s_ports(blueprint: spec.Manifest) -> None:
    """Each of the blueprint's 61 named agents and the eight jobs without a name, no more, on the port of its table."""
    assert len(TABLES["agents"]) == 69
    assert {name: agent.port for name, agent in blueprint.agents.items()} == TABLES["agents"]


def test_there_are_46_services_on_the_blueprint_s_ports(blueprint: spec.Manifest) -> None:
    """Each service, those that our own processes are and the workers included, has the ports of its table."""
    assert len(TABLES["services"]) == 46
    assert services_of(blueprint) == TABLES["services"]


def test_what_exists_is_not_planned(blueprint: spec.Manifest) -> None:
    """An agent whose folder has landed stands in the manifest by its name alone: remove ``status: planned`` there."""
    built = set(spec.builtin_names(spec.builtin_agents_dir())) & set(TABLES["agents"])
    assert {name for name, agent in blueprint.agents.items() if not agent.planned} == built


def test_pools_sizes_and_cores_are_the_blueprint_s(blueprint: spec.Manifest, proof: plan.Plan) -> None:
    """§2.2 and §2.3: pools, the members with a size of their own, cpu sets, the registry's ranges, critical agents."""
    assert {name: pool.size_bytes for name, pool in blueprint.pools.items()} == {
        name: int(size * GIB) for name, size in TABLES["pools"].items()
    }
    assert sum(pool.size_bytes for pool in blueprint.pools.values()) == blueprint.host.memory_bytes
    limits = {row.name: row.memory_bytes for row in proof.processes}
    for name, size in TABLES["sizes"].items():
        assert limits["llm" if name == "ollama" else name] == int(size * GIB)
    cores = {row.name: row.cpuset for row in proof.processes} | {row.name: row.cpuset for row in proof.agents}
    assert {name: cores[name] for name in TABLES["cores"]} == TABLES["cores"]
    assert next(row.cpuset for row in proof.pools if row.name == "standard") == "10-11"
    assert {name: f"{one.first}-{one.last}" for name, one in blueprint.port_ranges.items()} == TABLES["registry"]
    critical = {name for name, agent in blueprint.agents.items() if agent.pool == "critical"}
    assert critical == {
        "agentzero-coordinator",
        "deployment-automation-master",
        "system-performance-forecaster",
        "health-monitor",
    }


def test_it_fits_the_blueprint_s_host(proof: plan.Plan) -> None:
    """No error and no warning on 12 cores and 29.38 GB; 24 agents of the largest size are awake at once, as it says."""
    assert proof.fits
    assert proof.warnings == ()
    standard = next(row for row in proof.pools if row.name == "standard")
    assert (standard.awake_max, standard.instance_limit) == (24, 24)
    assert proof.llm is not None
    assert (proof.llm.threads, proof.llm.quota_cores, proof.llm.slots) == (4, 4.0, 1)


def test_stores_start_first_and_the_edge_last(proof: plan.Plan) -> None:
    """The start order: stores, discovery, queue and vector stores, what reads metrics, and then the gateway."""
    order = [name for stage in proof.stages for step in stage.steps for name in step]
    places = [order.index(name) for name in ("broker", "llm", "postgres", "consul", "rabbitmq", "gateway")]
    assert places == sorted(places)
    assert order.index("prometheus") < order.index("grafana")
    assert order[-1] == "gateway"


@pytest.mark.parametrize("host", ["2c,24GB", "4c,8GB", "8c,16GB", "64c,256GB"])
def test_on_another_host_shares_stay(blueprint: spec.Manifest, host: str) -> None:
    """Pools keep their shares of the blueprint, the plan says what was scaled, and it still fits."""
    facts = plan.parse_host(host)
    result = plan.make(blueprint, facts)
    assert result.fits, [str(error) for error in result.errors]
    whole = sum(pool.size_bytes for pool in blueprint.pools.values())
    for row in result.pools:
        if not row.parent:
            assert row.size_bytes / result.budget_bytes == pytest.approx(row.written_bytes / whole, abs=0.001)
    if facts.memory_total_bytes < whole:
        assert any("scaled from 29.4 GB" in note.text for note in result.notes)


def test_too_small_a_host_is_refused(blueprint: spec.Manifest) -> None:
    """On 2 GB the model alone is too much: errors say by how much."""
    result = plan.make(blueprint, plan.parse_host("2c,2GB"))
    assert any("short" in error.text for error in result.errors)


def test_a_person_can_read_it(proof: plan.Plan) -> None:
    """The view names every agent and service once, draws the pools, marks what is planned and ends in the verdict."""
    console = Console(record=True, width=120, file=StringIO())
    console.print(render(proof))
    text = console.export_text()
    for name in (*TABLES["agents"], *TABLES["services"]):
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", text), name
    assert "█" in text
    assert "postgres planned" in text
    assert text.rstrip().endswith("blueprint fits.")


#: The blueprint's "current issues" (§1.3) that a plan can see, put back into the manifest: what is replaced by what.
ISSUES: dict[str, tuple[str, str]] = {
    "two services on port 8080": (
        "services:\n",
        "services:\n" + "".join(f"  web-{name}: {{command: x, port: 8080, memory: 64MB}}\n" for name in "ab"),
    ),
    "34 services without a limit": (
        "services:\n",
        "services:\n" + "".join(f"  unlimited-{number}: {{command: 'true'}}\n" for number in range(34)),
    ),
    "a model with 8 threads on 4 cores": ("threads: 4\n", "threads: 8\n"),
    "pools above the host": ("infrastructure: {size: 12GB}", "infrastructure: {size: 14GB}"),
    "limits of 1.1 that are more than the pool": (
        "  postgres: {status: planned, port: 10000, memory: 2GB",
        "  postgres: {status: planned, port: 10000, memory: 9GB",
    ),
}
CODES = {
    "two services on port 8080": ("port-twice", "port-outside-range"),
    "34 services without a limit": ("no-memory-limit",),
    "a model with 8 threads on 4 cores": ("llm-threads",),
    "pools above the host": ("pools-above-host",),
    "limits of 1.1 that are more than the pool": ("pool-too-small",),
}


def with_issues(*names: str) -> str:
    """Put some of the blueprint's issues back into its manifest."""
    text = MANIFEST.read_text()
    for name in names:
        before, after = ISSUES[name]
        assert before in text
        text = text.replace(before, after, 1)
    return text


@pytest.fixture
def refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], list[dict[str, Any]]]:
    """Run ``sutazai plan --json`` on a text; it must exit with 1. Gives the errors."""

    def run(text: str) -> list[dict[str, Any]]:
        path = tmp_path / "blueprint.yaml"
        path.write_text(text)
        monkeypatch.setattr(sys, "argv", ["sutazai", "plan", str(path), "--host", "12c,29.38GB", "--json"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 1
        data = json.loads(capsys.readouterr().out)
        assert data["fits"] is False
        return [finding for finding in data["findings"] if finding["severity"] == "error"]

    return run


@pytest.mark.parametrize("issue", ISSUES)
def test_each_current_issue_is_refused(issue: str, refused: Callable[[str], list[dict[str, Any]]]) -> None:
    """One issue put back: exit code 1, that finding and no other, with file, line, column and what to do."""
    errors = refused(with_issues(issue))
    assert {error["code"] for error in errors} == set(CODES[issue])
    for error in errors:
        path, line, column = error["where"].rsplit(":", 2)
        assert path.endswith("blueprint.yaml")
        assert int(line) > 1
        assert int(column) >= 1
        assert error["hint"]
    if issue.startswith("34"):
        assert len(errors) == 34


def test_all_current_issues_are_named_at_once(refused: Callable[[str], list[dict[str, Any]]]) -> None:
    """Nobody has to mend one to see the next."""
    errors = refused(with_issues(*ISSUES))
    assert {error["code"] for error in errors} == {code for codes in CODES.values() for code in codes}
