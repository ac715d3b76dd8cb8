"""Agents: found by name, by folder, by file; overridden by the fleet; refused with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai import spec
from sutazai.errors import ConfigError, ConfigErrors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Load, Wrong

    Make = Callable[..., Path]

MIB = 2**20


def one(found: list[ConfigError]) -> ConfigError:
    """Expect a single mistake."""
    assert len(found) == 1, [str(mistake) for mistake in found]
    return found[0]


def test_built_in_agents_by_name(load: Load, builtin: Path) -> None:
    """A name is enough; the description is the agent's own."""
    agent = load("fleet: a\nagents:\n  health-monitor:\n").agents["health-monitor"]
    assert agent.module == str(builtin / "health_monitor")
    assert (agent.origin, agent.version, agent.description) == ("built-in", "1.2", "Says hello.")
    assert (agent.port, agent.pool, agent.family) == (10425, "critical", "base")
    assert (agent.memory_bytes, agent.envelope_bytes) == (256 * MIB, 64 * MIB)
    assert agent.keep_ms == 300_000


def test_a_list_of_names(load: Load) -> None:
    """Without overrides a list reads better."""
    assert list(load("fleet: a\nagents: [ram-optimizer, health-monitor]\n").agents) == [
        "ram-optimizer",
        "health-monitor",
    ]


def test_a_name_twice_in_a_list(wrong: Wrong) -> None:
    """A list can hold a name twice, a fleet cannot."""
    assert (
        one(wrong("fleet: a\nagents: [ram-optimizer, ram-optimizer]\n")).problem
        == "agent ram-optimizer is written twice"
    )


def test_overrides(load: Load) -> None:
    """The fleet's word wins, settings are merged."""
    agent = load(
        "fleet: a\ncpu_sets: {s: {cores: 0}}\nagents:\n  ram-optimizer:\n    port: 10333\n    pool: critical\n"
        "    memory: 400MB\n    envelope: 100MB\n    instances: 3\n    keep: 1s\n    cpu: 0.5c\n    weight: 9\n"
        "    cpu_set: s\n    attempts: 2\n    deadline: 5s\n"
        "    settings: {name: x, deep: {list: [1, 2.5, yes, null]}}\n"
    ).agents["ram-optimizer"]
    assert (agent.port, agent.pool, agent.memory_bytes, agent.envelope_bytes) == (
        10333,
        "critical",
        400 * MIB,
        100 * MIB,
    )
    assert (agent.instances_max, agent.keep_ms, agent.attempts_max, agent.deadline_ms) == (3, 1_000, 2, 5_000)
    assert (agent.cpu.quota_cores, agent.cpu.weight, agent.cpu.cpu_set) == (0.5, 9, "s")
    assert agent.settings == {"depth": 3, "name": "x", "deep": {"list": [1, 2.5, "yes", None]}}


def test_own_folder_and_own_file(load: Load, tmp_path: Path, make_agent: Make) -> None:
    """A user's agent is a folder like a built-in one, or a single file with defaults."""
    make_agent(tmp_path, "mine", port="10444")
    (tmp_path / "hello.py").write_text("")
    agents = load("fleet: a\nagents:\n  mine: {path: mine}\n  hello: {file: hello.py}\n").agents
    assert (agents["mine"].origin, agents["mine"].port) == ("folder", 10444)
    hello = agents["hello"]
    assert (hello.origin, hello.port, hello.pool, hello.family) == ("file", 0, "standard", "base")
    assert hello.module == str(tmp_path / "hello.py")
    assert hello.envelope_bytes == hello.memory_bytes == 128 * MIB
    assert hello.keep_ms == 60_000


@pytest.mark.parametrize(
    ("entry", "problem", "hint"),
    [
        ("helth-monitor: {}", "unknown agent 'helth-monitor'", "did you mean health-monitor?"),
        ("zzz: {}", "unknown agent 'zzz'", "built in are: forecaster, health-monitor, ram-optimizer"),
        ("me: {file: nope.py}", "there is no such file", "relative to the manifest"),
        ("me: {path: nope}", "there is no folder", "relative to the manifest"),
        ("me: {path: a, file: b}", "path and file are both written", "single file"),
        ("me: {file: .}", "is a folder: write path: instead of file:", "relative"),
        ("health-monitor: {memory: 1GB}", "above the 512 MB that critical allows an agent", "raise max_per_agent"),
        ("health-monitor: {memory: 64}", "64 has no unit", "write 64MB or 64GB"),
        ("health-monitor: {envelope: 300MB}", "envelope: is larger than memory", "measured"),
        ("health-monitor: {pool: monitoring}", "'monitoring' is unknown", "critical, standard"),
        ("health-monitor: {family: data}", "which no worker pre-loads", "families: [base, data]"),
        ("health-monitor: {needs: [shop]}", "needs shop, which this fleet does not have", "add shop"),
        ("health-monitor: {status: planned}", "comes with sutazai, so it is not planned", "remove this line"),
        ("new: {status: planned, path: x}", "a planned agent has no code", "remove path"),
        ("new: {status: planned, runtime: rust}", "'rust' is unknown", "py, node, go"),
        ("new: {status: planned, memory: 300MB}", "above the 256 MB that standard allows", "max_per_agent"),
        ("health-monitor: {runtime: go}", "unknown key 'runtime'", "write one of"),
        ("health-monitor: {prot: 10301}", "unknown key 'prot'", "did you mean port?"),
        ("health-monitor: {instances: 0}", "0 is out of bounds", "1 to"),
        ("ram-optimizer: {instances: 25}", "instance_limit 24", "raise the pool's"),
        ("health-monitor: {settings: 3}", "here are keys with values meant", "below settings"),
        ("Health: {}", "agent name 'Health' is not allowed", "write health"),
    ],
)
def test_mistakes(wrong: Wrong, entry: str, problem: str, hint: str) -> None:
    """Each mistake is told at its place, with what to write."""
    found = [mistake for mistake in wrong(f"fleet: a\nagents:\n  {entry}\n") if problem in mistake.problem]
    assert len(found) == 1
    assert hint in found[0].hint
    assert found[0].line == 3


