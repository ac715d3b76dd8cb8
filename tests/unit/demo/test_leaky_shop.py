"""The faulty shop is faulty in the way that it says, and runs as a real program."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from sutazai.demo.leaky_shop import SessionCache, SessionLookupTimeoutError, Settings, Shop


def _shop(slow_cache_bytes: int = 1000) -> Shop:
    return Shop(Settings(leak_bytes_per_s=1000, slow_cache_bytes=slow_cache_bytes, requests_per_s=10, traffic=False))


def test_settings_come_from_the_environment_in_their_units() -> None:
    """KB and MB are read as 1024s, and a missing variable keeps the default."""
    settings = Settings.of({"LEAK_KB_PER_S": "10", "SLOW_CACHE_MB": "2", "TRAFFIC": "0"})
    assert settings == Settings(leak_bytes_per_s=10_240, slow_cache_bytes=2_097_152, traffic=False)
    assert Settings.of({}) == Settings()


def test_no_session_ever_expires() -> None:
    """Bug one is there: the cache holds every session that it was ever given, even far in the future."""
    shop = _shop(slow_cache_bytes=10**9)
    for _ in range(50):
        shop.visit()
    assert len(shop.cache) == 51
    assert shop.cache.size_bytes == 50 * 100 + 1


def test_a_sessions_pages_are_written() -> None:
    """The leak is resident memory: each page of a basket holds a written byte."""
    cache = SessionCache(10**9)
    cache.put("a", 3 * 4096)
    basket = cache.find("a")
    assert basket is not None
    assert [basket[offset] for offset in range(0, len(basket), 4096)] == [1, 1, 1]


def test_old_sessions_stop_being_found_when_the_cache_has_grown(capsys: pytest.CaptureFixture[str]) -> None:
    """Bug two is there: healthy while small; later 503 on /health, 500 for an old session, 200 for a new one."""
    shop = _shop()
    assert shop.answer("/health", "")[0] == 200
    for _ in range(30):
        newest = shop.visit()
    assert shop.answer("/health", "")[0] == 503
    assert shop.answer("/orders", "s-000001")[0] == 500
    assert shop.answer("/orders", newest)[0] == 200
    assert shop.answer("/items", "")[0] == 200
    assert shop.answer("/nothing", "")[0] == 404
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    failed = next(line for line in lines if line.get("path") == "/orders")
    assert failed["level"] == "error"
    assert failed["error"] == "SessionLookupTimeout"
    assert failed["order"] in failed["text"]
    assert failed["at_wall_ms"] > 1_600_000_000_000
    assert [line["level"] for line in lines].count("warning") == 1


def test_an_unknown_session_in_a_small_cache_is_no_error() -> None:
    """The look-up that ends inside its budget answers None."""
    cache = SessionCache(100)
    cache.put("a", 10)
    assert cache.find("b") is None
    cache.put("c", 101)
    with pytest.raises(SessionLookupTimeoutError, match="look-up budget"):
        cache.find("b")


def test_it_runs_as_a_program_on_a_handed_socket_and_stops_on_sigterm() -> None:
    """A real process takes the listener that it is handed, makes traffic, answers, logs JSON, and ends cleanly."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    env = {
        **os.environ,
        "SUTAZAI_LISTEN": json.dumps({"http": [listener.fileno()]}),
        "LEAK_KB_PER_S": "200",
        "SLOW_CACHE_MB": "0",
        "REQUESTS_PER_S": "50",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "sutazai.demo.leaky_shop"],
        env=env,
        pass_fds=[listener.fileno()],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        listener.close()
        status, deadline = 200, time.monotonic() + 60
        while status == 200 and time.monotonic() < deadline:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/health")
            response = connection.getresponse()
            status, body = response.status, json.loads(response.read())
            connection.close()
        assert status == 503
        assert body["error"] == "SessionLookupTimeout"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert process.returncode == 0
    lines = [json.loads(line) for line in output.splitlines()]
    assert lines[-1]["text"] == "shop is closed"
    assert any(line["level"] == "error" for line in lines)
