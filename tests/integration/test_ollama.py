"""The real server with a real small model and the real ``ollama`` client."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import ollama
import pytest

from sutazai.llm.fetch import fetch
from sutazai.llm.models import DEFAULT_EMBED_MODEL
from sutazai.testing.llm_process import WAIT_S, LlmProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "smollm2-135m-instruct"
OPTIONS = {"temperature": 0, "num_predict": 12, "seed": 7}
pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[LlmProcess]:
    """One server with two slots of 1024 tokens; its models come by our own fetcher and outlive the run."""
    folder = str(request.config.cache.mkdir("models"))
    before = os.environ.get("SUTAZAI_MODELS")
    os.environ["SUTAZAI_MODELS"] = folder
    try:
        fetch(MODEL)
        fetch(DEFAULT_EMBED_MODEL)
    finally:
        os.environ.pop("SUTAZAI_MODELS")
        if before is not None:
            os.environ["SUTAZAI_MODELS"] = before
    made = LlmProcess(
        SUTAZAI_MODELS=folder,
        SUTAZAI_LLM_MODEL=MODEL,
        SUTAZAI_LLM_SLOTS="2",
        SUTAZAI_LLM_THREADS="1",
        SUTAZAI_LLM_CONTEXT_TOKENS="1024",
    )
    yield made
    assert made.end() == 0


@pytest.fixture
def client(server: LlmProcess) -> ollama.Client:
    """The real client."""
    return ollama.Client(host=server.url, timeout=WAIT_S)


def test_generate_whole_and_streamed(client: ollama.Client) -> None:
    """The same prompt gives the same text whole and in lines; counts and times are there and fit each other."""
    whole = client.generate(model=MODEL, prompt="Say hello", system="Be brief.", options=OPTIONS)
    assert whole.response
    assert whole.done
    assert whole.done_reason in {"stop", "length"}
    assert whole.prompt_eval_count
    assert whole.eval_count
    assert whole.total_duration >= whole.prompt_eval_duration + whole.eval_duration > 0  # type: ignore[operator]
    lines = list(client.generate(model=MODEL, prompt="Say hello", system="Be brief.", options=OPTIONS, stream=True))
    assert "".join(line.response or "" for line in lines) == whole.response
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1].eval_count == whole.eval_count


def test_raw_uses_no_template(client: ollama.Client) -> None:
    """A raw prompt is shorter in tokens than the same one inside the model's template, and goes on."""
    raw = client.generate(model=MODEL, prompt="One two three", raw=True, options=OPTIONS)
    framed = client.generate(model=MODEL, prompt="One two three", options=OPTIONS)
    assert raw.prompt_eval_count < framed.prompt_eval_count  # type: ignore[operator]
    assert raw.response


def test_chat_whole_and_streamed(client: ollama.Client) -> None:
    """The same conversation gives the same text both ways; the model's tag may be named."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello"}]
    whole = client.chat(model=f"{MODEL}:latest", messages=messages, options=OPTIONS, keep_alive="5m")
    assert whole.message.role == "assistant"
    assert whole.model == f"{MODEL}:latest"
    parts = list(client.chat(model=MODEL, messages=messages, options=OPTIONS, stream=True, keep_alive=-1))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content


def test_format_by_schema_and_json(client: ollama.Client) -> None:
    """A schema is kept, whole and streamed; ``json`` gives JSON."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "size": {"enum": ["small", "large"]}},
        "required": ["city", "size"],
        "additionalProperties": False,
    }
    options = {"temperature": 0, "num_predict": 80}
    for stream in (False, True):
        made: Any = client.generate(
            model=MODEL, prompt="Describe Paris.", format=schema, options=options, stream=stream
        )
        text = "".join(part.response for part in made) if stream else made.response
        assert json.loads(text)["size"] in {"small", "large"}
    messages = [{"role": "user", "content": "Answer in JSON: {}"}]
    said = client.chat(model=MODEL, messages=messages, format=schema, options=options).message.content
    assert set(json.loads(said or "")) == {"city", "size"}
    with pytest.raises(ollama.ResponseError) as caught:
        client.generate(model=MODEL, prompt="x", format={"type": "objekt"})
    assert caught.value.status_code == 400


def test_stop_and_length(client: ollama.Client) -> None:
    """``num_predict`` ends with the reason length; a stop text ends before it and is not part of the answer."""
    cut = client.generate(model=MODEL, prompt="Count from 1 to 100", options={"num_predict": 3})
    assert (cut.done_reason, cut.eval_count) == ("length", 3)
    free = client.generate(model=MODEL, prompt="Say hello", options=OPTIONS).response
    word = (free or "").split()[1]
    stopped = client.generate(model=MODEL, prompt="Say hello", options={**OPTIONS, "stop": [word]})
    assert word not in (stopped.response or "")
    assert stopped.done_reason == "stop"


def test_embed_and_the_older_form(client: ollama.Client) -> None:
    """Texts of one meaning are nearer; fewer dimensions; long texts are cut unless that is forbidden."""
    made = client.embed(model="all-minilm", input=["A memory leak.", "RAM grows and grows.", "She bakes bread."])
    rows = made.embeddings
    assert [len(row) for row in rows] == [384] * 3
    alike = [sum(a * b for a, b in zip(rows[0], row, strict=True)) for row in rows]
    assert alike[1] > 0.2 + alike[2]
    assert made.prompt_eval_count
    assert made.total_duration
    old = client.embeddings(model="all-minilm", prompt="A memory leak.")
    assert list(old.embedding) == pytest.approx(list(rows[0]), abs=0.01)
    assert len(client.embed(model="all-minilm", input="x", dimensions=64).embeddings[0]) == 64
    assert client.embed(model="all-minilm", input=[]).embeddings == []
    assert client.embed(model="all-minilm", input="word " * 700).prompt_eval_count == 512
    with pytest.raises(ollama.ResponseError, match="702 tokens"):
        client.embed(model="all-minilm", input="word " * 700, truncate=False)


