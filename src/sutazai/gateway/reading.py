"""Why it exists: whatever arrives is bounded in size and time and checked for its form before anybody acts on it."""

from __future__ import annotations

import asyncio
import hmac
import re
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import msgspec

from sutazai.gateway.problems import Problem, invalid
from sutazai.limits import BODY_BYTES_MAX, BODY_WAIT_MS_MAX, PREFER_WAIT_MS_MAX, PRIORITY_LOWEST
from sutazai.outside import SEND

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

KEY_CHARACTERS_MAX = 200
NAME_CHARACTERS_MAX = 200
SECONDS_MAX = 30 * 86_400
TOKEN_LOOK_EVERY_S = 1.0
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE | re.ASCII)
_TASK_ID = re.compile(r"[A-Za-z0-9_.:-]{1,80}", re.ASCII)
_PORT = re.compile(r":[0-9]*$", re.ASCII)
_SECONDS = ("deadline_s", "delay_s", "idempotency_window_s")
_DECODER = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A checked body of ``POST /tasks``.

    Attributes:
        skill: name.
        input: any JSON value; the skill's schema decides later.
        session: tasks of one session run in order; ``None`` for none.
        priority: 0 is first, 9 last; ``None`` for the default.
        deadline_ms: give up after; ``None`` for the agent's default.
        delay_ms: not before; ``None`` for at once.
        key_window_ms: for so long the ``Idempotency-Key`` names this task; ``None`` for as long as it is kept.
    """

    skill: str
    input: Any
    session: str | None = None
    priority: int | None = None
    deadline_ms: int | None = None
    delay_ms: int | None = None
    key_window_ms: int | None = None

    def message(self, agent: str, key: str | None) -> dict[str, Any]:
        """The task as the broker takes it.

        Raises:
            Problem: 422, a window without a key.
        """
        if self.key_window_ms is not None and key is None:
            detail = "is the time of an Idempotency-Key: send that header, or leave this out"
            raise invalid("the body does not fit", [{"pointer": "#/idempotency_window_s", "detail": detail}])
        optional = {
            "session": self.session,
            "priority": self.priority,
            "deadline_ms": self.deadline_ms,
            "delay_ms": self.delay_ms,
            "idempotency_key": key,
            "idempotency_window_ms": self.key_window_ms,
        }
        given = {name: value for name, value in optional.items() if value is not None}
        return {"agent": agent, "skill": self.skill, "input": self.input, **given}


async def read_json(request: Request) -> dict[str, Any]:
    """Read a bounded body in bounded time and decode it.

    Raises:
        Problem: 413 too large, 408 too slow, 400 no UTF-8 or no JSON, 415 another media type, 422 no object.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "unsupported-media-type", f"send application/json, not {kind[:80]}")
    too_large = Problem(
        413, "body-too-large", f"the body is larger than {BODY_BYTES_MAX} bytes", headers={"Connection": "close"}
    )
    if int(request.headers.get("content-length") or 0) > BODY_BYTES_MAX:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_WAIT_MS_MAX / 1_000):
            async for chunk in request.stream():
                data += chunk
                if len(data) > BODY_BYTES_MAX:
                    raise too_large
    except TimeoutError as error:
        raise Problem(
            408, "timeout", f"the body did not arrive within {BODY_WAIT_MS_MAX} ms", headers={"Connection": "close"}
        ) from error
    try:
        body = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "bad-json", f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object", [{"pointer": "#", "detail": "must be an object"}])
    return body


def has_body(request: Request) -> bool:
    """Whether the client sends one: a request that needs none may come without."""
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def task_request(body: dict[str, Any]) -> TaskRequest:
    """Check the form of a decoded body; all mistakes at once.

    Raises:
        Problem: 422, with a pointer for each mistake.
    """
    errors: list[dict[str, str]] = []

    def wrong(name: str, detail: str) -> None:
        errors.append({"pointer": f"#/{name}", "detail": detail})

    known = {"skill", "input", "session", "priority", *_SECONDS}
    for name in sorted(set(body) - known):
        wrong(
            name.replace("~", "~0").replace("/", "~1")[:NAME_CHARACTERS_MAX],
            f"unknown; known: {', '.join(sorted(known))}",
        )
    skill = body.get("skill")
    if not isinstance(skill, str) or not 1 <= len(skill) <= NAME_CHARACTERS_MAX:
        wrong("skill", "must be the name of a skill")
    session = body.get("session")
    if session is not None and not (isinstance(session, str) and 1 <= len(session) <= NAME_CHARACTERS_MAX):
        wrong("session", f"must be a text of 1 to {NAME_CHARACTERS_MAX} characters")
    priority = body.get("priority")
    if priority is not None and (type(priority) is not int or not 0 <= priority <= PRIORITY_LOWEST):
        wrong("priority", f"must be a whole number from 0 (first) to {PRIORITY_LOWEST}")
    milliseconds: dict[str, int | None] = {}
    for name in _SECONDS:
        value = body.get(name)
        milliseconds[name] = None
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= SECONDS_MAX:
            wrong(name, f"must be a number of seconds, more than 0, at most {SECONDS_MAX}")
        else:
            milliseconds[name] = max(1, round(value * 1_000))
    if errors:
        raise invalid("the body does not fit", errors)
    return TaskRequest(
        skill=str(skill),
        input=body.get("input", {}),
        session=session,
        priority=priority,
        deadline_ms=milliseconds["deadline_s"],
        delay_ms=milliseconds["delay_s"],
        key_window_ms=milliseconds["idempotency_window_s"],
    )


