"""A database that goes away in the middle of a group: everybody is answered once, and only what is true."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from broker_rig import Rig

from sutazai.bus import writer as module
from sutazai.bus.writer import Writer
from sutazai.errors import HostError, InternalError
from sutazai.store.protocol import StoreLostError
from sutazai.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sutazai.store import model
    from sutazai.store.protocol import ClockReading

SUBMIT = {"t": "submit", "id": 1, "tasks": [{"agent": "a", "skill": "do", "input": 1}]}


class Away(SqliteStore):
    """A store that is lost once, at a step, and found when the test says so."""

    in_process = False  # like the databases that go away

    def __init__(self, step: str) -> None:
        super().__init__(None)
        self.step = step
        self.back = threading.Event()
        self.asked = threading.Event()
        self.committed = False
        self.wrong: Exception | None = None

    def _lose(self, step: str) -> None:
        if self.step == step:
            self.step = ""
            raise StoreLostError(f"lost at {step}")

    def begin(self) -> None:
        self._lose("begin")
        super().begin()

    def apply(self, operation: model.Operation, now_ms: int, wall_ms: int) -> model.Outcome:
        outcome = super().apply(operation, now_ms, wall_ms)
        self._lose("apply")
        return outcome

    def commit(self, reading: ClockReading) -> None:
        self._lose("commit")
        super().commit(reading)
        self.committed = self.step == "answer"
        self._lose("answer")

    def recover(self) -> bool:
        self.asked.set()
        if not self.back.wait(0.01):
            raise StoreLostError("still away")
        if self.wrong is not None:
            raise self.wrong
        if not self.committed:
            self.rollback()
        return self.committed


class Setting:
    """A broker with its writer on a store that will be lost."""

    def __init__(self, step: str) -> None:
        self.rig = Rig()
        self.store = Away(step)
        self.rig.store = self.store
        self.rig.start()
        self.peer, self.session = self.rig.client()
        self.peer.heard.clear()
        self.writer = Writer(asyncio.get_running_loop(), self.rig.broker, lambda: None)

    def say(self, **more: Any) -> None:
        """Submit a task."""
        self.rig.broker.received(self.session, {**SUBMIT, **more})

    async def until(self, happened: Callable[[], bool]) -> None:
        """Let the loop run until something holds."""
        async with asyncio.timeout(20):
            while not happened():  # noqa: ASYNC110 the store's thread has no event of this loop
                await asyncio.sleep(0.002)

    def answers(self) -> list[tuple[Any, str, str]]:
        """What the client heard: request, type, and the error's code."""
        return [(message["re"], message["t"], message.get("code", "")) for message in self.peer.heard]


def run(step: str, story: Callable[[Setting], Coroutine[Any, Any, None]]) -> None:
    """Play a story on a loop of its own."""

    async def play() -> None:
        await story(Setting(step))

    asyncio.run(play())


class Synced(SqliteStore):
    """A store that remembers which thread committed; its disk takes as long as the test says, by a clock of its own."""

    def __init__(self) -> None:
        super().__init__(None)
        self.threads: list[str] = []
        self.took_s = self.clock_s = 0.0
        self.monotonic = time.monotonic

    def perf_counter(self) -> float:
        return self.clock_s

    def commit(self, reading: ClockReading) -> None:
        if self.wrote():
            self.threads.append(threading.current_thread().name)
            self.clock_s += self.took_s
        super().commit(reading)


