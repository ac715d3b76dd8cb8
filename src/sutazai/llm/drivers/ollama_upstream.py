"""Why it exists: who runs Ollama already keeps it, with its models; the fleet's agents use it through our own doors."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, ClassVar

from sutazai.errors import UnavailableError
from sutazai.llm.drivers.protocol import ChatRequest, Emit, Finish, Loaded
from sutazai.llm.drivers.upstream import Upstream

if TYPE_CHECKING:
    from sutazai.llm.settings import Settings

_WHOLE = ("top_k", "repeat_last_n")


class OllamaDriver:
    """Asks an Ollama server; ``SUTAZAI_LLM_UPSTREAM_URL`` is its address."""

    name: ClassVar[str] = "ollama"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._upstream: Upstream | None = None

    def load(self) -> Loaded:
        """Check the address; the server itself may be away, and come later."""
        self._upstream = Upstream(self._settings)
        self._settings.api_key()
        facts = {"upstream": self._upstream.url}
        return Loaded(self._settings.model, self._settings.context_tokens, need_bytes=0, facts=facts)

    def probe(self) -> None:
        """Ask whether it is there and has the model."""
        found = self._there().get("/api/tags")
        rows = found.get("models") if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise UnavailableError(f"{self._there().url} does not list its models: it speaks another form")
        names = [str(row.get("name")) for row in rows if isinstance(row, dict)]
        if not {self._settings.model, f"{self._settings.model}:latest"} & set(names):
            raise UnavailableError(
                f"{self._there().url} has no model {self._settings.model!r}; it has {', '.join(names[:10]) or 'none'}; "
                f"run there: ollama pull {self._settings.model}"
            )

    def chat(self, request: ChatRequest, emit: Emit) -> Finish:
        """Ask for one answer and hand on its pieces."""
        upstream = self._there()
        path = "/api/chat" if request.prompt is None else "/api/generate"
        pieces = 0
        with contextlib.closing(upstream.lines(path, self._body(request))) as lines:
            for line in lines:
                event = upstream.decoded(line)
                said = event.get("message")
                text = said.get("content") if isinstance(said, dict) else event.get("response")
                if isinstance(text, str) and text:
                    if pieces >= request.max_tokens:  # it does not keep the bound that it was given
                        return _finish(event, "length", pieces)
                    pieces += 1
                    if not emit(text):
                        return _finish(event, "cancelled", pieces)
                if event.get("done") is True:
                    return _finish(event, "length" if event.get("done_reason") == "length" else "stop", pieces)
        raise UnavailableError(f"{upstream.url} ended in the middle of an answer")

    def close(self) -> None:
        """Nothing is held."""

    def _there(self) -> Upstream:
        if self._upstream is None:
            raise UnavailableError("no model is loaded")
        return self._upstream

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        options: dict[str, Any] = {
            "num_predict": request.max_tokens,
            "num_ctx": self._settings.context_tokens,  # its own default is short, and cuts in silence
            "temperature": request.temperature,
            "top_p": request.top_p,
        }
        for name, value in request.sampling.items():
            options[name] = int(value) if name in _WHOLE else value
        if request.seed is not None:
            options["seed"] = request.seed
        if request.stop:
            options["stop"] = list(request.stop)
        body: dict[str, Any] = {"model": self._settings.model, "stream": True, "truncate": False, "options": options}
        if request.schema is not None:
            body["format"] = request.schema or "json"
        if request.prompt is not None:
            return {**body, "prompt": request.prompt, "raw": True}
        body["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
        return body


def _finish(event: dict[str, Any], reason: Any, pieces: int) -> Finish:
    def count(name: str, default: int) -> int:
        value = event.get(name)
        return value if isinstance(value, int) and value >= 0 else default

    return Finish(reason, count("prompt_eval_count", 0), count("eval_count", pieces))
