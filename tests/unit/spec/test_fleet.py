"""Each key of a manifest: what it gives, and what is said when it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sutazai import spec
from sutazai.spec import builtin_agents_dir, builtin_names, load_agent_folder
from sutazai.units import GIB, MIB

if TYPE_CHECKING:
    from conftest import Load, Wrong
    from sutazai.errors import ConfigError

ROOT = Path(__file__).parents[3]


def the(found: list[ConfigError], part: str) -> ConfigError:
    """Pick the mistake whose problem holds a text."""
    matching = [mistake for mistake in found if part in mistake.problem]
    assert len(matching) == 1, [str(mistake) for mistake in found]
    return matching[0]


def test_the_smallest_manifest_has_the_blueprint_s_values(load: Load) -> None:
    """A name is enough; everything else is the blueprint's."""
    manifest = load("fleet: a\n")
    assert {name: pool.size_bytes for name, pool in manifest.pools.items()} == {
        "infrastructure": 12 * GIB,
        "critical": 8 * GIB,
        "standard": 6 * GIB,
        "monitoring": 2 * GIB,
        "reserve": int(1.38 * GIB),
    }
    assert manifest.pools["critical"].max_per_agent_bytes == 512 * MIB
    assert manifest.pools["standard"].max_per_agent_bytes == 256 * MIB
    assert manifest.pools["standard"].instance_limit == 24
    assert (manifest.port_ranges["agents"].first, manifest.port_ranges["agents"].last) == (10300, 10599)
    assert manifest.runtime_pools["python"].port_last == 10507
    assert manifest.llm is None
    assert manifest.host.memory_bytes is None
    assert len(manifest.digest) == 64


def test_the_demo_s_manifest_is_right() -> None:
    """What ``make run`` starts is every agent that this package has in Python: it needs no other language."""
    manifest = spec.load(ROOT / "fleets" / "demo.yaml")
    folders = [builtin_agents_dir() / name.replace("-", "_") for name in builtin_names(builtin_agents_dir())]
    assert set(manifest.agents) == {agent.name for agent in map(load_agent_folder, folders) if agent.runtime == "py"}
    assert "health-monitor" in manifest.agents
    assert manifest.services["leaky-shop"].memory_bytes == 96 * MIB


def test_digest_follows_the_file_and_the_agents(load: Load, builtin: Path) -> None:
    """A change of the manifest, or of an agent's own, is another plan."""
    text = "fleet: a\nagents: [health-monitor]\n"
    first = load(text).digest
    assert load(text).digest == first
    assert load(text + "# more\n").digest != first
    path = builtin / "health_monitor" / "manifest.toml"
    path.write_text(path.read_text() + "instances = 2\n")
    assert load(text).digest != first


def test_no_name(wrong: Wrong) -> None:
    """A fleet without a name says what to write."""
    mistake = the(wrong("port_offset: 0\n"), "has no fleet")
    assert mistake.hint == "write fleet: a-name"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("My_Fleet", "write my-fleet"),
        ("9lives", "begin with a letter"),
        ("a--b", "write a-b"),
        ("a" * 40, "use at most 32"),
        ("../etc", "write etc"),
    ],
)
def test_bad_names(wrong: Wrong, name: str, hint: str) -> None:
    """Names become files, cgroups and sockets, so their form is strict, and a right one is proposed."""
    assert hint in the(wrong(f'fleet: "{name}"\n'), "name").hint


def test_unknown_key_with_a_near_name(wrong: Wrong) -> None:
    """A slip of the keyboard is recognised, at its place."""
    mistake = the(wrong("fleet: a\nagnets: {}\n"), "unknown key 'agnets'")
    assert mistake.hint == "did you mean agents?"
    assert (mistake.line, mistake.column) == (2, 1)


def test_unknown_key_without_a_near_name(wrong: Wrong) -> None:
    """Else the known keys are listed."""
    assert "write one of: fleet" in the(wrong("fleet: a\nzzz: {}\n"), "unknown key").hint


def test_unknown_key_inside_names_its_section(wrong: Wrong) -> None:
    """The path of the section is in the message."""
    text = "fleet: a\nservices:\n  x: {command: y, memory: 1MB, memroy: 2MB}\n"
    mistake = the(wrong(text), "unknown key")
    assert mistake.problem == "unknown key 'memroy' in services.x"
    assert mistake.hint == "did you mean memory?"


