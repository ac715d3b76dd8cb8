"""Why it exists: the server asks for an answer in one form, whoever computes it.

A driver's ``chat`` blocks in a thread of the caller and hands out text piece by piece; the caller stops it by
answering ``False``. Blocking is what model libraries offer, and the server owns as many threads as it has slots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from sutazai.errors import RefusedError

if TYPE_CHECKING:
    from pathlib import Path

#: Takes a piece of text; answers whether to go on.
Emit = Callable[[str], bool]

#: What a request may set beside temperature and top_p, with its bounds; the names are llama.cpp's and Ollama's.
SAMPLING: dict[str, tuple[float, float]] = {
    "top_k": (0, 1_000),
    "min_p": (0.0, 1.0),
    "typical_p": (0.001, 1.0),
    "repeat_penalty": (0.1, 10.0),
    "repeat_last_n": (0, 4_096),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}


class BadRequestError(RefusedError):
    """The model cannot answer this request, and the same request will not succeed later."""

    code = "invalid-request"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a model is asked.

    Attributes:
        messages: the conversation, at least one; empty when there is a ``prompt``.
        max_tokens: bound of the answer, tokens.
        temperature: 0 picks the likeliest token always; up to 2.
        top_p: share of probability that tokens are drawn from, above 0, up to 1.
        seed: makes a temperature above 0 repeatable; ``None`` for chance.
        stop: texts that end the answer; they are not part of it.
        schema: JSON schema that the answer must fit; ``None`` for free text. ``{}`` is any JSON value.
        prompt: raw text to go on with, instead of a conversation: no template is put around it.
        sampling: further numbers that shape the choice of tokens, names of ``SAMPLING``.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None
    prompt: str | None = None
    sampling: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finish:
    """How an answer ended.

    Attributes:
        reason: ``stop`` (the model was done), ``length`` (``max_tokens`` or the context is used up), ``cancelled``.
        prompt_tokens: tokens of the conversation.
        completion_tokens: tokens of the answer.
        cached_tokens: of the prompt, tokens that did not have to be computed again.
    """

    reason: Literal["stop", "length", "cancelled"]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory.

    Attributes:
        name: what requests call it.
        context_tokens: longest conversation with its answer, tokens.
        need_bytes: memory it may use, estimated.
        facts: more about it, for ``GET /v1/models``.
        path: of its file; ``None`` when it is elsewhere.
    """

    name: str
    context_tokens: int
    need_bytes: int
    facts: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None


@runtime_checkable
class Probed(Protocol):
    """What a driver also offers whose model runs elsewhere, and may be away."""

    def probe(self) -> None:
        """Ask whether it can answer now; blocks for some seconds at most.

        Raises:
            UnavailableError: it cannot; says why.
        """
        ...


class Driver(Protocol):
    """Who runs a model. ``chat`` may be called from as many threads at once as there are slots."""

    name: ClassVar[str]

    def load(self) -> Loaded:
        """Bring the model into memory; blocks until it can answer.

        Raises:
            HostError: the file is missing, damaged, or does not fit the memory bound; says what to do.
        """
        ...

    def chat(self, request: ChatRequest, emit: Emit) -> Finish:
        """Compute one answer, handing out its text in pieces; blocks until it ends or ``emit`` answers ``False``.

        Raises:
            BadRequestError: the conversation is too long, or the schema cannot be made into a grammar.
            UnavailableError: the model does not answer now.
        """
        ...

    def close(self) -> None:
        """Give the memory back; harmless when nothing is loaded."""
        ...
