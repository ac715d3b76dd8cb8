"""Why it exists: llama.cpp opens an HTTP server of its own, wanted or not; it is hidden, and asked, in one way.

It is put on a unix socket in a private folder, behind a random key, so that nothing but this process can reach a model
around the queue. Part of what the library can do (its tokenizer) it offers there only, not as a call.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from sutazai.errors import UnavailableError
from sutazai.llm.drivers.protocol import BadRequestError
from sutazai.paths import FleetPaths

TIMEOUT_S = 30.0
SOCKET = "library.sock"
ERRORS_ONLY = 1
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


def private_folder(part: str) -> Path:
    """Make an empty folder for one server of the library: the fleet's, so that what was killed is cleared away.

    Args:
        part: which server; the folder of another one is not touched. ``sutazaid`` removes all when the fleet stops.
    """
    fleet = os.environ.get("SUTAZAI_FLEET")
    if not fleet:
        return Path(tempfile.mkdtemp(prefix="llm-"))
    folder = FleetPaths.of(fleet).run / "llm" / part
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def hide(params: Any, folder: Path, key: str) -> Any:
    """Put a server onto the socket in its folder, behind a key, without pages, and let it print errors only."""
    params.verbosity = ERRORS_ONLY
    params.hostnames = [f"{folder}/{SOCKET}"]
    params.api_keys = [key]
    params.n_threads_http = 1
    params.ui = params.endpoint_slots = params.endpoint_metrics = False
    return params


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
