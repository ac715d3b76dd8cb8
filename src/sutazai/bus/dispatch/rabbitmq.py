"""Why it exists: signals over RabbitMQ: a quorum queue an agent, confirmed publishing; without it work goes on.

One connection's life is one function (``_session``): connect, declare, consume, until it ends; ``run`` begins it anew.
There is no second way by which a connection comes back, so none is ever there without its consumers. What is decided is
decided in ``signals``; here are only the frames. It runs on the broker's own thread and never waits there for RabbitMQ.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import stat
from collections import deque
from typing import TYPE_CHECKING, Any

from sutazai.bus.dispatch.signals import AWAY, BLOCKED, UP, Signals
from sutazai.errors import HostError
from sutazai.limits import (
    DISPATCH_CONFIRM_MS,
    DISPATCH_CONNECT_S,
    DISPATCH_DELIVERIES_MAX,
    DISPATCH_GIVE_UP_S,
    DISPATCH_HEARTBEAT_S,
    DISPATCH_PREFETCH_MAX,
    DISPATCH_PREFETCH_MIN,
    DISPATCH_PREPARE_S,
    DISPATCH_QUEUE_KEEP_MS,
    DISPATCH_RECONNECT_S_MAX,
    DISPATCH_SIGNALS_PER_MESSAGE_MAX,
    DISPATCH_UNCONFIRMED_MAX,
    DISPATCH_UNDELIVERABLE_MAX,
    KEY_CHARACTERS_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from aiormq.abc import AbstractChannel, DeliveredMessage

    from sutazai.bus.dispatch.protocol import Signal, Site
    from sutazai.store.model import Event

INSTALL = "pip install -r requirements/rabbitmq.txt"
_PAUSE_FIRST_S = 0.1
_EXPLAIN_S = 0.05
_CLOSE_S = 1.0
_MESSAGE_BYTES_MAX = DISPATCH_SIGNALS_PER_MESSAGE_MAX * (KEY_CHARACTERS_MAX * 4 + 1)

_log = logging.getLogger(__name__)


def read_url(path: Path) -> str:
    """Read where RabbitMQ is, with user and password, from a file that only its owner can read.

    Raises:
        HostError: the file is missing, open to others, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise HostError(f"{path} should hold RabbitMQ's URL: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HostError(f"{path} should hold RabbitMQ's URL and is no text") from error
    if stat.S_IMODE(mode) & 0o077:
        raise HostError(f"{path} holds a password and others may read it: chmod 600 {path}")
    if not text.startswith(("amqp://", "amqps://")) or len(text.split()) != 1:
        raise HostError(f"{path} should hold one URL: amqp://USER:PASSWORD@HOST:PORT/VHOST")
    return text


def load_library() -> Any:
    """Import the client library.

    Raises:
        HostError: it is not installed; the message names the command.
    """
    try:
        import aio_pika
    except ImportError as error:
        raise HostError(f"dispatch over RabbitMQ needs aio-pika; run: {INSTALL}") from error
    for name in ("aio_pika", "aiormq"):  # what goes wrong is said once, by this module
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return aio_pika


class RabbitMQ:
    """Looks where a message says so; while there are none to be had, everywhere.

    Args:
        fleet: its name; exchanges and queues begin with it.
        url: file with RabbitMQ's URL, mode 600; it is read for each connection.

    Raises:
        HostError: the client library is not installed.
    """

    name = "rabbitmq"
    carries = True

    def __init__(self, fleet: str, url: Path) -> None:
        self._library = load_library()
        self._fleet, self._url = fleet, url
        self._prefix = f"sutazai.{fleet}"
        self._channel: AbstractChannel | None = None
        self._consumers: dict[str, str] = {}  # agent by consumer tag
        self._consumed: dict[str, str] = {}  # consumer tag by agent
        self._prefetch: dict[str, int] = {}  # of its consumer, by agent
        self._replace: set[str] = set()
        self._to_prepare: dict[str, None] = {}
        self._out: deque[tuple[Callable[..., Any], Any]] = deque()
        self._to_send, self._to_declare = asyncio.Event(), asyncio.Event()
        self._given_up = asyncio.Event()
        self._unconfirmed: dict[int, tuple[float, str]] = {}
        self._number = 0
        self._room = asyncio.Semaphore(DISPATCH_UNCONFIRMED_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._undeliverable = 0
        self._state_since = (AWAY, 0)
        self._now_ms = 0

    # The driver: the deciding half is in ``signals``

    def serve(self, site: Site) -> None:
        """Work for this broker."""
        self._site = site
        self.signals = Signals(self, site)

    def looks(self, agent: str) -> int:
        """How many claims may be made."""
        return self.signals.looks(agent)

    def take(self, agent: str) -> Signal:
        """Use one look."""
        return self.signals.take(agent)

    def used(self, signal: Signal) -> None:
        """The claim is on disk."""
        self.signals.used(signal)

    def unused(self, signal: Signal) -> None:
        """The claim came to nothing."""
        self.signals.unused(signal)

    def committed(self, events: Sequence[Event]) -> None:
        """A group is on disk."""
        self.signals.committed(events)

    def tick(self, now_ms: int, waiting: Sequence[tuple[str, int]]) -> None:
        """Look whether signals are confirmed in time, and for lost ones."""
        self._watch_confirms()
        self._watch_plan()
        self.signals.tick(now_ms, waiting)
        self._now_ms = now_ms
        if self.signals.state != self._state_since[0]:
            self._state_since = (self.signals.state, now_ms)

    def facts(self) -> dict[str, Any]:
        """How it is doing."""
        return {
            "driver": self.name, **self.signals.facts(), "consumers": len(self._consumed),
            "for_ms": self._now_ms - self._state_since[1] if self.signals.state == self._state_since[0] else 0,
            "unconfirmed": len(self._unconfirmed), "undeliverable": self._undeliverable,
        }  # fmt: skip

    # The wire below ``signals``

    def prepare(self, agent: str) -> None:
        """Have a queue and a consumer."""
        self._to_prepare[agent] = None
        self._to_declare.set()

    def publish(self, agent: str, tasks: Sequence[str]) -> None:
        """Send signals."""
        self._out.append((self._publish, (agent, tuple(tasks))))
        self._to_send.set()

    def acknowledge(self, tag: int) -> None:
        """A message is done with."""
        self._out.append((self._acknowledge, (tag,)))
        self._to_send.set()

    # Connections

    async def run(self) -> None:
        """Be connected, again and again, until cancelled."""
        pause_s = _PAUSE_FIRST_S
        while True:
            why = "the connection was closed"
            try:
                await self._session()
            except Exception as error:  # noqa: BLE001 whatever the library raised: begin anew; work goes on meanwhile
                why = str(error) or type(error).__name__
            except asyncio.CancelledError:  # the library cancels what waits for a connection that it gives up
                why = "the connection was given up"
            finally:
                was = self.signals.state
                self._reset(why)
            # The library may also turn our own end into another error: the task itself knows.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError
            if was != AWAY:
                _log.warning("RabbitMQ is away, due tasks are looked for directly: %s", why)
                pause_s = _PAUSE_FIRST_S
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 no secret
            pause_s = min(DISPATCH_RECONNECT_S_MAX, pause_s * 2)

    def _reset(self, why: str) -> None:
        self._channel = None
        self._given_up.clear()
        self._room = asyncio.Semaphore(DISPATCH_UNCONFIRMED_MAX)
        for store in (self._consumers, self._consumed, self._prefetch, self._to_prepare, self._out, self._unconfirmed):
            store.clear()
        self.signals.lost(why)

    async def _session(self) -> None:
        """Live as long as one connection."""
        url = read_url(self._url)
        async with asyncio.timeout(DISPATCH_CONNECT_S):  # not wait_for: before 3.12 it may swallow our own end
            connection = await self._library.connect(
                url, heartbeat=DISPATCH_HEARTBEAT_S,
                client_properties={"connection_name": f"sutazai broker of {self._fleet}"},
            )  # fmt: skip
        try:
            opened = await connection.channel(publisher_confirms=True, on_return_raises=False)
            channel: AbstractChannel = await opened.get_underlay_channel()
            self._channel, self._connection = channel, connection
            channel.on_consumer_cancel_callbacks.add(self._cancelled)
            async with asyncio.timeout(DISPATCH_CONNECT_S):
                await self._declare(channel)
            self.signals.connected()
            _log.info("RabbitMQ carries the signals of this fleet")
            await self._work(channel)
        finally:
            for task in self._tasks:
                task.cancel()
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_CLOSE_S):
                    await connection.close()

    async def _declare(self, channel: AbstractChannel) -> None:
        """What all agents share: the exchange, and where undeliverable messages go."""
        dead = f"{self._prefix}.undeliverable"
        await channel.exchange_declare(self._prefix, exchange_type="direct", durable=True)
        await channel.exchange_declare(dead, exchange_type="fanout", durable=True)
        await channel.queue_declare(
            dead, durable=True,
            arguments={"x-queue-type": "quorum", "x-max-length": DISPATCH_UNDELIVERABLE_MAX, "x-overflow": "drop-head"},
        )  # fmt: skip
        await channel.queue_bind(queue=dead, exchange=dead)

    async def _work(self, channel: AbstractChannel) -> None:
        """Prepare queues and send, until the connection or the channel ends."""
        loop = asyncio.get_running_loop()
        sender, preparer = loop.create_task(self._send_all()), loop.create_task(self._prepare_all(channel))
        ended, given_up = channel.closing, loop.create_task(self._given_up.wait())
        try:
            await asyncio.wait({ended, sender, preparer, given_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, preparer, given_up):
                task.cancel()
        if self._given_up.is_set():
            raise HostError(f"RabbitMQ confirmed nothing for {DISPATCH_GIVE_UP_S} s: the connection is made anew")
        for done in (preparer, sender, ended):
            if done.done() and not done.cancelled() and (error := done.exception()):
                raise error

    async def _send_all(self) -> None:
        while True:
            while self._out:
                function, values = self._out.popleft()
                await function(*values)
            self._to_send.clear()
            await self._to_send.wait()

    # Publishing

    async def _publish(self, agent: str, tasks: tuple[str, ...]) -> None:
        """Send one message when there is room for another unconfirmed one."""
        await self._room.acquire()
        self._number += 1
        task = asyncio.get_running_loop().create_task(self._confirmed(self._number, agent, tasks))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _confirmed(self, number: int, agent: str, tasks: tuple[str, ...]) -> None:
        from pamqp.commands import Basic

        epoch, channel, room = self.signals.epoch, self._channel, self._room
        taken: Any = None
        try:
            if channel is not None:
                self._unconfirmed[number] = (asyncio.get_running_loop().time(), agent)
                taken = await channel.basic_publish(
                    "\n".join(tasks).encode(), exchange=self._prefix, routing_key=agent, mandatory=True,
                    properties=Basic.Properties(delivery_mode=2, content_type="text/plain"),
                )  # fmt: skip
        except Exception as error:  # noqa: BLE001 refused, or the connection is gone: the sweep looks in its place
            _log.debug("a signal of %s was not taken: %r", agent, error)
        finally:
            room.release()
            self._unconfirmed.pop(number, None)
        if epoch != self.signals.epoch:
            return
        if not isinstance(taken, Basic.Ack):
            self.signals.failed(agent, len(tasks))
            self.signals.unprepared(agent)
        if self.signals.state == BLOCKED and not self._unconfirmed:
            _log.info("RabbitMQ takes signals again")
            self.signals.unblocked()

    def _watch_confirms(self) -> None:
        """Whatever the reason is, who does not confirm in time is not relied on."""
        if not self._unconfirmed:
            return
        waited_s = asyncio.get_running_loop().time() - next(iter(self._unconfirmed.values()))[0]
        if waited_s > DISPATCH_GIVE_UP_S:
            self._replace.update(agent for _, agent in self._unconfirmed.values())
            self._given_up.set()
        elif waited_s * 1_000 > DISPATCH_CONFIRM_MS and self.signals.state == UP:
            self._out.extend([each for each in self._drained() if each[0] != self._publish])
            self.signals.blocked(f"it does not confirm signals: {waited_s:.1f} s")
            task = asyncio.get_running_loop().create_task(self._explain())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _drained(self) -> Iterator[tuple[Callable[..., Any], Any]]:
        while self._out:
            yield self._out.popleft()

    async def _explain(self) -> None:
        """Find out whether RabbitMQ said why."""
        try:
            await asyncio.wait_for(self._connection.transport.ready(), _EXPLAIN_S)
            why = f"it does not confirm signals within {DISPATCH_CONFIRM_MS} ms: it is stopped, or its disk is slow"
        except TimeoutError:
            why = "it takes no messages: its memory or disk alarm is on"
        if self.signals.state == BLOCKED:
            self.signals.why = why
        _log.warning("due tasks are looked for directly while RabbitMQ is blocked: %s", why)

    # Queues and consumers

    async def _prepare_all(self, channel: AbstractChannel) -> None:
        """Declare and consume, one agent after the other: a new quorum queue takes its server some 50 ms."""
        while True:
            while self._to_prepare:
                agent = next(iter(self._to_prepare))
                del self._to_prepare[agent]
                await self._prepare_in_time(channel, agent)
            self._to_declare.clear()
            await self._to_declare.wait()

    async def _prepare_in_time(self, channel: AbstractChannel, agent: str) -> None:
        """After a ``kill -9`` of RabbitMQ a quorum queue may never answer again: it is replaced, with its signals."""
        try:
            async with asyncio.timeout(DISPATCH_PREPARE_S):
                await self._prepare(channel, agent)
        except TimeoutError as error:
            self._replace.add(agent)
            raise HostError(f"the queue of {agent} does not answer: it is declared anew") from error

    async def _prepare(self, channel: AbstractChannel, agent: str) -> None:
        from aiormq.exceptions import ChannelPreconditionFailed

        name = f"{self._prefix}.agent.{agent}"
        if not self._wanted(agent):
            await self._cancel(channel, agent)
            self.signals.dropped(agent)
            return
        if agent in self._replace:
            await channel.queue_delete(name)
            self._replace.discard(agent)
        try:
            found = await channel.queue_declare(
                name, durable=True,
                arguments={
                    "x-queue-type": "quorum", "x-dead-letter-exchange": f"{self._prefix}.undeliverable",
                    "x-delivery-limit": DISPATCH_DELIVERIES_MAX, "x-expires": DISPATCH_QUEUE_KEEP_MS,
                },
            )  # fmt: skip
        except ChannelPreconditionFailed:
            self._replace.add(agent)  # other settings, of another version: it holds nothing but signals
            raise
        await channel.queue_bind(queue=name, exchange=self._prefix, routing_key=agent)
        if self._prefetch.get(agent) != self._wanted(agent):
            await self._cancel(channel, agent)
        if agent not in self._consumed or not found.consumer_count:
            await self._consume(channel, agent, name)
        self.signals.prepared(agent, found.message_count or 0)

    def _wanted(self, agent: str) -> int:
        """Messages that may be delivered and not used up: twice the agent's instances; 0 for an agent of no plan."""
        instances = self._site.instances_max(agent)
        return max(DISPATCH_PREFETCH_MIN, min(DISPATCH_PREFETCH_MAX, 2 * instances)) if instances > 0 else 0

    def _watch_plan(self) -> None:
        """A new plan may give an agent other numbers, or leave it out."""
        for agent, prefetch in self._prefetch.items():
            if prefetch != self._wanted(agent):
                self.prepare(agent)

    async def _cancel(self, channel: AbstractChannel, agent: str) -> None:
        """Consume no more for an agent; what was delivered stays delivered."""
        self._prefetch.pop(agent, None)
        tag = self._consumed.pop(agent, None)
        if tag is not None:
            del self._consumers[tag]
            await channel.basic_cancel(tag)

    async def _consume(self, channel: AbstractChannel, agent: str, name: str) -> None:
        self._prefetch[agent] = prefetch = self._wanted(agent)
        self._number += 1
        tag, epoch = f"{agent}.{self._number}", self.signals.epoch

        async def heard(message: DeliveredMessage) -> None:
            self._heard(agent, epoch, message)

        await channel.basic_qos(prefetch_count=prefetch)
        self._consumers[tag], self._consumed[agent] = agent, tag
        await channel.basic_consume(name, heard, consumer_tag=tag)

    def _heard(self, agent: str, epoch: int, message: DeliveredMessage) -> None:
        """A message came: signals of ours, or something that nobody can use."""
        tag = getattr(message.delivery, "delivery_tag", None)
        if epoch != self.signals.epoch or tag is None:
            return
        number = _signals_in(message.body)
        if number:
            self.signals.delivered(agent, tag, number)
            return
        self._undeliverable += 1
        _log.warning("a message in the queue of %s is no signal: it goes to %s.undeliverable", agent, self._prefix)
        self._out.append((self._reject, (tag,)))
        self._to_send.set()

    def _cancelled(self, frame: Any) -> None:
        """RabbitMQ took a consumer away: its queue was deleted."""
        agent = self._consumers.pop(frame.consumer_tag, None)
        if agent is not None and self._consumed.get(agent) == frame.consumer_tag:
            del self._consumed[agent]
            self._prefetch.pop(agent, None)
            self.signals.unprepared(agent)

    async def _acknowledge(self, tag: int) -> None:
        if self._channel is not None:
            await self._channel.basic_ack(tag, wait=False)

    async def _reject(self, tag: int) -> None:
        if self._channel is not None:
            await self._channel.basic_reject(tag, requeue=False)


def _signals_in(body: bytes) -> int:
    """How many identifiers a message carries; 0 when it is none of ours."""
    if not body or len(body) > _MESSAGE_BYTES_MAX:
        return 0
    try:
        names = body.decode().split("\n")
    except UnicodeDecodeError:
        return 0
    fits = len(names) <= DISPATCH_SIGNALS_PER_MESSAGE_MAX and all(
        0 < len(name) <= KEY_CHARACTERS_MAX and name.isprintable() for name in names
    )
    return len(names) if fits else 0
