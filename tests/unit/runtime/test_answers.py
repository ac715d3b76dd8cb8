"""The client of the language model: what it sends, what it makes of answers, and of everything that goes wrong."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pydantic import BaseModel, Field

from sutazai.errors import RefusedError, SkillError, UnavailableError
from sutazai.runtime.answers import LlmClient
from sutazai.runtime.turn import TaskInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

TASK = TaskInfo("t_1", "hello", "greet", priority=2)


class Choice(BaseModel):
    """A constrained answer."""

    skill: str = Field(max_length=10)


class Model(BaseHTTPRequestHandler):
    """Answers as the test says."""

    status: ClassVar[int] = 200
    reply: ClassVar[bytes] = b""
    seen: ClassVar[list[tuple[dict[str, Any], dict[str, str]]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((body, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.reply)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def client() -> Iterator[LlmClient]:
    """A client of a server that answers as the test says."""
    Model.status, Model.reply = 200, say("hi")
    Model.seen.clear()
    with HTTPServer(("127.0.0.1", 0), Model) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield LlmClient(f"http://127.0.0.1:{server.server_port}/v1/chat/completions", TASK, lambda: 30.0)
        server.shutdown()
        thread.join()


def say(text: str, finish: str = "stop") -> bytes:
    """Write an answer as OpenAI does."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps(
        {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    ).encode()


def test_a_plain_question(client: LlmClient) -> None:
    """A text becomes the user's message; who asks stands in headers; the answer says what it cost."""
    answer = client.chat("hello?", max_tokens=9, temperature=0.5)
    assert (answer.text, answer.data, answer.model, answer.finish) == ("hi", None, "m", "stop")
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 4)
    body, headers = Model.seen[0]
    assert body == {"messages": [{"role": "user", "content": "hello?"}], "max_tokens": 9, "temperature": 0.5}
    assert (headers["x-sutazai-agent"], headers["x-sutazai-task"], headers["x-sutazai-priority"]) == (
        "hello",
        "t_1",
        "2",
    )


def test_a_schema_constrains_the_answer(client: LlmClient) -> None:
    """A model or a JSON schema goes along, and the answer comes back as an instance or as JSON."""
    Model.reply = say('{"skill": "greet"}')
    assert client.chat([{"role": "user", "content": "x"}], schema=Choice).data == Choice(skill="greet")
    assert client.chat("x", schema={"type": "object"}).data == {"skill": "greet"}
    assert [seen[0]["response_format"]["json_schema"]["schema"] for seen in Model.seen] == [
        Choice.model_json_schema(),
        {"type": "object"},
    ]


def test_an_answer_that_was_cut_off(client: LlmClient) -> None:
    """An answer that is no JSON, or does not fit, is an error that says what to raise."""
    Model.reply = say('{"skill": "gre', "length")
    with pytest.raises(SkillError, match="max_tokens"):
        client.chat("x", schema=Choice)
    Model.reply = say("[]")
    with pytest.raises(SkillError, match="does not fit"):
        client.chat("x", schema=Choice)


@pytest.mark.parametrize(
    ("status", "reply", "error", "text"),
    [
        (503, b'{"error": {"message": "loading"}}', UnavailableError, "503 loading"),
        (429, b"slow down", UnavailableError, "429 slow down"),
        (400, b'{"error": "bad"}', RefusedError, "400 bad"),
        (422, b'{"detail": "odd"}', RefusedError, "422 odd"),
        (200, b"no json", UnavailableError, "no JSON"),
        (200, b"[]", UnavailableError, "no JSON object"),
        (200, b'{"choices": []}', UnavailableError, "no choice"),
    ],
)
def test_bad_replies(client: LlmClient, status: int, reply: bytes, error: type[Exception], text: str) -> None:
    """What may pass by itself is unavailable and tried again; a refusal is not."""
    Model.status, Model.reply = status, reply
    with pytest.raises(error, match=text):
        client.chat("x")


def test_nobody_answers() -> None:
    """No server, no setting, or no time left are unavailable at once."""
    for client in (
        LlmClient("http://127.0.0.1:9/v1/chat/completions", TASK, lambda: 30.0),
        LlmClient("", TASK, lambda: 30.0),
        LlmClient("http://127.0.0.1:9/", TASK, lambda: 0.0),
    ):
        with pytest.raises(UnavailableError):
            client.chat("x")


def test_tokens_are_counted_in_parts_that_fit(client: LlmClient) -> None:
    """Many texts become several requests; a reply of another length is no count."""
    Model.reply = json.dumps({"counts": [7] * 500}).encode()
    assert client.count_tokens(["x"] * 1_000) == [7] * 1_000
    assert [len(body["content"]) for body, _ in Model.seen] == [500, 500]
    Model.seen.clear()
    Model.reply = json.dumps({"counts": [9]}).encode()
    assert client.count_tokens(["x" * 400_000, "y" * 400_000]) == [9, 9]
    assert client.count_tokens([]) == []
    assert len(Model.seen) == 2
    with pytest.raises(UnavailableError, match="one count a text"):
        client.count_tokens(["a", "b"])
    Model.status, Model.reply = 501, b'{"error": {"message": "no tokenizer"}}'
    with pytest.raises(RefusedError, match="no tokenizer"):
        client.count_tokens(["a"])


def test_texts_become_vectors_in_parts_that_fit(client: LlmClient) -> None:
    """One vector a text, in parts that fit a request; a reply of another length is no answer; none at all is said."""
    Model.reply = json.dumps({"data": [{"embedding": [0.6, 0.8]}] * 500}).encode()
    assert client.embed(["x"] * 1_000, dimensions=2) == [[0.6, 0.8]] * 1_000
    body, _ = Model.seen[0]
    assert (len(body["input"]), body["dimensions"], body["truncate"]) == (500, 2, True)
    with pytest.raises(UnavailableError, match="one vector a text"):
        client.embed(["a", "b"])
    Model.status, Model.reply = 503, b'{"error": {"message": "run: python -m sutazai.llm.fetch x"}}'
    with pytest.raises(UnavailableError, match=r"python -m sutazai\.llm\.fetch"):
        client.embed(["a"])
