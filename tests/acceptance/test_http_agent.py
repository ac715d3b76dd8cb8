"""An unchanged FastAPI program is an agent of the fleet: its own clients, durable tasks, limits, health, kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What somebody has today; nothing of it knows the fleet.
APP = '''
import os
import time
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI(title="Old agent")
NOTES = Path(os.environ["NOTES"])


class Question(BaseModel):
    text: str
    times: int = 1


@app.post("/ask")
def ask(question: Question) -> dict:
    """Answer a question loudly."""
    return {"answer": question.text.upper() * question.times, "pid": os.getpid()}


@app.get("/items/{item}")
def item(item: str, verbose: bool = False) -> dict:
    """Show one item."""
    if item == "none":
        raise HTTPException(404, "there is no such item")
    return {"item": item, "verbose": verbose}


@app.post("/once-slow")
def once_slow(request: Request) -> dict:
    """Hang the first time, answer the second."""
    with NOTES.open("a") as file:
        file.write(f"{request.headers['idempotency-key']} {request.headers['x-sutazai-attempt']}\\n")
    if len(NOTES.read_text().splitlines()) == 1:
        time.sleep(600)
    return {"calls": NOTES.read_text().splitlines()}


@app.get("/flaky")
def flaky() -> dict:
    """Fail once."""
    mark = NOTES.with_suffix(".flaky")
    if not mark.exists():
        mark.touch()
        raise RuntimeError("the first time it fails")
    return {"ok": True}


@app.get("/stream")
def stream() -> StreamingResponse:
    """Send a megabyte in parts."""
    return StreamingResponse((b"x" * 65_536 for _ in range(16)), media_type="application/octet-stream")


@app.post("/length")
async def length(request: Request) -> dict:
    """Count what was sent."""
    return {"bytes": len(await request.body())}
'''

MANIFEST = """
fleet: {fleet}
port_offset: {offset}
services:
  old-server:
    command: "{python} -m uvicorn old_app:app --host 127.0.0.1 --port {port} --log-level warning"
    cwd: @CWD@
    port: 10610
    pool: standard
    memory: 128MB
    env: {NOTES: @CWD@/notes}
    ready: {http: /openapi.json}
    probe: {http: /openapi.json, interval: 1s}
agents:
  old-agent:
    http: {service: old-server, openapi: @CWD@/openapi.json}
    port: 10480
    pool: standard
    keep: 5s
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveFleet, Path]]:
    """A fleet of one old program."""
    folder = tmp_path_factory.mktemp("old")
    (folder / "old_app.py").write_text(APP)
    code = "import json; from old_app import app; print(json.dumps(app.openapi()))"
    env = {**os.environ, "NOTES": str(folder / "notes")}
    document = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, check=True)
    (folder / "openapi.json").write_bytes(document.stdout)
    with LiveFleet(textwrap.dedent(MANIFEST).replace("@CWD@", str(folder))) as fleet:
        yield fleet, folder


def url(fleet: LiveFleet, path: str) -> str:
    """A URL at the agent's own port."""
    return f"http://127.0.0.1:{fleet.port(10480)}{path}"


def submit(fleet: LiveFleet, skill: str, given: dict[str, Any], wait_s: int = 60) -> dict[str, Any]:
    """Send a durable task and wait for its end."""
    headers = {"Authorization": f"Bearer {(fleet.state / 'token').read_text().strip()}", "Prefer": f"wait={wait_s}"}
    body = {"skill": skill, "input": given}
    answer = httpx.post(url(fleet, "/tasks"), json=body, headers=headers, timeout=wait_s + 30)
    assert answer.status_code == 200, answer.text
    task: dict[str, Any] = answer.json()
    return task


def server(fleet: LiveFleet) -> dict[str, Any]:
    """The program's row of the status."""
    found: dict[str, Any] = next(row for row in fleet.status()["processes"] if row["name"] == "old-server")
    return found


def test_its_clients_go_on(live: tuple[LiveFleet, Path]) -> None:
    """Requests to the port reach the program unchanged, in both directions, large and streamed ones too."""
    fleet, _ = live
    assert httpx.post(url(fleet, "/ask"), json={"text": "a", "times": 3}).json()["answer"] == "AAA"
    assert httpx.get(url(fleet, "/items/b%2Fc?verbose=true")).status_code == 404, "its own router's answer"
    assert httpx.get(url(fleet, "/items/b?verbose=true")).json() == {"item": "b", "verbose": True}
    assert httpx.post(url(fleet, "/ask"), json={"times": "no"}).status_code == 422
    assert "Old agent" in httpx.get(url(fleet, "/docs")).text
    assert len(httpx.get(url(fleet, "/stream")).content) == 1 << 20
    assert httpx.post(url(fleet, "/length"), content=b"y" * (8 << 20), timeout=60).json() == {"bytes": 8 << 20}
    chunked = httpx.post(url(fleet, "/length"), content=(b"z" * 1_000 for _ in range(20)), timeout=60)
    assert chunked.json() == {"bytes": 20_000}


