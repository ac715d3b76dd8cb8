"""The broker keeps its promises in hundreds of unlucky worlds, each of which can be seen again by its seed."""

from __future__ import annotations

import os

import pytest

from sutazai.testing.simulation import World
from sutazai.testing.simulation_checks import SimulationError

SEEDS = int(os.environ.get("SUTAZAI_SIMULATION_SEEDS", "210"))
FIRST = int(os.environ.get("SUTAZAI_SIMULATION_FIRST", "0"))
_BLOCK = 30


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, _BLOCK))
def test_promises_hold_in_unlucky_worlds(first: int) -> None:
    """Deaths of broker and instances at any step, lost messages, doubled commits: nothing is lost, nothing doubled."""
    for seed in range(first, first + _BLOCK):
        World(seed).run()


def test_a_seed_replays_the_same_world() -> None:
    """Two worlds of one seed live through the same, so that a failing seed can be looked at."""

    def story(seed: int) -> list[tuple[object, ...]]:
        world = World(seed).run()
        names = [row[0] for row in world.checks._query("SELECT id FROM tasks ORDER BY seq")]
        rows = world.checks._query("SELECT seq, status, fence, attempt, turns, events FROM tasks ORDER BY seq")
        return [*rows, (len(names), world.clock.monotonic_ms())]

    assert story(7) == story(7)


def test_a_broken_promise_names_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the broker is made to forget its leases, the simulation says so, with the seed and the way to replay it."""
    monkeypatch.setattr("sutazai.bus.leases.LeaseBook.restore", lambda *_: None)
    with pytest.raises(SimulationError, match=r"seed 1: did not come to rest.*replay with World\(1\)"):
        World(1).run()
