"""The plan's facts are what the plan file's own format says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from sutazai.errors import ConfigError
from sutazai.supervisor.contract import Agent, Limits, PlanFile, Pool, Worker
from sutazai.wire.planfacts import load_agents, load_plan, workers_of

if TYPE_CHECKING:
    from pathlib import Path


def write_plan(path: Path) -> None:
    """Write a plan with one agent and one worker, as the compiler does."""
    PlanFile(
        fleet="t",
        digest="d",
        state_dir="/s",
        run_dir="/r",
        python="/usr/bin/python3",
        pools=[Pool("standard", 1)],
        stages=["store"],
        processes=[],
        workers=[Worker("python-0", "data", "platform", Limits(), 1, preload=["json"])],
        agents=[
            Agent(
                name="hello",
                module="/a/hello",
                version="1",
                family="data",
                pool="standard",
                limits=Limits(memory_bytes=7),
                envelope_bytes=5,
                instances_max=2,
                keep_ms=100,
                port=10300,
                skills=[{"name": "greet"}],
                settings={"x": 1},
                attempts_max=3,
                deadline_ms=9,
            )
        ],
    ).dump(path)


def test_facts_of_a_plan(tmp_path: Path) -> None:
    """All facts of an agent and of a worker come out of the file that the contract writes."""
    write_plan(tmp_path / "plan.json")
    facts = load_agents(tmp_path / "plan.json")["hello"]
    assert (facts.module, facts.family, facts.memory_bytes, facts.keep_ms) == ("/a/hello", "data", 7, 100)
    assert (facts.instances_max, facts.port, facts.attempts_max, facts.deadline_ms) == (2, 10300, 3, 9)
    assert facts.settings == {"x": 1}
    assert facts.skill("greet") == {"name": "greet"}
    assert facts.skill("none") is None
    worker = workers_of(load_plan(tmp_path / "plan.json"))["python-0"]
    assert (worker.family, worker.preload) == ("data", ("json",))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 99}', '{"version": 1, "agents": [{"name": "x"}]}'])
def test_a_bad_plan_is_refused(tmp_path: Path, text: str) -> None:
    """A file that is no plan, of another version, or with half an agent is a config error that says what to run."""
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ConfigError, match="sutazai up"):
        load_agents(tmp_path / "plan.json")


def test_a_missing_plan(tmp_path: Path) -> None:
    """No file is a config error too."""
    with pytest.raises(ConfigError, match="cannot read"):
        load_agents(tmp_path / "plan.json")


def test_an_agent_with_the_least(tmp_path: Path) -> None:
    """Name and module are enough; the rest has defaults."""
    (tmp_path / "plan.json").write_text(json.dumps({"version": 1, "agents": [{"name": "a", "module": "/a"}]}))
    assert load_agents(tmp_path / "plan.json")["a"].instances_max == 1
