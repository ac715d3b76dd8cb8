"""The driver in the process keeps the contract; signals that are lost, doubled, late or out of order harm nobody."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from broker_rig import Rig
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai.bus.dispatch.inproc import Inproc
from sutazai.bus.dispatch.protocol import ALWAYS
from sutazai.bus.dispatch.rabbitmq import RabbitMQ, _signals_in, load_library, read_url
from sutazai.bus.dispatch.signals import AWAY, BLOCKED, UP, Signals
from sutazai.errors import HostError
from sutazai.limits import DISPATCH_SIGNALS_MAX, DISPATCH_SIGNALS_PER_MESSAGE_MAX, DISPATCH_SWEEP_MS
from sutazai.testing.dispatch_contract import DispatchContract

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sutazai.bus.dispatch.protocol import Driver, Signal, Site
    from sutazai.store.model import Event


class TestInproc(DispatchContract):
    """The contract."""

    def driver(self) -> Driver:
        return Inproc()


class Scripted:
    """A driver whose wire is a list: what is published is delivered when, and as often as, the test says."""

    name = "scripted"
    carries = True

    def __init__(self) -> None:
        self.sent: list[tuple[str, tuple[str, ...]]] = []
        self.acknowledged: list[int] = []
        self.wanted: list[str] = []
        self.tag = 0

    def serve(self, site: Site) -> None:
        self.signals = Signals(self, site)

    async def run(self) -> None:
        """Nothing."""

    def looks(self, agent: str) -> int:
        return self.signals.looks(agent)

    def take(self, agent: str) -> Signal:
        return self.signals.take(agent)

    def used(self, signal: Signal) -> None:
        self.signals.used(signal)

    def unused(self, signal: Signal) -> None:
        self.signals.unused(signal)

    def committed(self, events: Sequence[Event]) -> None:
        self.signals.committed(events)

    def tick(self, now_ms: int, waiting: Sequence[tuple[str, int]]) -> None:
        self.signals.tick(now_ms, waiting)

    def facts(self) -> dict[str, Any]:
        return {"driver": self.name, **self.signals.facts()}

    def prepare(self, agent: str) -> None:
        self.wanted.append(agent)

    def publish(self, agent: str, tasks: Sequence[str]) -> None:
        self.sent.append((agent, tuple(tasks)))

    def acknowledge(self, tag: int) -> None:
        self.acknowledged.append(tag)

    # The test

    def connect(self) -> None:
        """Be there, with all queues that are asked for, empty."""
        self.signals.connected()
        self.prepared()

    def prepared(self, waiting: int = 0) -> None:
        """All queues that were asked for are there."""
        wanted, self.wanted = dict.fromkeys(self.wanted), []
        for agent in wanted:
            self.signals.prepared(agent, waiting)

    def deliver(self, agent: str, number: int = 1) -> int:
        """A message comes."""
        self.tag += 1
        self.signals.delivered(agent, self.tag, number)
        return self.tag

    def deliver_all(self) -> None:
        """Everything that was sent comes."""
        sent, self.sent = self.sent, []
        for agent, tasks in sent:
            self.deliver(agent, len(tasks))


@pytest.fixture
def rig() -> Rig:
    """A broker with a scripted driver that is connected and knows the agent ``a``."""
    rig = Rig()
    driver = Scripted()
    rig.driver = driver  # type: ignore[attr-defined]
    rig.broker.dispatch_by(driver)
    driver.connect()
    rig.submit()
    driver.prepared()
    rig.settle()
    assert driver.sent
    driver.deliver_all()
    return rig


def scripted(rig: Rig) -> Scripted:
    """Its driver."""
    driver: Scripted = rig.driver  # type: ignore[attr-defined]
    return driver


def pulling(rig: Rig, ticket: str, agent: str = "a") -> tuple[Any, Any]:
    """An instance that asked for work."""
    peer, session = rig.instance(agent, ticket)
    peer.kinds()
    rig.say(session, {"t": "pull"})
    return peer, session


def test_a_claim_waits_for_its_signal_and_acknowledges_it(rig: Rig) -> None:
    """Held until an instance asks; acknowledged when the claim is on disk, not before."""
    driver = scripted(rig)
    assert driver.acknowledged == []
    peer, _ = pulling(rig, "k1")
    assert peer.kinds() == ["turn"]
    assert driver.acknowledged == [1]
    second = rig.submit()
    idle, _ = pulling(rig, "k2")
    assert idle.kinds() == [], "the signal of the second task has not come yet"
    assert driver.sent == [("a", (second,))]
    driver.deliver_all()
    rig.settle()
    assert idle.kinds() == ["turn"]


def test_a_lost_signal_is_swept_and_its_queue_looked_after(rig: Rig) -> None:
    """After a second without a signal the broker looks by itself, once for each idle instance."""
    driver = scripted(rig)
    pulling(rig, "k1")
    rig.submit()
    peer, _ = pulling(rig, "k2")
    driver.sent.clear()
    rig.pass_time(DISPATCH_SWEEP_MS // 2)
    assert peer.kinds() == []
    rig.pass_time(DISPATCH_SWEEP_MS)
    assert peer.kinds() == ["turn"]
    assert driver.signals.totals.swept == 1
    assert driver.wanted == ["a"]


def test_doubled_and_stale_signals_are_let_go(rig: Rig) -> None:
    """What has nothing to look for is acknowledged at once, and no instance is woken for it."""
    driver = scripted(rig)
    peer, _ = pulling(rig, "k1")
    peer.kinds()
    for _ in range(3):
        driver.deliver("a")
    driver.deliver("nobody", 5)
    assert driver.acknowledged == [1, 2, 3, 4, 5]
    assert driver.signals.totals.surplus == 8
    assert not rig.broker.has_work()


def test_a_message_is_acknowledged_when_its_last_signal_is_settled(rig: Rig) -> None:
    """It carried three; two are used, one had nothing left to look for."""
    driver = scripted(rig)
    pulling(rig, "k1")
    peer, session = rig.client()
    tasks = [{"agent": "a", "skill": "do"} for _ in range(3)]
    rig.say(session, {"t": "submit", "id": 1, "tasks": tasks})
    ids = [task["id"] for task in peer.heard.pop()["tasks"]]
    assert driver.sent == [("a", tuple(ids))]
    driver.deliver_all()
    pulling(rig, "k2")
    pulling(rig, "k3")
    assert driver.acknowledged == [1]
    last = next(task for task in ids if rig.status(task) == "queued")
    rig.say(session, {"t": "cancel", "id": 2, "task": last})
    assert driver.acknowledged == [1, 2]


def test_without_a_connection_the_broker_looks_everywhere(rig: Rig) -> None:
    """Away: signals at hand are void, nothing is published, tasks run. Back: only what is missing is sent."""
    driver = scripted(rig)
    driver.signals.lost("the cable")
    assert (driver.signals.state, driver.signals.looks("a")) == (AWAY, ALWAYS)
    peer, _ = pulling(rig, "k1")
    assert peer.kinds() == ["turn"]
    waiting = [rig.submit() for _ in range(4)]
    assert driver.sent == []
    assert driver.acknowledged == []
    driver.connect()
    rig.settle()
    assert {task for _, tasks in driver.sent for task in tasks} == set(waiting)
    driver.signals.lost("again")
    driver.sent.clear()
    driver.signals.connected()
    driver.prepared(waiting=3)
    rig.settle()
    assert [len(tasks) for _, tasks in driver.sent] == [1], "three of the four were still in the queue"


def test_a_signal_of_an_older_connection_is_not_acknowledged_over_a_new_one(rig: Rig) -> None:
    """Its number means another message there."""
    driver = scripted(rig)
    signal = driver.take("a")
    driver.signals.lost("cut")
    driver.connect()
    driver.used(signal)
    driver.unused(signal)
    assert driver.acknowledged == []


def test_while_it_is_blocked_nothing_is_sent_and_everything_runs(rig: Rig) -> None:
    """Signals that still come are used; afterwards the rest is sent."""
    driver = scripted(rig)
    driver.signals.blocked("alarm")
    assert driver.signals.state == BLOCKED
    peer, _ = pulling(rig, "k1")
    assert (peer.kinds(), driver.acknowledged) == (["turn"], [1])
    task = rig.submit()
    assert driver.sent == []
    driver.signals.unblocked()
    rig.settle()
    assert driver.sent == [("a", (task,))]


def test_a_consumer_that_was_taken_away_is_replaced_and_not_waited_for(rig: Rig) -> None:
    """Its queue was deleted: the broker looks by itself until there is another one."""
    driver = scripted(rig)
    pulling(rig, "k1")
    rig.submit()
    peer, _ = pulling(rig, "k2")
    assert peer.kinds() == []
    driver.signals.unprepared("a")
    rig.settle()
    assert peer.kinds() == ["turn"]
    assert driver.wanted == ["a"]


def test_nobody_is_signalled_who_has_no_instances(rig: Rig) -> None:
    """Tasks that wait for people have no queue; an agent that left the plan loses its own, its signals are let go."""
    driver = scripted(rig)
    rig.submit("human")
    driver.signals.connected()
    assert driver.wanted == ["a"]
    driver.prepared()
    driver.deliver("a")
    driver.signals.dropped("a")
    assert driver.acknowledged == [driver.tag]
    late = driver.deliver("a", 2)
    assert driver.acknowledged[-1] == late
    assert list(driver.signals.lanes) == []


def test_a_long_queue_is_signalled_in_parts(rig: Rig) -> None:
    """No more than the bound is in flight, in messages of a bounded size, and the next part is read from the store."""
    driver = scripted(rig)
    _, session = rig.client()
    tasks = [{"agent": "a", "skill": "do"} for _ in range(2 * DISPATCH_SIGNALS_MAX)]
    rig.say(session, {"t": "submit", "id": 1, "tasks": tasks})
    lane = driver.signals.lanes["a"]
    assert lane.in_flight == DISPATCH_SIGNALS_MAX
    assert max(len(names) for _, names in driver.sent) == DISPATCH_SIGNALS_PER_MESSAGE_MAX
    driver.deliver_all()
    _, worker = pulling(rig, "k1")
    for number in range(DISPATCH_SIGNALS_MAX):
        instance = worker.instance
        lease = instance.lease
        rig.say(
            worker,
            {"t": "commit", "id": number, "task": lease.task, "fence": lease.fence, "outcome": "result", "pull": True},
        )
        driver.deliver_all()
        rig.settle()
        assert DISPATCH_SIGNALS_MAX // 2 <= lane.in_flight <= DISPATCH_SIGNALS_MAX
    assert driver.signals.totals.direct == 0


class Unlucky:
    """A broker whose signals have any fate, decided by a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 a simulation
        self.rig, self.driver = Rig(), Scripted()
        self.rig.broker.dispatch_by(self.driver)
        self.peers = [pulling(self.rig, f"k{number}", f"a{number % 2}") for number in range(4)]
        self.tasks: list[str] = []
        self.turns: list[str] = []

    def step(self) -> None:
        """Perhaps a task comes, something happens to the signals, perhaps instances work."""
        if self.rng.random() < 0.5:
            session = {"session": "s"} if self.rng.random() < 0.3 else {}
            self.tasks.append(self.rig.submit(f"a{self.rng.randrange(2)}", **session))
        self.happen(self.driver.signals)
        self.rig.settle()
        if self.rng.random() < 0.5:
            self.work()

    def happen(self, signals: Signals) -> None:
        fate = self.rng.random()
        if fate < 0.05:
            signals.lost("cut")
        elif fate < 0.15 and signals.state == AWAY:
            signals.connected()
        elif fate < 0.18 and signals.state == UP:
            signals.blocked("alarm")
        elif fate < 0.3 and signals.state == BLOCKED:
            signals.unblocked()
        elif fate < 0.5:
            self.driver.prepared(self.rng.randint(0, 3))
        elif self.driver.sent:
            agent, names = self.driver.sent.pop(self.rng.randrange(len(self.driver.sent)))
            for _ in range(self.rng.choice((0, 1, 1, 1, 2)) if signals.state != AWAY else 0):
                self.driver.deliver(agent, len(names))

    def work(self) -> None:
        for peer, session in self.peers:
            heard = [message for message in peer.heard if message["t"] == "turn"]
            peer.heard.clear()
            for message in heard:
                task = message["task"]["id"]
                self.turns.append(task)
                commit = {"t": "commit", "id": 1, "task": task, "fence": message["fence"], "outcome": "result"}
                self.rig.say(session, {**commit, "pull": True})

    def is_done(self) -> bool:
        return all(self.rig.status(task) == "succeeded" for task in self.tasks)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_fate_of_signals_ends_with_every_task_done_once(seed: int) -> None:
    """Lost, doubled, reordered, delayed; connections cut and blocked in between: each task has exactly one turn."""
    world = Unlucky(seed)
    for _ in range(60):
        world.step()
    for _ in range(4 * len(world.tasks)):
        if world.is_done():
            break
        world.rig.pass_time(DISPATCH_SWEEP_MS)
        world.work()
    assert sorted(world.turns) == sorted(world.tasks)