def test_unknown_profile(wrong: Wrong) -> None:
    """A misspelt profile is one."""
    assert the(wrong("fleet: a\nprofile: embeded\n"), "unknown").hint == "did you mean embedded?"


@pytest.mark.parametrize("text", ["1s", "-1", "70000", "1.5", "0x10"])
def test_port_offset_is_a_whole_number(wrong: Wrong, text: str) -> None:
    """Counts and ports are plain integers."""
    assert "whole number from 0 to 65535" in the(wrong(f"fleet: a\nport_offset: {text}\n"), "port_offset").hint


def test_list_where_one_value_is_meant(wrong: Wrong) -> None:
    """A list instead of a value is said."""
    assert "not a list" in the(wrong("fleet: [a]\n"), "fleet").problem


def test_value_where_a_section_is_meant(wrong: Wrong) -> None:
    """A value instead of a section is said."""
    assert "not the value 'x'" in the(wrong("fleet: a\nservices: x\n"), "services").problem


# Host and pools


def test_host_given(load: Load) -> None:
    """Memory and cores can be bounded."""
    manifest = load("fleet: a\nhost: {memory: 29.38GB, cores: 12c}\n")
    assert manifest.host.memory_bytes == int(29.38 * GIB)
    assert manifest.host.cores == 12


def test_half_a_core_is_no_host(wrong: Wrong) -> None:
    """A host has whole cores."""
    assert the(wrong("fleet: a\nhost: {cores: 2.5c}\n"), "no whole number").hint == "write 2c"


def test_auto_is_written_small(wrong: Wrong) -> None:
    """``AUTO`` is a near miss."""
    assert "lower case" in the(wrong("fleet: a\nhost: {memory: AUTO}\n"), "'AUTO' is unknown").hint


def test_bare_number_as_size(wrong: Wrong) -> None:
    """A size without a unit is an error with both likely meanings."""
    mistake = the(wrong("fleet: a\nmemory_pools:\n  critical: {size: 8}\n"), "has no unit")
    assert mistake.problem == "memory_pools.critical.size: 8 has no unit"
    assert mistake.hint == "write 8MB or 8GB"
    assert (mistake.line, mistake.column) == (3, 20)


def test_zero_is_no_size(wrong: Wrong) -> None:
    """Nothing is not a size."""
    assert "more than zero" in the(wrong("fleet: a\nmemory_pools: {reserve: {size: 0MB}}\n"), "is nothing").hint


def test_unknown_pool(wrong: Wrong) -> None:
    """A pool of another name is none."""
    mistake = the(wrong("fleet: a\nmemory_pools: {standart: {size: 1GB}}\n"), "unknown pool 'standart'")
    assert mistake.hint == "did you mean standard?"


def test_platform_is_cut_from_critical(wrong: Wrong, load: Load) -> None:
    """The platform's share is written below the pool it is cut from."""
    assert "below critical" in the(wrong("fleet: a\nmemory_pools: {platform: {size: 1GB}}\n"), "cut from").hint
    assert load("fleet: a\nmemory_pools: {critical: {platform: {size: 1GB}}}\n").platform_bytes == GIB
    assert load("fleet: a\nmemory_pools: {critical: {platform: {size: auto}}}\n").platform_bytes is None


def test_platform_that_eats_its_parent(wrong: Wrong) -> None:
    """It must leave something."""
    text = "fleet: a\nmemory_pools: {critical: {size: 1GB, platform: {size: 1GB}}}\n"
    assert the(wrong(text), "leaves nothing of critical").line == 2


def test_max_per_agent_above_pool(wrong: Wrong) -> None:
    """One agent cannot have more than all of them."""
    text = "fleet: a\nmemory_pools: {standard: {size: 128MB}}\n"
    assert the(wrong(text), "max_per_agent: is larger than its pool")


# CPU sets, ports, runtimes


def test_cpu_sets(load: Load) -> None:
    """Cores are written as ranges, lists, or both."""
    manifest = load('fleet: a\ncpu_sets:\n  x: {cores: "0-2,5", members: [critical]}\n  y: {cores: [7, 8-9]}\n')
    assert manifest.cpu_sets["x"].cores == (0, 1, 2, 5)
    assert manifest.cpu_sets["y"].cores == (7, 8, 9)


@pytest.mark.parametrize(
    ("cores", "part"),
    [("3-1", "runs backwards"), ("a-b", "is no list of cores"), ("99999", "there is no core"), ("'0,,1'", "no list")],
)
def test_bad_cores(wrong: Wrong, cores: str, part: str) -> None:
    """Each kind of wrong core list is told apart."""
    the(wrong(f"fleet: a\ncpu_sets: {{x: {{cores: {cores}}}}}\n"), part)


