"""Why it exists: agents and people's own tools reach the model over HTTP, in the form that they already know.

``POST /v1/chat/completions`` (whole or as a stream), ``POST /tokenize``, ``GET /v1/models``, ``/health``,
``/metrics``. Errors have OpenAI's form, so that its client raises its own exceptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sutazai.errors import QueueFullError, SutazaiError
from sutazai.limits import BODY_BYTES_MAX, BODY_WAIT_MS_MAX
from sutazai.llm import openai, tokenizing
from sutazai.llm.desk import Desk, Job
from sutazai.llm.drivers.protocol import BadRequestError, Finish
from sutazai.llm.meters import CONTENT_TYPE, Meters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from sutazai.llm.drivers.protocol import Driver, Loaded
    from sutazai.llm.openai import ChatCall
    from sutazai.llm.settings import Settings

CLOSE_WAIT_S = 2.0
CLIENT_GONE_STATUS = 499
_log = logging.getLogger(__name__)


class LlmServer:
    """The HTTP face of one loaded model.

    Args:
        driver: whose model is loaded.
        loaded: what ``driver.load()`` answered.
        settings: bounds.
    """

    def __init__(self, driver: Driver, loaded: Loaded, settings: Settings) -> None:
        self._driver, self._loaded, self._settings = driver, loaded, settings
        self._desk = Desk(driver, settings.slots, settings.queue_max)
        self._meters = Meters(loaded.name, loaded.need_bytes)
        self._started_s = time.monotonic()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/tokenize", self._tokenize, methods=["POST"]),
                Route("/v1/models", self._models, methods=["GET"]),
                Route("/v1/models/{name:path}", self._model, methods=["GET"]),
                Route("/health", self._health, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
            ],
            exception_handlers={
                openai.OpenAIError: self._refuse,
                HTTPException: self._refuse_http,
                Exception: self._refuse_unexpected,
            },
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        if await self._desk.close(CLOSE_WAIT_S):
            self._driver.close()  # never under a thread that is still inside the library

    # ---- chat

    async def _chat(self, request: Request) -> Response:
        call = openai.parse(await _body(request), self._loaded.name, self._settings.output_tokens_max)
        jobs = contextlib.AsyncExitStack()
        try:
            job = await jobs.enter_async_context(self._desk.take(call.request))
        except QueueFullError as error:
            raise openai.OpenAIError(
                429, f"the queue is full: {error}", code="queue_full", retry_after_s=error.retry_after_s
            ) from error
        begun_s = time.monotonic()
        if not call.stream:
            async with jobs:
                return await self._whole(request, job, begun_s)
        first = await self._first(request, job, jobs)
        if first is None:
            return Response(status_code=CLIENT_GONE_STATUS)
        return StreamingResponse(self._events(call, job, jobs, (first, begun_s)), media_type="text/event-stream")

    async def _whole(self, request: Request, job: Job, begun_s: float) -> Response:
        """Answer in one piece; stop computing when the client has gone."""
        collected = asyncio.create_task(_collect(job))
        if not await _unless_gone(request, collected):
            job.cancel()
            self._meters.failed("client-gone")
            return Response(status_code=CLIENT_GONE_STATUS)
        try:
            text, finish = collected.result()
        except SutazaiError as error:
            raise self._failed(error) from error
        self._meters.answered(finish, time.monotonic() - begun_s)
        return JSONResponse(openai.Writer(self._loaded.name).whole(text, finish))

    async def _first(self, request: Request, job: Job, jobs: contextlib.AsyncExitStack) -> str | Finish | None:
        """Wait for the first item before the status is sent, so that a refusal still has its own status."""
        pieces = job.pieces()
        waiting = asyncio.ensure_future(anext(pieces))
        try:
            if await _unless_gone(request, waiting):
                return waiting.result()
        except SutazaiError as error:
            await jobs.aclose()
            raise self._failed(error) from error
        except BaseException:
            await jobs.aclose()
            raise
        await jobs.aclose()
        self._meters.failed("client-gone")
        return None

    async def _events(
        self, call: ChatCall, job: Job, jobs: contextlib.AsyncExitStack, begun: tuple[str | Finish, float]
    ) -> AsyncIterator[str]:
        first, begun_s = begun
        writer = openai.Writer(self._loaded.name)
        outcome = "cut-off"
        async with jobs:
            try:
                yield _event(writer.first())
                async for item in _then(first, job):
                    if not isinstance(item, Finish):
                        yield _event(writer.piece(item))
                        continue
                    outcome = ""
                    self._meters.answered(item, time.monotonic() - begun_s)
                    yield _event(writer.last(item))
                    if call.include_usage:
                        yield _event(writer.counted(item))
                    yield "data: [DONE]\n\n"
            except SutazaiError as error:
                failure = self._failed(error)
                outcome = failure.code or failure.kind
                yield _event(failure.body())
            finally:
                if outcome:
                    self._meters.failed(outcome)

    @staticmethod
    def _failed(error: SutazaiError) -> openai.OpenAIError:
        if isinstance(error, BadRequestError):
            return openai.OpenAIError(400, str(error), code="invalid_request")
        _log.warning("the driver failed: %s", error)
        return openai.OpenAIError(503 if error.retryable else 500, str(error), code=error.code, retry_after_s=1)

    async def _tokenize(self, request: Request) -> Response:
        try:
            return JSONResponse(await tokenizing.answer(self._driver, await _body(request), self._loaded.name))
        except SutazaiError as error:
            raise self._failed(error) from error

    # ---- facts

    async def _models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model_facts()]})

    async def _model(self, request: Request) -> Response:
        if request.path_params["name"] != self._loaded.name:
            raise openai.OpenAIError(404, f"the only model is {self._loaded.name!r}", code="model_not_found")
        return JSONResponse(self._model_facts())

    def _model_facts(self) -> dict[str, Any]:
        return {
            "id": self._loaded.name,
            "object": "model",
            "created": 0,
            "owned_by": "sutazai",
            "context_tokens": self._loaded.context_tokens,
            "output_tokens_max": self._settings.output_tokens_max,
            **self._loaded.facts,
        }

    async def _health(self, _request: Request) -> Response:
        now = self._desk.statistics()
        return JSONResponse(
            {
                "status": "healthy",
                "model": self._loaded.name,
                "driver": self._driver.name,
                "uptime": round(time.monotonic() - self._started_s, 3),
                "slots": self._settings.slots,
                "active": now.active,
                "waiting": now.waiting,
            }
        )

    async def _metrics(self, _request: Request) -> Response:
        return Response(self._meters.page(self._desk.statistics().waiting), media_type=CONTENT_TYPE)

    # ---- refusals

    async def _refuse(self, _request: Request, error: Exception) -> Response:
        refusal = error if isinstance(error, openai.OpenAIError) else openai.OpenAIError(500, str(error))
        self._meters.failed(refusal.code or refusal.kind)
        headers = {"Retry-After": str(refusal.retry_after_s)} if refusal.retry_after_s else {}
        return JSONResponse(refusal.body(), refusal.status, headers=headers)

    async def _refuse_http(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        texts = {404: f"there is no {request.url.path}", 405: f"{request.method} is not for {request.url.path}"}
        return JSONResponse(openai.OpenAIError(status, texts.get(status, str(error))).body(), status)

    async def _refuse_unexpected(self, _request: Request, error: Exception) -> Response:
        _log.error("a request failed", exc_info=error)
        self._meters.failed("internal")
        return JSONResponse(openai.OpenAIError(500, "the server failed; see its log", code="internal").body(), 500)


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _then(first: str | Finish, job: Job) -> AsyncIterator[str | Finish]:
    yield first
    if not isinstance(first, Finish):
        async for item in job.pieces():
            yield item


async def _collect(job: Job) -> tuple[str, Finish]:
    texts: list[str] = []
    async for item in job.pieces():
        if isinstance(item, Finish):
            return "".join(texts), item
        texts.append(item)
    raise SutazaiError("an answer ended without its finish")


async def _unless_gone(request: Request, work: asyncio.Future[Any]) -> bool:
    """Wait for work to end; answers ``False``, and cancels it, when the client closes its connection first."""
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        gone.cancel()
        if not work.done():
            work.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> Any:
    """Read a bounded body in bounded time, and decode it.

    Raises:
        OpenAIError: too large, too slow, no UTF-8, or no JSON.
    """
    data = bytearray()
    too_large = openai.OpenAIError(413, f"the body is larger than {BODY_BYTES_MAX} bytes", code="body_too_large")
    if int(request.headers.get("content-length") or 0) > BODY_BYTES_MAX:
        raise too_large
    try:
        async with asyncio.timeout(BODY_WAIT_MS_MAX / 1_000):
            async for chunk in request.stream():
                data += chunk
                if len(data) > BODY_BYTES_MAX:
                    raise too_large
    except TimeoutError as error:
        raise openai.OpenAIError(408, "the body did not arrive in time", code="timeout") from error
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise openai.OpenAIError(400, f"the body is no UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise openai.OpenAIError(400, f"the body is no JSON: {error}") from error
