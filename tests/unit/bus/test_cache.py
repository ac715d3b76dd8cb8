"""The cache of agents: both drivers keep the contract, and whatever is the matter with one, a turn goes on."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from broker_rig import Peer, Rig

from sutazai.bus.cache import FileCache
from sutazai.errors import UnavailableError
from sutazai.testing.cache_contract import CacheContract

if TYPE_CHECKING:
    from pathlib import Path


class TestFile(CacheContract):
    """The driver of the embedded profile."""

    now_ms = 5_000

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        """Give it a file."""
        self.path = tmp_path / "cache.sqlite"

    async def make_driver(self) -> FileCache:
        return FileCache(self.path, lambda: self.now_ms, 2_000_000)

    async def pass_time(self, milliseconds: int) -> None:
        self.now_ms += milliseconds

    def test_what_was_not_used_for_the_longest_time_goes_at_the_bound(self) -> None:
        """What has expired goes first; the file is as large as it may be, and what is larger than all is not kept."""

        async def test(driver: Any) -> None:
            for number in range(15):
                self.now_ms += 100_000
                await driver.set("a", str(number), b"x" * 100_000, 10_000_000)
            self.now_ms += 100_000
            assert await driver.get("a", "0")
            await driver.set("a", "gone", b"x" * 300_000, 1)
            self.now_ms += 100_000
            await driver.set("b", "new", b"x" * 300_000, 10_000_000)
            assert await driver.get("a", "0"), "the expired one made the room"
            for number in range(30):
                self.now_ms += 100_000
                await driver.get("a", "0")
                await driver.set("b", str(number), b"x" * 100_000, 10_000_000)
            assert await driver.get("a", "0"), "it was used"
            assert await driver.get("a", "1") is None
            assert driver.facts()["bytes"] <= 2_000_000
            assert driver.facts()["evicted"] > 0
            await driver.set("a", "huge", b"x" * 3_000_000, 10_000)
            assert await driver.get("a", "huge") is None

        self.run(test)

    def test_it_starts_warm_and_knows_its_size(self) -> None:
        """After a restart of the broker; only its owner may read the file."""

        async def test(driver: Any) -> None:
            await driver.set("a", "k", b"x" * 1_000, 60_000)
            await driver.close()
            again = await self.make_driver()
            assert await again.get("a", "k") == b"x" * 1_000
            assert again.facts()["bytes"] == driver.facts()["bytes"] > 1_000
            await again.close()
            assert self.path.stat().st_mode & 0o077 == 0

        self.run(test)

    def test_a_clock_that_begins_anew_keeps_nothing_longer(self) -> None:
        """The broker's clock is its store's; with a new store nobody can tell when an entry expires."""

        async def test(driver: Any) -> None:
            await driver.set("a", "k", b"1", 1_000)
            await driver.close()
            self.now_ms = 0
            again = await self.make_driver()
            assert await again.get("a", "k") is None
            await again.close()

        self.run(test)

    @pytest.mark.parametrize("damage", [b"this is no database", b"SQLite format 3\0" + b"\xff" * 5_000])
    def test_a_damaged_file_is_thrown_away(self, damage: bytes) -> None:
        """It is a cache: it begins anew."""
        self.path.write_bytes(damage)

        async def test(driver: Any) -> None:
            assert await driver.get("a", "k") is None
            await driver.set("a", "k", b"1", 1_000)
            assert await driver.get("a", "k") == b"1"

        self.run(test)

    def test_a_disk_that_takes_nothing_is_told_and_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who asks is told that it is away; then it is used again by itself."""

        async def test(driver: Any) -> None:
            def fail(*_: Any, **__: Any) -> None:
                raise sqlite3.OperationalError("database or disk is full")

            with monkeypatch.context() as patch:
                patch.setattr(sqlite3, "connect", fail)
                with pytest.raises(UnavailableError, match="disk is full"):
                    await driver.set("a", "k", b"1", 1_000)
                self.now_ms += 2_000
                facts = driver.facts()
                assert (facts["state"], facts["for_ms"]) == ("away", 2_000)
            await driver.set("a", "k", b"1", 1_000)
            assert driver.facts()["state"] == "up"

        self.run(test)


class Parts(Peer):
    """A peer that keeps raw bytes too."""

    def send(self, message: dict[str, Any], blobs: Any = (), /) -> None:
        super().send(message)
        self.heard[-1]["parts"] = list(blobs)


