"""A model elsewhere that is away: our server says so while it lasts, and takes it back by itself."""

from __future__ import annotations

import asyncio

from starlette.testclient import TestClient

from sutazai.errors import UnavailableError
from sutazai.llm.away import Watch
from sutazai.llm.drivers.scripted import ScriptedDriver
from sutazai.llm.embedder import Embedder
from sutazai.llm.server import LlmServer
from sutazai.llm.settings import Settings
from sutazai.testing.fake_vectors import FakeVectors

SETTINGS = Settings(model="far", driver="scripted", slots=1)


class Elsewhere(ScriptedDriver):
    """A driver whose model may be away."""

    away = "http://far does not answer"

    def probe(self) -> None:
        """Fail as long as the test wants."""
        if self.away:
            raise UnavailableError(self.away)


async def _until(watch: Watch, reason: str) -> None:
    async with asyncio.timeout(30):
        while not watch.known or watch.reason != reason:  # noqa: ASYNC110 a thread changes it
            await asyncio.sleep(0.001)


def test_it_is_asked_again_and_again() -> None:
    """Away is known with its reason, and so is its return."""

    async def run() -> None:
        driver = Elsewhere(SETTINGS)
        watch = Watch(driver, every_s=0.0)
        assert not watch.known
        watch.start()
        await _until(watch, "http://far does not answer")
        driver.away = ""
        await _until(watch, "")
        watch.stop()

    asyncio.run(run())


def test_a_model_of_this_process_needs_no_asking() -> None:
    """A driver without a probe counts as there."""
    watch = Watch(ScriptedDriver(SETTINGS))
    watch.start()
    assert (watch.known, watch.reason) == (True, "")


def test_health_and_metric_say_it() -> None:
    """While it is away: 503, the reason, 0; there again: 200 and 1; requests are tried all the same."""
    driver = Elsewhere(SETTINGS)
    driver.away = ""
    server = LlmServer(driver, driver.load(), SETTINGS, Embedder(FakeVectors(), None))
    client = TestClient(server.app())
    for reason, status, up in (("far is away", 503, 0.0), ("", 200, 1.0)):
        server._engine.watch.reason, server._engine.watch.known = reason, True
        health = client.get("/health")
        assert (health.status_code, health.json().get("reason", "")) == (status, reason)
        assert health.json()["status"] == ("unavailable" if reason else "healthy")
        assert f'ai_model_up{{model="far"}} {up}' in client.get("/metrics").text
        body = {"messages": [{"role": "user", "content": "say: hi"}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 200


def test_names_with_a_tag_of_their_own() -> None:
    """Ollama's own tags (``llama3.2:1b``) are listed and asked for as they are."""
    settings = Settings(model="llama3.2:1b", driver="scripted", slots=1)
    driver = ScriptedDriver(settings)
    vectors = FakeVectors()
    vectors.here = False
    client = TestClient(LlmServer(driver, driver.load(), settings, Embedder(vectors, None)).app())
    assert client.get("/api/tags").json()["models"][0]["name"] == "llama3.2:1b"
    body = {"model": "llama3.2:1b", "prompt": "say: hi", "stream": False}
    assert client.post("/api/generate", json=body).json()["response"] == "hi"
    assert client.post("/api/generate", json={**body, "model": "llama3.2"}).status_code == 404
