"""Why it exists: clients speak the OpenAI form; what they send is checked here, whole, before a model sees it.

Only what this server does is accepted. What it would silently ignore (tools, images, several choices) is refused, so
that nobody believes it worked. https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.ids import new_id
from sutazai.llm import fields
from sutazai.llm.drivers.protocol import SAMPLING, ChatRequest, Message
from sutazai.llm.refusal import Refusal

if TYPE_CHECKING:
    from sutazai.llm.drivers.protocol import Finish

MESSAGES_MAX = 1_000
TEMPERATURE_MAX = 2.0
TOKENS_DEFAULT = 256
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_REFUSED = ("tools", "tool_choice", "functions", "function_call", "audio", "modalities", "logprobs", "top_logprobs")
_REFUSED_COMPLETION = ("logprobs", "echo", "suffix", "logit_bias")


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
        Refusal: with the field that is wrong.
    """
    body = fields.mapping(body)
    _check_common(body, model, _REFUSED)
    return _call(body, _request(body, output_tokens_max, messages=_messages(body.get("messages"))))


def parse_completion(body: Any, model: str, output_tokens_max: int) -> ChatCall:
    """Check a decoded body of ``/v1/completions``: a raw text that the model goes on with.

    Args:
        body: decoded JSON.
        model: as ``parse``.
        output_tokens_max: as ``parse``.

    Raises:
        Refusal: with the field that is wrong.
    """
    body = fields.mapping(body)
    _check_common(body, model, _REFUSED_COMPLETION)
    if (best := fields.field(body, "best_of", int, 1)) != 1:
        raise Refusal(400, f"best_of must be 1, not {best}", param="best_of", code="unsupported_value")
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise fields.wrong("prompt", "must be one text that is not empty; send several as several requests")
    return _call(body, _request(body, output_tokens_max, prompt=fields.text(prompt, "prompt")))


def _request(
    body: dict[str, Any], output_tokens_max: int, *, messages: tuple[Any, ...] = (), prompt: str | None = None
) -> ChatRequest:
    """Read what a chat and a completion have in common."""
    return ChatRequest(
        messages=messages,
        prompt=prompt,
        max_tokens=_max_tokens(body, output_tokens_max),
        sampling=_sampling(body),
        temperature=fields.number(body, "temperature", 1.0, (0.0, TEMPERATURE_MAX)),
        top_p=fields.number(body, "top_p", 1.0, (0.001, 1.0)),
        seed=fields.seed(body.get("seed")),
        stop=fields.stops(body.get("stop")),
        schema=_schema(body.get("response_format")),
    )


def _check_common(body: dict[str, Any], model: str, refused: tuple[str, ...]) -> None:
    # Without a name the loaded model is meant: an agent asks for an answer, the fleet decides by which model.
    named = fields.field(body, "model", str, model)
    if named.removesuffix(":latest") != model.removesuffix(":latest"):
        raise Refusal(404, f"the model {named!r} is not loaded; {model!r} is", param="model", code="model_not_found")
    for name in refused:
        if body.get(name):
            raise Refusal(400, f"{name} is not supported by this server", param=name, code="unsupported_parameter")
    if (choices := fields.field(body, "n", int, 1)) != 1:
        raise Refusal(400, f"n must be 1, not {choices}", param="n", code="unsupported_value")


def _call(body: dict[str, Any], request: ChatRequest) -> ChatCall:
    options = fields.field(body, "stream_options", dict, {})
    stream = bool(fields.field(body, "stream", bool, False))  # noqa: FBT003 a default
    return ChatCall(request, stream, bool(options.get("include_usage")))


def _sampling(body: dict[str, Any]) -> dict[str, float]:
    """Penalties of OpenAI's form, and ``top_k``, ``min_p`` … as many servers know them."""
    return {
        name: fields.number(body, name, 0.0, bounds) for name, bounds in SAMPLING.items() if body.get(name) is not None
    }


def _max_tokens(body: dict[str, Any], bound: int) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = fields.field(body, name, int, None)
        if value is not None:
            if not 1 <= value <= bound:
                raise fields.wrong(name, f"must be from 1 to {bound}")
            return int(value)
    return min(TOKENS_DEFAULT, bound)


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MESSAGES_MAX:
        raise fields.wrong("messages", f"must be a list of 1 to {MESSAGES_MAX} messages")
    return tuple(_message(f"messages[{index}]", entry) for index, entry in enumerate(value))


def _message(where: str, entry: Any) -> Message:
    if not isinstance(entry, dict):
        raise fields.wrong(where, "must be an object with role and content")
    role = entry.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise fields.wrong(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    content = entry.get("content")
    if isinstance(content, list):
        content = _joined(where, content)
    content = fields.text(content, f"{where}.content")
    return Message(role=_ROLES[role], content=content)  # type: ignore[arg-type] # one of the three by the table


def _joined(where: str, parts: list[Any]) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise fields.wrong(f"{where}.content", "may hold parts of the type text only")
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
        raise fields.wrong("response_format", "must have the type text, json_object or json_schema")
    return fields.schema(schema, "response_format.json_schema.schema")


class Writer:
    """Writes the answer to one request in OpenAI's form.

    Args:
        model: who answers.
        chat: a conversation goes on; else a raw text.
    """

    def __init__(self, model: str, *, chat: bool = True) -> None:
        self._chat = chat
        self._head = {"id": new_id("chatcmpl" if chat else "cmpl"), "created": int(time.time()), "model": model}
        self._kind = "chat.completion.chunk" if chat else "text_completion"

    def whole(self, text: str, finish: Finish) -> dict[str, Any]:
        """The answer in one piece."""
        said = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        choice = {"index": 0, **said, "finish_reason": _reason(finish), "logprobs": None}
        kind = "chat.completion" if self._chat else self._kind
        return {**self._head, "object": kind, "choices": [choice], "usage": usage(finish)}

    def first(self) -> dict[str, Any] | None:
        """The first chunk of a stream: who speaks. A raw text has none."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None) if self._chat else None

    def piece(self, text: str) -> dict[str, Any]:
        """A chunk with text."""
        return self._chunk({"delta": {"content": text}} if self._chat else {"text": text}, None)

    def last(self, finish: Finish) -> dict[str, Any]:
        """The chunk that says why the answer ended."""
        return self._chunk({"delta": {}} if self._chat else {"text": ""}, _reason(finish))

    def counted(self, finish: Finish) -> dict[str, Any]:
        """The chunk with the counted tokens, when they were asked for."""
        return {**self._head, "object": self._kind, "choices": [], "usage": usage(finish)}

    def _chunk(self, said: dict[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, **said, "finish_reason": reason, "logprobs": None}
        return {**self._head, "object": self._kind, "choices": [choice]}


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
