"""Why it exists: tests of everything around a model need answers that are always the same, at once, without a model.

What it answers depends on the last message, or the raw prompt, only:

* ``say: TEXT`` answers the text, word by word;
* ``refuse: TEXT`` refuses the request;
* ``break: TEXT`` fails as if the model had died;
* ``endless`` goes on until ``max_tokens`` or until it is stopped;
* anything else is echoed. With a schema, the smallest value that fits it is answered.
"""

from __future__ import annotations

import json
import re
import threading
import zlib
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sutazai.errors import UnavailableError
from sutazai.llm.drivers.protocol import BadRequestError, ChatRequest, Emit, Finish, Loaded

if TYPE_CHECKING:
    from sutazai.llm.settings import Settings

DEPTH_MAX = 16
NEED_BYTES = 1024


class ScriptedDriver:
    """A model that does as it is told; see the module for what it understands.

    Attributes:
        gate: cleared by a test to hold all answers before their first word.
        cancelled: how many answers were stopped by the caller.
    """

    name: ClassVar[str] = "scripted"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.gate = threading.Event()
        self.gate.set()
        self.cancelled = 0

    def load(self) -> Loaded:
        """Nothing to load."""
        return Loaded(name=self._settings.model, context_tokens=self._settings.context_tokens, need_bytes=NEED_BYTES)

    def chat(self, request: ChatRequest, emit: Emit) -> Finish:
        """Answer by the script."""
        texts = [message.content for message in request.messages] if request.prompt is None else [request.prompt]
        prompt = sum(len(_pieces(text)) for text in texts)
        if prompt >= self._settings.context_tokens:
            raise BadRequestError(f"{prompt} tokens do not fit the context of {self._settings.context_tokens}")
        if request.schema is not None and request.schema.get("type") == "unsupported":
            raise BadRequestError("this schema cannot be made into a grammar")
        self.gate.wait()
        last = texts[-1]
        verb, _, rest = last.partition(": ")
        if verb == "refuse":
            raise BadRequestError(rest)
        if verb == "break":
            raise UnavailableError(rest)
        said = 0
        for piece in self._answer(request, last):
            if said >= request.max_tokens:
                return self._finish("length", prompt, said)
            if not emit(piece):
                self.cancelled += 1
                return self._finish("cancelled", prompt, said)
            said += 1
        return self._finish("stop", prompt, said)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:  # noqa: ARG002 words only
        """A word with the space behind it is a token; its number is its checksum."""
        return ([0] if add_special else []) + [zlib.crc32(piece.encode()) for piece in _pieces(text)]

    def close(self) -> None:
        """Nothing to give back."""

    @staticmethod
    def _answer(request: ChatRequest, last: str) -> list[str]:
        if request.schema is not None:
            return _pieces(json.dumps(smallest(request.schema)))
        if last == "endless":
            return ["more "] * (request.max_tokens + 1)
        text = last.removeprefix("say: ")
        for stop in request.stop:
            text = text.partition(stop)[0]
        return _pieces(text)

    @staticmethod
    def _finish(reason: Literal["stop", "length", "cancelled"], prompt: int, said: int) -> Finish:
        return Finish(reason=reason, prompt_tokens=prompt, completion_tokens=said)


def _pieces(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def smallest(schema: dict[str, Any], root: dict[str, Any] | None = None, depth: int = 0) -> Any:
    """Build a small value that fits a plain JSON schema (local references, the first of alternatives; no patterns)."""
    root = root if root is not None else schema
    if depth > DEPTH_MAX:
        raise BadRequestError("this schema is nested too deeply")

    def inner(part: dict[str, Any]) -> Any:
        return smallest(part, root, depth + 1)

    if "$ref" in schema:
        return inner(_target(schema["$ref"], root))
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return inner(schema[several][0])
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: inner(fields.get(name, {})) for name in schema.get("required", [])}
    if kind == "array":
        return [inner(schema.get("items", {}))] * schema.get("minItems", 0)
    least = schema.get("minimum", 0)
    return {"string": "x" * schema.get("minLength", 1), "integer": least, "number": least, "boolean": False}.get(kind)


def _target(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise BadRequestError(f"the schema has no {reference}")
    return found
