"""One request of an HTTP agent: what is asked, and what each answer makes of the task; against a real server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.runtime.context import Context, Surroundings
from sutazai.runtime.execute import execute
from sutazai.runtime.http_agent import HttpSkill, ServerRefusedError, build
from sutazai.runtime.log import Log
from sutazai.runtime.turn import Commit, read_turn
from sutazai.wire.planfacts import AgentFacts

if TYPE_CHECKING:
    from collections.abc import Iterator


class Handler(BaseHTTPRequestHandler):
    """Answers as the path says: ``/status/404``, ``/json``, ``/text``, ``/bytes``, ``/broken``, ``/liar``."""

    def do_POST(self) -> None:
        """Answer."""
        length = int(self.headers.get("content-length") or 0)
        sent = json.loads(self.rfile.read(length)) if length else None
        kind, _, status = self.path.strip("/").partition("/")
        if kind == "broken":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
            self.close_connection = True
            return
        seen = {"path": self.path, "sent": sent, "key": self.headers["idempotency-key"]}
        body, media = {
            "text": (b"plain", "text/plain"),
            "bytes": (b"\xff\xfe\x00", "application/octet-stream"),
            "liar": (b"<html>", "application/json"),
        }.get(kind, (json.dumps(seen).encode(), "application/json"))
        self.send_response(int(status) if kind == "status" else 200)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server on a port of its own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def run(url: str, path: str, given: dict[str, Any], deadline_ms: int = 30_000) -> Commit:
    """Run one turn."""
    call = {"method": "POST", "path": path, "query": ["deep"]}
    agent = build(AgentFacts("old", "-", upstream={"url": url, "skills": {"ask": call}}))
    task = {"id": "t_1", "agent": "old", "skill": "ask", "input": given}
    turn = read_turn({"task": task, "fence": 1, "lease_ms": 1, "deadline_left_ms": deadline_ms})
    context = Context(turn, Surroundings(log=Log({})))
    return execute(agent, turn, context, lambda function, arguments: function(**arguments))


def test_the_request(server: str) -> None:
    """Path, query and body are filled from the input; the task's id is the idempotency key."""
    commit = run(server, "/json/{name}", {"name": "a b/c", "deep": [True, "x"], "query": {"n": 2}, "body": [1]})
    assert commit.result == {"path": "/json/a%20b%2Fc?deep=true&deep=x&n=2", "sent": [1], "key": "t_1"}


@pytest.mark.parametrize("part", ["..", ".", ""])
def test_a_part_that_changes_the_path(server: str, part: str) -> None:
    """A part of the path stays a part of it: the caller cannot reach another operation by it."""
    error = run(server, "/json/items/{item}", {"item": part}).error
    assert error is not None
    assert (error["code"], error["retryable"]) == ("refused-by-server", False)
    assert run(server, "/json/items/{item}", {"item": "..."}).result["path"] == "/json/items/..."


@pytest.mark.parametrize(
    ("path", "code", "retryable"),
    [
        ("/status/404", "refused-by-server", False),
        ("/status/422", "refused-by-server", False),
        ("/status/302", "refused-by-server", False),
        ("/status/409", "server-failed", True),
        ("/status/429", "server-failed", True),
        ("/status/500", "server-failed", True),
        ("/broken", "server-failed", True),
        ("/liar", "server-failed", True),
        ("/bytes", "non-retryable", False),
    ],
)
def test_failures(server: str, path: str, code: str, *, retryable: bool) -> None:
    """What may be gone the next time is tried again, a refusal is not."""
    error = run(server, path, {"body": {}}).error
    assert error is not None
    assert (error["code"], error["retryable"]) == (code, retryable)


def test_text(server: str) -> None:
    """Text that is no JSON comes with its media type; nothing at all is null."""
    assert run(server, "/text", {}).result == {"content_type": "text/plain", "text": "plain"}


@pytest.mark.parametrize(
    "given",
    [
        {"method": "GET", "path": "http://127.0.0.1:1/"},
        {"method": "POST", "path": "json"},
        {"method": "CONNECT", "path": "/json"},
        {"method": "POST /other HTTP/1.1 ", "path": "/json"},
        {"method": ["POST"], "path": "/json"},
    ],
)
def test_no_request_to_somebody_else(server: str, given: dict[str, Any]) -> None:
    """Another agent's task is checked by nobody before: only this server's paths, only plain methods."""
    error = run_any(server, given).error
    assert error is not None
    assert (error["code"], error["retryable"]) == ("refused-by-server", False)


def run_any(url: str, given: dict[str, Any]) -> Commit:
    """Run one turn of the skill that makes any request."""
    facts = AgentFacts("old", "-", upstream={"url": url, "skills": {"request": {"method": "*", "path": "*"}}})
    task = {"id": "t_1", "agent": "old", "skill": "request", "input": given}
    turn = read_turn({"task": task, "fence": 1, "lease_ms": 1, "deadline_left_ms": 30_000})
    context = Context(turn, Surroundings(log=Log({})))
    return execute(build(facts), turn, context, lambda function, arguments: function(**arguments))


def test_any_request(server: str) -> None:
    """Without a description, method and path are the input's; what cannot stand in a path is escaped."""
    given = {"method": "POST", "path": "/json/ä b", "query": {"n": 1}, "body": {"a": 1}}
    commit = run_any(server, given)
    assert commit.result == {"path": "/json/%C3%A4%20b?n=1", "sent": {"a": 1}, "key": "t_1"}


def test_nobody_there() -> None:
    """Without a server the turn waits until its deadline and asks to be tried again."""
    error = run("http://127.0.0.1:9", "/json", {}, deadline_ms=300).error
    assert error is not None
    assert (error["code"], error["retryable"]) == ("server-failed", True)
    assert "nobody answers" in error["message"]


def test_a_missing_part() -> None:
    """A path whose part is not given is refused before anything is sent."""
    skill = HttpSkill("ask", "http://127.0.0.1:9", {"method": "GET", "path": "/a/{b}", "query": []})
    with pytest.raises(ServerRefusedError, match="lacks 'b'"):
        skill.target({})
