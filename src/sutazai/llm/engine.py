"""Why it exists: both doors ask the same slots, in the same line, with the same care for clients that go.

A door gives a checked request and gets text, or pieces of it, and how it ended with measured times. What went wrong
comes back as a ``Refusal``; the door writes it in its own form.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from sutazai.errors import SutazaiError
from sutazai.llm import refusal
from sutazai.llm.away import Watch
from sutazai.llm.desk import Desk, Job
from sutazai.llm.meters import Meters
from sutazai.llm.reading import unless_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from sutazai.llm.drivers.protocol import ChatRequest, Driver, Finish, Loaded
    from sutazai.llm.embedder import Embedder, Vectors
    from sutazai.llm.refusal import Refusal
    from sutazai.llm.settings import Settings

CLOSE_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Times:
    """How long an answer took, nanoseconds, measured here.

    Attributes:
        total: from the request's arrival to its end, waiting in line included.
        prompt: from its start in a slot to the first piece.
        answer: from the first piece to the end.
    """

    total: int
    prompt: int
    answer: int


@dataclass(frozen=True, slots=True)
class Done:
    """The last item of a stream.

    Attributes:
        finish: from the driver.
        times: measured.
    """

    finish: Finish
    times: Times


class Engine:
    """One loaded model with its line, the embedding model, and the counts of both.

    Args:
        driver: whose model is loaded.
        loaded: what ``driver.load()`` answered.
        settings: bounds.
        embedder: for vectors.
    """

    def __init__(self, driver: Driver, loaded: Loaded, settings: Settings, embedder: Embedder) -> None:
        self.driver, self.loaded, self.settings, self.embedder = driver, loaded, settings, embedder
        self.desk = Desk(driver, settings.slots, settings.queue_max)
        self.meters = Meters(loaded.name, loaded.need_bytes)
        self.watch = Watch(driver)
        self.started_s = time.monotonic()
        self.started_wall_s = time.time()

    async def whole(self, request: Request, asked: ChatRequest) -> tuple[str, Done] | None:
        """Answer in one piece; ``None`` when the client has gone, and then nothing is computed any more.

        Raises:
            Refusal: the line is full, or the driver refused or failed.
        """
        stream = Stream(self, asked)
        async with stream:
            collected = asyncio.create_task(_collect(stream))
            if not await unless_gone(request, collected):
                return None
            return collected.result()

    async def stream(self, request: Request, asked: ChatRequest) -> Stream | None:
        """Begin an answer in pieces; ``None`` when the client has gone before the first.

        The first piece is waited for here, so that a refusal still has its own status. Whoever gets the stream must
        leave it (``async with stream.left()``), also when it is not read.

        Raises:
            Refusal: as ``whole``.
        """
        stream = Stream(self, asked)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(stream)
            begun = asyncio.ensure_future(stream.begin())
            if not await unless_gone(request, begun):
                return None
            begun.result()
            stack.pop_all()
            return stream
        return None

    async def vectors(self, request: Request, texts: list[str], *, cut: bool) -> Vectors | None:
        """Turn texts into vectors; ``None`` when the client has gone.

        Raises:
            Refusal: a text is too long, too many wait, or the model is not here.
        """
        begun_s = time.monotonic()
        work = asyncio.ensure_future(self.embedder.embed(texts, cut=cut))
        if not await unless_gone(request, work):
            self.meters.failed("client-gone")
            return None
        try:
            found = work.result()
        except SutazaiError as error:
            raise refusal.of(error) from error
        self.meters.embedded(self.embedder.model.name, found.tokens, time.monotonic() - begun_s)
        return found

    async def close(self) -> None:
        """End all work; give the memory back unless a thread is still inside the library."""
        self.watch.stop()
        await self.embedder.close()
        if await self.desk.close(CLOSE_WAIT_S):
            self.driver.close()


class Stream:
    """One answer on its way: iterate for its pieces; the last item is ``Done``. Counts how it ended when it is left."""

    def __init__(self, engine: Engine, asked: ChatRequest) -> None:
        self._engine, self._asked = engine, asked
        self._stack = contextlib.AsyncExitStack()
        self._first: str | Finish | None = None
        self._outcome = "client-gone"
        self._arrived_ns = time.monotonic_ns()
        self._first_ns = 0
        self._job: Job | None = None

    async def __aenter__(self) -> Self:
        try:
            self._job = await self._stack.enter_async_context(self._engine.desk.take(self._asked))
        except SutazaiError as error:
            raise refusal.of(error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        if self._outcome:
            self._engine.meters.failed(self._outcome)

    @contextlib.asynccontextmanager
    async def left(self) -> AsyncIterator[None]:
        """Leave a stream that was entered before, at the end of the block."""
        try:
            yield
        finally:
            await self.__aexit__()

    async def begin(self) -> None:
        """Wait for the first item."""
        self._first = await self._next()

    async def items(self) -> AsyncIterator[str | Done]:
        """Give the pieces, then ``Done``.

        Raises:
            Refusal: the driver refused or failed.
        """
        while True:
            item = self._first if self._first is not None else await self._next()
            self._first = None
            if isinstance(item, str):
                yield item
                continue
            done = Done(item, self._times())
            self._outcome = ""
            self._engine.meters.answered(item, done.times.total / 1e9)
            yield done
            return

    async def _next(self) -> str | Finish:
        if self._job is None:
            raise RuntimeError("a stream is read inside its context")
        try:
            item = await self._job.next()
        except SutazaiError as error:
            failure = refusal.of(error)
            self._outcome = ""  # counted where the refusal is written
            raise failure from error
        self._first_ns = self._first_ns or time.monotonic_ns()
        return item

    def _times(self) -> Times:
        now_ns = time.monotonic_ns()
        started_ns = (self._job.started_ns if self._job else 0) or self._arrived_ns
        return Times(now_ns - self._arrived_ns, self._first_ns - started_ns, now_ns - self._first_ns)


async def _collect(stream: Stream) -> tuple[str, Done]:
    texts: list[str] = []
    async for item in stream.items():
        if isinstance(item, Done):
            return "".join(texts), item
        texts.append(item)
    raise SutazaiError("an answer ended without its finish")


def failed_midway(engine: Engine, failure: Refusal, path: str) -> dict[str, Any]:
    """What a stream says when its status is sent already and the driver fails."""
    engine.meters.failed(failure.code or failure.kind)
    return failure.body(path)