def test_settings_have_a_bound(wrong: Wrong) -> None:
    """Settings travel in the plan; large data belongs into a file."""
    text = f"fleet: a\nagents: {{health-monitor: {{settings: {{a: {'x' * 70_000}}}}}}}\n"
    assert "longer than 64 KB" in one(wrong(text)).problem


def folder_mistakes(folder: Path) -> list[ConfigError]:
    """Load an agent's folder that has mistakes."""
    with pytest.raises(ConfigErrors) as caught:
        spec.load_agent_folder(folder)
    return [mistake for mistake in caught.value.exceptions if isinstance(mistake, ConfigError)]


def test_load_agent_folder(tmp_path: Path, make_agent: Make) -> None:
    """A folder can be read without a fleet."""
    agent = spec.load_agent_folder(make_agent(tmp_path, "mine", memory='"100MB"', needs='["llm"]'))
    assert (agent.name, agent.memory_bytes, agent.needs) == ("mine", 100 * MIB, ("llm",))


@pytest.mark.parametrize(
    ("keys", "problem", "line"),
    [
        ({"name": ""}, "has no name", 1),
        ({"name": '"My Agent"'}, "name 'My Agent' is not allowed", 1),
        ({"description": ""}, "has no description", 0),
        ({"memory": '"64"'}, "64 has no unit", 5),
        ({"memory": "64"}, "64 has no unit", 5),
        ({"runtime": '"rust"'}, "'rust' is unknown", 5),
        ({"runtime": '"node"'}, "there is no agent.mjs beside manifest.toml", 0),
        ({"memroy": '"1MB"'}, "unknown key 'memroy'", 5),
        ({"port": '"x"'}, "'x' is not a port", 4),
    ],
)
def test_mistakes_in_an_agent_s_manifest(
    tmp_path: Path, keys: dict[str, str], problem: str, line: int, make_agent: Make
) -> None:
    """A TOML manifest gets the same messages, with its line."""
    mistake = one(folder_mistakes(make_agent(tmp_path, "mine", **keys)))
    assert problem in mistake.problem
    assert mistake.path.endswith("manifest.toml")
    assert mistake.line == line


def test_all_mistakes_of_an_agent_at_once(tmp_path: Path, make_agent: Make) -> None:
    """Several mistakes in one TOML file are told together."""
    folder = make_agent(tmp_path, "mine", memory='"64"', keep='"5"', zz="1")
    (folder / "agent.py").unlink()
    problems = " | ".join(mistake.problem for mistake in folder_mistakes(folder))
    for part in ("there is no agent.py", "memory: 64 has no unit", "keep: 5 has no unit", "unknown key 'zz'"):
        assert part in problems


def test_broken_toml(tmp_path: Path, make_agent: Make) -> None:
    """What the TOML parser refuses has its line."""
    folder = make_agent(tmp_path, "mine")
    (folder / "manifest.toml").write_text('name = "mine"\nport = \n')
    mistake = one(folder_mistakes(folder))
    assert mistake.problem.startswith("is no TOML")
    assert mistake.line == 2


def test_mistakes_of_an_agent_stand_beside_those_of_the_fleet(wrong: Wrong, builtin: Path) -> None:
    """A broken agent does not hide the fleet's own mistakes, and each names its file."""
    (builtin / "health_monitor" / "manifest.toml").write_text('name = "health-monitor\n')
    found = wrong("fleet: a\nagents: {health-monitor: {memory: 5}}\n")
    assert {mistake.path.rpartition("/")[2] for mistake in found} == {"sutazai.yaml", "manifest.toml"}


def test_a_folder_that_calls_itself_otherwise(wrong: Wrong, tmp_path: Path, make_agent: Make) -> None:
    """The name in the fleet and the name in the folder are one."""
    make_agent(tmp_path, "mine")
    mistake = one(wrong("fleet: a\nagents:\n  other: {path: mine}\n"))
    assert mistake.problem == "this agent calls itself mine, not other"


def test_builtin_names(builtin: Path) -> None:
    """Built-in agents can be listed."""
    assert spec.builtin_names(builtin) == ["forecaster", "health-monitor", "ram-optimizer"]
    assert spec.builtin_names(builtin / "nowhere") == []


def test_how_long_states_are_kept(load: Load, wrong: Wrong, tmp_path: Path, make_agent: Make) -> None:
    """30 days, what the agent's own manifest says, what the fleet says; `forever` is 0."""
    make_agent(tmp_path, "own", extra='state_keep = "forever"')
    days = 24 * 3_600_000
    for entry, keep_ms in (
        ("ram-optimizer: {}", 30 * days),
        ("ram-optimizer: {state_keep: 2d}", 2 * days),
        ("ram-optimizer: {state_keep: forever}", 0),
        ("own: {path: own}", 0),
        ("own: {path: own, state_keep: 12h}", days // 2),
    ):
        [agent] = load(f"fleet: a\nagents:\n  {entry}\n").agents.values()
        assert agent.state_keep_ms == keep_ms, entry
    for text, problem in (
        ("30", "30 has no unit"),
        ("Forever", "'Forever' is unknown"),
        ("always", "is not a duration"),
    ):
        assert problem in one(wrong(f"fleet: a\nagents:\n  ram-optimizer: {{state_keep: {text}}}\n")).problem
