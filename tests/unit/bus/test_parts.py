"""The small parts of the broker: its clock, its histograms, groups on a full disk, the line to ``sutazaid``."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.bus.clock import BrokerClock
from sutazai.bus.directory import Directory
from sutazai.bus.group import Entry, GroupHooks, run_group
from sutazai.bus.link import Link
from sutazai.bus.statistics import Histogram, Meters
from sutazai.errors import NotFoundError, StorageFullError
from sutazai.store import model
from sutazai.store.protocol import ClockReading, DiskFullError
from sutazai.store.sqlite import SqliteStore
from sutazai.testing.manual_clock import ManualClock

if TYPE_CHECKING:
    from pathlib import Path


def test_an_agent_that_is_only_planned_is_named_so() -> None:
    """Who asks it learns that it is not built, instead of looking for a mistake in the name."""
    directory = Directory({}, ["later"])
    with pytest.raises(NotFoundError, match="later is planned and not built in this version: it takes no tasks"):
        directory.check("later", "run")
    with pytest.raises(NotFoundError, match="there is no agent 'latr'"):
        directory.check("latr", "run")


@pytest.mark.parametrize(
    ("boot", "monotonic_passed", "wall_passed", "wanted"),
    [
        ("same", 700, -50_000, 10_700),
        ("same", 700, 50_000, 10_700),
        ("other", 700, 50_000, 60_000),
        ("other", 700, -50_000, 10_000),
        ("", 700, 900, 10_900),
    ],
    ids=["wall back", "wall forward", "after a boot", "after a boot, wall back", "boot unknown"],
)
def test_the_clock_goes_on_after_a_restart(boot: str, monotonic_passed: int, wall_passed: int, wanted: int) -> None:
    """Within a boot by the monotonic clock, after one by the wall, never backwards."""
    stored = ClockReading(10_000, 5_000, 1_000_000, "same" if boot else "")
    clock = ManualClock(5_000 + monotonic_passed, 1_000_000 + wall_passed)
    assert BrokerClock(clock, stored, boot).now_ms() == wanted


def test_a_wall_clock_that_jumps_moves_nothing() -> None:
    """While the broker runs only the monotonic clock counts."""
    clock = ManualClock()
    broker_clock = BrokerClock(clock, None)
    before = broker_clock.now_ms()
    clock.jump_wall(-86_400_000)
    clock.advance(5)
    assert broker_clock.now_ms() == before + 5


def test_a_histogram_is_exact_to_a_bucket() -> None:
    """Quantiles are at most a fourth of a doubling above the value; extremes are kept."""
    found = Histogram()
    assert found.quantile_ms(0.5) == 0.0
    for number in range(1, 1_001):
        found.add(float(number))
    assert 500 <= found.quantile_ms(0.5) <= 500 * 2**0.25
    assert 990 <= found.quantile_ms(0.99) <= 1_000
    found.add(0.0)
    found.add(1e9)
    assert found.summary()["max_ms"] == 1e9


def test_ends_are_counted_in_total_and_by_agent() -> None:
    """Each end of a task stands in both counts."""
    meters = Meters()
    for kind, agent in (("succeeded", "a"), ("succeeded", "a"), ("dead", "b")):
        meters.ended(kind, agent)
    assert (meters.totals.succeeded, meters.totals.dead) == (2, 1)
    assert meters.outcomes == {"a": {"succeeded": 2}, "b": {"dead": 1}}


def test_a_refused_caller_is_told_when_to_come_back() -> None:
    """The fuller the queue and the slower it empties, the later; within bounds."""
    meters = Meters()
    meters.tick(1)
    meters.totals.succeeded = 1_000
    meters.tick(1_001)
    assert meters.retry_after_s(100_000) in {5, 6}
    assert Meters().retry_after_s(100_000) == 60
    assert meters.retry_after_s(1) == 1


class FullStore(SqliteStore):
    """A store whose disk is full for a number of writes."""

    def __init__(self, failures: int) -> None:
        super().__init__(None)
        self.failures = failures
        self.rooms = 0

    def apply(self, operation: model.Operation, now_ms: int, wall_ms: int) -> model.Outcome:
        """Fail first."""
        if self.failures:
            self.failures -= 1
            raise DiskFullError("full")
        return super().apply(operation, now_ms, wall_ms)

    def give_room(self) -> None:
        """Count, and act as the real one."""
        self.rooms += 1
        super().give_room()


def entries() -> list[Entry]:
    """A submission and a read."""
    task = model.NewTask("t1", "a", "do", "1", 5, 60_000, 3)
    return [Entry(operation, lambda _: None) for operation in (model.Submit((task,)), model.List(None, None, 5))]


def test_a_group_that_meets_a_full_disk_is_done_again_in_the_room_set_aside() -> None:
    """The ballast is given up, submissions are refused, everything else is done."""
    store = FullStore(1)
    clock = BrokerClock(ManualClock(), None)
    undone: list[int] = []
    done = run_group(store, clock, entries(), GroupHooks(lambda _: [], lambda: undone.append(1))).done
    store.commit(clock.reading())
    assert isinstance(done[0].result, StorageFullError)
    assert isinstance(done[1].result, model.Outcome)
    assert (store.rooms, undone) == (1, [1])


def test_a_disk_that_stays_full_ends_the_group() -> None:
    """No transaction is left open, so the next group can start."""
    store = FullStore(2)
    clock = BrokerClock(ManualClock(), None)
    with pytest.raises(DiskFullError):
        run_group(store, clock, entries(), GroupHooks(lambda _: [], lambda: None))
    store.begin()
    store.rollback()


def test_the_line_to_sutazaid_connects_again_and_hears_pushes(tmp_path: Path) -> None:
    """It says hello on each connection, gets replies by number, hears pushes, survives nonsense and a lost peer."""

    async def scenario() -> tuple[list[str], list[bool], list[dict[str, Any]], list[dict[str, Any]]]:
        hellos: list[str] = []
        ups: list[bool] = []
        pushes: list[dict[str, Any]] = []
        answers: list[dict[str, Any]] = []
        rounds = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            hello = json.loads(await reader.readline())
            hellos.append(hello["process"])
            if len(hellos) == 1:
                writer.write(b"no json\n")
                return
            writer.write(b'{"push":"room","agent":"a"}\n')
            wake = json.loads(await reader.readline())
            writer.write(json.dumps({"id": wake["id"], "ok": True, "status": "yes"}).encode() + b"\n")
            await reader.read()
            writer.close()

        def linked(up: bool) -> None:  # noqa: FBT001 a callback
            ups.append(up)
            if len(hellos) == 1 and up:
                link.send({"op": "wake", "agent": "a", "want": 1}, answered)

        def answered(reply: dict[str, Any]) -> None:
            answers.append(reply)
            rounds.set()

        path = tmp_path / "s"
        link = Link(path, pushes.append, linked)
        assert link.send({"op": "wake"}) is False
        running = asyncio.ensure_future(link.run([{"op": "hello", "process": "broker"}]))
        await asyncio.sleep(0)
        async with await asyncio.start_unix_server(serve, str(path)):
            await asyncio.wait_for(rounds.wait(), 30)
            running.cancel()
        return hellos, ups, pushes, answers

    hellos, ups, pushes, answers = asyncio.run(scenario())
    assert hellos == ["broker", "broker"]
    assert ups[:3] == [True, False, True]
    assert pushes == [{"push": "room", "agent": "a"}]
    assert answers[0]["status"] == "yes"
