"""The server's HTTP face with a scripted model: the OpenAI form, bad input, the bounded line, clients that go."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from sutazai.limits import BODY_BYTES_MAX
from sutazai.llm.drivers.scripted import ScriptedDriver
from sutazai.llm.embedder import Embedder
from sutazai.llm.server import LlmServer
from sutazai.llm.settings import Settings
from sutazai.testing.fake_vectors import FakeVectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTINGS = Settings(model="scripted", driver="scripted", slots=1, queue_max=1, output_tokens_max=100)


class Bench:
    """A server and its driver."""

    def __init__(self) -> None:
        self.driver = ScriptedDriver(SETTINGS)
        self.vectors = FakeVectors()
        embedder = Embedder(self.vectors, room_bytes=None)
        self.server = LlmServer(self.driver, self.driver.load(), SETTINGS, embedder)
        self.client = TestClient(self.server.app())

    def active(self) -> int:
        """Requests that a slot works on."""
        return self.server._engine.desk.statistics().active

    def ask(self, text: str = "say: a b c", **more: Any) -> httpx.Response:
        """Ask for one answer."""
        return self.client.post("/v1/chat/completions", json=body(text, **more))


def body(text: str = "say: a b c", **more: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A server in its lifespan."""
    made = Bench()
    with made.client:
        yield made


def test_a_whole_answer(bench: Bench) -> None:
    """One choice, a reason, counted tokens."""
    answer = bench.ask().json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "a b c"}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


