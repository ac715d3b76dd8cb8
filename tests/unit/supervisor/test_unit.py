"""One process' record: pauses between restarts, the crash-loop window, and what the next sutazaid is told."""

from __future__ import annotations

from dataclasses import replace

from sutazai.supervisor.contract import Process, Restart
from sutazai.supervisor.probe import Outcome
from sutazai.supervisor.reaper import Exit
from sutazai.supervisor.unit import Health, Unit, spec_digest

RULE = Restart(base_ms=100, cap_ms=1_000, crash_loop_count=5, crash_loop_window_ms=10_000)
SPEC = Process(name="a", kind="service", argv=["/bin/true"], pool="p", stage="s")


def test_the_pause_doubles_with_full_jitter_up_to_the_cap() -> None:
    """The ceiling is base · 2ⁿ⁻¹; the random share takes a part of it, also none."""
    unit = Unit(SPEC, "p/a")
    ceilings = []
    for at in range(4):
        unit.failed(at, RULE)
        ceilings.append(unit.backoff_ms(1.0, RULE))
        assert unit.backoff_ms(0.0, RULE) == 0
    assert ceilings == [100, 200, 400, 800]


def test_a_crash_loop_is_many_ends_in_the_window_and_stays_near_the_cap() -> None:
    """The fifth end in the window makes it one; then the pause is in the upper half of the cap; later it is over."""
    unit = Unit(SPEC, "p/a")
    for at in range(5):
        assert not unit.crash_loops(RULE)
        unit.failed(at * 1_000, RULE)
    assert unit.crash_loops(RULE)
    assert unit.backoff_ms(0.0, RULE) == 500
    assert unit.backoff_ms(1.0, RULE) == 1_000
    unit.forget_old_failures(10_500, RULE)
    assert unit.failures_wall_ms == [1_000, 2_000, 3_000, 4_000]
    assert not unit.crash_loops(RULE)


def test_a_wall_clock_that_jumps_back_forgets_instead_of_counting_for_ever() -> None:
    """Failures that seem to lie in the future are dropped."""
    unit = Unit(SPEC, "p/a")
    unit.failed(1_000_000, RULE)
    unit.forget_old_failures(5, RULE)
    assert unit.failures_wall_ms == []


def test_the_digest_of_an_entry_changes_with_every_field() -> None:
    """Two entries of the plan that differ anywhere are told apart; equal ones are not."""
    assert spec_digest(SPEC) == spec_digest(replace(SPEC))
    for other in (replace(SPEC, argv=["/bin/false"]), replace(SPEC, env={"A": "1"}), replace(SPEC, uid=5)):
        assert spec_digest(other) != spec_digest(SPEC)


def test_an_exit_is_said_in_words() -> None:
    """A status, a signal by name, an unknown signal, and no knowledge at all."""
    assert Exit(3).words() == "exit status 3"
    assert Exit(-9).words() == "killed by SIGKILL"
    assert Exit(-99).words() == "killed by signal 99"
    assert Exit(None).words() == "ended (status unknown)"


def test_health_before_and_after_a_check() -> None:
    """Nothing before the first check; then the status, the latency and the failures in a row."""
    health = Health()
    assert health.to_json() is None
    health.last = Outcome(ok=False, status=500, latency_ms=12, text="HTTP 500")
    health.failures = 2
    seen = health.to_json()
    assert seen is not None
    assert (seen["ok"], seen["last_status"], seen["latency_ms"], seen["failures"]) == (False, 500, 12, 2)