def test_a_cancellation_from_inside_the_library_does_not_end_the_driver(tmp_path: Path) -> None:
    """What waits for a dead connection is cancelled by the library; the next connection is made all the same."""
    driver = RabbitMQ("f", tmp_path / "url")
    rig = Rig()
    rig.broker.dispatch_by(driver)
    sessions = []

    async def live() -> None:
        third = asyncio.Event()

        async def session() -> None:
            sessions.append(1)
            if len(sessions) == 3:
                third.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError as error:  # as the library may do
                    raise RuntimeError("closed") from error
            raise asyncio.CancelledError

        driver._session = session  # type: ignore[method-assign]
        run = asyncio.create_task(driver.run())
        await asyncio.wait_for(third.wait(), 30)
        run.cancel()
        await asyncio.wait_for(asyncio.gather(run, return_exceptions=True), 5)
        assert run.cancelled()

    asyncio.run(live())


# What people get wrong


def test_the_url_is_read_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    """Each mistake says what to do; the password stands in none of them."""
    path = tmp_path / "url"
    with pytest.raises(HostError, match="should hold RabbitMQ's URL: No such file"):
        read_url(path)
    path.write_text("amqp://sutazai:secret@127.0.0.1:5672/%2F\n")
    path.chmod(0o644)
    with pytest.raises(HostError, match=f"others may read it: chmod 600 {path}") as caught:
        read_url(path)
    assert "secret" not in str(caught.value)
    path.chmod(0o600)
    assert read_url(path) == "amqp://sutazai:secret@127.0.0.1:5672/%2F"
    for wrong in ("", "http://x:secret@y", "amqp://a secret"):
        path.write_text(wrong)
        with pytest.raises(HostError, match="should hold one URL: amqp://USER:PASSWORD@HOST:PORT/VHOST") as caught:
            read_url(path)
        assert "secret" not in str(caught.value)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(HostError, match="is no text"):
        read_url(path)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who asks for RabbitMQ without its requirements is told the command."""
    monkeypatch.setitem(__import__("sys").modules, "aio_pika", None)
    for attempt in (load_library, lambda: RabbitMQ("f", tmp_path / "url")):
        with pytest.raises(HostError, match=r"needs aio-pika; run: pip install -r requirements/rabbitmq.txt"):
            attempt()


@pytest.mark.parametrize(
    ("body", "number"),
    [(b"t1", 1), (b"t1\nt2\nt3", 3), (b"", 0), (b"\n", 0), (b"a\n\nb", 0), (b"\xff\xfe", 0), (b"x" * 300, 0),
     (b"\n".join([b"t"] * 33), 0), (b"a\tb", 0), (b"{}" * 20_000, 0)],
)  # fmt: skip
def test_only_identifiers_are_signals(body: bytes, number: int) -> None:
    """Anything else that lies in a queue of ours is undeliverable."""
    assert _signals_in(body) == number
