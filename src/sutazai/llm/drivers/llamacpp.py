"""Why it exists: the default way to run a model on a plain CPU: llama.cpp inside this process, from a wheel."""

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING, Any, ClassVar

from sutazai.errors import HostError, UnavailableError
from sutazai.llm import models
from sutazai.llm.drivers import library
from sutazai.llm.drivers.protocol import BadRequestError, ChatRequest, Emit, Finish, Loaded
from sutazai.llm.gguf import Shape, read_shape
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.llm.settings import Settings

CLIENT_FAULT_STATUS_MAX = 499
BATCH_TOKENS = 512
_WHOLE = ("top_k", "repeat_last_n")


class LlamaCppDriver:
    """Runs one GGUF file with llama.cpp's server in this process."""

    name: ClassVar[str] = "llamacpp"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server: Any = None
        self._folder: Path | None = None
        self._key = secrets.token_hex(32)

    def load(self) -> Loaded:
        """Check that file and memory fit, then load; blocks for about a second per 500 MB."""
        path = models.resolve(self._settings.model)
        shape = read_shape(path)
        need_bytes = self._check_memory(path, shape)
        wait_without_spinning()
        try:
            import xllamacpp
        except ImportError as error:
            raise HostError(f"the driver llamacpp needs the package xllamacpp ({error}); run: make run") from error
        self._folder = library.private_folder("chat")
        try:
            params = library.hide(self._params(xllamacpp.CommonParams(), path), self._folder, self._key)
            self._server = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            self.close()
            repair = "" if models.is_local(self._settings.model) else "; delete it and fetch it again"
            raise HostError(f"llama.cpp cannot load {path}: {error}{repair}") from error
        return Loaded(
            name=self._public_name(path),
            context_tokens=self._settings.context_tokens,
            need_bytes=need_bytes,
            path=path,
            facts={"architecture": shape.architecture, "file": path.name, "file_bytes": shape.file_bytes},
        )

    def chat(self, request: ChatRequest, emit: Emit) -> Finish:
        """Compute one answer. The library asks between tokens whether to go on, so a stop costs one token."""
        if self._server is None:
            raise UnavailableError("no model is loaded")
        answer = _Answer(emit)
        try:
            if request.prompt is None:
                self._server.handle_chat_completions(_body(request), answer.take)
            else:
                self._server.handle_completions(_body(request), answer.take)
        except ValueError as error:  # what the library says about a schema it cannot translate
            raise BadRequestError(str(error)) from error
        except RuntimeError as error:
            raise UnavailableError(f"llama.cpp failed: {error}") from error
        return answer.finish()

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Cut a text into tokens; the library offers this on its own socket only."""
        if self._server is None:
            raise UnavailableError("no model is loaded")
        body = {"content": text, "add_special": add_special, "parse_special": parse_special}
        reply = library.post(self._folder / library.SOCKET, self._key, "/tokenize", body) if self._folder else {}
        return [int(token) for token in reply.get("tokens", ())]

    def close(self) -> None:
        """Unload the model and remove the private folder."""
        self._server = None  # its destructor ends the library's threads
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _public_name(self, path: Path) -> str:
        return path.stem if models.is_local(self._settings.model) else models.find(self._settings.model).name

    def _check_memory(self, path: Path, shape: Shape) -> int:
        settings = self._settings
        tokens = settings.context_tokens * settings.slots
        need_bytes = shape.need_bytes(tokens) + settings.prefix_cache_bytes
        if settings.memory_bytes and need_bytes > settings.memory_bytes:
            raise HostError(
                f"the model {path.name} needs about {need_bytes / MIB:.0f} MB ({shape.file_bytes / MIB:.0f} MB file, "
                f"{shape.cache_bytes(tokens) / MIB:.0f} MB for {settings.slots} x {settings.context_tokens} tokens, "
                f"the rest buffers) and may use {settings.memory_bytes / MIB:.0f} MB: give it more memory, "
                "fewer slots, a shorter context, or choose a smaller model"
            )
        return need_bytes

    def _params(self, params: Any, path: Path) -> Any:
        settings = self._settings
        params.model.path = str(path)
        params.n_ctx = settings.context_tokens * settings.slots  # the library splits it over the slots
        params.n_parallel = settings.slots
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
        params.cache_ram_mib = settings.prefix_cache_bytes // MIB
        params.n_gpu_layers = 0
        params.fit_params = False  # it would shorten the context in silence
        return params


def wait_without_spinning() -> None:
    """Let the library's threads sleep at a barrier instead of spinning; read by OpenMP when it is loaded.

    Spinning is right for a machine of one's own. Here other processes share the cores, and then a thread spins for the
    whole time slice of somebody else: measured on two busy cores, two threads gave 1.7 tokens/s spinning, 19 sleeping.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


class _Answer:
    """Collects what the library hands out while one answer is computed."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._reason = ""
        self._pieces = 0
        self._usage: dict[str, Any] = {}
        self._error: dict[str, Any] | None = None
        self._failure: Exception | None = None

    def take(self, event: Any) -> bool:
        """Take one event; answers ``True`` to stop, as the library wants it. Must not raise into C++."""
        try:
            return self._take(event)
        except Exception as error:  # noqa: BLE001 raised again by finish()
            self._failure = error
            return True

    def _take(self, event: dict[str, Any]) -> bool:
        if "error" in event:
            self._error = event["error"]
            return True
        self._usage = event.get("usage") or self._usage
        for choice in event.get("choices", ()):
            self._reason = choice.get("finish_reason") or self._reason
            text = choice.get("delta", {}).get("content") or choice.get("text")
            if text:
                self._pieces += 1
                if not self._emit(text):
                    self._reason = "cancelled"
                    return True
        return False

    def finish(self) -> Finish:
        """How it ended."""
        if self._failure is not None:
            raise self._failure
        if self._error is not None:
            message = str(self._error.get("message", "no reason given"))
            if int(self._error.get("code", 500)) <= CLIENT_FAULT_STATUS_MAX:
                raise BadRequestError(message)
            raise UnavailableError(message)
        if not self._reason:
            raise UnavailableError("llama.cpp ended an answer without a reason")
        details = self._usage.get("prompt_tokens_details") or {}
        reason = self._reason if self._reason in {"length", "cancelled"} else "stop"
        return Finish(
            reason=reason,  # type: ignore[arg-type] # one of the three by the line above
            prompt_tokens=int(self._usage.get("prompt_tokens", 0)),
            completion_tokens=int(self._usage.get("completion_tokens", self._pieces)),
            cached_tokens=int(details.get("cached_tokens", 0)),
        )


def _body(request: ChatRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stream": True,  # a request can be stopped only between the pieces of a stream
        "stream_options": {"include_usage": True},
        "cache_prompt": True,
    }
    for name, value in request.sampling.items():
        body[name] = int(value) if name in _WHOLE else value
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.prompt is not None:
        body["prompt"] = request.prompt
        if request.schema is not None:
            body["json_schema"] = request.schema
        return body
    body["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
    if request.schema is not None:
        wanted = {"schema": request.schema} if request.schema else {}
        body["response_format"] = {"type": "json_object", **wanted}
    return body
