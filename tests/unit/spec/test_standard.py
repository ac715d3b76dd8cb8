"""The standard profile's servers: what it brings, what a manifest may say of them, and what it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sutazai import plan, spec
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.spec.conftest import Load, Wrong

HEAD = "fleet: a\nprofile: standard\n"


def test_it_brings_its_servers_on_the_blueprints_ports(load: Load) -> None:
    """Each has a limit, a command of ours, and is asked in its own protocol."""
    services = load(HEAD).services
    assert {name: [port.number for port in service.ports] for name, service in services.items()} == {
        "postgres": [10000], "redis": [10001], "rabbitmq": [10007, 10008],
    }  # fmt: skip
    assert {name: (service.ready.kind, service.probe.kind) for name, service in services.items()} == {
        "postgres": ("postgres", "postgres"), "redis": ("redis", "redis"), "rabbitmq": ("amqp", "amqp"),
    }  # fmt: skip
    assert all(service.memory_bytes >= service.start_peak_bytes > 0 for service in services.values())
    assert services["rabbitmq"].argv == (
        "{python}", "-m", "sutazai.services", "rabbitmq", "--state", "{state}", "--memory", str(640 * MIB),
        "--port", "{port.amqp}", "--management-port", "{port.management}",
    )  # fmt: skip


def test_the_embedded_profile_has_none(load: Load) -> None:
    """It is the default, and written out it is the same."""
    assert load("fleet: a\n").services == load("fleet: a\nprofile: embedded\n").services == {}


def test_a_manifest_may_change_ports_limits_and_pool(load: Load) -> None:
    """One port or all, by name or in order; also one that the blueprint only plans for is started."""
    services = load(
        HEAD
        + "services:\n  postgres: {status: planned, port: 10020, memory: 1GB, description: Mine.}\n"
        + "  rabbitmq: {ports: {management: 10030}, pool: platform, memory: 700MB, start_peak: 300MB}\n"
    ).services
    postgres, rabbitmq = services["postgres"], services["rabbitmq"]
    assert (postgres.planned, postgres.ports[0].number, postgres.memory_bytes) == (False, 10020, 1024 * MIB)
    assert postgres.description == "Mine."
    assert [(port.name, port.number) for port in rabbitmq.ports] == [("amqp", 10007), ("management", 10030)]
    assert (rabbitmq.pool, rabbitmq.memory_bytes, rabbitmq.start_peak_bytes) == ("platform", 700 * MIB, 300 * MIB)


def test_its_servers_have_our_command(wrong: Wrong) -> None:
    """A command beside it would be another server under that name."""
    (mistake,) = wrong(HEAD + "services:\n  redis: {command: redis-server, memory: 64MB, port: 10001}\n")
    assert mistake.problem == "services.redis: the profile standard runs this server itself"
    assert "remove its command" in mistake.hint
    assert mistake.line == 4


def test_without_the_profile_a_server_needs_a_command(wrong: Wrong) -> None:
    """The name alone brings nothing."""
    (mistake,) = wrong("fleet: a\nservices:\n  redis: {memory: 64MB, port: 10001}\n")
    assert mistake.problem == "services.redis has no command"


def test_the_command_line_may_choose(tmp_path: Path) -> None:
    """The other profile is another fleet to compile: its digest differs; a wrong word is a mistake."""
    path = tmp_path / "sutazai.yaml"
    path.write_text("fleet: a\nprofile: embedded\n")
    written, chosen = spec.load(path), spec.load(path, profile="standard")
    assert (written.profile, chosen.profile) == ("embedded", "standard")
    assert written.digest != chosen.digest
    with pytest.raises(ExceptionGroup, match="1 mistake") as caught:
        spec.load(path, profile="standart")
    assert caught.value.exceptions[0].hint == "did you mean standard?"  # type: ignore[attr-defined]


def test_the_broker_starts_behind_its_servers(load: Load) -> None:
    """What it stores in and what it is told by come first; the cache is in nobody's way."""
    made = plan.make(load(HEAD), plan.parse_host("4c,16GB"))
    assert made.fits
    steps = {stage.name: stage.steps for stage in made.stages}
    assert steps["store"] == (("postgres", "rabbitmq"), ("broker",))
    assert steps["services"] == (("redis",),)
