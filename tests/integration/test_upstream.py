"""The drivers that ask a server elsewhere, against our own server as that one, and against servers that misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import httpx
import pytest

from sutazai.errors import ConfigError, UnavailableError
from sutazai.llm.drivers import make
from sutazai.llm.drivers.protocol import BadRequestError
from sutazai.llm.settings import Settings
from sutazai.testing.llm_driver import LlmDriverContract, answer, ask
from sutazai.testing.llm_process import WAIT_S, LlmProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sutazai.llm.drivers.protocol import Driver

NAMES = ("openai", "ollama")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def upstream() -> Iterator[LlmProcess]:
    """Our own server with the scripted model, over real HTTP."""
    made = LlmProcess(SUTAZAI_LLM_DRIVER="scripted", SUTAZAI_LLM_MODEL="far", SUTAZAI_LLM_SLOTS="4")
    yield made
    assert made.end() == 0


def settings(name: str, url: str, **more: str | int) -> Settings:
    """Settings of a driver that asks another server."""
    return replace(Settings(model="far", driver=name, upstream_url=url, upstream_stall_s=60), **more)  # type: ignore[arg-type]


def loaded(found: Settings) -> Driver:
    """A loaded driver."""
    driver = make(found)
    driver.load()
    return driver


class TestOpenAIDriver(LlmDriverContract):
    @pytest.fixture
    def driver(self, upstream: LlmProcess) -> Driver:
        """The driver in OpenAI's form."""
        return loaded(settings("openai", upstream.url))


class TestOllamaDriver(LlmDriverContract):
    @pytest.fixture
    def driver(self, upstream: LlmProcess) -> Driver:
        """The driver in Ollama's form."""
        return loaded(settings("ollama", upstream.url))