def test_a_streamed_answer(bench: Bench) -> None:
    """Role first, then the pieces, the reason, the usage when it was asked for, and the end mark."""
    response = bench.ask(stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == "a b c"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 3


def test_length_and_stop(bench: Bench) -> None:
    """``max_tokens`` ends an answer with the reason length; a stop text is not part of it."""
    assert bench.ask("endless", max_tokens=3).json()["choices"][0]["finish_reason"] == "length"
    assert bench.ask("say: a STOP b", stop="STOP").json()["choices"][0]["message"]["content"] == "a "


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "required": []}}},
        {"type": "json_object"},
    ],
)
def test_constrained_answers(bench: Bench, wanted: dict[str, Any]) -> None:
    """Both ways to ask for JSON give JSON."""
    content = bench.ask(response_format=wanted).json()["choices"][0]["message"]["content"]
    assert isinstance(json.loads(content), dict)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "a\x00b"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 101}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": -1}, "seed"),
        ({"n": 2}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stop": ["a"] * 9}, "stop"),
        ({"stop": ""}, "stop"),
        ({"tools": [{}]}, "tools"),
        ({"model": 5}, "model"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
        (
            {"response_format": {"type": "json_object", "schema": {"enum": list(range(5_000))}}},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_a_wrong_field_is_named(bench: Bench, change: dict[str, Any], param: str) -> None:
    """Each wrong field is refused as OpenAI does, with its name."""
    response = bench.client.post("/v1/chat/completions", json={**body(), **change})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_another_model_is_404(bench: Bench) -> None:
    """A model that is not loaded is told with the one that is; no name means that one."""
    response = bench.client.post("/v1/chat/completions", json={**body(), "model": "gpt-9"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert bench.client.post("/v1/chat/completions", json={**body(), "model": None}).json()["model"] == "scripted"
    assert bench.client.get("/v1/models/gpt-9").status_code == 404
    assert bench.client.get("/v1/models/scripted").json()["id"] == "scripted"
    assert bench.client.get("/v1/models").json()["data"][0]["id"] == "scripted"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"5", b"[]"])
def test_bad_json_is_400(bench: Bench, data: bytes) -> None:
    """What is no UTF-8, no JSON or no object is refused clearly."""
    response = bench.client.post("/v1/chat/completions", content=data)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_huge_body_is_413(bench: Bench) -> None:
    """Too large a body is refused, by its announced length or by what arrives."""
    huge = json.dumps(body("x" * BODY_BYTES_MAX)).encode()
    assert bench.client.post("/v1/chat/completions", content=huge).status_code == 413
    pieces = (huge[i : i + 65_536] for i in range(0, len(huge), 65_536))
    assert bench.client.post("/v1/chat/completions", content=pieces).status_code == 413


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_driver_refuses_has_its_status(bench: Bench, stream: bool) -> None:  # noqa: FBT001
    """A refusal is 400 and a failure 503 with a time to try again, also when a stream was asked for."""
    refused = bench.ask("refuse: not this schema", stream=stream)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "not this schema")
    failed = bench.ask("break: died", stream=stream)
    assert (failed.status_code, failed.headers["retry-after"]) == (503, "1")
    assert bench.client.get("/health").json()["active"] == 0


def test_other_paths_and_methods_have_the_same_form(bench: Bench) -> None:
    """Also 404 and 405 are errors in OpenAI's form."""
    assert "error" in bench.client.get("/v1/nothing").json()
    response = bench.client.get("/v1/chat/completions")
    assert (response.status_code, response.json()["error"]["type"]) == (405, "invalid_request_error")


def test_metrics(bench: Bench) -> None:
    """Answers, tokens, memory and errors are counted under the blueprint's names."""
    bench.ask()
    bench.ask("refuse: no")
    families = {f.name: f for f in text_string_to_metric_families(bench.client.get("/metrics").text)}
    assert families["ai_model_memory_bytes"].samples[0].value > 0
    tokens = {s.labels["kind"]: s.value for s in families["ai_tokens_processed"].samples if s.name.endswith("_total")}
    assert tokens == {"prompt": 4, "generated": 3}
    assert [s.value for s in families["ai_inference_duration_seconds"].samples if s.name.endswith("_count")] == [1]
    errors = {s.labels["code"]: s.value for s in families["ai_errors"].samples if s.name.endswith("_total")}
    assert errors == {"invalid_request": 1}


async def _until(holds: Callable[[], bool]) -> None:
    """Let the loop run until something holds."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 threads change it, there is no event to wait for
            await asyncio.sleep(0.001)


async def _together(bench: Bench, count: int) -> list[httpx.Response]:
    """Ask while the gate is closed, open it when the line is as long as it gets."""
    transport = httpx.ASGITransport(bench.server.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://llm") as client:
        bench.driver.gate.clear()
        asked = [asyncio.create_task(client.post("/v1/chat/completions", json=body())) for _ in range(count)]
        try:
            await _until(lambda: any(task.done() for task in asked) and bench.active() == 1)
            assert bench.server._engine.desk.statistics().waiting == 1
        finally:
            bench.driver.gate.set()  # a thread that waits for ever would hold the test run up
        return list(await asyncio.gather(*asked))


def test_beyond_the_line_is_429_with_a_time() -> None:
    """One works, one waits, the third is told when to come again; the first two are answered."""
    responses = asyncio.run(_together(Bench(), 3))
    assert sorted(response.status_code for response in responses) == [200, 200, 429]
    refused = next(response for response in responses if response.status_code == 429)
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert int(refused.headers["retry-after"]) >= 1


def _gone_client(stream: bool) -> tuple[Bench, list[dict[str, Any]]]:  # noqa: FBT001
    """Send a request for an endless answer over bare ASGI and disconnect once it is computed."""
    bench = Bench()
    sent: list[dict[str, Any]] = []

    async def run() -> None:
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        data = json.dumps(body("endless", max_tokens=100, stream=stream)).encode()
        inbox.put_nowait({"type": "http.request", "body": data, "more_body": False})
        scope = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [], "query_string": b"",
            "http_version": "1.1", "scheme": "http", "server": ("x", 1), "client": ("x", 1),
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }  # fmt: skip
        bench.driver.gate.clear()

        async def send(message: Any) -> None:
            sent.append(message)

        task = asyncio.create_task(bench.server.app()(scope, inbox.get, send))
        try:
            await _until(lambda: bench.active() == 1)
            inbox.put_nowait({"type": "http.disconnect"})
            async with asyncio.timeout(30):
                await task
        finally:
            bench.driver.gate.set()
        await _until(lambda: bench.active() == 0)

    asyncio.run(run())
    return bench, sent


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_stops_the_computing(stream: bool) -> None:  # noqa: FBT001
    """Nobody computes for a client that has closed its connection."""
    bench, sent = _gone_client(stream)
    assert bench.driver.cancelled == 1
    assert all(message.get("status") != 200 for message in sent)


def test_tokens_are_the_drivers(bench: Bench) -> None:
    """One text gives its tokens, several give their counts; the flag adds what begins a text."""
    one = bench.client.post("/tokenize", json={"content": "a b c"}).json()
    assert one["count"] == len(one["tokens"]) == 3
    assert bench.client.post("/tokenize", json={"content": "a b c", "add_special": True}).json()["count"] == 4
    assert bench.client.post("/tokenize", json={"content": ["", "a", "a b"]}).json()["counts"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        ([], 400, "JSON object"),
        ({}, 400, "a text or a list"),
        ({"content": ["a", 1]}, 400, "a text or a list"),
        ({"content": "a", "add_special": 1}, 400, "true or false"),
        ({"content": "a", "with_pieces": True}, 400, "unknown field 'with_pieces'"),
        ({"content": "a", "model": "other"}, 404, "the only model"),
        ({"content": ["a"] * 2_001}, 400, "the limit is 2000"),
    ],
)
def test_a_wrong_question_for_tokens_is_refused(bench: Bench, sent: Any, status: int, text: str) -> None:
    """Each wrong field has its status and names itself."""
    answer = bench.client.post("/tokenize", json=sent)
    assert answer.status_code == status
    assert text in answer.json()["error"]["message"]


def test_a_driver_without_a_tokenizer_says_so(bench: Bench) -> None:
    """It is 501 and no estimate."""

    class Mute(ScriptedDriver):
        tokenize = None  # type: ignore[assignment]

    bench.server._engine.driver = Mute(SETTINGS)
    answer = bench.client.post("/tokenize", json={"content": "a"})
    assert answer.status_code == 501
    assert answer.json()["error"]["code"] == "unsupported"