def test_core_beyond_the_given_host(wrong: Wrong) -> None:
    """A core that the given host lacks is an error; cores count from zero."""
    mistake = the(wrong("fleet: a\nhost: {cores: 4c}\ncpu_sets: {x: {cores: 2-4}}\n"), "there is no core 4")
    assert "the last is 3" in mistake.hint


def test_set_without_cores(wrong: Wrong) -> None:
    """A set needs cores."""
    the(wrong("fleet: a\ncpu_sets: {x: {members: [critical]}}\n"), "has no cores")


def test_members_of_sets(wrong: Wrong) -> None:
    """Members exist, and are in one set only."""
    text = "fleet: a\ncpu_sets:\n  x: {cores: 0, members: [critcal, llm]}\n  y: {cores: 1, members: [llm]}\n"
    found = wrong(text)
    assert the(found, "unknown member 'critcal'").hint == "did you mean critical?"
    assert "it is in x already" in the(found, "llm is in two cpu sets").hint


def test_port_ranges(wrong: Wrong, load: Load) -> None:
    """Ranges can be moved, must be ranges, and must not overlap."""
    assert load("fleet: a\nport_ranges: {agents: 10300-10450}\n").port_ranges["agents"].last == 10450
    assert "10300-10599" in the(wrong("fleet: a\nport_ranges: {agents: 10300}\n"), "is no range of ports").hint
    the(wrong("fleet: a\nport_ranges: {agents: 500-70000}\n"), "is no range of ports")
    assert the(wrong("fleet: a\nport_ranges: {agents: 10290-10599}\n"), "overlap").line == 2
    assert the(wrong("fleet: a\nport_ranges: {agent: 10300-10599}\n"), "unknown key").hint == "did you mean agents?"


def test_runtime_pools(load: Load, wrong: Wrong) -> None:
    """Families are a list or a table; each needs a worker, each worker a port."""
    pool = load("fleet: a\nruntime_pools: {python: {workers: 3, families: [base, data]}}\n").runtime_pools["python"]
    assert [family.name for family in pool.families] == ["base", "data"]
    text = (
        "fleet: a\nruntime_pools: {python: {families: {data: {preload: [json], memory: 300MB, start_peak: 200MB}}}}\n"
    )
    (family,) = load(text).runtime_pools["python"].families
    assert family.preload == ("json",)
    assert family.memory_bytes == 300 * MIB
    one = "fleet: a\nruntime_pools: {python: {workers: 1, families: [base, data]}}\n"
    assert the(wrong(one), "cannot hold 2 families").hint == "write 2 or more"
    mistake = the(wrong("fleet: a\nruntime_pools: {python: {families: [base, dat]}}\n"), "unknown family 'dat'")
    assert mistake.hint.startswith("did you mean data?")
    the(wrong("fleet: a\nruntime_pools: {python: {workers: 9}}\n"), "9 workers have only the 8 ports")
    assert the(wrong("fleet: a\nruntime_pools: {pyton: {}}\n"), "unknown runtime").hint == "did you mean python?"


# LLM and policies


def test_llm(load: Load, tmp_path: Path) -> None:
    """A model is a name or a path relative to the manifest; ``none`` is no model."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    llm = load(
        "fleet: a\nllm: {model: ./m.gguf, memory: 1GB, start_peak: 800MB, cpu: 2c, slots: 4, context: 2048}\n"
    ).llm
    assert llm is not None
    assert llm.model == str(tmp_path / "m.gguf")
    assert llm.cpu_cores == 2.0
    default = load("fleet: a\nllm: {memory: 1GB}\n").llm
    assert default is not None
    assert default.model == "qwen2.5-coder-0.5b-instruct"
    assert default.cpu_cores is None
    assert load("fleet: a\nllm: none\n").llm is None
    assert load("fleet: a\nllm:\n").llm is None


def test_llm_mistakes(wrong: Wrong) -> None:
    """A missing file, a bare number, too little CPU, a peak above the limit."""
    found = wrong("fleet: a\nllm: {model: nope.gguf, memory: 1GB, start_peak: 2GB, cpu: 0.5c, context: 10}\n")
    the(found, "there is no file")
    the(found, "start_peak: is larger than memory")
    assert "1c or more" in the(found, "of a core is too little").hint
    the(found, "10 is out of bounds")
    assert the(wrong("fleet: a\nllm: {cpu: 2}\n"), "2 has no unit").hint == "write 2c"


def test_llm_above_its_pool(wrong: Wrong) -> None:
    """The model's limit must be inside the infrastructure pool."""
    text = "fleet: a\nmemory_pools: {infrastructure: {size: 512MB}}\nllm: {memory: 1GB}\n"
    mistake = the(wrong(text), "llm: memory 1 GB is above its pool infrastructure (512 MB)")
    assert mistake.line == 3


