"""A fleet whose model runs on another server: it starts without it, says so, recovers by itself, and loses it again."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import httpx
import ollama
import openai
import pytest

from sutazai.testing.fleet import LiveFleet
from sutazai.testing.llm_process import LlmProcess

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 90.0
MANIFEST = """\
fleet: {fleet}
port_offset: {offset}
agents: [health-monitor]
llm: {driver: ollama, url: "http://127.0.0.1:@PORT@", model: far, cpu: 1c}
"""


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    """Look until something holds."""
    end_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end_s, f"{what} did not come"
        time.sleep(0.2)


@pytest.mark.timeout(400)
def test_a_model_that_comes_and_goes() -> None:
    """Away: the fleet is up, the condition holds, clients meet 503. There: both doors answer. Gone: told again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with LiveFleet(MANIFEST.replace("@PORT@", str(port))) as fleet:
        url = f"http://127.0.0.1:{fleet.port(10104)}"

        def is_told() -> bool:
            return any(item["name"] == "LlmUnavailable" for item in fleet.status()["conditions"])

        wait_for("LlmUnavailable", is_told)
        health = httpx.get(f"{url}/health").json()
        assert health["status"] == "unavailable"
        assert "Connection refused" in health["reason"]
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.InternalServerError, match="does not answer") as caught:
            client.chat.completions.create(model="far", messages=[{"role": "user", "content": "x"}])
        assert caught.value.status_code == 503
        upstream = LlmProcess(port, SUTAZAI_LLM_DRIVER="scripted", SUTAZAI_LLM_MODEL="far")
        try:
            said = ollama.Client(host=url).generate(model="far", prompt="say: at once")
            assert said.response == "at once"
            wait_for("the end of LlmUnavailable", lambda: not is_told())
            assert httpx.get(f"{url}/health").json()["status"] == "healthy"
        finally:
            assert upstream.end() == 0
        wait_for("LlmUnavailable again", is_told)