def test_its_health_is_the_fleets(live: tuple[LiveFleet, Path]) -> None:
    """The blueprint's form of health, its skills with schemas, its memory limit in the status."""
    fleet, _ = live
    health = httpx.get(url(fleet, "/health")).json()
    assert list(health) == ["status", "agent", "version", "uptime", "memory_usage", "cpu_usage"]
    assert health["agent"] == "old-agent"
    skills = {skill["name"]: skill for skill in httpx.get(url(fleet, "/skills")).json()["skills"]}
    assert set(skills) == {"ask", "item", "once_slow", "flaky", "stream", "length"}
    assert skills["ask"]["description"] == "Answer a question loudly."
    assert skills["item"]["input"]["required"] == ["item"]
    assert server(fleet)["memory_limit_bytes"] == 128 << 20


def test_durable_tasks(live: tuple[LiveFleet, Path]) -> None:
    """A task is one request; what the server says decides: a result, a failure for good, or another try."""
    fleet, _ = live
    asked = submit(fleet, "ask", {"body": {"text": "b", "times": 2}})
    assert (asked["status"], asked["result"]["answer"]) == ("succeeded", "BB")
    shown = submit(fleet, "item", {"item": "a b", "verbose": True})
    assert shown["result"] == {"item": "a b", "verbose": True}
    refused = submit(fleet, "item", {"item": "none"})
    assert (refused["status"], refused["error"]["code"]) == ("failed", "refused-by-server")
    assert "no such item" in refused["error"]["message"]
    flaky = submit(fleet, "flaky", {})
    assert flaky["status"] == "succeeded", flaky
    wrong = httpx.post(
        url(fleet, "/tasks"),
        json={"skill": "ask", "input": {"body": {"text": 1}}},
        headers={"Authorization": f"Bearer {(fleet.state / 'token').read_text().strip()}"},
    )
    assert wrong.status_code == 422
    assert "/body/text" in wrong.text
    binary = submit(fleet, "stream", {})
    assert binary["status"] == "succeeded"
    assert len(binary["result"]["text"]) == 1 << 20


def test_killed_in_the_middle(live: tuple[LiveFleet, Path]) -> None:
    """``kill -9`` of the program while it works on a task: it is started again, and the task finishes with its key."""
    fleet, folder = live
    before = server(fleet)["pid"]
    found: list[dict[str, Any]] = []
    waiter = threading.Thread(target=lambda: found.append(submit(fleet, "once_slow", {})))
    waiter.start()
    until = time.monotonic() + 60
    while not (folder / "notes").exists() and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(before, signal.SIGKILL)
    waiter.join()
    (task,) = found
    assert task["status"] == "succeeded", task
    calls = task["result"]["calls"]
    assert [call.split()[1] for call in calls] == ["1", "2"]
    assert len({call.split()[0] for call in calls}) == 1, "both requests bear the task's id"
    assert server(fleet)["pid"] != before


def test_a_page_of_another_site(live: tuple[LiveFleet, Path]) -> None:
    """A browser's page from elsewhere, and what is no plain HTTP, are refused before the program sees them."""
    fleet, _ = live
    answer = httpx.post(url(fleet, "/ask"), json={"text": "a"}, headers={"Origin": "https://elsewhere.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    answer = httpx.get(url(fleet, "/ws"), headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert (answer.status_code, answer.json()["code"]) == (501, "not-implemented")


def test_a_server_that_is_away(live: tuple[LiveFleet, Path]) -> None:
    """Frozen or gone, it never hangs the gateway: 503 with Retry-After while nobody listens."""
    fleet, _ = live
    before = server(fleet)["pid"]
    status = 200
    for _ in range(8):  # each end makes the next start wait longer
        os.kill(server(fleet)["pid"] or before, signal.SIGKILL)
        answer = httpx.get(url(fleet, "/items/a"), timeout=30)
        status = answer.status_code
        if status == 503:
            break
        until = time.monotonic() + 60
        while not server(fleet)["ready"] and time.monotonic() < until:
            time.sleep(0.02)
    assert status == 503, answer.text
    assert answer.headers["retry-after"]
    assert json.loads(answer.text)["code"] == "unavailable"
    assert submit(fleet, "item", {"item": "c"})["status"] == "succeeded", "a durable task waits for it"