def test_policies(load: Load, wrong: Wrong) -> None:
    """Restarts, retries and keep times become defaults of what follows."""
    manifest = load(
        "fleet: a\npolicies:\n  restart: {first: 1s, longest: 1m, crash_loop: 3, window: 1m}\n"
        "  retry: {attempts: 7, deadline: 1m}\n  keep: {critical: 10m, standard: 2s}\n"
        "agents: [health-monitor, ram-optimizer, forecaster]\nruntime_pools: {python: {families: [base, data]}}\n"
    )
    assert manifest.policies.restart_base_ms == 1_000
    assert manifest.policies.crash_loop_count == 3
    assert manifest.policies.callers.interval_us == 0
    limited = load("fleet: a\npolicies: {callers: {rate: 100/s, burst: 200}}\n").policies.callers
    assert (limited.interval_us, limited.burst) == (10_000, 200)
    [mistake] = wrong("fleet: a\npolicies: {callers: {burst: 2}}\n")
    assert "there is no rate" in mistake.problem
    assert manifest.agents["health-monitor"].attempts_max == 7
    assert manifest.agents["health-monitor"].keep_ms == 600_000
    assert manifest.agents["forecaster"].keep_ms == 2_000
    assert manifest.agents["ram-optimizer"].keep_ms == 45_000
    text = "fleet: a\npolicies: {restart: {first: 1m, longest: 1s}, retri: {}}\n"
    found = wrong(text)
    the(found, "first: is longer than longest")
    assert the(found, "unknown key 'retri'").hint == "did you mean retry?"


def test_all_mistakes_at_once(wrong: Wrong) -> None:
    """One run shows everything that is wrong in different parts."""
    found = wrong(
        "fleet: X\nprofile: standart\nhost: {memory: 4}\nmemory_pools: {critical: {size: 8}}\n"
        "port_ranges: {agents: x}\nruntime_pools: {rust: {}}\nservices:\n  a: {}\nagents: {b: {}}\nllm: {cpu: 1}\n"
        "policies: {keep: {critical: 5}}\nzz: 1\n"
    )
    lines = {mistake.line for mistake in found}
    assert lines == {1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12}


def test_a_model_elsewhere(tmp_path: Path) -> None:
    """A driver, an address, a name and a file with the key; little memory; the key itself is nowhere."""
    (tmp_path / "key").write_text("secret-key")
    text = "fleet: a\nllm: {driver: ollama, url: 'http://box:11434', model: 'org/m:7b', api_key_file: key}\n"
    (tmp_path / "fleet.yaml").write_text(text)
    llm = spec.load(tmp_path / "fleet.yaml").llm
    assert llm is not None
    assert (llm.driver, llm.url, llm.model) == ("ollama", "http://box:11434", "org/m:7b")
    assert llm.api_key_file == str(tmp_path / "key")
    assert llm.memory_bytes == 256 << 20


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{driver: magic}", "'magic' is unknown"),
        ("{driver: ollama, model: m}", "needs the address"),
        ("{driver: openai, url: 'http://x'}", "model"),
        ("{driver: openai, url: 'ftp://x', model: m}", "no address of a server"),
        ("{driver: openai, url: 'https://user:pass@x', model: m}", "no address of a server"),
        ("{driver: openai, url: 'https://x:99999', model: m}", "no address of a server"),
        ("{driver: openai, url: 'https://x?key=1', model: m}", "no address of a server"),
        ("{driver: openai, url: 'https://x', model: m, api_key_file: nowhere}", "there is no file"),
        ("{url: 'http://x'}", "is for a model elsewhere"),
        ("{api_key_file: key}", "is for a model elsewhere"),
        ("{driver: openai, url: 'https://x', model: m, api_key: secret}", "api_key"),
    ],
)
def test_mistakes_about_a_model_elsewhere(wrong: Wrong, text: str, problem: str) -> None:
    """Each is named; a key in the manifest is an unknown setting."""
    assert the(wrong(f"fleet: a\nllm: {text}\n"), problem)
