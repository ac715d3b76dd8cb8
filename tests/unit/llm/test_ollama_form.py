"""Ollama's form with a scripted model: what is accepted, what is refused and how, streams that fail midway."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from sutazai.limits import BODY_BYTES_MAX
from sutazai.llm.drivers.scripted import ScriptedDriver
from sutazai.llm.embedder import Embedder
from sutazai.llm.server import LlmServer
from sutazai.llm.settings import Settings
from sutazai.testing.fake_vectors import FakeVectors

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = Settings(model="scripted", driver="scripted", slots=1, queue_max=1, context_tokens=512, output_tokens_max=50)


class Bench:
    """A server with a scripted model and a double of the embedding model."""

    def __init__(self) -> None:
        self.vectors = FakeVectors()
        self.vectors.here = False  # no file's head to read
        self.driver = ScriptedDriver(SETTINGS)
        self.server = LlmServer(self.driver, self.driver.load(), SETTINGS, Embedder(self.vectors, None))
        self.client = TestClient(self.server.app())

    def generate(self, prompt: Any = "say: a b c", **more: Any) -> Any:
        """Ask for one answer."""
        return self.client.post("/api/generate", json={"model": "scripted", "prompt": prompt, **more})

    def chat(self, *contents: str, **more: Any) -> Any:
        """Ask in a conversation."""
        messages = [{"role": "user", "content": content} for content in contents]
        return self.client.post("/api/chat", json={"model": "scripted", "messages": messages, **more})


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A server in its lifespan."""
    made = Bench()
    with made.client:
        yield made


def test_lines_by_default(bench: Bench) -> None:
    """Without ``stream`` the answer comes in lines; the last one counts; times are never negative."""
    response = bench.generate()
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert "".join(line["response"] for line in lines) == "a b c"
    last = lines[-1]
    assert (last["done"], last["done_reason"], last["eval_count"], last["load_duration"]) == (True, "stop", 3, 0)
    assert min(last["total_duration"], last["prompt_eval_duration"], last["eval_duration"]) >= 0
    assert last["total_duration"] >= last["eval_duration"]


def test_whole_and_its_reason(bench: Bench) -> None:
    """One object; the name is echoed as it was sent; the bound ends it with the reason length."""
    answer = bench.chat("endless", stream=False, options={"num_predict": 3}, model="Scripted:latest").json()
    assert (answer["model"], answer["done_reason"], answer["eval_count"]) == ("Scripted:latest", "length", 3)
    assert answer["message"] == {"role": "assistant", "content": "more more more "}
    for unlimited in (-1, -2):
        made = bench.generate("endless", stream=False, options={"num_predict": unlimited}).json()
        assert made["eval_count"] == 50


def test_nothing_asked_is_loaded(bench: Bench) -> None:
    """A request without a prompt only asks that the model be there, and it is."""
    assert bench.generate("", stream=False).json()["done_reason"] == "load"
    assert json.loads(bench.chat().text)["done_reason"] == "load"


