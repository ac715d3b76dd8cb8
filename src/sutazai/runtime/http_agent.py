"""Why it exists: a task for an agent that is an HTTP server is one request, made by an instance that may die anywhere.

The instance is small and waits; the server's memory is the server's own. The request carries the task's id as
``Idempotency-Key``, because a turn that was cut off is made again. A server that restarts is waited for.
"""

from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from sutazai.errors import NonRetryableError, SkillError
from sutazai.limits import TASK_RESULT_BYTES_MAX
from sutazai.runtime.skill import Agent, Skill

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter

    from sutazai.runtime.context import Context
    from sutazai.wire.planfacts import AgentFacts

SERVER_WAIT_S = 60.0
#: In the place of a method and a path: the input has them.
ANY = "*"
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_METHOD_CHARACTERS = 40
_PAUSE_S = 0.1
_PAUSE_S_MAX = 1.0
_EXCERPT_CHARACTERS = 500
_OK, _ERROR, _SERVER_ERROR = range(200, 300), range(400, 500), range(500, 600)
#: Refusals that may be gone the next time (RFC 9110, RFC 6585, RFC 8470).
_TRY_AGAIN = frozenset({408, 409, 423, 425, 429})
#: Servers resolve these (RFC 3986, 5.2.4): ``DELETE /items/{item}`` must not become ``DELETE /``.
_NO_PARTS = frozenset({"", ".", ".."})


class ServerRefusedError(NonRetryableError):
    """The server says that the request itself is wrong."""

    code = "refused-by-server"


class ServerFailedError(SkillError):
    """The server failed, or was not there; the task is tried again."""

    code = "server-failed"


class HttpSkill(Skill):
    """One operation of a server.

    Args:
        name: of the skill.
        url: of the server.
        call: ``{method, path, query}``.
    """

    def __init__(self, name: str, url: str, call: dict[str, Any]) -> None:
        self.name, self._url, self._call = name, url, call
        self.function = self._request
        self.is_async = False

    @property
    def input_model(self) -> type[BaseModel]:
        """Any object: the gateway and the server check it."""
        from pydantic import BaseModel

        return BaseModel

    @property
    def output(self) -> TypeAdapter[Any]:
        """Any JSON value."""
        from pydantic import TypeAdapter

        return TypeAdapter(Any)

    def build(self) -> None:
        """There is nothing to build."""

    def arguments(self, data: Any, context: Context) -> dict[str, Any]:
        """Make the arguments of the request.

        Raises:
            ServerRefusedError: the input is no object.
        """
        if not isinstance(data, dict):
            raise ServerRefusedError("the input must be an object")
        return {"data": data, "ctx": context}

    def _request(self, data: dict[str, Any], ctx: Context) -> Any:
        """Make the request, waiting for a server that is not there yet."""
        until_s = time.monotonic() + min(SERVER_WAIT_S, max(0.0, ctx.deadline_left_s()))
        pause_s = _PAUSE_S
        while True:
            try:
                connection = self._connect(ctx)
                break
            except OSError as error:
                if time.monotonic() + pause_s > until_s:
                    raise ServerFailedError(f"nobody answers at {self._url}: {error}") from error
                ctx.log.info("the server is not there yet", url=self._url)
                time.sleep(pause_s)
                pause_s = min(_PAUSE_S_MAX, pause_s * 2)
        try:
            return self._exchange(connection, data, ctx)
        except (OSError, http.client.HTTPException) as error:
            raise ServerFailedError(f"the server broke the connection: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _connect(self, ctx: Context) -> http.client.HTTPConnection:
        parts = urlsplit(self._url)
        timeout_s = max(0.001, ctx.deadline_left_s())
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)
        connection.connect()
        return connection

    def _exchange(self, connection: http.client.HTTPConnection, data: dict[str, Any], ctx: Context) -> Any:
        body = json.dumps(data["body"]).encode() if "body" in data else None
        headers = {
            "Accept": "application/json",
            "Idempotency-Key": ctx.task.id,
            "X-Sutazai-Attempt": str(ctx.task.attempt),
            **({"Content-Type": "application/json"} if body is not None else {}),
        }
        connection.request(self._method(data), self.target(data), body, headers)
        response = connection.getresponse()
        content = response.read(TASK_RESULT_BYTES_MAX + 1)
        if response.status not in _OK:
            raise _error_of(response.status, content)
        if len(content) > TASK_RESULT_BYTES_MAX:
            raise NonRetryableError(f"the server's answer has more than {TASK_RESULT_BYTES_MAX} bytes")
        if response.length:  # of what was announced; reading with a bound does not tell
            raise http.client.IncompleteRead(content, response.length)
        return _value(response.headers.get_content_type(), content)

    def _method(self, data: dict[str, Any]) -> str:
        if self._call["method"] != ANY:
            return str(self._call["method"])
        method = _text(data.get("method", "GET"))
        if method not in _METHODS:  # another agent's task was not checked by the gateway
            raise ServerRefusedError(f"{method[:_METHOD_CHARACTERS]!r} is none of {', '.join(sorted(_METHODS))}")
        return method

    def target(self, data: dict[str, Any]) -> str:
        """Fill the path and the query of the request.

        Raises:
            ServerRefusedError: a part of the path is missing, or would make it another operation's path.
        """
        path = str(self._call["path"])
        if path == ANY:
            path = quote(str(data.get("path") or "/"), safe="/%:@!$&'()*+,;=~")
            if not path.startswith("/"):  # a proxy would go where it points
                raise ServerRefusedError("'path' begins with /: only this agent's own server is asked")
            return self._with_query(path, data)
        for name in [part.partition("}")[0] for part in path.split("{")[1:]]:
            if name not in data:
                raise ServerRefusedError(f"the input lacks {name!r}, a part of the path {path}")
            if (text := _text(data[name])) in _NO_PARTS:
                raise ServerRefusedError(f"{name!r} is {text!r}: that is no part of the path {path}")
            path = path.replace("{" + name + "}", quote(text, safe=""))
        return self._with_query(path, data)

    def _with_query(self, path: str, data: dict[str, Any]) -> str:
        asked = {name: data[name] for name in self._call.get("query", ()) if name in data}
        if isinstance(extra := data.get("query"), dict):
            asked |= extra
        pairs = [(name, _text(item)) for name, value in asked.items() for item in _list(value)]
        return f"{path}?{urlencode(pairs)}" if pairs else path


def build(facts: AgentFacts) -> Agent:
    """Make the agent of a server that the plan describes."""
    agent = Agent(facts.name)
    url = str(facts.upstream["url"])
    for name, call in facts.upstream["skills"].items():
        agent.skills[name] = HttpSkill(name, url, call)
    return agent


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _error_of(status: int, content: bytes) -> SkillError:
    text = " ".join(content[: _EXCERPT_CHARACTERS * 4].decode(errors="replace").split())[:_EXCERPT_CHARACTERS]
    message = f"the server answered {status}: {text or '(nothing)'}"
    if status in _ERROR and status not in _TRY_AGAIN:
        return ServerRefusedError(message)
    if status in _ERROR or status in _SERVER_ERROR:
        return ServerFailedError(message)
    return ServerRefusedError(f"{message}; a redirection is not followed")


def _value(kind: str, content: bytes) -> Any:
    if not content:
        return None
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return json.loads(content)
        except ValueError as error:
            raise ServerFailedError(f"the server's answer says that it is JSON, and is none: {error}") from error
    try:
        return {"content_type": kind, "text": content.decode()}
    except UnicodeDecodeError as error:
        raise NonRetryableError(f"the server's answer is {kind}, no text: fetch it from the server itself") from error
