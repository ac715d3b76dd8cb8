"""Languages whose workers hold their instances: pools, defaults, agents, and what contradicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sutazai import spec
    from sutazai.errors import ConfigError

    Load = Callable[[str], spec.Manifest]
    Wrong = Callable[[str], list[ConfigError]]

FILES = "agents:\n  page: {file: page.mjs}\n"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A file with an agent's code in JavaScript, beside the manifest."""
    path = tmp_path / "page.mjs"
    path.write_text("export default {}\n")
    return path


def test_an_agent_of_node_brings_its_worker(load: Load, page: Path) -> None:
    """The suffix says the language; nothing has to be written about workers, and no other fleet has them."""
    manifest = load(f"fleet: a\n{FILES}")
    agent, pool = manifest.agents["page"], manifest.runtime_pools["node"]
    assert (agent.runtime, agent.module, agent.pool) == ("node", str(page), "standard")
    assert (pool.hosts, pool.workers, pool.port_first, pool.idle_ms) == (True, 1, 10508, 60_000)
    assert "go" not in manifest.runtime_pools
    assert "node" not in load("fleet: a\nagents: [health-monitor]\n").runtime_pools


def test_workers_as_written(load: Load, wrong: Wrong) -> None:
    """Number, ports, memory, start peak and idle time; more workers than ports are refused."""
    text = "fleet: a\nruntime_pools: {node: {workers: 2, memory: 200MB, start_peak: 90MB, idle: 5s}}\n"
    pool = load(text).runtime_pools["node"]
    (family,) = pool.families
    assert (pool.workers, pool.idle_ms, family.memory_bytes, family.start_peak_bytes) == (2, 5_000, 200 * MIB, 90 * MIB)
    (mistake,) = wrong("fleet: a\nruntime_pools: {go: {workers: 5}}\n")
    assert "5 workers have only the 4 ports 10512-10515" in mistake.problem
    (mistake,) = wrong("fleet: a\nruntime_pools: {node: {memory: 50MB, start_peak: 60MB}}\n")
    assert "the start would be killed" in mistake.problem


def test_it_lives_where_its_worker_stands(wrong: Wrong, page: Path) -> None:
    """Another pool would be charged for nothing and a planned worker hosts nobody: both are mistakes."""
    assert page.exists()
    (mistake,) = wrong("fleet: a\nagents:\n  page: {file: page.mjs, pool: critical}\n")
    assert "whose workers stand in the pool standard" in mistake.problem
    (mistake,) = wrong(f"fleet: a\nruntime_pools: {{node: {{status: planned}}}}\n{FILES}")
    assert "which is only planned" in mistake.problem
    assert mistake.hint == "remove status: planned from runtime_pools.node"


def test_a_folder_of_node(load: Load, tmp_path: Path) -> None:
    """Its code is agent.mjs; the manifest beside it counts for the digest."""
    folder = tmp_path / "shaper"
    folder.mkdir()
    manifest = folder / "manifest.toml"
    manifest.write_text('name = "shaper"\nversion = "1"\ndescription = "Shapes."\nruntime = "node"\n')
    (folder / "agent.mjs").write_text("export default {}\n")
    text = "fleet: a\nagents:\n  shaper: {path: shaper}\n"
    first = load(text)
    assert first.agents["shaper"].module == str(folder / "agent.mjs")
    manifest.write_text(manifest.read_text().replace("Shapes", "Shaves"))
    assert load(text).digest != first.digest