@pytest.mark.parametrize("name", NAMES)
def test_raw_prompts_and_refusals_go_through(upstream: LlmProcess, name: str) -> None:
    """A raw prompt is asked raw; what the other server refuses is refused; what fails there is unavailable here."""
    driver = loaded(settings(name, upstream.url))
    raw = replace(ask("x"), messages=(), prompt="say: raw text")
    assert answer(driver, raw)[0] == "raw text"
    with pytest.raises(BadRequestError, match="not so"):
        answer(driver, ask("refuse: not so"))
    with pytest.raises(UnavailableError, match="died"):
        answer(driver, ask("break: died"))
    driver.probe()  # type: ignore[attr-defined]
    with pytest.raises(UnavailableError, match="has no model 'near'; it has far"):
        loaded(settings(name, upstream.url, model="near")).probe()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_a_server_that_is_away_is_unavailable_and_comes_back(name: str) -> None:
    """Nobody at the address: an error that names it; the same driver answers once somebody is there."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
    driver = loaded(settings(name, url))
    for work in (lambda: answer(driver, ask("x")), driver.probe):  # type: ignore[attr-defined]
        with pytest.raises(UnavailableError, match=f"{url}.* does not answer: Connection refused"):
            work()
    with Misbehaving(GOOD[name], port=int(url.rsplit(":", 1)[1])):
        assert answer(driver, ask("x"))[0] == "hi"


GOOD = {
    "openai": b'HTTP/1.1 200 OK\r\n\r\ndata: {"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n",
    "ollama": b'HTTP/1.1 200 OK\r\n\r\n{"message":{"content":"hi"},"done":true}\n',
}


class Misbehaving:
    """A server that answers each connection with the same bytes, then closes it, or keeps silent."""

    def __init__(self, data: bytes, *, port: int = 0, silent: bool = False) -> None:
        self._data, self._silent = data, silent
        self._socket = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.seen: list[bytes] = []
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(WAIT_S)
        self._socket.close()
        for connection in self._open:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(WAIT_S)
            self.seen.append(_request(connection))
            with contextlib.suppress(OSError):  # the client has seen enough
                connection.sendall(self._data)
            if self._silent:
                self._open.append(connection)
            else:
                connection.close()


def _request(connection: socket.socket) -> bytes:
    """Read a whole request: what is left unread at the close would reset the connection, and lose the answer."""
    data = b""
    while b"\r\n\r\n" not in data and (more := connection.recv(65_536)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line), 0)
    while len(body) < length and (more := connection.recv(65_536)):
        body += more
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "does not answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>hello</html>\n", "does not speak this form"),
        (b"HTTP/1.1 200 OK\r\n\r\n[1, 2]\n", "does not speak this form"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"error": "out of memory"}\n', "out of memory"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "in the middle of an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", "in the middle|does not answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * ((1 << 20) + 10), "a line of more than"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", "answers 302"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}", "refuses our key"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}", "has no model 'far'"),
        (b'HTTP/1.1 429 No\r\nContent-Length: 34\r\n\r\n{"error": {"message": "too many"}}', "answers 429"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\noops", "answers 500: oops"),
    ],
)
def test_nonsense_is_unavailable_with_a_reason(name: str, data: bytes, says: str) -> None:
    """Whatever the other side sends, the error says what, in one sentence, and nothing hangs."""
    with Misbehaving(data) as server, pytest.raises(UnavailableError, match=says):
        answer(loaded(settings(name, server.url)), ask("x"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_silent_server_is_given_up(name: str, data: bytes) -> None:
    """Silence longer than the bound, before or in an answer, is unavailable."""
    with Misbehaving(data, silent=True) as server, pytest.raises(UnavailableError, match="silent for too long"):
        answer(loaded(settings(name, server.url, upstream_stall_s=1)), ask("x"))


@pytest.mark.parametrize("name", NAMES)
def test_the_key_is_sent_and_may_change(name: str, tmp_path: Path) -> None:
    """The key's file is read for each request; it stands in no address and no setting."""
    key = tmp_path / "key"
    key.write_text("first\n")
    key.chmod(0o600)
    with Misbehaving(GOOD[name]) as server:
        driver = loaded(settings(name, server.url, api_key_file=str(key)))
        answer(driver, ask("x"))
        key.write_text("second\n")
        answer(driver, ask("x"))
        assert [b"Bearer first" in server.seen[0], b"Bearer second" in server.seen[1]] == [True, True]


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (None, 0o600, "cannot read"),
        (b"", 0o600, "holds no key"),
        (b"a\nb", 0o600, "holds no key"),
        (b"x", 0o644, "chmod 600"),
    ],
)
def test_a_bad_key_file_is_refused_at_the_start(content: bytes | None, mode: int, says: str, tmp_path: Path) -> None:
    """A key that is missing, empty, not one line, or open to others is told before anything is asked."""
    key = tmp_path / "key"
    if content is not None:
        key.write_bytes(content)
        key.chmod(mode)
    with pytest.raises(ConfigError, match=says):
        loaded(settings("openai", "http://127.0.0.1:9", api_key_file=str(key)))


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:80", "ftp://x", "http://", "http://u:p@x", "http://x:99999", "http://x?key=1"]
)
def test_a_bad_address_is_refused_at_the_start(url: str) -> None:
    """What is no plain web address is refused, and so is one that carries a key."""
    for name in NAMES:
        with pytest.raises(ConfigError, match="SUTAZAI_LLM_UPSTREAM_URL"):
            loaded(settings(name, url))


def test_what_openai_has_not_is_refused_not_dropped(upstream: LlmProcess) -> None:
    """``top_k`` is unknown to OpenAI's form; Ollama's has it."""
    with pytest.raises(BadRequestError, match="top_k"):
        answer(loaded(settings("openai", upstream.url)), replace(ask("x"), sampling={"top_k": 5.0}))
    assert answer(loaded(settings("ollama", upstream.url)), replace(ask("say: x"), sampling={"top_k": 5.0}))[0] == "x"


@pytest.mark.parametrize("name", NAMES)
def test_our_doors_over_another_server(upstream: LlmProcess, name: str) -> None:
    """A whole server over another one: answers pass, leaving frees the slots of both, no tokenizer is 501."""
    server = LlmProcess(
        SUTAZAI_LLM_DRIVER=name, SUTAZAI_LLM_MODEL="far", SUTAZAI_LLM_UPSTREAM_URL=upstream.url, SUTAZAI_LLM_SLOTS="2"
    )
    try:
        body = {"model": "far", "messages": [{"role": "user", "content": "say: through two"}]}
        with httpx.Client(timeout=WAIT_S) as web:
            whole = web.post(f"{server.url}/v1/chat/completions", json=body).json()
            assert whole["choices"][0]["message"]["content"] == "through two"
            chat = web.post(f"{server.url}/api/chat", json={**body, "stream": False}).json()
            assert chat["message"]["content"] == "through two"
            assert web.post(f"{server.url}/tokenize", json={"content": "x"}).status_code == 501
            assert web.get(f"{server.url}/api/tags").json()["models"][0]["size"] == 0
        assert server.is_free()
        assert upstream.is_free()
    finally:
        assert server.end() == 0
