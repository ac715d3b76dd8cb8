"""Why it exists: agents and people's own tools reach the model over HTTP, in the form that they already know.

Two doors on one port, OpenAI's below ``/v1`` and Ollama's below ``/api``, and what the fleet itself asks: ``/health``,
``/metrics``. Each error has the form of its door, so that a client raises its own exceptions.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sutazai.llm.engine import Engine
from sutazai.llm.meters import CONTENT_TYPE
from sutazai.llm.ollama_door import OllamaDoor
from sutazai.llm.openai_door import OpenAIDoor
from sutazai.llm.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from sutazai.llm.drivers.protocol import Driver, Loaded
    from sutazai.llm.embedder import Embedder
    from sutazai.llm.settings import Settings

_log = logging.getLogger(__name__)


class LlmServer:
    """The HTTP face of one loaded model.

    Args:
        driver: whose model is loaded.
        loaded: what ``driver.load()`` answered.
        settings: bounds.
        embedder: for vectors.
    """

    def __init__(self, driver: Driver, loaded: Loaded, settings: Settings, embedder: Embedder) -> None:
        self._engine = Engine(driver, loaded, settings, embedder)

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                *OpenAIDoor(self._engine).routes(),
                *OllamaDoor(self._engine).routes(),
                Route("/health", self._health, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
            ],
            exception_handlers={
                Refusal: self._refuse,
                HTTPException: self._refuse_http,
                Exception: self._refuse_unexpected,
            },
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._engine.watch.start()
        yield
        await self._engine.close()

    async def _health(self, _request: Request) -> Response:
        engine = self._engine
        now = engine.desk.statistics()
        away = engine.watch.reason
        return JSONResponse(
            {
                "status": "unavailable" if away else "healthy",
                **({"reason": away} if away else {}),
                "model": engine.loaded.name,
                "driver": engine.driver.name,
                "uptime": round(time.monotonic() - engine.started_s, 3),
                "slots": engine.settings.slots,
                "active": now.active,
                "waiting": now.waiting,
                "embeddings": {"model": engine.embedder.model.name, "state": engine.embedder.state},
            },
            503 if away else 200,
        )

    async def _metrics(self, _request: Request) -> Response:
        engine = self._engine
        embedding = (engine.embedder.model.name, engine.embedder.need_bytes)
        if engine.watch.known:
            engine.meters.there(is_there=not engine.watch.reason)
        return Response(engine.meters.page(engine.desk.statistics().waiting, embedding), media_type=CONTENT_TYPE)

    # ---- refusals

    async def _refuse(self, request: Request, error: Exception) -> Response:
        refused = error if isinstance(error, Refusal) else Refusal(500, str(error))
        self._engine.meters.failed(refused.code or refused.kind)
        return JSONResponse(refused.body(request.url.path), refused.status, headers=refused.headers())

    async def _refuse_http(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        texts = {404: f"there is no {request.url.path}", 405: f"{request.method} is not for {request.url.path}"}
        return JSONResponse(Refusal(status, texts.get(status, str(error))).body(request.url.path), status)

    async def _refuse_unexpected(self, request: Request, error: Exception) -> Response:
        _log.error("a request failed", exc_info=error)
        self._engine.meters.failed("internal")
        refused = Refusal(500, "the server failed; see its log", code="internal")
        return JSONResponse(refused.body(request.url.path), 500)
