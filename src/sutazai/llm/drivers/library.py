"""Why it exists: part of what llama.cpp can do (its tokenizer) it offers on its own HTTP socket only, not as a call.

The socket is a unix socket in a private folder, behind a random key; see ``llamacpp``.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING, Any

from sutazai.errors import UnavailableError
from sutazai.llm.drivers.protocol import BadRequestError

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 30.0
SOCKET = "library.sock"
_OK, _CLIENT_FAULTS = 200, range(400, 500)


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("library", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def post(path: Path, key: str, route: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask the library; waits at most ``TIMEOUT_S``.

    Raises:
        BadRequestError: it refused the request.
        UnavailableError: it does not answer, or not with a JSON object.
    """
    connection = _UnixConnection(path)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        connection.request("POST", route, json.dumps(body), headers)
        response = connection.getresponse()
        status, reply = response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(f"llama.cpp does not answer {route}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if status in _CLIENT_FAULTS:
        raise BadRequestError(f"llama.cpp refused {route}: {status} {reply}")
    if status != _OK or not isinstance(reply, dict):
        raise UnavailableError(f"llama.cpp failed at {route}: {status} {str(reply)[:200]}")
    return reply