def resolution(body: dict[str, Any], verdict: str) -> dict[str, Any]:
    """Check the body of an approval, a denial or a signal; an empty object is one.

    Raises:
        Problem: 422, with a pointer for each mistake.
    """
    bounds = {"by": KEY_CHARACTERS_MAX, **({"name": KEY_CHARACTERS_MAX} if verdict == SEND else {"comment": 4_000})}
    errors = [
        {"pointer": f"#/{name}"[:NAME_CHARACTERS_MAX], "detail": f"unknown; known: {', '.join((*bounds, 'data'))}"}
        for name in sorted(set(body) - {*bounds, "data"})
    ]
    errors += [
        {"pointer": f"#/{name}", "detail": f"must be a text of at most {longest} characters"}
        for name, longest in bounds.items()
        if name in body and not (isinstance(body[name], str) and len(body[name]) <= longest)
    ]
    if errors:
        raise invalid("the body does not fit", errors)
    said = {"by": body.get("by") or "somebody over HTTP", "data": body.get("data")}
    if body.get("comment"):
        said["comment"] = body["comment"]
    if body.get("name"):
        said["skill"] = body["name"]
    return said


def idempotency_key(request: Request) -> str | None:
    """Read the header ``Idempotency-Key``; quotes around it are taken off.

    Raises:
        Problem: 400, the key is empty, too long, or holds unprintable characters.
    """
    text = request.headers.get("idempotency-key")
    if text is None:
        return None
    key = text.strip().strip('"')
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX or not key.isprintable():
        raise Problem(400, "bad-header", f"Idempotency-Key must be 1 to {KEY_CHARACTERS_MAX} printable characters")
    return key


def prefer_wait_ms(request: Request) -> int:
    """How long the caller wants to wait for the result (``Prefer: wait=10``), milliseconds; 0 for not at all.

    A preference that is not understood is ignored, as RFC 7240 says; a longer one is cut to the limit.
    """
    found = _WAIT.search(request.headers.get("prefer", ""))
    return min(int(found[1]) * 1_000, PREFER_WAIT_MS_MAX) if found else 0


def task_id(request: Request) -> str:
    """Take a task's identifier out of the path.

    Raises:
        Problem: 404, it cannot be one.
    """
    text = str(request.path_params["task"])
    if not _TASK_ID.fullmatch(text):
        raise Problem(404, "not-found", "this is no identifier of a task")
    return text


class Guard:
    """Who may do what: a token for every write, and for reads that do not come from this machine.

    Args:
        token_file: holds the secret; read again when it changes.
    """

    def __init__(self, token_file: Path) -> None:
        self._file = token_file
        self._token = b""
        self._stamp = 0
        self._looked_s = float("-inf")

    def may_write(self, request: Request) -> None:
        """Check the token.

        Raises:
            Problem: 401 without the right one, 503 when this fleet has none.
        """
        secret = self._secret()
        if not secret:
            raise Problem(503, "unavailable", f"there is no token in {self._file}; run: sutazai up")
        if not self.has_token(request):
            raise Problem(
                401,
                "unauthorized",
                f"send the token: Authorization: Bearer <the text in {self._file}>",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def has_token(self, request: Request) -> bool:
        """Whether the request carries this fleet's token."""
        secret = self._secret()
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        return bool(secret) and kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), secret)

    def may_read(self, request: Request) -> None:
        """Let this machine's processes read; others need the token.

        A browser here is no such process when the page's name is anybody's: that name may point to this machine only
        to be let in (DNS rebinding). A name that only this machine or its network can have passes.

        Raises:
            Problem: 401.
        """
        if request.client is None:
            return
        if not _is_loopback(request.client.host) or not _is_near(request.headers.get("host", "")):
            self.may_write(request)

    def _secret(self) -> bytes:
        now_s = time.monotonic()
        if now_s - self._looked_s > TOKEN_LOOK_EVERY_S:
            self._looked_s = now_s
            try:
                stamp = self._file.stat().st_mtime_ns
                if stamp != self._stamp:
                    self._token, self._stamp = self._file.read_bytes().strip(), stamp
            except OSError:
                self._token, self._stamp = b"", 0
        return self._token


def _is_near(host: str) -> bool:
    """Whether a ``Host`` is an address, or a name that nobody can register: a page there is ours."""
    name = host.rpartition(":")[0] if _PORT.search(host) else host
    name = name.rstrip(".").lower()
    if "." not in name or name.endswith((".localhost", ".local", ".internal")) or name == socket.gethostname().lower():
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return True  # a unix socket, or a test
