"""Why it exists: one GET needs forty lines, while an HTTP library costs every instance memory."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

from sutazai.errors import (
    BY_CODE,
    InvalidInputError,
    NotFoundError,
    ProtocolError,
    RefusedError,
    SutazaiError,
    UnavailableError,
)
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_BYTES_MAX = 64 * MIB
_OK = 200
_UNAVAILABLE = (502, 503, 504)
_BY_STATUS: dict[int, type[RefusedError]] = {400: InvalidInputError, 404: NotFoundError, 422: InvalidInputError}


def get(path: Path, target: str, timeout_s: float) -> Any:
    """Ask for JSON.

    Args:
        path: of the unix socket.
        target: path and query, already quoted.
        timeout_s: for the whole exchange.

    Raises:
        OSError: nobody listens there, or it does not answer in time.
        SutazaiError: the answer is a problem; its class follows from the problem's code.
        ProtocolError: the answer is no HTTP or no JSON.
    """
    status, body = fetch(path, target, timeout_s)
    try:
        decoded = json.loads(body)
    except ValueError as error:
        raise ProtocolError(f"the answer to {target} (status {status}) is no JSON") from error
    if status != _OK:
        raise _problem(status, decoded if isinstance(decoded, dict) else {})
    return decoded


def fetch(address: Path | tuple[str, int], target: str, timeout_s: float) -> tuple[int, bytes]:
    """Send one GET to a unix socket's path, or to a host and port, and read the answer.

    Returns:
        Status and body.

    Raises:
        OSError: nobody listens there, or it does not answer in time.
        ProtocolError: the answer is no HTTP, or too long.
    """
    give_up_at = time.monotonic() + timeout_s
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_left_s(give_up_at))
        connection.connect(address if isinstance(address, tuple) else str(address))
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode("ascii"))
        data = bytearray()
        while True:
            connection.settimeout(_left_s(give_up_at))
            piece = connection.recv(256 * 1024)
            if not piece:
                return _parse(bytes(data))
            data += piece
            if len(data) > ANSWER_BYTES_MAX:
                raise ProtocolError(f"the answer to {target} is larger than {ANSWER_BYTES_MAX} bytes: ask for less")


def _left_s(give_up_at: float) -> float:
    left = give_up_at - time.monotonic()
    if left <= 0:
        raise TimeoutError(110, "no answer in time")
    return left


def _parse(data: bytes) -> tuple[int, bytes]:
    head, separator, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    parts = lines[0].split(b" ", 2)
    if not separator or len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():  # noqa: PLR2004 version and status
        if not data:
            raise ConnectionResetError(104, "the connection was closed before an answer")
        raise ProtocolError("the answer is no HTTP")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    length = headers.get(b"content-length", b"")
    if length.isdigit() and len(body) < int(length):
        raise ConnectionResetError(104, "the connection was closed in the middle of the answer")
    return int(parts[1]), body


def _problem(status: int, problem: dict[str, Any]) -> SutazaiError:
    detail = str(problem.get("detail") or problem.get("title") or f"control answered with status {status}")
    code = str(problem.get("code", ""))
    if status in _UNAVAILABLE or code == UnavailableError.code:
        return UnavailableError(detail)
    return (BY_CODE.get(code) or _BY_STATUS.get(status) or RefusedError)(detail)
