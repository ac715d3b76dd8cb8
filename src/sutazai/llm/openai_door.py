"""Why it exists: tools written for OpenAI reach the fleet's model unchanged: its routes, its streams, its errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sutazai.errors import SutazaiError
from sutazai.llm import openai, openai_vectors, refusal, tokenizing
from sutazai.llm.engine import Done, failed_midway
from sutazai.llm.reading import CLIENT_GONE_STATUS, read_json
from sutazai.llm.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from sutazai.llm.engine import Engine, Stream
    from sutazai.llm.openai import ChatCall, Writer


class OpenAIDoor:
    """OpenAI's routes over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """Everything below ``/v1``, and ``/tokenize``."""
        return [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._completion, methods=["POST"]),
            Route("/v1/embeddings", self._vectors, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{name:path}", self._model, methods=["GET"]),
            Route("/tokenize", self._tokenize, methods=["POST"]),
        ]

    async def _chat(self, request: Request) -> Response:
        engine = self._engine
        call = openai.parse(await read_json(request), engine.loaded.name, engine.settings.output_tokens_max)
        return await self._answer(request, call, openai.Writer(engine.loaded.name))

    async def _completion(self, request: Request) -> Response:
        engine = self._engine
        call = openai.parse_completion(await read_json(request), engine.loaded.name, engine.settings.output_tokens_max)
        return await self._answer(request, call, openai.Writer(engine.loaded.name, chat=False))

    async def _answer(self, request: Request, call: ChatCall, writer: Writer) -> Response:
        if call.stream:
            stream = await self._engine.stream(request, call.request)
            if stream is None:
                return Response(status_code=CLIENT_GONE_STATUS)
            return StreamingResponse(self._events(call, stream, writer), media_type="text/event-stream")
        whole = await self._engine.whole(request, call.request)
        if whole is None:
            return Response(status_code=CLIENT_GONE_STATUS)
        text, done = whole
        return JSONResponse(writer.whole(text, done.finish))

    async def _events(self, call: ChatCall, stream: Stream, writer: Writer) -> AsyncIterator[str]:
        async with stream.left():
            try:
                if first := writer.first():
                    yield _event(first)
                async for item in stream.items():
                    if not isinstance(item, Done):
                        yield _event(writer.piece(item))
                        continue
                    yield _event(writer.last(item.finish))
                    if call.include_usage:
                        yield _event(writer.counted(item.finish))
                    yield "data: [DONE]\n\n"
            except Refusal as failure:
                yield _event(failed_midway(self._engine, failure, "/v1"))

    async def _vectors(self, request: Request) -> Response:
        call = openai_vectors.parse(await read_json(request))
        embedder = self._engine.embedder
        try:
            embedder.check(call.model, self._engine.loaded.name)
        except SutazaiError as error:
            raise refusal.of(error) from error
        found = await self._engine.vectors(request, call.texts, cut=call.cut)
        if found is None:
            return Response(status_code=CLIENT_GONE_STATUS)
        body = openai_vectors.written(call, found, embedder.model.name)
        return Response(msgspec.json.encode(body), media_type="application/json")

    async def _tokenize(self, request: Request) -> Response:
        engine = self._engine
        try:
            return JSONResponse(await tokenizing.answer(engine.driver, await read_json(request), engine.loaded.name))
        except SutazaiError as error:
            raise refusal.of(error) from error

    async def _models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": self._all()})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        embedder, found = self._engine.embedder, {facts["id"]: facts for facts in self._all()}
        plain = name.removesuffix(":latest")
        if plain in embedder.model.aliases:
            plain = embedder.model.name
        if plain not in found:
            known = " and ".join(repr(known) for known in found)
            raise Refusal(404, f"there is no model {name!r}; there is {known}", param="model", code="model_not_found")
        return JSONResponse(found[plain])

    def _all(self) -> list[dict[str, Any]]:
        engine, embedder = self._engine, self._engine.embedder
        created = int(engine.started_wall_s)
        chat = {
            "id": engine.loaded.name,
            "object": "model",
            "created": created,
            "owned_by": "sutazai",
            "context_tokens": engine.loaded.context_tokens,
            "output_tokens_max": engine.settings.output_tokens_max,
            **engine.loaded.facts,
        }
        if embedder.state == "absent":
            return [chat]
        vectors = {
            "id": embedder.model.name,
            "object": "model",
            "created": created,
            "owned_by": "sutazai",
            "dimensions": openai_vectors.DIMENSIONS,
            "file": embedder.model.file,
            "file_bytes": embedder.model.size_bytes,
        }
        return [chat, vectors]


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
