"""``status: planned``: what has a place in the plan and no code yet; and services that our own processes are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.units import MIB

if TYPE_CHECKING:
    from conftest import Load, Wrong


def test_a_planned_agent_needs_no_code(load: Load) -> None:
    """A name, a port and a pool are enough; it takes its pool's whole ``max_per_agent`` until somebody measures it."""
    agent = load(
        'fleet: a\nagents:\n  new: {status: planned, port: 10400, runtime: go, description: "Later."}\n'
    ).agents["new"]
    assert (agent.planned, agent.origin, agent.module, agent.runtime) == (True, "planned", "", "go")
    assert (agent.port, agent.pool, agent.description) == (10400, "standard", "Later.")
    assert agent.memory_bytes == agent.envelope_bytes == 256 * MIB


def test_built_is_the_default_and_may_be_written(load: Load) -> None:
    """``status: built`` changes nothing."""
    manifest = load("fleet: a\nagents:\n  health-monitor: {status: built}\n")
    assert not manifest.agents["health-monitor"].planned


def test_a_planned_service_needs_no_command(load: Load) -> None:
    """It has a limit, a pool and an order; it may be one that starts only when asked for."""
    services = load(
        "fleet: a\nservices:\n"
        "  db: {status: planned, port: 10000, memory: 2GB}\n"
        "  web: {status: planned, memory: 64MB, pool: platform, after: [db], start: on-demand}\n"
    ).services
    assert services["db"].planned
    assert not services["db"].on_demand
    assert (services["web"].on_demand, services["web"].after, services["web"].pool) == (True, ("db",), "platform")


def test_what_runs_cannot_wait_for_what_is_planned(wrong: Wrong) -> None:
    """A service that is started would wait for ever."""
    (mistake,) = wrong(
        "fleet: a\nservices:\n  db: {status: planned, memory: 1MB}\n  web: {command: x, memory: 1MB, after: [db]}\n"
    )
    assert mistake.problem == "web waits for db, which is only planned"
    assert mistake.line == 4


def test_workers_of_other_languages_can_be_planned(load: Load, wrong: Wrong) -> None:
    """They have the blueprint's ports and number."""
    pool = load("fleet: a\nruntime_pools: {node: {status: planned, memory: 96MB}}\n").runtime_pools["node"]
    assert (pool.planned, pool.workers, pool.port_first, pool.port_last) == (True, 4, 10508, 10511)
    assert pool.memory_bytes == 96 * MIB
    (mistake,) = wrong("fleet: a\nruntime_pools: {go: {status: planned, workers: 5}}\n")
    assert "have only the 4 ports 10512-10515" in mistake.problem


def test_a_service_that_is_one_of_our_own_processes(load: Load, wrong: Wrong) -> None:
    """It has a name and ports, no process; nobody can wait for the edge, and names stay unique."""
    manifest = load("fleet: a\nservices:\n  kong: {by: gateway, port: 10005}\n")
    assert manifest.services == {}
    assert [port.number for port in manifest.provided["kong"].ports] == [10005]
    (mistake,) = wrong(
        "fleet: a\nservices:\n  kong: {by: gateway, port: 10005}\n  x: {command: y, memory: 1MB, after: [kong]}\n"
    )
    assert mistake.problem == "x waits for kong, which is our own gateway"
    (mistake,) = wrong("fleet: a\nservices: {health-monitor: {by: control}}\nagents: [health-monitor]\n")
    assert mistake.problem == "health-monitor is a service and an agent"


def test_threads_of_the_model(load: Load, wrong: Wrong) -> None:
    """Threads are a count; whether they fit the quota is the planner's to say."""
    assert load("fleet: a\nllm: {threads: 8, cpu: 4c}\n").llm.threads == 8  # type: ignore[union-attr]
    assert load("fleet: a\nllm: {cpu: 4c}\n").llm.threads is None  # type: ignore[union-attr]
    (mistake,) = wrong("fleet: a\nllm: {threads: 4c}\n")
    assert "llm.threads" in mistake.problem


def test_an_agent_cannot_be_a_server_that_is_planned(wrong: Wrong) -> None:
    """Its requests would go nowhere: it is planned as well, or the server is built."""
    (mistake,) = wrong(
        "fleet: a\nservices:\n  s: {status: planned, memory: 1MB, port: 10600}\n"
        "agents:\n  h: {http: {service: s, skills: {ask: POST /ask}}}\n"
    )
    assert mistake.problem == "h: the service s is only planned"
    assert mistake.hint == "give h status: planned, too"


def test_names_of_those_outside_are_taken(wrong: Wrong) -> None:
    """Tasks of ``human`` and ``signal`` wait for somebody outside of the fleet; no agent can have these names."""
    text = "fleet: a\nagents:\n  human: {status: planned, port: 10400}\n  signal: {status: planned, port: 10401}\n"
    assert [(mistake.line, mistake.problem) for mistake in wrong(text)] == [
        (3, "no agent can be called human"),
        (4, "no agent can be called signal"),
    ]
