"""Why it exists: whether a process can be used is asked from outside, without ever blocking the loop.

One check connects, perhaps sends one request (HTTP, or the first words of a dialect), and reports what it saw: the
status code, the latency, or why not. Readiness gates and liveness checks are both made of it.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.supervisor.dialects import DIALECTS
from sutazai.supervisor.loop import READ, WRITE, Loop, Timer

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS_LINE_BYTES_MAX = 4_096
HTTP_OK_FIRST = 200
HTTP_OK_LAST = 299


@dataclass(frozen=True, slots=True)
class Target:
    """What to check.

    Attributes:
        kind: ``http``, ``tcp``, ``unix``, or a dialect: ``postgres``, ``redis``, ``amqp``.
        host: for all but unix.
        port: for all but unix.
        path: HTTP path, or the path of a unix socket.
        timeout_ms: of the whole check.
    """

    kind: str
    host: str
    port: int
    path: str
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check saw.

    Attributes:
        ok: whether it passed.
        status: HTTP status, 0 where there is none.
        latency_ms: until the answer, or until it was given up.
        text: the evidence, for a person.
    """

    ok: bool
    status: int
    latency_ms: int
    text: str


class Check:
    """One check under way; calls ``done`` exactly once, never from inside the constructor."""

    def __init__(self, loop: Loop, target: Target, done: Callable[[Outcome], None]) -> None:
        self._loop = loop
        self._target = target
        self._done = done
        self._began_ms = loop.now_ms()
        self._answer = b""
        family = socket.AF_UNIX if target.kind == "unix" else socket.AF_INET6 if ":" in target.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(0)
        self._timer: Timer = loop.after(target.timeout_ms, self._on_timeout)
        address = target.path if target.kind == "unix" else (target.host, target.port)
        try:
            failure = self._socket.connect_ex(address)
        except OSError as error:
            failure = error.errno or errno.EINVAL
        if failure in {0, errno.EINPROGRESS}:
            loop.watch(self._socket.fileno(), WRITE, self._on_connected)
        else:
            self._timer.cancel()
            self._timer = loop.after(0, lambda: self._fail(_words(failure)))

    def cancel(self) -> None:
        """Give it up; ``done`` is not called."""
        self._timer.cancel()
        if self._socket.fileno() >= 0:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()

    def _on_connected(self, _events: int) -> None:
        if failure := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._fail(_words(failure))
        elif self._target.kind == "http":
            request = (
                f"GET {self._target.path or '/'} HTTP/1.1\r\nHost: {self._target.host}:{self._target.port}\r\n"
                "User-Agent: sutazaid\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            )
            self._ask(request.encode())
        elif self._target.kind in DIALECTS:
            self._ask(DIALECTS[self._target.kind].hello)
        else:
            self._finish(Outcome(ok=True, status=0, latency_ms=self._latency_ms(), text="connected"))

    def _ask(self, request: bytes) -> None:
        try:
            self._socket.send(request)
        except OSError as error:
            self._fail(_words(error.errno or errno.EIO))
            return
        self._loop.watch(self._socket.fileno(), READ, self._on_answer)

    def _on_answer(self, _events: int) -> None:
        try:
            data = self._socket.recv(STATUS_LINE_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(_words(error.errno or errno.EIO))
            return
        self._answer += data
        if self._target.kind in DIALECTS:
            self._judge(ended=not data)
            return
        if data and b"\r\n" not in self._answer and len(self._answer) < STATUS_LINE_BYTES_MAX:
            return
        parts = self._answer.split(b"\r\n", 1)[0].split(None, 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or not parts[1].isdigit():  # noqa: PLR2004 version, status
            self._fail("the answer is not HTTP" if self._answer else "closed without an answer")
            return
        status = int(parts[1])
        latency_ms = self._latency_ms()
        self._finish(
            Outcome(
                ok=HTTP_OK_FIRST <= status <= HTTP_OK_LAST,
                status=status,
                latency_ms=latency_ms,
                text=f"HTTP {status} from {self._target.path or '/'} in {latency_ms} ms",
            )
        )

    def _judge(self, *, ended: bool) -> None:
        verdict = DIALECTS[self._target.kind].judge(self._answer)
        if verdict is not None and verdict.ok:
            self._finish(Outcome(ok=True, status=0, latency_ms=self._latency_ms(), text=verdict.text))
        elif verdict is not None:
            self._fail(verdict.text)
        elif ended:
            self._fail("closed in the middle of an answer" if self._answer else "closed without an answer")
        elif len(self._answer) >= STATUS_LINE_BYTES_MAX:
            self._fail("the answer is too long")

    def _on_timeout(self) -> None:
        self._fail(f"no answer in {self._target.timeout_ms} ms")

    def _fail(self, text: str) -> None:
        where = self._target.path if self._target.kind == "unix" else f"{self._target.host}:{self._target.port}"
        self._finish(Outcome(ok=False, status=0, latency_ms=self._latency_ms(), text=f"{where}: {text}"))

    def _latency_ms(self) -> int:
        return self._loop.now_ms() - self._began_ms

    def _finish(self, outcome: Outcome) -> None:
        self.cancel()
        self._done(outcome)


def _words(number: int) -> str:
    return os.strerror(number).lower()
