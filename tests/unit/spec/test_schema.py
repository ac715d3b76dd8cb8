"""The JSON Schema for editors says what the readers say: held against them key by key, and against a validator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from sutazai.spec import schema, section
from sutazai.spec.document import parse_document
from sutazai.spec.places import Mistakes
from sutazai.spec.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Load

FLEETS = sorted((Path(__file__).parents[3] / "fleets").glob("*.yaml"))
SCHEMA = schema.json_schema()


def data(text: str) -> Any:
    """Read YAML as an editor does."""
    return section.plain(parse_document(text, "x.yaml", Mistakes()))


def mistakes(text: str) -> list[str]:
    """Where the schema finds mistakes, as paths."""
    found = jsonschema_rs.validator_for(SCHEMA).iter_errors(data(text))
    return ["/".join(str(part) for part in error.instance_path) for error in found]


def test_it_is_a_schema() -> None:
    """The validator accepts it as a schema of the draft that it names."""
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(SCHEMA)


@pytest.mark.parametrize("path", FLEETS, ids=lambda path: path.name)
def test_our_fleets_are_right(path: Path) -> None:
    """Every manifest that we ship fits."""
    assert mistakes(path.read_text()) == []


RIGHT = (
    "fleet: a\n",
    "fleet: a\nllm: none\n",
    "fleet: a\nllm: false\n",
    "fleet: a\nagents: [health-monitor]\n",
    "fleet: a\nagents:\n  health-monitor:\n  other: {file: x.py, settings: {deep: [1, {a: b}]}, cpu: 0.5c}\n",
    "fleet: a\nservices: {a: {command: x, memory: 1MB, ports: {any-name: 10600}, ready: tcp, env: {A: 1}}}\n",
    "fleet: a\nservices: {a: {command: [x, 1], memory: 1.5GB, port: 10600, ready: {http: /, timeout: 2s}, after: b}}\n",
    "fleet: a\ncpu_sets: {x: {cores: 0}, y: {cores: 0-3}, z: {cores: [0, 2]}}\n",
    "fleet: a\nruntime_pools: {python: {families: [base, data]}, go: {status: planned, memory: 48MB}}\n",
    "fleet: a\nhost: {memory: auto, cores: 12c}\n",
)
WRONG = (
    ("{}\n", ""),
    ("fleet: A\n", "fleet"),
    ("fleet: a\nhosts: {}\n", ""),
    ("fleet: a\nhost: {memory: 512}\n", "host"),
    ("fleet: a\nhost: {memory: 512Mi}\n", "host"),
    ("fleet: a\nhost: {cores: 12}\n", "host"),
    ("fleet: a\nport_offset: 70000\n", "port_offset"),
    ("fleet: a\nmemory_pools: {standart: {size: 1GB}}\n", "memory_pools"),
    ("fleet: a\nservices: {a: {command: x}}\n", "services"),
    ("fleet: a\nservices: {a: {memory: 1MB}}\n", "services"),
    ("fleet: a\nservices: {a: {command: x, memory: 1MB, port: 70000}}\n", "services"),
    ("fleet: a\nservices: {a: {command: x, memory: 1MB, ready: htp}}\n", "services"),
    ("fleet: a\nservices: {a: {status: planned}}\n", "services"),
    ("fleet: a\nagents: {a: {prot: 1}}\n", "agents"),
    ("fleet: a\nllm: {slots: 0}\n", "llm"),
    ("fleet: a\nruntime_pools: {rust: {}}\n", "runtime_pools"),
    ("fleet: a\npolicies: {keep: {critical: 5}}\n", "policies"),
)


@pytest.mark.parametrize("text", RIGHT)
def test_right_manifests_fit(text: str) -> None:
    """What the readers take in all its spellings, the schema takes."""
    assert mistakes(text) == []


@pytest.mark.parametrize(("text", "where"), WRONG)
def test_wrong_manifests_do_not(text: str, where: str) -> None:
    """What the readers refuse for its form is marked in the editor, at that key."""
    found = mistakes(text)
    assert found
    assert all(path.partition("/")[0] == where for path in found)


def keys_of(fragment: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Walk a schema: the path of each key, ``*`` for names of the user's."""
    for one in [fragment, *fragment.get("anyOf", ())]:
        for key, inner in one.get("properties", {}).items():
            if inner != {"const": "planned"}:  # a rule, not a key
                yield (*path, key)
                yield from keys_of(inner, (*path, key))
        if isinstance(inner := one.get("additionalProperties"), dict):
            yield from keys_of(inner, (*path, "*"))


def test_every_key_of_the_readers_is_in_the_schema_and_no_other(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """All keys that readers ask for while they read other manifests than the probes are those of the schema."""
    asked: set[str] = set()
    real = Section._know

    def know(one: Section, key: str) -> None:
        asked.add(key)
        real(one, key)

    monkeypatch.setattr(Section, "_know", know)
    load(
        "fleet: a\nhost: {memory: 64GB}\nmemory_pools: {critical: {platform: {size: auto}}, standard: {size: 6GB}}\n"
        "cpu_sets: {c: {cores: 0}}\nport_ranges: {agents: 10300-10599}\nllm: {cpu: 1c}\n"
        "runtime_pools: {python: {families: {base: {memory: 100MB}}}, go: {status: planned}, node: {idle: 1m}}\n"
        "services:\n"
        "  s: {command: x, memory: 1MB, port: 10600, ready: {tcp: true}, probe: {tcp: true}}\n"
        "  k: {by: gateway, port: 10005}\n"
        "agents:\n  health-monitor: {retry: {attempts: 2}, queue: {tasks: 1}, breaker: {failures: 2},\n"
        "    schedules: {a: {cron: 0 3 * * *, skill: report}}}\n"
        "  p: {status: planned}\n"
        "  h: {http: {service: s, skills: {a: GET /}}}\n"
        "policies: {restart: {first: 1s}, retry: {attempts: 2}, keep: {critical: 1s}}\n"
    )
    pools_and_services = {"critical", "standard", "infrastructure", "monitoring", "reserve"}
    in_schema = {path[-1] for path in keys_of(SCHEMA)} - {"*"}
    names = {
        "s",
        "k",
        "c",
        "base",
        "python",
        "go",
        "node",
        "health-monitor",
        "p",
        "h",
        "a",
    }  # the user's, in the text above
    in_folders = {"name", "version"}  # of an agent's own manifest.toml
    assert asked - in_schema - pools_and_services - names - in_folders == set()
    assert in_schema - asked == set()


def test_every_section_knows_its_own_keys() -> None:
    """Spot checks at depth: the tree is the manifest's, not a heap of keys."""
    paths = set(keys_of(SCHEMA))
    for path in (
        ("memory_pools", "*", "platform", "size"),
        ("services", "*", "ready", "timeout"),
        ("services", "*", "probe", "fail_after"),
        ("runtime_pools", "*", "families", "*", "preload"),
        ("agents", "*", "http", "skills"),
        ("policies", "keep", "critical"),
        ("llm", "threads"),
    ):
        assert path in paths
    assert ("services", "*", "ready", "fail_after") not in paths
    assert ("agents", "*", "command") not in paths
