"""Why it exists: a skill asks the fleet's language model in one line, and cannot hang on it past its deadline.

It speaks OpenAI's chat completions over plain HTTP with the standard library, because an instance is too small for
an HTTP framework. In an ``async`` skill call it with ``await asyncio.to_thread(ctx.llm.chat, …)``.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from sutazai.errors import RefusedError, SkillError, UnavailableError
from sutazai.units import KIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sutazai.runtime.turn import TaskInfo

TIMEOUT_S_MAX = 600.0
TEXTS_PER_REQUEST = 500
REQUEST_BYTES = 512 * KIB
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_OK = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said.

    Attributes:
        text: as it came.
        data: the answer as JSON when a schema was given (an instance when the schema is a pydantic model), else
            ``None``.
        model: who answered.
        finish: ``stop``, or ``length`` when ``max_tokens`` cut it off.
        prompt_tokens: read.
        completion_tokens: written.
    """

    text: str
    data: Any
    model: str
    finish: str
    prompt_tokens: int
    completion_tokens: int


class LlmClient:
    """Asks the language model of the fleet.

    Args:
        url: of its chat completions, ``http://127.0.0.1:10104/v1/chat/completions``.
        task: who asks, for lanes and logs.
        time_left_s: seconds until the turn's deadline.
    """

    def __init__(self, url: str, task: TaskInfo, time_left_s: Callable[[], float]) -> None:
        self._url = urlsplit(url)
        self._task = task
        self._time_left_s = time_left_s

    def chat(
        self,
        messages: str | Sequence[dict[str, Any]],
        *,
        schema: dict[str, Any] | type[BaseModel] | None = None,
        max_tokens: int = 256,
        temperature: float = 0.0,
    ) -> Answer:
        """Ask, and wait for the whole answer.

        Args:
            messages: ``[{role, content}]``, or a text that becomes the user's one message.
            schema: the answer must fit it: a JSON schema or a pydantic model. Bound every field, or a small model may
                fill ``max_tokens`` with digits.
            max_tokens: the answer is cut there.
            temperature: 0 gives the most likely answer.

        Raises:
            UnavailableError: the server does not answer, is busy, or took longer than the turn's deadline.
            RefusedError: it refused the request.
            SkillError: the answer does not fit the schema (it was cut off).
        """
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages),
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        if schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": _json_schema(schema)},
            }
        return _answer(self._post(self._url.path or "/v1/chat/completions", body), schema)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of texts with the model's own tokenizer, exactly as a prompt would be cut; never estimates.

        Args:
            texts: any number; they are sent in pieces that fit a request.

        Raises:
            UnavailableError: the server does not answer, or the turn's time is over.
            RefusedError: it has no tokenizer (a driver that asks a server elsewhere), or one text is too long for it.
        """
        counts: list[int] = []
        for part in _parts(texts):
            reply = self._post("/tokenize", {"content": part})
            found = reply.get("counts")
            if not isinstance(found, list) or len(found) != len(part):
                raise UnavailableError("the language model's tokenizer did not answer with one count a text")
            counts += [int(count) for count in found]
        return counts

    def embed(self, texts: Sequence[str], *, dimensions: int | None = None) -> list[list[float]]:
        """Turn texts into vectors of length 1, so that the sum of products of two of them says how alike they are.

        The model reads English best, and of a long text the first 510 tokens. Vectors of one call and of another can be
        compared as long as ``dimensions`` is the same.

        Args:
            texts: any number, none of them empty; they are sent in pieces that fit a request.
            dimensions: numbers of a vector, 1 to 384; all 384 when it is ``None``.

        Raises:
            UnavailableError: there is no language model server, the embedding model is not on this machine (the
                message names the command that fetches it), its memory is not granted, or the turn's time is over. Go
                on without vectors.
            RefusedError: a text is empty.
        """
        vectors: list[list[float]] = []
        more = {} if dimensions is None else {"dimensions": dimensions}
        for part in _parts(texts):
            reply = self._post("/v1/embeddings", {"input": part, "encoding_format": "float", "truncate": True, **more})
            rows = reply.get("data")
            if not isinstance(rows, list) or len(rows) != len(part):
                raise UnavailableError("the embedding model did not answer with one vector a text")
            vectors += [[float(value) for value in row["embedding"]] for row in rows]
        return vectors

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if not self._url.hostname:
            raise UnavailableError("this fleet has no language model: SUTAZAI_LLM_URL is not set")
        left_s = self._time_left_s()
        if left_s <= 0:
            raise UnavailableError("the deadline is over: there is no time left to ask the language model")
        connection = http.client.HTTPConnection(self._url.hostname, self._url.port, timeout=min(left_s, TIMEOUT_S_MAX))
        headers = {
            "Content-Type": "application/json",
            "X-Sutazai-Agent": self._task.agent,
            "X-Sutazai-Task": self._task.id,
            "X-Sutazai-Priority": str(self._task.priority),
        }
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"the language model does not answer: {error or type(error).__name__}") from error
        finally:
            connection.close()
        return _read(response.status, data)


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Cut a list of texts into parts that fit a request; a text that is too long alone goes alone and is refused."""
    part: list[str] = []
    size = 0
    for text in texts:
        length = len(json.dumps(text))  # ASCII, as it is sent
        if part and (len(part) >= TEXTS_PER_REQUEST or size + length > REQUEST_BYTES):
            yield part
            part, size = [], 0
        part.append(text)
        size += length
    if part:
        yield part


def _read(status: int, data: bytes) -> dict[str, Any]:
    if status in _BUSY:
        raise UnavailableError(f"the language model is not ready: {status} {_reason(data)}")
    if status != _OK:
        raise RefusedError(f"the language model refused: {status} {_reason(data)}")
    try:
        reply = json.loads(data)
    except ValueError as error:
        raise UnavailableError("the language model's answer is no JSON") from error
    if not isinstance(reply, dict):
        raise UnavailableError("the language model's answer is no JSON object")
    return reply


def _reason(data: bytes) -> str:
    """Take the message out of an error's body, whatever form it has."""
    try:
        reply = json.loads(data)
        error = reply.get("error", reply)
        return (
            str(error.get("message") or error.get("detail") or error)[:500] if isinstance(error, dict) else str(error)
        )
    except (ValueError, AttributeError):
        return data[:200].decode(errors="replace")


def _json_schema(schema: dict[str, Any] | type[BaseModel]) -> dict[str, Any]:
    return schema if isinstance(schema, dict) else schema.model_json_schema()


def _answer(reply: dict[str, Any], schema: dict[str, Any] | type[BaseModel] | None) -> Answer:
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"] or ""
    except (KeyError, IndexError, TypeError) as error:
        raise UnavailableError("the language model's answer has no choice") from error
    finish = str(choice.get("finish_reason") or "")
    usage = reply.get("usage") or {}
    return Answer(
        text=text,
        data=_data(text, finish, schema),
        model=str(reply.get("model", "")),
        finish=finish,
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
    )


def _data(text: str, finish: str, schema: dict[str, Any] | type[BaseModel] | None) -> Any:
    if schema is None:
        return None
    try:
        return json.loads(text) if isinstance(schema, dict) else schema.model_validate_json(text)
    except (ValueError, ValidationError) as error:
        cut = "; it was cut off: raise max_tokens or bound the schema's fields" if finish == "length" else ""
        raise SkillError(f"the language model's answer does not fit the schema{cut}: {text[:200]!r}") from error
