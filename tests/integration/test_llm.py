"""The real server with a real small model and the real ``openai`` client; the model comes by our own fetcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import openai
import pytest

from sutazai.errors import HostError
from sutazai.llm.drivers.llamacpp import LlamaCppDriver
from sutazai.llm.drivers.protocol import BadRequestError, ChatRequest, Message
from sutazai.llm.fetch import fetch
from sutazai.llm.gguf import read_shape
from sutazai.llm.models import DEFAULT_EMBED_MODEL
from sutazai.llm.settings import Settings
from sutazai.testing.llm_driver import LlmDriverContract, answer, ask
from sutazai.testing.llm_process import WAIT_S, LlmProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sutazai.llm.drivers.protocol import Driver

MODEL = "smollm2-135m-instruct"
pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def model_folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder that outlives the run, filled by the product's own fetcher."""
    folder = request.config.cache.mkdir("models")
    before = os.environ.get("SUTAZAI_MODELS")
    os.environ["SUTAZAI_MODELS"] = str(folder)
    fetch(MODEL)
    fetch(DEFAULT_EMBED_MODEL)
    yield folder
    os.environ.pop("SUTAZAI_MODELS")
    if before is not None:
        os.environ["SUTAZAI_MODELS"] = before


def settings(**more: int) -> Settings:
    """Small settings: two slots of 1024 tokens, one thread."""
    return Settings(model=MODEL, **{"threads": 1, "slots": 2, "context_tokens": 1_024, **more})


@pytest.fixture(scope="module")
def driver(model_folder: Path) -> Iterator[Driver]:
    """The real driver with the small model."""
    made = LlamaCppDriver(settings())
    made.load()
    yield made
    made.close()


class TestLlamaCppDriver(LlmDriverContract):
    def test_a_schema_that_cannot_be_a_grammar_is_refused(self, driver: Driver) -> None:
        """An unknown type in a schema is the caller's mistake, and the driver goes on working."""
        from dataclasses import replace

        with pytest.raises(BadRequestError):
            answer(driver, replace(ask("x"), schema={"type": "objekt"}))
        assert answer(driver, ask("say hello"))[0]


def test_tokens_are_the_models_own(driver: LlamaCppDriver) -> None:
    """The count of a prompt by the tokenizer is what the model itself says it read; marks are one token."""
    mark = driver.tokenize("<|im_end|>", add_special=False, parse_special=True)
    assert len(mark) == 1
    prompt = (
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nKäse 日本 ok?<|im_end|>\n<|im_start|>assistant\n"
    )
    request = ChatRequest(messages=(Message("system", "Be short."), Message("user", "Käse 日本 ok?")), max_tokens=1)
    assert (
        len(driver.tokenize(prompt, add_special=False, parse_special=True)) == answer(driver, request)[1].prompt_tokens
    )
    assert driver.tokenize("", add_special=False, parse_special=True) == []


def test_the_estimate_refuses_before_loading(model_folder: Path) -> None:
    """A memory bound below file and cache is refused with the numbers and what to do; nothing is loaded."""
    driver = LlamaCppDriver(settings(memory_bytes=150 << 20))
    with pytest.raises(HostError, match=r"needs about \d+ MB .* fewer slots"):
        driver.load()
    with pytest.raises(Exception, match="no model is loaded"):
        answer(driver, ask("x"))


def test_the_head_of_the_file_is_read_right(model_folder: Path) -> None:
    """Layers, heads and their size are what the publisher says about this model."""
    shape = read_shape(next(model_folder.glob("*.gguf")))
    assert (shape.architecture, shape.layers, shape.heads_kv, shape.head_size) == ("llama", 30, 3, 64)
    assert shape.cache_bytes(4_096) == 2 * 4_096 * 30 * 3 * 64 * 2


@pytest.mark.parametrize("keep", [0, 10, 4_000, 1 << 20])
def test_a_truncated_file_is_refused(model_folder: Path, tmp_path: Path, keep: int) -> None:
    """A cut file by path is an error with a reason, never a crash of the process."""
    whole = next(model_folder.glob("*.gguf"))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:keep])
    driver = LlamaCppDriver(Settings(model=str(cut), slots=1, context_tokens=256))
    with pytest.raises(HostError, match="cut"):
        driver.load()


class Server(LlmProcess):
    """The model server with the small model, and OpenAI's client for it."""

    def __init__(self, **env: str) -> None:
        super().__init__(**{"SUTAZAI_LLM_MODEL": MODEL, "SUTAZAI_LLM_CONTEXT_TOKENS": "1024", **env})
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S)


@pytest.fixture(scope="module")
def server(model_folder: Path) -> Iterator[Server]:
    """One server with two slots."""
    made = Server(SUTAZAI_LLM_SLOTS="2", SUTAZAI_LLM_THREADS="1")
    yield made
    assert made.end() == 0