class Memory:
    """A driver that does as it is told."""

    name = "memory"

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], bytes] = {}
        self.error: Exception | None = None

    async def get(self, agent: str, key: str) -> bytes | None:
        self._fail()
        return self.values.get((agent, key))

    async def set(self, agent: str, key: str, data: bytes, ttl_ms: int) -> None:
        self._fail()
        self.values[agent, key] = data + str(ttl_ms).encode()

    async def delete(self, agent: str, key: str) -> None:
        self._fail()
        self.values.pop((agent, key), None)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    def facts(self) -> dict[str, Any]:
        return {"driver": self.name, "state": "up"}

    async def close(self) -> None:
        await asyncio.sleep(0)


class Desk(Rig):
    """A broker with a cache, and an instance with a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Memory()
        self.broker.cache.driver = self.driver
        self.submit()
        self.peer = Parts()
        self.session = self.broker.connected(self.peer)
        self.say(self.session, {"t": "hello", "v": 1, "role": "instance", "agent": "a", "ticket": "k", "pid": 1})
        self.say(self.session, {"t": "pull"})
        turn = self.peer.heard.pop()
        self.peer.heard.clear()
        self.held = {"task": turn["task"]["id"], "fence": turn["fence"]}

    def ask(self, do: str, key: str = "k", blobs: tuple[bytes, ...] = (), **fields: Any) -> dict[str, Any]:
        """Ask and give the answer."""
        message = {"t": "cache", "id": 7, **self.held, "do": do, "key": key, **fields}
        self.broker.received(self.session, message, blobs)
        return self.peer.heard.pop()


def test_the_broker_knows_which_agent_asks() -> None:
    """A value goes to the agent's own place and comes back as a raw part."""
    desk = Desk()
    assert desk.ask("get") == {"t": "cached", "found": False, "re": 7, "parts": []}
    assert desk.ask("set", blobs=(b"1",), ttl_ms=5)["found"] is True
    assert desk.driver.values == {("a", "k"): b"15"}
    assert desk.ask("get") == {"t": "cached", "found": True, "re": 7, "parts": [b"15"]}
    assert desk.ask("delete")["found"] is True
    assert desk.ask("get")["found"] is False
    counts = desk.broker.statistics().as_json()["cache"]
    assert counts == {"driver": "memory", "state": "up", "hit": 1, "miss": 2, "set": 1, "deleted": 1, "failed": 0}


@pytest.mark.parametrize("error", [UnavailableError("away"), RuntimeError("a bug")])
def test_a_cache_that_fails_is_a_miss(error: Exception) -> None:
    """Whatever is asked; without a driver too; and it is counted."""
    desk = Desk()
    desk.driver.values["a", "k"] = b"1"
    desk.driver.error = error
    assert desk.ask("get")["found"] is False
    assert desk.ask("set", blobs=(b"1",))["found"] is False
    assert desk.ask("delete")["found"] is False
    assert desk.broker.cache.facts()["failed"] == 3
    desk.driver.error = None
    assert desk.ask("get")["found"] is True
    desk.broker.cache.driver = None
    assert desk.ask("get")["found"] is False


def test_too_many_questions_at_once_are_misses() -> None:
    """A cache that hangs does not fill the broker's memory."""
    desk = Desk()
    waiting: list[Any] = []
    desk.broker.cache.run = waiting.append
    for _ in range(100):
        desk.broker.received(desk.session, {"t": "cache", "id": 7, **desk.held, "do": "get", "key": "k"})
    assert len(waiting) == 64
    assert len(desk.peer.heard) == 36
    for work in waiting:
        asyncio.run(work)
    assert len(desk.peer.heard) == 100


@pytest.mark.parametrize(
    ("fields", "blobs", "code"),
    [
        ({"do": "set"}, (), "invalid-input"),
        ({"do": "get"}, (b"1",), "invalid-input"),
        ({"do": "set"}, (b"1", b"2"), "invalid-input"),
        ({"do": "set"}, (b"x" * (1024 * 1024 + 1),), "invalid-input"),
        ({"do": "set", "ttl_ms": 0}, (b"1",), "invalid-input"),
        ({"do": "swap"}, (), "invalid-input"),
        ({"do": "get", "key": ""}, (), "invalid-input"),
        ({"do": "get", "key": "k" * 201}, (), "invalid-input"),
        ({"do": "get", "fence": 99}, (), "fenced"),
    ],
)
def test_a_wrong_question_is_refused(fields: dict[str, Any], blobs: tuple[bytes, ...], code: str) -> None:
    """With its reason."""
    desk = Desk()
    assert desk.ask(blobs=blobs, **fields)["code"] == code


