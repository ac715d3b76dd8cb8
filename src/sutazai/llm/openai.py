"""Why it exists: clients speak the OpenAI form; what they send is checked here, whole, before a model sees it.

Only what this server does is accepted. What it would silently ignore (tools, images, several choices) is refused, so
that nobody believes it worked. https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.ids import new_id
from sutazai.llm.drivers.protocol import ChatRequest, Message

if TYPE_CHECKING:
    from sutazai.llm.drivers.protocol import Finish

MESSAGES_MAX = 1_000
STOPS_MAX = 4
STOP_CHARACTERS_MAX = 200
SCHEMA_NODES_MAX = 2_000
TEMPERATURE_MAX = 2.0
TOKENS_DEFAULT = 256
SEED_MAX = 2**32 - 1
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_REFUSED = ("tools", "tool_choice", "functions", "function_call", "audio", "modalities", "logprobs", "top_logprobs")


class OpenAIError(Exception):
    """A request that is not done, as OpenAI's clients understand it.

    Attributes:
        status: of the HTTP answer.
        message: for a person.
        kind: ``invalid_request_error``, ``rate_limit_error``, ``server_error``.
        param: which field is meant, or ``None``.
        code: stable name, or ``None``.
        retry_after_s: when to try again, 0 for never mind.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: int = 0
    ) -> None:
        """Keep the parts; the kind follows from the status."""
        super().__init__(message)
        kinds = {429: "rate_limit_error", 500: "server_error", 503: "server_error"}
        self.status, self.message, self.param, self.code = status, message, param, code
        self.kind = kinds.get(status, "invalid_request_error")
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A checked request.

    Attributes:
        request: for the driver.
        stream: answer piece by piece.
        include_usage: end a stream with the counted tokens.
    """

    request: ChatRequest
    stream: bool
    include_usage: bool


def parse(body: Any, model: str, output_tokens_max: int) -> ChatCall:
    """Check a decoded body.

    Args:
        body: decoded JSON.
        model: the one that is loaded: meant when none is named; another one is refused.
        output_tokens_max: bound of ``max_tokens``.

    Raises:
        OpenAIError: with the field that is wrong.
    """
    if not isinstance(body, dict):
        raise OpenAIError(400, "the body must be a JSON object")
    # Without a name the loaded model is meant: an agent asks for an answer, the fleet decides by which model.
    if (named := _field(body, "model", str, model)) != model:
        raise OpenAIError(
            404, f"the model {named!r} is not loaded; {model!r} is", param="model", code="model_not_found"
        )
    for name in _REFUSED:
        if body.get(name):
            raise OpenAIError(400, f"{name} is not supported by this server", param=name, code="unsupported_parameter")
    if (choices := _field(body, "n", int, 1)) != 1:
        raise OpenAIError(400, f"n must be 1, not {choices}", param="n", code="unsupported_value")
    options = _field(body, "stream_options", dict, {}) or {}
    request = ChatRequest(
        messages=_messages(body.get("messages")),
        max_tokens=_max_tokens(body, output_tokens_max),
        temperature=_number(body, "temperature", 1.0, 0.0, TEMPERATURE_MAX),
        top_p=_number(body, "top_p", 1.0, 0.001, 1.0),
        seed=_seed(body),
        stop=_stops(body.get("stop")),
        schema=_schema(body.get("response_format")),
    )
    stream = bool(_field(body, "stream", bool, False))  # noqa: FBT003 a default
    return ChatCall(request, stream, bool(options.get("include_usage")))


def _wrong(param: str, message: str) -> OpenAIError:
    return OpenAIError(400, f"{param} {message}", param=param, code="invalid_value")


def _field(body: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise OpenAIError(400, f"{name} must be {_named(kind)}", param=name, code="invalid_type")
    return value


def _named(kind: type) -> str:
    return {str: "a string", int: "a whole number", bool: "true or false", dict: "an object"}[kind]


def _number(body: dict[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _wrong(name, f"must be a number from {least:g} to {most:g}")
    return float(value)


def _seed(body: dict[str, Any]) -> int | None:
    seed = _field(body, "seed", int, None)
    if seed is not None and not 0 <= seed <= SEED_MAX:
        raise _wrong("seed", f"must be from 0 to {SEED_MAX}")
    return seed  # type: ignore[no-any-return] # an int by _field


def _max_tokens(body: dict[str, Any], bound: int) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = _field(body, name, int, None)
        if value is not None:
            if not 1 <= value <= bound:
                raise _wrong(name, f"must be from 1 to {bound}")
            return int(value)
    return min(TOKENS_DEFAULT, bound)


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    fits = isinstance(stops, list) and len(stops) <= STOPS_MAX
    if not fits or not all(isinstance(stop, str) and 0 < len(stop) <= STOP_CHARACTERS_MAX for stop in stops):
        raise _wrong("stop", f"must be a text, or up to {STOPS_MAX}, each of 1 to {STOP_CHARACTERS_MAX} characters")
    return tuple(stops)


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MESSAGES_MAX:
        raise _wrong("messages", f"must be a list of 1 to {MESSAGES_MAX} messages")
    return tuple(_message(f"messages[{index}]", entry) for index, entry in enumerate(value))


def _message(where: str, entry: Any) -> Message:
    if not isinstance(entry, dict):
        raise _wrong(where, "must be an object with role and content")
    role = entry.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise _wrong(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    content = entry.get("content")
    if isinstance(content, list):
        content = _joined(where, content)
    if not isinstance(content, str):
        raise _wrong(f"{where}.content", "must be a text or a list of text parts")
    if "\x00" in content:
        raise _wrong(f"{where}.content", "holds a NUL character")
    return Message(role=_ROLES[role], content=content)  # type: ignore[arg-type] # one of the three by the table


def _joined(where: str, parts: list[Any]) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise _wrong(f"{where}.content", "may hold parts of the type text only")
        texts.append(part["text"])
    return "".join(texts)


def _schema(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        schema = value.get("schema", {})
    elif kind == "json_schema":
        named = value.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else None
    else:
        raise _wrong("response_format", "must have the type text, json_object or json_schema")
    if not isinstance(schema, dict):
        raise _wrong("response_format.json_schema.schema", "must be a JSON schema (an object)")
    if _nodes(schema) > SCHEMA_NODES_MAX:
        raise _wrong("response_format.json_schema.schema", f"has more than {SCHEMA_NODES_MAX} nodes")
    return schema


def _nodes(schema: Any) -> int:
    waiting, count = [schema], 0
    while waiting and count <= SCHEMA_NODES_MAX:
        node = waiting.pop()
        count += 1
        if isinstance(node, dict):
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return count


class Writer:
    """Writes the answer to one request in OpenAI's form."""

    def __init__(self, model: str) -> None:
        self._head = {"id": new_id("chatcmpl"), "created": int(time.time()), "model": model}

    def whole(self, text: str, finish: Finish) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": _reason(finish), "logprobs": None}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage(finish)}

    def first(self) -> dict[str, Any]:
        """The first chunk of a stream: who speaks."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def piece(self, text: str) -> dict[str, Any]:
        """A chunk with text."""
        return self._chunk({"content": text}, None)

    def last(self, finish: Finish) -> dict[str, Any]:
        """The chunk that says why the answer ended."""
        return self._chunk({}, _reason(finish))

    def counted(self, finish: Finish) -> dict[str, Any]:
        """The chunk with the counted tokens, when they were asked for."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage(finish)}

    def _chunk(self, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}


def _reason(finish: Finish) -> str:
    return "length" if finish.reason == "length" else "stop"


def usage(finish: Finish) -> dict[str, Any]:
    """Counted tokens, as clients read them."""
    return {
        "prompt_tokens": finish.prompt_tokens,
        "completion_tokens": finish.completion_tokens,
        "total_tokens": finish.prompt_tokens + finish.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": finish.cached_tokens},
    }