def test_openai_client_whole_and_streamed(server: Server) -> None:
    """The same question gives the same text whole and in pieces, with the same counts."""
    question = {"model": MODEL, "temperature": 0.0, "max_tokens": 12}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello"}]
    whole = server.client.chat.completions.create(messages=messages, **question)  # type: ignore[call-overload]
    assert whole.choices[0].message.content
    assert whole.usage.completion_tokens <= 12
    chunks = list(
        server.client.chat.completions.create(  # type: ignore[call-overload]
            messages=messages, stream=True, stream_options={"include_usage": True}, **question
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_openai_client_structured(server: Server) -> None:
    """A schema is kept even by a model that understands little."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "size": {"enum": ["small", "large"]}},
        "required": ["city", "size"],
        "additionalProperties": False,
    }
    done = server.client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Describe Paris."}],
        max_tokens=80,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
    )
    value = json.loads(done.choices[0].message.content or "")
    assert set(value) == {"city", "size"}
    assert value["size"] in {"small", "large"}


def test_openai_client_completions(server: Server) -> None:
    """A raw text goes on, whole and in pieces alike; penalties and top_k are taken."""
    asked = {"model": MODEL, "prompt": "One two three four", "max_tokens": 6, "temperature": 0.0}
    whole = server.client.completions.create(**asked, extra_body={"top_k": 5})  # type: ignore[call-overload]
    assert (whole.object, whole.choices[0].finish_reason) == ("text_completion", "length")
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(server.client.completions.create(**asked, **options))  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens > 0
    with pytest.raises(openai.BadRequestError, match="prompt"):
        server.client.completions.create(model=MODEL, prompt=["a", "b"])
    with pytest.raises(openai.BadRequestError, match="echo"):
        server.client.completions.create(model=MODEL, prompt="a", echo=True)


def _alike(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_openai_client_embeddings(server: Server) -> None:
    """Texts of one meaning are nearer than others, by the client's own default (base64) and as plain numbers."""
    create = server.client.embeddings.create
    texts = ["The program uses more and more RAM.", "A memory leak.", "Grandmother bakes bread."]
    made = create(model=DEFAULT_EMBED_MODEL, input=texts)
    rows = [row.embedding for row in made.data]
    assert [len(row) for row in rows] == [384, 384, 384]
    assert _alike(rows[0], rows[1]) > 0.3 + _alike(rows[0], rows[2])
    assert made.usage.prompt_tokens > 10
    plain = create(model="all-minilm", input=texts[0], encoding_format="float", dimensions=128).data[0].embedding
    assert len(plain) == 128
    assert _alike(plain, plain) == pytest.approx(1.0)
    assert [model.id for model in server.client.models.list()] == [MODEL, DEFAULT_EMBED_MODEL]
    with pytest.raises(openai.NotFoundError, match="is a chat model"):
        create(model=MODEL, input="x")
    with pytest.raises(openai.BadRequestError, match="702 tokens"):
        create(model=DEFAULT_EMBED_MODEL, input="word " * 700)


def test_vectors_are_those_of_the_publisher(server: Server) -> None:
    """A known pair has the similarity that the publisher's own library computes, as far as 16-bit weights allow."""
    made = server.client.embeddings.create(
        model=DEFAULT_EMBED_MODEL, input=["That is a happy person", "That is a happy dog", "Today is a sunny day"]
    )
    rows = [row.embedding for row in made.data]
    assert _alike(rows[0], rows[1]) == pytest.approx(0.695, abs=0.01)
    assert _alike(rows[0], rows[2]) == pytest.approx(0.257, abs=0.01)


def test_openai_client_meets_its_own_errors(server: Server) -> None:
    """Unknown model, wrong role, too long, a bad schema: the client raises what it raises elsewhere."""
    create = server.client.chat.completions.create
    hello = [{"role": "user", "content": "hello"}]
    with pytest.raises(openai.NotFoundError):
        create(model="gpt-9", messages=hello)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="role"):
        create(model=MODEL, messages=[{"role": "robot", "content": "x"}])  # type: ignore[list-item,misc]
    with pytest.raises(openai.BadRequestError, match="context"):
        create(model=MODEL, messages=[{"role": "user", "content": "word " * 5_000}])
    with pytest.raises(openai.BadRequestError):
        create(
            model=MODEL,
            messages=hello,  # type: ignore[arg-type]
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}},
        )


def test_a_client_that_leaves_a_stream_frees_its_slot(server: Server) -> None:
    """After the client has closed the stream nothing is computed for it any more."""
    stream = server.client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Tell a long story"}], max_tokens=900, stream=True
    )
    next(iter(stream))
    assert server.health()["active"] == 1
    stream.close()
    assert server.is_free()


def test_a_client_that_gives_up_waiting_frees_its_slot(server: Server) -> None:
    """The same without a stream: the closed connection stops the computing, long before the answer would be done."""
    with pytest.raises(openai.APITimeoutError):
        server.client.with_options(timeout=0.5).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Tell a long story"}], max_tokens=900, temperature=1
        )
    assert server.is_free()
    metrics = httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=WAIT_S).text
    assert f'ai_errors_total{{code="client-gone",model="{MODEL}"}}' in metrics


def test_more_than_the_line_holds_is_429(model_folder: Path) -> None:
    """One slot and no line: the second of two at once meets the client's RateLimitError; then SIGTERM ends it all."""
    server = Server(SUTAZAI_LLM_SLOTS="1", SUTAZAI_LLM_THREADS="1", SUTAZAI_LLM_QUEUE="0")
    try:
        stream = server.client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Tell a long story"}], max_tokens=900, stream=True
        )
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as caught:
            server.client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
        assert int(caught.value.response.headers["retry-after"]) >= 1
    finally:
        status = server.end()
    assert status == 0


def test_a_model_that_is_not_there_ends_the_process_with_the_repair(tmp_path: Path) -> None:
    """A missing model is one line that says what to run, and exit status 1."""
    done = subprocess.run(
        [sys.executable, "-m", "sutazai.llm", "--port", "0"],
        env={**os.environ, "SUTAZAI_LLM_MODEL": MODEL, "SUTAZAI_MODELS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert f"run: python -m sutazai.llm.fetch {MODEL}" in done.stderr