class Several(Desk):
    """Three instances of one agent, each with a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[tuple[Parts, Any, dict[str, Any]]] = [(self.peer, self.session, self.held)]
        for ticket in ("l", "m"):
            self.submit()
            peer = Parts()
            session = self.broker.connected(peer)
            self.say(session, {"t": "hello", "v": 1, "role": "instance", "agent": "a", "ticket": ticket, "pid": 1})
            self.say(session, {"t": "pull"})
            turn = peer.heard.pop()
            peer.heard.clear()
            self.turns.append((peer, session, {"task": turn["task"]["id"], "fence": turn["fence"]}))

    def tell(self, number: int, do: str = "get", blobs: tuple[bytes, ...] = (), **fields: Any) -> list[Any]:
        """One asks; gives what it heard."""
        _, session, held = self.turns[number]
        fields = {"make": True} if do == "get" else fields
        self.broker.received(session, {"t": "cache", "id": 7, **held, "do": do, "key": "k", **fields}, blobs)
        return self.heard(number)

    def heard(self, number: int) -> list[Any]:
        """What one heard of the cache: a value, or that it has to make it; forgets it."""
        peer = self.turns[number][0]
        found = [message for message in peer.heard if message["t"] == "cached"]
        peer.heard.clear()
        return [message["parts"][0] if message["parts"] else "make" for message in found if message.get("re") == 7]


def test_one_turn_makes_a_value_and_the_others_get_it() -> None:
    """They wait, and are not silent meanwhile; who makes it may ask again."""
    desk = Several()
    assert desk.tell(0) == ["make"]
    assert [desk.tell(1), desk.tell(2)] == [[], []]
    desk.pass_time(3_000)
    assert desk.tell(0) == ["make"]
    desk.tell(0, "set", (b"1",), ttl_ms=5)
    assert [desk.heard(1), desk.heard(2)] == [[b"1"], [b"1"]]
    assert desk.broker.cache._making == {}
    assert desk.tell(1) == [b"15"]


def test_when_the_maker_is_gone_one_other_makes_it() -> None:
    """The rest wait for that one; a value that the cache does not take is handed on all the same."""
    desk = Several()
    assert [desk.tell(number) for number in range(3)] == [["make"], [], []]
    desk.broker.disconnected(desk.turns[0][1])
    desk.pass_time(2_000)
    assert [desk.heard(1), desk.heard(2)] == [["make"], []]
    desk.driver.error = UnavailableError("away")
    desk.tell(1, "set", (b"2",))
    assert desk.heard(2) == [b"2"]


def test_nobody_waits_for_long() -> None:
    """Neither for a maker that is slow, nor behind one that never sets it; nothing is left over when all are done."""
    desk = Several()
    assert [desk.tell(number) for number in range(3)] == [["make"], [], []]
    _, session, held = desk.turns[0]
    for _ in range(4):
        desk.pass_time(1_500)
        desk.say(session, {"t": "heartbeat", **held})
    assert [desk.heard(1), desk.heard(2)] == [["make"], ["make"]]
    assert desk.tell(1) == [], "the first one makes it still"
    for number in range(3):
        desk.broker.disconnected(desk.turns[number][1])
    desk.pass_time(2_000)
    assert desk.broker.cache._making == {}


def test_a_turn_that_is_cancelled_while_it_waits_is_let_go() -> None:
    """So it hears that it was cancelled before it would be killed; one turn waits once."""
    desk = Several()
    assert [desk.tell(number) for number in range(2)] == [["make"], []]
    assert desk.tell(1) == ["make"], "a second question of the same turn does not wait"
    _, client = desk.client()
    desk.say(client, {"t": "cancel", "id": 1, "task": desk.turns[1][2]["task"]})
    desk.pass_time(500)
    assert desk.heard(1) == ["make"]
    assert all(not making.waiters for making in desk.broker.cache._making.values())
