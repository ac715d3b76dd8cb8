"""Why it exists: a small shop with two real bugs, so that a fleet has something true to find, explain and report.

Bug one: a session's life is written in milliseconds and compared in seconds, so that no session ever expires and the
cache grows until the kernel ends the program at its memory limit. Bug two: a look-up walks the cache from its newest
session and gives up after a budget, so that old sessions stop being found when the cache has grown: ``/orders``
answers 500 more and more often, and ``/health``, which looks for the first session, answers 503.

The program makes its own traffic over real HTTP, so it goes wrong by itself, and after a restart it goes wrong again.
With the default settings the first errors come after about 16 seconds and a limit of 96 MB is met after about 48.

Run: ``python -m sutazai.demo.leaky_shop``. Environment: ``PORT`` (or a socket in ``SUTAZAI_LISTEN``),
``LEAK_KB_PER_S``, ``SLOW_CACHE_MB``, ``REQUESTS_PER_S``, ``TRAFFIC`` (``0`` switches the self-made traffic off).
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_KIB = 1024
_MIB = 1024 * 1024
_PAGE_BYTES = 4096
_SESSION_LIFE = 1_800_000  # thirty minutes in milliseconds ...
_ITEMS = (("tea", 450), ("coffee", 620), ("cocoa", 510), ("mug", 900), ("filter", 120))
_STACK_BYTES = 256 * _KIB
_FIRST_SESSION = "s-000000"


class SessionLookupTimeoutError(Exception):
    """A look-up used up its budget before it found the session."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How fast the shop goes wrong.

    Attributes:
        leak_bytes_per_s: growth of the session cache under the shop's own traffic.
        slow_cache_bytes: how much of the cache a look-up walks before it gives up.
        requests_per_s: of the shop's own traffic.
        traffic: whether it makes traffic at all.
    """

    leak_bytes_per_s: int = 1_800 * _KIB
    slow_cache_bytes: int = 28 * _MIB
    requests_per_s: float = 10.0
    traffic: bool = True

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings; a missing one keeps its default."""
        usual = cls()
        return cls(
            leak_bytes_per_s=int(env.get("LEAK_KB_PER_S", usual.leak_bytes_per_s // _KIB)) * _KIB,
            slow_cache_bytes=int(env.get("SLOW_CACHE_MB", usual.slow_cache_bytes // _MIB)) * _MIB,
            requests_per_s=float(env.get("REQUESTS_PER_S", usual.requests_per_s)),
            traffic=env.get("TRAFFIC", "1") != "0",
        )


def log(level: str, text: str, **fields: Any) -> None:
    """Write one JSON line on standard output, as every program of a fleet does."""
    line = {"at_wall_ms": time.time_ns() // 1_000_000, "level": level, "text": text, **fields}
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


@dataclass(slots=True)
class _Session:
    name: str
    expires_at: float
    basket: bytearray


class SessionCache:
    """Sessions by age, the newest last. This is where both bugs live."""

    def __init__(self, budget_bytes: int) -> None:
        self._sessions: deque[_Session] = deque()
        self._budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def put(self, name: str, basket_bytes: int) -> None:
        """Keep a session with a basket of so many bytes; every page of it is written, so it is resident."""
        basket = bytearray(max(1, basket_bytes))
        for offset in range(0, len(basket), _PAGE_BYTES):
            basket[offset] = 1
        now = time.time()
        with self._lock:
            self._sessions.append(_Session(name, now + _SESSION_LIFE, basket))  # ... added to seconds: bug one
            self.size_bytes += len(basket)
            while self._sessions and self._sessions[0].expires_at < now:
                self.size_bytes -= len(self._sessions.popleft().basket)

    def find(self, name: str) -> bytearray | None:
        """Find a session's basket.

        Raises:
            SessionLookupTimeoutError: the walk passed its budget: bug two.
        """
        walked_bytes = 0
        with self._lock:
            for count, session in enumerate(reversed(self._sessions)):
                if session.name == name:
                    return session.basket
                walked_bytes += len(session.basket)
                if walked_bytes > self._budget_bytes:
                    raise SessionLookupTimeoutError(
                        f"session {name} not found within the look-up budget: walked {count + 1} sessions, "
                        f"{walked_bytes // _MIB} MB"
                    )
        return None


class Shop:
    """The shop's answers, without HTTP."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cache = SessionCache(settings.slow_cache_bytes)
        self._basket_bytes = int(settings.leak_bytes_per_s / settings.requests_per_s)
        self._orders = itertools.count(1)
        self._sessions = itertools.count(1)
        self._slow = False
        self.cache.put(_FIRST_SESSION, 1)

    def visit(self) -> str:
        """Let a new customer in: one more session that will never leave."""
        name = f"s-{next(self._sessions):06d}"
        self.cache.put(name, self._basket_bytes)
        if not self._slow and self.cache.size_bytes > self.settings.slow_cache_bytes:
            self._slow = True
            log(
                "warning",
                f"session cache holds {len(self.cache)} sessions, {self.cache.size_bytes // _MIB} MB; none expired",
                sessions=len(self.cache),
                cache_bytes=self.cache.size_bytes,
            )
        return name

    def answer(self, path: str, session: str) -> tuple[int, dict[str, Any]]:
        """Answer a request: status and body."""
        if path == "/health":
            return self._health()
        if path == "/items":
            return 200, {"items": [{"name": name, "price_cents": price} for name, price in _ITEMS]}
        if path == "/orders":
            return self._order(session)
        return 404, {"error": "not-found"}

    def _health(self) -> tuple[int, dict[str, Any]]:
        try:
            self.cache.find(_FIRST_SESSION)
        except SessionLookupTimeoutError as error:
            log("error", f"health check failed: {error}", error="SessionLookupTimeout", path="/health", status=503)
            return 503, {"status": "unhealthy", "error": "SessionLookupTimeout", "detail": str(error)}
        return 200, {"status": "healthy", "sessions": len(self.cache)}

    def _order(self, session: str) -> tuple[int, dict[str, Any]]:
        order = f"ord-{next(self._orders):06d}"
        try:
            basket = self.cache.find(session or _FIRST_SESSION)
        except SessionLookupTimeoutError as error:
            text = f"order {order} failed: {error}"
            log("error", text, error="SessionLookupTimeout", order=order, path="/orders", status=500)
            return 500, {"error": "SessionLookupTimeout", "order": order, "detail": str(error)}
        return 200, {"order": order, "session": session, "lines": 0 if basket is None else len(_ITEMS)}


class _Handler(BaseHTTPRequestHandler):
    """HTTP around a ``Shop``; the session stands in the query, ``/orders?s-000012``."""

    protocol_version = "HTTP/1.1"
    timeout = 5
    server: _Server

    def do_GET(self) -> None:
        """Answer one request."""
        path, _, session = self.path.partition("?")
        status, body = self.server.shop.answer(path, session)
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name is the base class's
        """Keep the access log out: a line a request would hide the errors."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, shop: Shop, listener: socket.socket) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_address = listener.getsockname()[:2]
        self.shop = shop

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet when a caller hangs up."""


def _traffic(shop: Shop, address: tuple[str, int], stop: threading.Event) -> None:
    """Be the shop's customers: each one comes, looks around and orders for somebody who came before."""
    chooser = random.Random(7)  # noqa: S311 the same customers every time
    pause_s = 1.0 / shop.settings.requests_per_s
    due = time.monotonic()
    visitors = 0
    while not stop.is_set():
        shop.visit()
        visitors += 1
        path = "/items" if visitors % 5 == 0 else f"/orders?s-{chooser.randint(1, visitors):06d}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(*address, timeout=2)
            connection.request("GET", path)
            connection.getresponse().read()
            connection.close()
        due = max(due + pause_s, time.monotonic() - 1.0)  # a starved program does not catch up in one burst
        stop.wait(max(0.0, due - time.monotonic()))


def _listener(env: Mapping[str, str]) -> socket.socket:
    handed: dict[str, list[int]] = json.loads(env.get("SUTAZAI_LISTEN") or "{}")
    for descriptors in handed.values():
        for descriptor in descriptors:
            return socket.socket(fileno=descriptor)
    return socket.create_server(("127.0.0.1", int(env.get("PORT", "8080"))), backlog=64)


def serve(env: Mapping[str, str], stop: threading.Event) -> None:
    """Run the shop until ``stop`` is set."""
    threading.stack_size(_STACK_BYTES)
    settings = Settings.of(env)
    shop = Shop(settings)
    server = _Server(shop, _listener(env))
    host, port = server.socket.getsockname()[:2]
    log("info", f"shop is open on {host}:{port}", port=port, leak_bytes_per_s=settings.leak_bytes_per_s)
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.5}, daemon=True)]
    if settings.traffic:
        threads.append(threading.Thread(target=_traffic, args=(shop, (host, port), stop), daemon=True))
    for thread in threads:
        thread.start()
    stop.wait()
    server.shutdown()
    server.server_close()
    log("info", "shop is closed")


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    stop = threading.Event()
    # A handler would run in the main thread alone, which a signal that another thread took does not wake.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        signal.sigwait(signals)
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    serve(os.environ, stop)


if __name__ == "__main__":
    main()
