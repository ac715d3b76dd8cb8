"""Why it exists: tools written for Ollama send this form; what they send is checked here, what they get written.

Options that tell Ollama how to use its machine (threads, layers, memory) are the fleet's to decide and have no effect.
What would change an answer and cannot be done is refused. https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sutazai.llm import fields
from sutazai.llm.drivers.protocol import SAMPLING, ChatRequest, Message
from sutazai.llm.refusal import Refusal

if TYPE_CHECKING:
    from sutazai.llm.engine import Done

Kind = Literal["generate", "chat"]
MESSAGES_MAX = 1_000
TEMPERATURE_MAX = 2.0
#: Ollama's own, where they differ from a driver's.
TEMPERATURE_DEFAULT, TOP_P_DEFAULT = 0.8, 0.9
UNLIMITED = (-1, -2)
ROLES = ("system", "user", "assistant")
_MACHINE = frozenset({
    "numa", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mmap",
    "use_mlock", "embedding_only", "num_thread", "num_keep", "penalize_newline",
})  # fmt: skip
_OWN = frozenset({"temperature", "top_p", "seed", "stop", "num_predict", "num_ctx"})
_DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+|-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a request is checked against.

    Attributes:
        model: the one that is loaded.
        embed_model: the other one, which answers no questions, with its other names.
        context_tokens: longest conversation with its answer.
        output_tokens_max: longest answer.
    """

    model: str
    embed_model: frozenset[str]
    context_tokens: int
    output_tokens_max: int


@dataclass(frozen=True, slots=True)
class Call:
    """A checked request.

    Attributes:
        model: as it was sent.
        request: for the driver; ``None`` when the model was only to be loaded, which it is.
        stream: answer line by line.
    """

    model: str
    request: ChatRequest | None
    stream: bool


def plain(name: str) -> str:
    """A model's name without the tag that Ollama adds."""
    return name.strip().lower().removesuffix(":latest")


def parse(kind: Kind, body: Any, bounds: Bounds) -> Call:
    """Check a decoded body of ``/api/generate`` or ``/api/chat``.

    Raises:
        Refusal: with what is wrong.
    """
    body = fields.mapping(body)
    name = model_name(body)
    if plain(name) in bounds.embed_model:
        raise Refusal(400, f'"{name}" does not support {kind}')
    if plain(name) != plain(bounds.model):
        raise Refusal(404, f"model '{name}' not found; '{bounds.model}' is loaded")
    _check_unsupported(body, name)
    keep_alive(body.get("keep_alive"))
    stream = bool(fields.field(body, "stream", bool, True))  # noqa: FBT003 a default
    messages, prompt = _chat(body) if kind == "chat" else _generate(body)
    if not messages and prompt is None:
        return Call(name, None, stream)
    options = fields.field(body, "options", dict, {})
    request = ChatRequest(
        messages=messages,
        prompt=prompt,
        max_tokens=_max_tokens(options, bounds),
        temperature=fields.number(options, "temperature", TEMPERATURE_DEFAULT, (0.0, TEMPERATURE_MAX)),
        top_p=fields.number(options, "top_p", TOP_P_DEFAULT, (0.0, 1.0)) or 0.001,
        seed=_seed(options),
        stop=fields.stops(options.get("stop") or None),
        schema=_schema(body.get("format")),
        sampling=_sampling(options),
    )
    return Call(name, request, stream)


def model_name(body: dict[str, Any]) -> str:
    """The model of a request: ``model``, or ``name`` as older clients say.

    Raises:
        Refusal: there is none.
    """
    name: str = fields.field(body, "model", str, "") or fields.field(body, "name", str, "")
    if not name:
        raise Refusal(400, "model is required")
    return name


def keep_alive(value: Any) -> None:
    """Check a time that a model is to stay in memory; how long it does is the fleet's to decide.

    Raises:
        Refusal: it is no time.
    """
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or numeric or (isinstance(value, str) and _DURATION.fullmatch(value)):
        return
    raise Refusal(400, "keep_alive must be a number of seconds, or a time like 5m")


def _check_unsupported(body: dict[str, Any], name: str) -> None:
    if body.get("tools"):
        raise Refusal(400, f'"{name}" does not support tools; ask for a format (a JSON schema) instead')
    if body.get("think"):
        raise Refusal(400, f'"{name}" does not support thinking')
    if body.get("suffix"):
        raise Refusal(400, f'"{name}" does not support insert')
    for field, reason in (
        ("images", "this model reads text only"),
        ("template", "the model's own template is used; send raw: true to use none"),
        ("context", "send the conversation to /api/chat instead"),
        ("logprobs", "this server does not give them"),
    ):
        if body.get(field):
            raise Refusal(400, f"{field} is not supported: {reason}")


