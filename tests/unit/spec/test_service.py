"""Services: what they say and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Load, Wrong
    from sutazai.errors import ConfigError


def one(found: list[ConfigError]) -> ConfigError:
    """Expect a single mistake."""
    assert len(found) == 1, [str(mistake) for mistake in found]
    return found[0]


def service(rest: str) -> str:
    """Write a manifest with one service."""
    return f"fleet: a\nservices:\n  shop: {{{rest}}}\n"


RIGHT = "command: sleep 1, memory: 64MB"


def test_all_keys(load: Load, tmp_path: Path) -> None:
    """Every key arrives, with its unit resolved."""
    (tmp_path / "work").mkdir()
    manifest = load(
        "fleet: a\ncpu_sets: {front: {cores: 0-1}}\nservices:\n"
        "  db: {command: sleep 1, memory: 1MB}\n"
        "  shop:\n"
        "    command: '{python} -m shop --port {port.web} --data \"{state}/my data\"'\n"
        "    ports: {web: 10600, admin: 10601}\n"
        "    memory: 96MB\n    start_peak: 48MB\n    cpu: 0.5c\n    weight: 200\n    cpu_set: front\n    pids: 32\n"
        "    pool: standard\n    after: [db]\n    ready: {http: /health, port: admin, timeout: 20s, interval: 1s}\n"
        "    probe: {tcp: true, interval: 2s, timeout: 500ms, fail_after: 5}\n    restart: on-unhealthy\n"
        "    env: {MODE: live}\n    cwd: work\n    log: 1MB\n    stop_grace: 2s\n    user: nobody\n"
    )
    shop = manifest.services["shop"]
    assert shop.argv == ("{python}", "-m", "shop", "--port", "{port.web}", "--data", "{state}/my data")
    assert [(port.name, port.number) for port in shop.ports] == [("web", 10600), ("admin", 10601)]
    assert (shop.memory_bytes, shop.start_peak_bytes) == (96 * 2**20, 48 * 2**20)
    assert (shop.cpu.quota_cores, shop.cpu.weight, shop.cpu.cpu_set) == (0.5, 200, "front")
    assert (shop.ready.kind, shop.ready.port, shop.ready.path, shop.ready.timeout_ms) == (
        "http",
        10601,
        "/health",
        20_000,
    )
    assert (shop.probe.kind, shop.probe.port, shop.probe.fail_after, shop.probe.timeout_ms) == ("tcp", 10600, 5, 500)
    assert shop.restart_when_unhealthy
    assert shop.env == {"MODE": "live"}
    assert shop.cwd == str(tmp_path / "work")
    assert (shop.stop_grace_ms, shop.user, shop.after, shop.pids_max) == (2_000, "nobody", ("db",), 32)


def test_defaults(load: Load, tmp_path: Path) -> None:
    """A command and a limit are enough; with a port, a connection is what makes it ready."""
    shop = load(service(RIGHT)).services["shop"]
    assert shop.start_peak_bytes == shop.memory_bytes
    assert (shop.pool, shop.ready.kind, shop.probe.kind, shop.cwd) == ("infrastructure", "none", "none", str(tmp_path))
    assert load(service(RIGHT + ", port: 10600")).services["shop"].ready.kind == "tcp"
    assert load(service(RIGHT + ", ready: exit")).services["shop"].ready.kind == "exit"
    assert load(service("command: [a, b c], memory: 1MB")).services["shop"].argv == ("a", "b c")


@pytest.mark.parametrize(
    ("rest", "problem", "hint"),
    [
        ("memory: 1MB", "services.shop has no command", "write command:"),
        ("command: '', memory: 1MB", "command: names no program", "program argument"),
        ("command: 'a \"b', memory: 1MB", "cannot be split into words", "close the quote"),
        (RIGHT + ", memory_limit: 1MB", "unknown key 'memory_limit'", "did you mean memory?"),
        ("command: x, memory: 64MB, start_peak: 65MB", "start_peak: is larger than memory", "at least as large"),
        (RIGHT + ", port: 80000", "'80000' is no port", "1 to 65535"),
        (RIGHT + ", port: '10600:80'", "'10600:80' is no port", "10600"),
        (RIGHT + ", status: ready", "'ready' is unknown", "built, planned"),
        (RIGHT + ", start: on-demand", "on-demand is not in this version", "services start at boot"),
        ("by: nobody, port: 10005", "'nobody' is unknown", "gateway, control"),
        ("by: gateway, memory: 1MB", "unknown key 'memory'", "by, port"),
        (RIGHT + ", port: 10600, ports: {a: 10601}", "port and ports are both written", "ports"),
        (RIGHT + ", ports: [10600]", "here are names with ports meant", "ports: {http"),
        (RIGHT + ", ready: http", "http needs a path", "write ready: {http: /health}"),
        (RIGHT + ", ready: {http: /health}", "http needs a port", "write port"),
        (RIGHT + ", port: 10600, ready: {http: health}", "is no path", "/health"),
        (RIGHT + ", port: 10600, ready: {timeout: 1s}", "says no kind of check", "http, tcp"),
        (RIGHT + ", port: 10600, ready: {tcp: true, exit: true}", "are both written", "write one of"),
        (RIGHT + ", port: 10600, probe: {tcp: true, port: web}", "has no port 'web'", "main"),
        (RIGHT + ", ready: htp", "'htp' is unknown", "did you mean http?"),
        (RIGHT + ", probe: exit", "'exit' is unknown", "write one of"),
        (RIGHT + ", restart: on-unhealthy", "on-unhealthy needs a probe", "probe"),
        (RIGHT + ", cwd: nowhere", "there is no folder", "relative to the manifest"),
        (RIGHT + ", weight: 0", "0 is out of bounds", "1 to 10000"),
        (RIGHT + ", cpu: 2", "2 has no unit", "write 2c"),
        (RIGHT + ", stop_grace: 2", "2 has no unit", "write 2s"),
        (RIGHT + ", pool: reserve", "unknown pool 'reserve'", "infrastructure"),
        (RIGHT + ", pool: standrd", "unknown pool 'standrd'", "did you mean standard?"),
        (RIGHT + ", cpu_set: fast", "unknown cpu set 'fast'", "define it under cpu_sets"),
        ("command: x, memory: 13GB", "above its pool infrastructure (12 GB)", "lower memory"),
        (RIGHT + ", after: [shop]", "shop waits for itself", "remove shop"),
        (RIGHT + ", after: [shp]", "waits for unknown 'shp'", "did you mean shop?"),
        (RIGHT + ", after: [llm]", "which this fleet does not have", "add llm"),
        (RIGHT + ", after: [gateway]", "waits for gateway", "all services are ready"),
        (RIGHT + ", env: [A=1]", "here are keys with values meant", "indented"),
        ("command: 'x {port}', memory: 1MB", "the service has no port", "write port: 10600"),
        ("command: 'x {prot}', memory: 1MB", "unknown placeholder {prot}", "did you mean {port}?"),
        ("command: 'x {port.web}', memory: 1MB, port: 10600", "there is no port 'web'", "main"),
    ],
)
def test_mistakes(wrong: Wrong, rest: str, problem: str, hint: str) -> None:
    """Each mistake is one message with its place and what to write."""
    mistake = one(wrong(service(rest)))
    assert problem in mistake.problem
    assert hint in mistake.hint
    assert mistake.line == 3
    assert mistake.column > 1


def test_real_braces(load: Load) -> None:
    """Doubled braces are braces, and single ones that are no words stay as they are."""
    argv = load(service("""command: ['x', '{{python}}', '{"a": 1}'], memory: 1MB""")).services["shop"].argv
    assert argv[1] == "{{python}}"


@pytest.mark.parametrize("name", ["broker", "llm", "gateway", "zygote", "python-0", "platform", "critical", "sutazaid"])
def test_names_of_the_platform(wrong: Wrong, name: str) -> None:
    """Our own names are taken: they are cgroups and logs."""
    mistake = one(wrong(f"fleet: a\nservices: {{{name}: {{{RIGHT}}}}}\n"))
    assert mistake.problem == f"the name {name} belongs to the platform"


def test_service_and_agent_of_one_name(wrong: Wrong) -> None:
    """Names are unique over services and agents."""
    text = f"fleet: a\nservices:\n  health-monitor: {{{RIGHT}}}\nagents:\n  health-monitor:\n"
    mistake = one(wrong(text))
    assert mistake.problem == "health-monitor is a service and an agent"
    assert mistake.line == 5
    assert "line 3" in mistake.hint


def test_waiting_for_an_agent(wrong: Wrong) -> None:
    """Agents start on demand, so nothing can wait for one."""
    text = f"fleet: a\nservices: {{shop: {{{RIGHT}, after: [health-monitor]}}}}\nagents: [health-monitor]\n"
    assert "waits for the agent health-monitor" in one(wrong(text)).problem


def test_cycle_is_named(wrong: Wrong) -> None:
    """Three services that wait for each other: the circle is written out."""
    text = "fleet: a\nservices:\n" + "".join(
        f"  {name}: {{{RIGHT}, after: [{after}]}}\n" for name, after in (("a", "b"), ("b", "c"), ("c", "a"))
    )
    mistake = one(wrong(text))
    assert mistake.problem == "services wait for each other in a circle: a → b → c → a"
    assert mistake.hint == "remove one after, for example b from a"
    assert mistake.line == 3


def test_set_that_contradicts_a_member_list(wrong: Wrong) -> None:
    """A service cannot name one set and be a member of another."""
    text = (
        "fleet: a\ncpu_sets:\n  x: {cores: 0, members: [shop]}\n  y: {cores: 1}\n"
        f"services:\n  shop: {{{RIGHT}, cpu_set: y}}\n"
    )
    mistake = one(wrong(text))
    assert mistake.problem == "shop is in two cpu sets"
