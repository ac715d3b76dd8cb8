"""``/v1/embeddings`` with a double of the embedding model: forms, bounds, and what is refused."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from sutazai.llm.drivers.scripted import ScriptedDriver
from sutazai.llm.embedder import Embedder
from sutazai.llm.openai_vectors import TEXTS_MAX
from sutazai.llm.server import LlmServer
from sutazai.llm.settings import Settings
from sutazai.testing.fake_vectors import FakeVectors

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = Settings(model="scripted", driver="scripted", slots=1)


class Bench:
    """A server with a double of the embedding model."""

    def __init__(self) -> None:
        self.vectors = FakeVectors()
        driver = ScriptedDriver(SETTINGS)
        server = LlmServer(driver, driver.load(), SETTINGS, Embedder(self.vectors, None))
        self.client = TestClient(server.app())

    def post(self, **body: Any) -> Any:
        """Ask for vectors."""
        return self.client.post("/v1/embeddings", json=body)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A server in its lifespan."""
    made = Bench()
    with made.client:
        yield made


def test_one_text_and_several(bench: Bench) -> None:
    """One vector a text, in order, with the counted tokens and the model's own name."""
    one = bench.post(input="a cat", model="all-minilm").json()
    assert (one["object"], one["model"], one["usage"]["total_tokens"]) == ("list", "all-minilm-l6-v2", 2)
    assert one["data"][0]["embedding"][:2] == [0.6, 0.8]
    several = bench.post(input=["a cat", "a dog"]).json()["data"]
    assert [row["index"] for row in several] == [0, 1]
    assert len(several[1]["embedding"]) == 384


def test_base64_is_the_same_vector(bench: Bench) -> None:
    """What OpenAI's client asks for by default: 32-bit floats, little-endian."""
    packed = bench.post(input="a cat", encoding_format="base64").json()["data"][0]["embedding"]
    values = struct.unpack("<384f", base64.b64decode(packed))
    assert values[:3] == pytest.approx([0.6, 0.8, 0.0])


def test_fewer_dimensions(bench: Bench) -> None:
    """The first numbers, made length 1 again."""
    assert bench.post(input="a cat", dimensions=1).json()["data"][0]["embedding"] == [1.0]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input[0]"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": "a\x00b"}, "input[0]"),
        ({"input": ["x"] * (TEXTS_MAX + 1)}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 385}, "dimensions"),
        ({"input": "a", "dimensions": True}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "truncate": "yes"}, "truncate"),
        ({"input": "a", "model": 5}, "model"),
    ],
)
def test_a_wrong_field_is_named(bench: Bench, change: dict[str, Any], param: str) -> None:
    """Each wrong field is refused as OpenAI does, with its name."""
    response = bench.post(**change)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_long_text_is_refused_or_cut(bench: Bench) -> None:
    """OpenAI refuses what is too long; who allows it gets the beginning."""
    assert bench.post(input="word " * 60).status_code == 400
    assert bench.post(input="word " * 60, truncate=True).json()["usage"]["total_tokens"] == 50


def test_other_models_are_404(bench: Bench) -> None:
    """The chat model and unknown ones are refused with the one that makes vectors."""
    for name in ("scripted", "nomic-embed-text"):
        response = bench.post(input="a", model=name)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
        assert "all-minilm-l6-v2" in response.json()["error"]["message"]


def test_the_list_of_models_says_what_is_here(bench: Bench) -> None:
    """Both models are listed, the second only while its file is here; without it the answer is 503 and the command."""
    assert [model["id"] for model in bench.client.get("/v1/models").json()["data"]] == ["scripted", "all-minilm-l6-v2"]
    assert bench.client.get("/v1/models/all-minilm").json()["dimensions"] == 384
    bench.vectors.here = False
    assert [model["id"] for model in bench.client.get("/v1/models").json()["data"]] == ["scripted"]
    response = bench.post(input="a")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert "python -m sutazai.llm.fetch all-minilm-l6-v2" in response.json()["error"]["message"]
    assert response.headers["retry-after"]


def test_health_and_metrics_say_whether_it_is_loaded(bench: Bench) -> None:
    """Its state and the memory it takes are told, and its answers are counted under its own name."""
    assert bench.client.get("/health").json()["embeddings"] == {"model": "all-minilm-l6-v2", "state": "idle"}
    assert 'ai_model_memory_bytes{model="all-minilm-l6-v2"} 0.0' in bench.client.get("/metrics").text
    bench.post(input="a cat")
    assert bench.client.get("/health").json()["embeddings"]["state"] == "loaded"
    page = bench.client.get("/metrics").text
    assert 'ai_model_memory_bytes{model="all-minilm-l6-v2"} 1000.0' in page
    assert 'ai_inference_duration_seconds_count{model="all-minilm-l6-v2"} 1.0' in page
    assert 'ai_tokens_processed_total{kind="prompt",model="all-minilm-l6-v2"} 2.0' in page