def test_facts(client: ollama.Client, server: LlmProcess) -> None:
    """Both models are listed with their true size; show reads the file's head; ps says what is in memory."""
    listed = {model.model: model for model in client.list().models}
    assert set(listed) == {f"{MODEL}:latest", f"{DEFAULT_EMBED_MODEL}:latest"}
    assert listed[f"{MODEL}:latest"].size == 98_362_432
    shown = client.show(MODEL)
    assert shown.details
    assert shown.details.parameter_size == "134.52M"
    assert shown.modelinfo
    assert shown.modelinfo["llama.block_count"] == 30
    assert (shown.capabilities, shown.license) == (["completion"], "Apache-2.0")
    assert "<|im_start|>" in (shown.template or "")
    assert client.show("all-minilm").capabilities == ["embedding"]
    client.embed(model="all-minilm", input="x")
    loaded = {model.name: model for model in client.ps().models}
    assert loaded[f"{MODEL}:latest"].context_length == 1024
    assert loaded[f"{DEFAULT_EMBED_MODEL}:latest"].expires_at
    assert httpx.get(f"{server.url}/").text == "Ollama is running"
    assert httpx.head(f"{server.url}/").status_code == 200
    assert httpx.get(f"{server.url}/api/version").json()["version"]
    assert client.generate(model=MODEL, prompt="").done_reason == "load"


@pytest.mark.parametrize(
    ("status", "ask"),
    [
        (404, {"model": "llama9", "prompt": "x"}),
        (400, {"model": "all-minilm", "prompt": "x"}),
        (400, {"model": MODEL, "prompt": "word " * 5_000}),
        (400, {"model": MODEL, "prompt": "x", "options": {"num_ctx": 4_096}}),
        (400, {"model": MODEL, "prompt": "x", "options": {"mirostat": 2}}),
        (400, {"model": MODEL, "prompt": "x", "suffix": "y"}),
        (400, {"model": MODEL, "prompt": "x", "think": True}),
        (400, {"model": MODEL, "prompt": "x", "template": "{{ .Prompt }}"}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_client_meets_its_own_error(client: ollama.Client, status: int, ask: dict[str, Any], stream: bool) -> None:  # noqa: FBT001
    """What cannot be done raises the client's ResponseError with its status, whole and streamed."""
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.generate(**ask, stream=stream))
    assert caught.value.status_code == status
    assert caught.value.error


def test_managing_models_is_refused_clearly(client: ollama.Client) -> None:
    """A model that is here is pulled at once; another one names the command; the rest says who decides."""
    assert client.pull(MODEL).status == "success"
    with pytest.raises(ollama.ResponseError, match=r"python -m sutazai\.llm\.fetch qwen") as caught:
        client.pull("qwen2.5-coder-0.5b-instruct")
    assert caught.value.status_code == 501
    with pytest.raises(ollama.ResponseError, match="there is no model 'llama9'"):
        list(client.pull("llama9", stream=True))
    for refused in (
        lambda: client.delete(MODEL),
        lambda: client.copy(MODEL, "mine"),
        lambda: client.push(MODEL),
        lambda: client.create("mine", from_=MODEL),
    ):
        with pytest.raises(ollama.ResponseError, match="is not offered"):
            refused()


def test_a_client_that_leaves_frees_its_slot(server: LlmProcess) -> None:
    """After the client has closed the stream nothing is computed for it any more."""
    body = {"model": MODEL, "prompt": "Tell a long story", "options": {"num_predict": 900}}
    with (
        httpx.Client(timeout=WAIT_S) as web,
        web.stream("POST", f"{server.url}/api/generate", json=body) as response,
    ):
        next(response.iter_lines())
        assert server.health()["active"] == 1
    assert server.is_free()


def test_streams_at_the_same_time(client: ollama.Client) -> None:
    """More streams than slots: each is whole, none mixes with another, each is the text of its question alone."""
    questions = ["Say hello", "Count to three", "Name a colour", "What is a cat?"]
    alone = [client.generate(model=MODEL, prompt=question, options=OPTIONS).response for question in questions]

    def ask(question: str) -> str:
        lines = client.generate(model=MODEL, prompt=question, options=OPTIONS, stream=True)
        return "".join(line.response or "" for line in lines)

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(ask, questions))
    assert [bool(text) for text in together] == [True] * 4
    assert sum(one == other for one, other in zip(alone, together, strict=True)) >= 3  # batches round differently


@pytest.mark.parametrize("name", ["ollama", "openai"])
def test_the_howto_s_examples_run(server: LlmProcess, name: str) -> None:
    """The Python of the howto, word by word, on this server's port: it ends well and prints what it promises."""
    page = (Path(__file__).parents[2] / "docs/howto/use-ollama-or-openai-clients.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if f"import {name}\n" in block)
    code = code.replace("127.0.0.1:10104", f"127.0.0.1:{server.port}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("384")
