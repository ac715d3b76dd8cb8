"""Why it exists: tools written for Ollama reach the fleet's model unchanged: its routes, its streams, its errors."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import sutazai
from sutazai.errors import SutazaiError
from sutazai.llm import cards, fields, models, ollama, openai_vectors, refusal
from sutazai.llm.embedder import shortened
from sutazai.llm.engine import Done, failed_midway
from sutazai.llm.reading import CLIENT_GONE_STATUS, read_json
from sutazai.llm.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from sutazai.llm.cards import Card
    from sutazai.llm.engine import Engine, Stream
    from sutazai.llm.ollama import Kind, Writer

ALIVE = "Ollama is running"  # what its clients look for
LINES = "application/x-ndjson"
NEVER = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
NOT_OFFERED = (
    "{path} is not offered: the fleet's manifest chooses the model (llm.model), and files come by "
    "python -m sutazai.llm.fetch NAME"
)


class OllamaDoor:
    """Ollama's routes over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        embedded = engine.embedder.model
        self._bounds = ollama.Bounds(
            model=engine.loaded.name,
            embed_model=frozenset({embedded.name, *embedded.aliases}),
            context_tokens=engine.loaded.context_tokens,
            output_tokens_max=engine.settings.output_tokens_max,
        )

    def routes(self) -> list[Route]:
        """Everything below ``/api``, and the root that says that somebody is there."""
        return [
            Route("/", self._alive, methods=["GET"]),
            Route("/api/version", self._version, methods=["GET"]),
            Route("/api/generate", self._generate, methods=["POST"]),
            Route("/api/chat", self._chat, methods=["POST"]),
            Route("/api/embed", self._embed, methods=["POST"]),
            Route("/api/embeddings", self._embeddings, methods=["POST"]),
            Route("/api/tags", self._tags, methods=["GET"]),
            Route("/api/show", self._show, methods=["POST"]),
            Route("/api/ps", self._ps, methods=["GET"]),
            Route("/api/pull", self._pull, methods=["POST"]),
            Route("/api/delete", self._not_offered, methods=["DELETE"]),
            Route("/api/create", self._not_offered, methods=["POST"]),
            Route("/api/copy", self._not_offered, methods=["POST"]),
            Route("/api/push", self._not_offered, methods=["POST"]),
            Route("/api/blobs/{digest}", self._not_offered, methods=["POST", "HEAD"]),
        ]

    # ---- answers

    async def _generate(self, request: Request) -> Response:
        return await self._answer(request, "generate")

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, "chat")

    async def _answer(self, request: Request, kind: Kind) -> Response:
        call = ollama.parse(kind, await read_json(request), self._bounds)
        writer = ollama.Writer(kind, call.model)
        if call.request is None:
            return JSONResponse(writer.loaded()) if not call.stream else _lines([writer.loaded()])
        if call.stream:
            stream = await self._engine.stream(request, call.request)
            if stream is None:
                return Response(status_code=CLIENT_GONE_STATUS)
            return StreamingResponse(self._events(stream, writer), media_type=LINES)
        whole = await self._engine.whole(request, call.request)
        if whole is None:
            return Response(status_code=CLIENT_GONE_STATUS)
        return JSONResponse(writer.last(*whole))

    async def _events(self, stream: Stream, writer: Writer) -> AsyncIterator[str]:
        async with stream.left():
            try:
                async for item in stream.items():
                    yield _line(writer.last("", item) if isinstance(item, Done) else writer.piece(item))
            except Refusal as failure:
                yield _line(failed_midway(self._engine, failure, refusal.OLLAMA_PATHS))

    # ---- vectors

    async def _embed(self, request: Request) -> Response:
        begun_ns = time.monotonic_ns()
        body = fields.mapping(await read_json(request))
        name = self._embedding_name(body)
        wanted = openai_vectors.dimensions(body)
        cut = bool(fields.field(body, "truncate", bool, True))  # noqa: FBT003 a default
        given = body.get("input")
        texts = openai_vectors.texts(given, least=0) if given else []  # nothing asked is nothing answered
        rows: list[list[float]] = []
        tokens = load_ns = 0
        if texts:
            found = await self._engine.vectors(request, texts, cut=cut)
            if found is None:
                return Response(status_code=CLIENT_GONE_STATUS)
            rows, tokens, load_ns = found.values, found.tokens, found.load_ns
        if wanted is not None and wanted < openai_vectors.DIMENSIONS:
            rows = [shortened(row, wanted) for row in rows]
        total_ns = time.monotonic_ns() - begun_ns
        answer = {"model": name, "embeddings": rows, "total_duration": total_ns, "load_duration": load_ns}
        return _fast({**answer, "prompt_eval_count": tokens})

    async def _embeddings(self, request: Request) -> Response:
        """The older form: one ``prompt``, one ``embedding``."""
        body = fields.mapping(await read_json(request))
        self._embedding_name(body)
        prompt = fields.text(body.get("prompt") or "", "prompt")
        if not prompt:
            return JSONResponse({"embedding": []})
        found = await self._engine.vectors(request, [prompt], cut=True)
        if found is None:
            return Response(status_code=CLIENT_GONE_STATUS)
        return _fast({"embedding": found.values[0]})

    def _embedding_name(self, body: dict[str, Any]) -> str:
        name = ollama.model_name(body)
        ollama.keep_alive(body.get("keep_alive"))
        try:
            self._engine.embedder.check(name, self._engine.loaded.name)
        except SutazaiError as error:
            raise Refusal(404, str(error)) from error
        return name

    # ---- facts

    async def _alive(self, _request: Request) -> Response:
        return PlainTextResponse(ALIVE)

    async def _version(self, _request: Request) -> Response:
        return JSONResponse({"version": sutazai.__version__})

    async def _tags(self, _request: Request) -> Response:
        return JSONResponse({"models": [_row(card) for card in await self._cards()]})

    async def _ps(self, _request: Request) -> Response:
        embedder, rows = self._engine.embedder, []
        for card in await self._cards():
            is_chat = card.use == "completion"
            if not is_chat and embedder.state != "loaded":
                continue
            leaves = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=embedder.unload_in_s())
            row = _row(card)
            row.pop("modified_at")
            row["size"] = self._engine.loaded.need_bytes if is_chat else embedder.need_bytes
            row["expires_at"] = ollama.stamp(NEVER if is_chat else leaves)
            row["size_vram"] = 0
            row["context_length"] = self._bounds.context_tokens if is_chat else card.head.get("bert.context_length", 0)
            rows.append(row)
        return JSONResponse({"models": rows})

    async def _show(self, request: Request) -> Response:
        name = ollama.model_name(fields.mapping(await read_json(request)))
        card = self._find(await self._cards(), name)
        bounds = self._bounds
        is_chat = card.use == "completion"
        return JSONResponse(
            {
                "modelfile": f"FROM {card.name}\n",
                "parameters": f"num_ctx {bounds.context_tokens}\nnum_predict {bounds.output_tokens_max}"
                if is_chat
                else "",
                "template": card.template,
                "license": card.licence,
                "details": card.details,
                "model_info": card.head,
                "capabilities": [card.use],
                "modified_at": ollama.stamp(card.modified),
            }
        )

    async def _cards(self) -> list[Card]:
        engine = self._engine

        def read() -> list[Card]:
            found = [cards.of_loaded(engine.loaded)]
            return found if engine.embedder.state == "absent" else [*found, cards.of_embedding(engine.embedder.model)]

        return await asyncio.to_thread(read)  # the first time a file's head is read

    def _find(self, found: list[Card], name: str) -> Card:
        wanted = ollama.plain(name)
        if wanted in self._engine.embedder.model.aliases:
            wanted = self._engine.embedder.model.name
        for card in found:
            if ollama.plain(card.name) == wanted:
                return card
        raise Refusal(404, f"model '{name}' not found; there is {' and '.join(card.name for card in found)}")

    # ---- what is not offered

    async def _pull(self, request: Request) -> Response:
        """What is here already needs no pull; the server fetches nothing: its memory and its time are for answers."""
        body = fields.mapping(await read_json(request))
        name = ollama.model_name(body)
        stream = bool(fields.field(body, "stream", bool, True))  # noqa: FBT003 a default
        try:
            self._find(await self._cards(), name)
        except Refusal:
            try:
                known = models.find(ollama.plain(name)).name
            except SutazaiError as error:
                raise Refusal(404, f"pull model manifest: {error}") from error
            raise Refusal(501, f"the server fetches no models; run: python -m sutazai.llm.fetch {known}") from None
        return _lines([{"status": "success"}]) if stream else JSONResponse({"status": "success"})

    async def _not_offered(self, request: Request) -> Response:
        raise Refusal(501, NOT_OFFERED.format(path=request.url.path))


def _row(card: Card) -> dict[str, Any]:
    name = card.name if ":" in card.name else f"{card.name}:latest"
    return {
        "name": name,
        "model": name,
        "modified_at": ollama.stamp(card.modified),
        "size": card.size_bytes,
        "digest": card.digest,
        "details": card.details,
    }


def _line(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n"


def _lines(rows: list[dict[str, Any]]) -> Response:
    return Response("".join(map(_line, rows)), media_type=LINES)


def _fast(body: dict[str, Any]) -> Response:
    """Long rows of numbers, written by the fast encoder."""
    return Response(msgspec.json.encode(body), media_type="application/json")