def _generate(body: dict[str, Any]) -> tuple[tuple[Message, ...], str | None]:
    prompt = fields.text(body.get("prompt") or "", "prompt")
    if not prompt:
        return (), None
    if fields.field(body, "raw", bool, False):  # noqa: FBT003 a default
        return (), prompt
    system = fields.text(body.get("system") or "", "system")
    first = (Message("system", system),) if system else ()
    return (*first, Message("user", prompt)), None


def _chat(body: dict[str, Any]) -> tuple[tuple[Message, ...], str | None]:
    found = fields.field(body, "messages", list, [])
    if len(found) > MESSAGES_MAX:
        raise Refusal(400, f"messages has {len(found)} entries; the limit is {MESSAGES_MAX}")
    return tuple(_message(f"messages[{index}]", entry) for index, entry in enumerate(found)), None


def _message(where: str, entry: Any) -> Message:
    if not isinstance(entry, dict):
        raise fields.wrong(where, "must be an object with role and content")
    role = entry.get("role")
    if role not in ROLES:
        raise fields.wrong(f"{where}.role", f"must be one of {', '.join(ROLES)}")
    for name in ("images", "tool_calls"):
        if entry.get(name):
            raise fields.wrong(f"{where}.{name}", "is not supported: this model reads text only")
    return Message(role, fields.text(entry.get("content") or "", f"{where}.content"))


def _max_tokens(options: dict[str, Any], bounds: Bounds) -> int:
    window = fields.field(options, "num_ctx", int, bounds.context_tokens, called="options.num_ctx")
    if not 1 <= window <= bounds.context_tokens:
        raise fields.wrong(
            "options.num_ctx", f"must be from 1 to {bounds.context_tokens}; the manifest's llm.context sets it"
        )
    most = fields.field(options, "num_predict", int, UNLIMITED[0], called="options.num_predict")
    if most in UNLIMITED:
        return bounds.output_tokens_max
    if not 1 <= most <= bounds.output_tokens_max:
        raise fields.wrong("options.num_predict", f"must be from 1 to {bounds.output_tokens_max}, or -1 for that bound")
    return int(most)


def _seed(options: dict[str, Any]) -> int | None:
    seed = options.get("seed")
    return None if seed == -1 else fields.seed(seed, "options.seed")  # -1 is chance, as in llama.cpp


def _sampling(options: dict[str, Any]) -> dict[str, float]:
    for name, value in options.items():
        if name not in SAMPLING and name not in _OWN and name not in _MACHINE and value is not None:
            known = ", ".join(sorted(_OWN | set(SAMPLING)))
            raise Refusal(400, f"options.{name} is not supported; there are {known}")
    sampling: dict[str, float] = {}
    for name, bounds in SAMPLING.items():
        if options.get(name) is not None:
            sampling[name] = fields.number(options, name, 0.0, bounds, called=f"options.{name}")
    return sampling


def _schema(value: Any) -> dict[str, Any] | None:
    if value is None or value == "":
        return None
    if value == "json":
        return {}
    if not isinstance(value, dict):
        raise fields.wrong("format", 'must be "json" or a JSON schema')
    return fields.schema(value, "format")


# ---- what is answered


def now() -> str:
    """This moment, as Ollama writes it."""
    return stamp(dt.datetime.now(dt.UTC))


def stamp(moment: dt.datetime) -> str:
    """A moment, as Ollama writes it."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Writer:
    """Writes the answer to one request in Ollama's form."""

    def __init__(self, kind: Kind, model: str) -> None:
        self._kind, self._model = kind, model

    def piece(self, text: str) -> dict[str, Any]:
        """A line of a stream with text."""
        return {**self._head(), **self._said(text), "done": False}

    def last(self, text: str, done: Done) -> dict[str, Any]:
        """The whole answer, or the last line of a stream. Times are measured, in nanoseconds.

        ``load_duration`` is 0: the model is in memory before a request is taken.
        """
        finish, times = done.finish, done.times
        return {
            **self._head(),
            **self._said(text),
            "done": True,
            "done_reason": "length" if finish.reason == "length" else "stop",
            "total_duration": times.total,
            "load_duration": 0,
            "prompt_eval_count": finish.prompt_tokens,
            "prompt_eval_duration": times.prompt,
            "eval_count": finish.completion_tokens,
            "eval_duration": times.answer,
        }

    def loaded(self) -> dict[str, Any]:
        """The answer to a request that asks nothing: the model is there."""
        return {**self._head(), **self._said(""), "done": True, "done_reason": "load"}

    def _head(self) -> dict[str, Any]:
        return {"model": self._model, "created_at": now()}

    def _said(self, text: str) -> dict[str, Any]:
        if self._kind == "chat":
            return {"message": {"role": "assistant", "content": text}}
        return {"response": text}