def test_options_of_the_machine_change_nothing(bench: Bench) -> None:
    """Threads, layers, batches and a seed of -1 are accepted; how the model runs is the fleet's to decide."""
    options = {"num_thread": 8, "num_gpu": 99, "use_mmap": True, "seed": -1, "num_ctx": 512, "top_k": 5, "min_p": 0.1}
    assert bench.generate(stream=False, options=options).json()["response"] == "a b c"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": ""}, "model is required"),
        ({"model": 5}, "model must be a string"),
        ({"model": "all-minilm"}, "does not support generate"),
        ({"prompt": 5}, "prompt must be a text"),
        ({"prompt": "a\x00b"}, "NUL"),
        ({"system": ["x"]}, "system must be a text"),
        ({"stream": "no"}, "stream must be true or false"),
        ({"raw": 1}, "raw must be true or false"),
        ({"options": []}, "options must be an object"),
        ({"options": {"temperature": 3}}, "temperature must be a number"),
        ({"options": {"top_p": "x"}}, "top_p must be a number"),
        ({"options": {"num_predict": 0}}, "options.num_predict"),
        ({"options": {"num_predict": 51}}, "options.num_predict"),
        ({"options": {"num_ctx": 4096}}, "options.num_ctx must be from 1 to 512"),
        ({"options": {"num_ctx": True}}, "options.num_ctx must be a whole number"),
        ({"options": {"stop": [""]}}, "stop must be"),
        ({"options": {"seed": "x"}}, "options.seed"),
        ({"options": {"top_k": -1}}, "options.top_k"),
        ({"options": {"mirostat": 1}}, "options.mirostat is not supported"),
        ({"format": "xml"}, 'format must be "json"'),
        ({"format": {"enum": list(range(5_000))}}, "format has more than"),
        ({"keep_alive": "soon"}, "keep_alive must be"),
        ({"keep_alive": True}, "keep_alive must be"),
        ({"images": ["aGk="]}, "images is not supported"),
        ({"context": [1, 2]}, "context is not supported"),
        ({"template": "x"}, "template is not supported"),
        ({"suffix": "x"}, "does not support insert"),
        ({"think": True}, "does not support thinking"),
        ({"logprobs": True}, "logprobs is not supported"),
    ],
)
def test_what_is_wrong_is_said(bench: Bench, change: dict[str, Any], says: str) -> None:
    """Each wrong or impossible field is 400 with one sentence under ``error``, as Ollama has it."""
    response = bench.generate(**change)
    assert response.status_code == 400
    assert says in response.json()["error"]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ("hello", "messages must be a list"),
        (["hello"], "messages[0] must be an object"),
        ([{"role": "tool", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": "x", "images": ["aGk="]}], "messages[0].images"),
        ([{"role": "user", "content": "x"}] * 1_001, "the limit is 1000"),
    ],
)
def test_wrong_conversations(bench: Bench, messages: Any, says: str) -> None:
    """Each wrong message is named by its place."""
    response = bench.client.post("/api/chat", json={"model": "scripted", "messages": messages})
    assert response.status_code == 400
    assert says in response.json()["error"]


def test_tools_are_refused_with_another_way(bench: Bench) -> None:
    """Small models do not call tools; a schema does the same."""
    response = bench.chat("x", tools=[{"type": "function"}])
    assert response.status_code == 400
    assert "does not support tools; ask for a format" in response.json()["error"]


def test_statuses(bench: Bench) -> None:
    """Unknown model, wrong method, body too large, no JSON, a failure: each status in Ollama's form."""
    found = {
        404: bench.generate(model="llama9"),
        405: bench.client.get("/api/generate"),
        413: bench.generate("x" * BODY_BYTES_MAX),
        400: bench.client.post("/api/generate", content=b"{"),
        503: bench.generate("break: died", stream=False),
        501: bench.client.request("DELETE", "/api/delete", json={"model": "scripted"}),
    }
    for status, response in found.items():
        assert response.status_code == status
        assert isinstance(response.json()["error"], str)
    assert found[503].headers["retry-after"] == "1"
    assert bench.client.get("/api/nothing").json() == {"error": "there is no /api/nothing"}
    assert bench.client.post("/api/show", json={"model": "llama9"}).status_code == 404


def test_vectors_need_their_model(bench: Bench) -> None:
    """The chat model has no vectors; without the file the command is named; a wrong input is 400."""
    chat = bench.client.post("/api/embed", json={"model": "scripted", "input": "x"})
    assert (chat.status_code, "is a chat model" in chat.json()["error"]) == (404, True)
    absent = bench.client.post("/api/embed", json={"model": "all-minilm", "input": "x"})
    assert (absent.status_code, "sutazai.llm.fetch" in absent.json()["error"]) == (503, True)
    bench.vectors.here = True
    for wrong in ([1, 2], ["x"] * 513, 7, {"a": 1}):
        assert bench.client.post("/api/embed", json={"model": "all-minilm", "input": wrong}).status_code == 400
    made = bench.client.post("/api/embed", json={"model": "all-minilm", "input": ["a cat", ""]}).json()
    assert [row[:2] for row in made["embeddings"]] == [[0.6, 0.8], [0.0, 0.0]]
    assert bench.client.post("/api/embeddings", json={"model": "all-minilm"}).json() == {"embedding": []}


def test_a_model_elsewhere_has_a_card_without_a_file(bench: Bench) -> None:
    """Without a file the list still names the model, with no size and no invented facts."""
    (row,) = bench.client.get("/api/tags").json()["models"]
    assert (row["name"], row["size"], row["digest"], row["details"]["family"]) == ("scripted:latest", 0, "", "")
    assert bench.client.get("/api/ps").json()["models"][0]["context_length"] == 512


def test_a_stream_that_fails_midway_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the status is sent already the last line is the error, and the slot is free."""
    whole = bench.driver.chat

    def dies(request: Any, emit: Any) -> Any:
        emit("half ")
        return whole(type(request)(messages=request.messages[:0], prompt="break: gone", max_tokens=5), emit)

    monkeypatch.setattr(bench.driver, "chat", dies)
    lines = [json.loads(line) for line in bench.generate().text.splitlines()]
    assert lines[0]["response"] == "half "
    assert lines[-1] == {"error": "gone"}
    assert bench.client.get("/health").json()["active"] == 0
    assert 'ai_errors_total{code="unavailable",model="scripted"} 1.0' in bench.client.get("/metrics").text
