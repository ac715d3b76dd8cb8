"""Why it exists: the facts over HTTP, read-only, with errors as RFC 9457 problems.

Questions that read files or ``/proc`` run in two threads, so that a scrape or a health check never waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from sutazai.control import exposition
from sutazai.control.answers import Answers
from sutazai.control.question import Question
from sutazai.control.sources import wall_ms
from sutazai.errors import InternalError, InvalidInputError, NotFoundError, SutazaiError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    from sutazai.control.sampler import Sampler

THREADS = 2
RETRY_AFTER_S = 1

_STATUS_BY_ERROR: tuple[tuple[type[SutazaiError], int], ...] = (
    (InvalidInputError, 400),
    (NotFoundError, 404),
    (UnavailableError, 503),
)
_encode = msgspec.json.Encoder().encode


def build(sampler: Sampler) -> Starlette:
    """Make the application; the sampler runs while it is served."""
    answers = Answers(sampler)
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="answer")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sampler.start()
        try:
            yield
        finally:
            await asyncio.to_thread(sampler.stop)
            pool.shutdown(wait=False, cancel_futures=True)

    def route(path: str, answer: Callable[[Question], dict[str, Any]], *, slow: bool = False) -> Route:
        async def endpoint(request: Request) -> Response:
            question = Question(request.query_params.multi_items(), wall_ms())
            if slow:
                body = await asyncio.get_running_loop().run_in_executor(pool, lambda: _encode(answer(question)))
            else:
                body = _encode(answer(question))
            return Response(body, media_type="application/json")

        return Route(path, endpoint, methods=["GET"])

    async def prometheus(_: Request) -> Response:
        return Response(answers.prometheus(), media_type=exposition.CONTENT_TYPE)

    routes = [
        route("/v1/status", answers.status),
        route("/v1/conditions", answers.conditions, slow=True),
        route("/v1/metrics", answers.metrics, slow=True),
        route("/v1/metrics/names", answers.metric_names),
        route("/v1/logs", answers.logs, slow=True),
        route("/v1/memory", answers.memory, slow=True),
        route("/v1/events", answers.events, slow=True),
        route("/v1/agents", answers.agents),
        route("/v1/health", answers.health),
        Route("/metrics", prometheus, methods=["GET"]),
    ]
    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        SutazaiError: _refused,
        HTTPException: _http_error,
        Exception: _broken,
    }
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


async def _refused(_: Request, error: Exception) -> Response:
    status = next((number for kind, number in _STATUS_BY_ERROR if isinstance(error, kind)), 500)
    code = error.code if isinstance(error, SutazaiError) else InternalError.code
    return problem(status, code, str(error), retryable=isinstance(error, UnavailableError))


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == HTTPStatus.NOT_FOUND:
        return problem(status, NotFoundError.code, "there is no such page: see docs/reference/control-api.md")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        return problem(status, "refused", "facts can only be read: use GET", headers=headers)
    return problem(status, "refused", str(getattr(error, "detail", error)))


async def _broken(_: Request, error: Exception) -> Response:
    return problem(500, InternalError.code, f"control failed to answer: {type(error).__name__}")


def problem(
    status: int, code: str, detail: str, *, retryable: bool = False, headers: dict[str, str] | None = None
) -> Response:
    """Write an error as ``application/problem+json``."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "retryable": retryable,
    }
    more = {"retry-after": str(RETRY_AFTER_S)} if retryable else {}
    return Response(_encode(body), status, {**(headers or {}), **more}, "application/problem+json")
