"""Why it exists: a model may run elsewhere; whatever that server does, ours answers in time and says what is wrong.

One connection a request, with bounds: ``CONNECT_S`` to connect, ``stall_s`` between two pieces, ``LINE_BYTES_MAX`` a
line, no redirects. A server that is away, slow or speaks nonsense makes an ``UnavailableError``; the next request tries
anew, so that nothing has to be restarted when it comes back.
"""

from __future__ import annotations

import http.client
import json
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sutazai.errors import ConfigError, UnavailableError
from sutazai.llm.drivers.protocol import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Generator

    from sutazai.llm.settings import Settings

CONNECT_S = 5.0
PROBE_S = 5.0
LINE_BYTES_MAX = 1 << 20
BODY_BYTES_MAX = 4 << 20
_OK = 200
_CALLERS_FAULT = frozenset({400, 413, 422})
_KEY_FAULT = frozenset({401, 403})
_NOT_FOUND = 404


class Upstream:
    """A server elsewhere that runs the model.

    Args:
        settings: with its address, where its key is, and how long it may be silent.
        tail: path that its addresses of this form end with, for example ``/v1``; added when it is not there.

    Raises:
        ConfigError: the address is none.
    """

    def __init__(self, settings: Settings, tail: str = "") -> None:
        parts = urlsplit(settings.upstream_url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        wrong = parts.scheme not in {"http", "https"} or not parts.hostname or port == -1
        if wrong or parts.username or parts.query or parts.fragment:
            raise ConfigError(
                f"SUTAZAI_LLM_UPSTREAM_URL={settings.upstream_url!r} is no address of a server",
                hint="write llm.url as http://HOST:PORT or https://HOST, without a user, a key or a query",
            )
        self._settings = settings
        self._secure, self.host, self._port = parts.scheme == "https", parts.hostname or "", port
        path = parts.path.rstrip("/")
        self._base = path if path.endswith(tail) else path + tail
        self.url = f"{parts.scheme}://{parts.netloc}{self._base}"

    def get(self, path: str) -> Any:
        """Ask for facts; waits ``PROBE_S`` at most between two pieces.

        Raises:
            UnavailableError: no answer, or none that is JSON.
        """
        connection = self._connect()
        try:
            response = self._ask(connection, "GET", path, None, PROBE_S)
            return self._decoded(self._bounded(response))
        finally:
            connection.close()

    def lines(self, path: str, body: dict[str, Any]) -> Generator[bytes, None, None]:
        """Ask for an answer and give its lines as they come. Closing the iterator closes the connection.

        Raises:
            BadRequestError: it refuses the request.
            UnavailableError: it is away, slow, busy, refuses our key, or ends in the middle of a line.
        """
        connection = self._connect()
        try:
            response = self._ask(connection, "POST", path, body, self._settings.upstream_stall_s)
            while line := self._guarded(response.readline, LINE_BYTES_MAX + 1):
                if len(line) > LINE_BYTES_MAX:
                    raise UnavailableError(f"{self.url} sent a line of more than {LINE_BYTES_MAX} bytes")
                if line.strip():
                    yield line.strip()
        finally:
            connection.close()

    def decoded(self, line: bytes) -> dict[str, Any]:
        """A JSON object.

        Raises:
            UnavailableError: it is none, or tells an error.
        """
        found = self._decoded(line)
        if not isinstance(found, dict):
            raise UnavailableError(f"{self.url} does not speak this form: {line[:100]!r}")
        if found.get("error"):
            raise UnavailableError(f"{self.url} failed: {_reason(found)}")
        return found

    # ---- one request

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self._port, timeout=CONNECT_S, context=context)
        return http.client.HTTPConnection(self.host, self._port, timeout=CONNECT_S)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        stall_s: float,
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "*/*"}
        try:
            key = self._settings.api_key()
        except ConfigError as error:
            raise UnavailableError(str(error)) from error
        if key:
            headers["Authorization"] = f"Bearer {key}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        self._guarded(connection.connect)
        connection.sock.settimeout(stall_s)
        self._guarded(connection.request, method, self._base + path, data, headers)
        response: http.client.HTTPResponse = self._guarded(connection.getresponse)
        if response.status != _OK:
            self._refuse(response.status, self._bounded(response))
        return response

    def _guarded(self, work: Any, *arguments: Any) -> Any:
        """Do one step on the socket; what the network does becomes one kind of error."""
        try:
            return work(*arguments)
        except TimeoutError as error:
            raise UnavailableError(f"{self.url} is silent for too long") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UnavailableError(f"{self.url} does not answer: {reason}") from error

    def _bounded(self, response: http.client.HTTPResponse) -> bytes:
        data: bytes = self._guarded(response.read, BODY_BYTES_MAX + 1)
        if len(data) > BODY_BYTES_MAX:
            raise UnavailableError(f"{self.url} sent more than {BODY_BYTES_MAX} bytes")
        return data

    def _decoded(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UnavailableError(f"{self.url} does not speak this form: {data[:100]!r}") from error

    def _refuse(self, status: int, data: bytes) -> None:
        try:
            reason = _reason(json.loads(data))
        except (ValueError, RecursionError):
            reason = data[:200].decode(errors="replace")
        if status in _CALLERS_FAULT:
            raise BadRequestError(reason)
        if status in _KEY_FAULT:
            raise UnavailableError(
                f"{self.url} refuses our key ({status}): put the right one into the file that llm.api_key_file names"
            )
        if status == _NOT_FOUND:
            raise UnavailableError(f"{self.url} has no model {self._settings.model!r}, or no such route: {reason}")
        raise UnavailableError(f"{self.url} answers {status}: {reason}")


def _reason(found: Any) -> str:
    error = found.get("error", found) if isinstance(found, dict) else found
    return str(error.get("message") or error if isinstance(error, dict) else error)[:500]
