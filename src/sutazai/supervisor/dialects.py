"""Why it exists: a server that takes a connection may still be reading its data; its own protocol says when it serves.

Each dialect is what a client sends first, and a look at the answer. No password is needed: a server that asks for one
serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_USER = b"user\0sutazaid\0database\0postgres\0\0"
#: Version 3.0 of PostgreSQL's protocol; https://www.postgresql.org/docs/current/protocol-message-formats.html
_STARTUP = (8 + len(_USER)).to_bytes(4, "big") + (196_608).to_bytes(4, "big") + _USER
_CANNOT_CONNECT_NOW = b"57P03"
_FIELDS_FROM = 5  # after the kind and the length
#: A method frame of channel 0 that says ``connection.start``: https://www.rabbitmq.com/amqp-0-9-1-reference
_AMQP_START = b"\x01\x00\x00"
_AMQP_METHOD = b"\x00\x0a\x00\x0a"
_AMQP_METHOD_AT = 7
_AMQP_WANTED = _AMQP_METHOD_AT + len(_AMQP_METHOD)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer shows.

    Attributes:
        ok: the server serves.
        text: the evidence, for a person.
    """

    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server is asked.

    Attributes:
        hello: what is sent.
        judge: reads the answer so far; None when more of it is needed.
    """

    hello: bytes
    judge: Callable[[bytes], Verdict | None]


def _redis(answer: bytes) -> Verdict | None:
    """RESP: one line."""
    line, ended, _ = answer.partition(b"\r\n")
    if not ended and answer[:1] in {b"", b"+", b"-"}:
        return None
    text = line[:100].decode("ascii", "replace")
    if line == b"+PONG":
        return Verdict(ok=True, text="PONG")
    if line.startswith((b"-NOAUTH", b"-NOPERM")):
        return Verdict(ok=True, text="serves, and asks for a password")
    if line.startswith(b"-"):
        return Verdict(ok=False, text=text[1:])
    return Verdict(ok=False, text="the answer is not Redis' protocol")


def _postgres(answer: bytes) -> Verdict | None:
    """Look for an authentication request, or an error other than that it is starting: as ``pg_isready`` does."""
    kind = answer[:1]
    if kind not in {b"", b"R", b"E"}:
        return Verdict(ok=False, text="the answer is not PostgreSQL's protocol")
    if len(answer) < _FIELDS_FROM:
        return None
    if kind == b"R":
        return Verdict(ok=True, text="asks for authentication")
    if len(answer) < 1 + int.from_bytes(answer[1:5], "big"):
        return None
    fields = {part[:1]: part[1:] for part in answer[_FIELDS_FROM:].split(b"\0") if part}
    text = fields.get(b"M", b"").decode("utf-8", "replace")
    return Verdict(ok=fields.get(b"C") != _CANNOT_CONNECT_NOW, text=text)


def _amqp(answer: bytes) -> Verdict | None:
    """Look for ``connection.start``; a server of another version answers with its own header."""
    if answer.startswith(b"AMQP"):
        return Verdict(ok=False, text="it speaks another version of AMQP than 0-9-1")
    if answer and not (answer.startswith(_AMQP_START) or _AMQP_START.startswith(answer)):
        return Verdict(ok=False, text="the answer is not AMQP")
    if len(answer) < _AMQP_WANTED:
        return None
    ok = answer[_AMQP_METHOD_AT:_AMQP_WANTED] == _AMQP_METHOD
    return Verdict(ok=ok, text="starts a connection" if ok else "the answer does not start a connection")


DIALECTS = {
    "amqp": Dialect(b"AMQP\x00\x00\x09\x01", _amqp),
    "postgres": Dialect(_STARTUP, _postgres),
    "redis": Dialect(b"PING\r\n", _redis),
}
