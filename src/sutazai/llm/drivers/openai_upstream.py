"""Why it exists: a model behind any server that speaks OpenAI's form, here or elsewhere, serves the fleet."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sutazai.errors import UnavailableError
from sutazai.llm.drivers.protocol import BadRequestError, ChatRequest, Emit, Finish, Loaded
from sutazai.llm.drivers.upstream import Upstream

if TYPE_CHECKING:
    from sutazai.llm.settings import Settings

_DATA, _END = b"data:", b"[DONE]"
_OWN_SAMPLING = ("presence_penalty", "frequency_penalty")
_PUBLISHER = "api.openai.com"


class OpenAIDriver:
    """Asks a server in OpenAI's form; ``SUTAZAI_LLM_UPSTREAM_URL`` is its address."""

    name: ClassVar[str] = "openai"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._upstream: Upstream | None = None

    def load(self) -> Loaded:
        """Check the address and the key's place; the server itself may be away, and come later."""
        self._upstream = Upstream(self._settings, "/v1")
        self._settings.api_key()
        facts = {"upstream": self._upstream.url}
        return Loaded(self._settings.model, self._settings.context_tokens, need_bytes=0, facts=facts)

    def probe(self) -> None:
        """Ask whether it is there and has the model."""
        found = self._there().get("/models")
        rows = found.get("data") if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise UnavailableError(f"{self._there().url} does not list its models: it speaks another form")
        names = [str(row.get("id")) for row in rows if isinstance(row, dict)]
        if self._settings.model not in names:
            raise UnavailableError(
                f"{self._there().url} has no model {self._settings.model!r}; it has {', '.join(names[:10]) or 'none'}"
            )

    def chat(self, request: ChatRequest, emit: Emit) -> Finish:
        """Ask for one answer and hand on its pieces."""
        upstream = self._there()
        path = "/chat/completions" if request.prompt is None else "/completions"
        reading = _Reading(request, emit)
        with contextlib.closing(upstream.lines(path, self._body(request, upstream.host))) as lines:
            for line in lines:
                if not line.startswith(_DATA):
                    if line.startswith((b":", b"event:", b"id:", b"retry:")):
                        continue
                    upstream.decoded(line)  # an error without its frame says what it is
                    raise UnavailableError(f"{upstream.url} sends no events: {line[:100]!r}")
                data = line[len(_DATA) :].strip()
                if data == _END:
                    break
                if reading.take(upstream.decoded(data)):
                    break
        return reading.finish(upstream.url)

    def close(self) -> None:
        """Nothing is held."""

    def _there(self) -> Upstream:
        if self._upstream is None:
            raise UnavailableError("no model is loaded")
        return self._upstream

    def _body(self, request: ChatRequest, host: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._settings.model,
            "max_completion_tokens" if host == _PUBLISHER else "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for name, value in request.sampling.items():
            if name not in _OWN_SAMPLING:
                raise BadRequestError(f"{name} is not known to a server in OpenAI's form")
            body[name] = value
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if request.prompt is not None:
            if request.schema is not None:
                raise BadRequestError("a raw prompt with a schema is not known to a server in OpenAI's form")
            return {**body, "prompt": request.prompt}
        body["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
        if request.schema:
            named = {"name": "answer", "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        elif request.schema is not None:
            body["response_format"] = {"type": "json_object"}
        return body


class _Reading:
    """What has arrived of one answer."""

    def __init__(self, request: ChatRequest, emit: Emit) -> None:
        self._request, self._emit = request, emit
        self._reason: Literal["stop", "length", "cancelled"] | None = None
        self._pieces = 0
        self._usage: dict[str, Any] = {}

    def take(self, event: dict[str, Any]) -> bool:
        """Take one event; answers whether to stop reading."""
        usage = event.get("usage")
        if isinstance(usage, dict):
            self._usage = usage
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            said = choice.get("delta")
            text = said.get("content") if isinstance(said, dict) else choice.get("text")
            if isinstance(text, str) and text and self._piece(text):
                return True
            if reason := choice.get("finish_reason"):
                self._reason = "length" if reason == "length" else "stop"
        return False

    def _piece(self, text: str) -> bool:
        if self._pieces >= self._request.max_tokens:  # it does not keep the bound that it was given
            self._reason = "length"
            return True
        self._pieces += 1
        if not self._emit(text):
            self._reason = "cancelled"
            return True
        return False

    def finish(self, url: str) -> Finish:
        """How it ended."""
        if self._reason is None:
            raise UnavailableError(f"{url} ended in the middle of an answer")
        return Finish(
            reason=self._reason,
            prompt_tokens=_count(self._usage.get("prompt_tokens"), 0),
            completion_tokens=_count(self._usage.get("completion_tokens"), self._pieces),
        )


def _count(value: Any, default: int) -> int:
    return value if isinstance(value, int) and value >= 0 else default