def test_a_fast_disk_is_waited_for_in_place_and_a_slow_one_in_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it took lately decides, so a disk that becomes slow does not hold up the sockets for long."""

    async def play() -> None:
        rig = Rig()
        store = rig.store = Synced()
        monkeypatch.setattr(module, "time", store)
        rig.start()
        peer, session = rig.client()
        writer = Writer(asyncio.get_running_loop(), rig.broker, lambda: None)
        store.threads.clear()

        async def submit() -> None:
            peer.heard.clear()
            rig.broker.received(session, SUBMIT)
            async with asyncio.timeout(20):
                while not peer.heard:  # noqa: ASYNC110 the store's thread has no event of this loop
                    await asyncio.sleep(0)
            assert peer.heard[0]["t"] == "accepted"

        for _ in range(3):
            await submit()
        assert store.threads[-1] == "MainThread"
        store.took_s = 0.05
        for _ in range(3):
            await submit()
        assert store.threads[-1] == "commit"
        await writer.close()

    asyncio.run(play())


def test_a_commit_that_fails_in_place_ends_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the thread: what is on disk is not known, and the next broker reads it."""
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)

    class Broken(Synced):
        def commit(self, reading: ClockReading) -> None:
            if self.threads:
                raise InternalError("the disk is broken")
            super().commit(reading)

    async def play() -> None:
        rig = Rig()
        store = rig.store = Broken()
        rig.start()
        _, session = rig.client()
        Writer(asyncio.get_running_loop(), rig.broker, lambda: None)
        store.threads.append("armed")
        rig.broker.received(session, SUBMIT)
        async with asyncio.timeout(20):
            while not ended:  # noqa: ASYNC110 as above
                await asyncio.sleep(0)

    asyncio.run(play())
    assert ended == [70]


@pytest.mark.parametrize("step", ["begin", "apply", "commit", "answer"])
def test_a_group_that_was_cut_off_is_done_once(step: str) -> None:
    """Run anew when it was rolled back, settled when it was committed; nobody is answered before that is known."""

    async def story(it: Setting) -> None:
        it.say()
        await it.until(it.store.asked.is_set)
        it.say(id=2)
        await asyncio.sleep(0.05)
        assert it.answers() == []
        it.store.back.set()
        await it.until(lambda: len(it.peer.heard) == 2)
        assert it.answers() == [(1, "accepted", ""), (2, "accepted", "")]
        await it.writer.close()
        assert it.store.counts.open == 2
        assert it.store._connection.execute("SELECT COUNT(*) FROM tasks").fetchone() == (2,)

    run(step, story)


@pytest.mark.parametrize("step", ["apply", "answer"])
def test_who_asked_hears_in_a_bounded_time_that_the_store_is_away(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not done is said so; what may be done is said to be unknown, and is not answered a second time."""
    monkeypatch.setattr(module, "STORE_AWAY_ANSWER_MS", 10)
    monkeypatch.setattr(module, "_ANSWER_EVERY_S", 0.01)

    async def story(it: Setting) -> None:
        it.say()
        await it.until(it.store.asked.is_set)
        it.say(id=2)
        await it.until(lambda: len(it.peer.heard) == 2)
        assert sorted(it.answers()) == [(1, "error", "unavailable"), (2, "error", "unavailable")]
        texts = {message["re"]: message["detail"] for message in it.peer.heard}
        assert "this was not done" in texts[2]
        assert ("not known" if step == "answer" else "this was not done") in texts[1]
        it.store.back.set()
        await it.until(lambda: not it.writer._lost_s)
        it.say(id=3)
        await it.until(lambda: (3, "accepted", "") in it.answers())
        assert len(it.peer.heard) == 3
        await it.writer.close()
        assert it.store.counts.open == (2 if step == "answer" else 1)

    run(step, story)


def test_a_store_that_is_somebody_elses_ends_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process remembers is worth nothing then: the next broker reads what is stored."""
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)

    async def story(it: Setting) -> None:
        it.store.wrong = HostError("somebody else wrote")
        it.store.back.set()
        it.say()
        await it.until(lambda: bool(codes))
        assert codes[0] == 70
        assert it.answers() == []
        it.writer._ending.set()
        it.writer._commits.put(None)

    run("commit", story)


def test_a_broker_that_ends_does_not_wait_for_a_store_that_is_away() -> None:
    """Nobody was told anything, so nothing is lost; and nothing is started after the end."""

    async def story(it: Setting) -> None:
        it.say()
        await it.until(it.store.asked.is_set)
        async with asyncio.timeout(20):
            await it.writer.close()
        it.say(id=2)
        await asyncio.sleep(0.01)
        assert it.answers() == []

    run("commit", story)
