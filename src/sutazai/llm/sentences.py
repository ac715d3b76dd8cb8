"""Why it exists: llama.cpp also runs the small sentence model, so vectors need no second runtime and no new package."""

from __future__ import annotations

import json
import secrets
import shutil
from typing import TYPE_CHECKING, Any

from sutazai.errors import HostError, UnavailableError
from sutazai.llm import models
from sutazai.llm.drivers import library
from sutazai.llm.drivers.llamacpp import wait_without_spinning
from sutazai.llm.drivers.protocol import BadRequestError
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sutazai.llm.models import Model

#: Work buffers, measured: 22 MB beside the file; the rest is room.
OVERHEAD_BYTES = 40 * MIB
#: Longest text: the model knows so many positions.
TOKENS_MAX = 512
#: Beginning and end of a text, added by the tokenizer.
MARKS = 2
SEQUENCES = 4


class Sentences:
    """A sentence model of the catalogue, run by llama.cpp in this process.

    Args:
        name: of the catalogue.
        threads: cores used for one batch.
    """

    def __init__(self, name: str, threads: int) -> None:
        self.model: Model = models.find(name)
        self._threads = threads
        self._server: Any = None
        self._folder: Path | None = None
        self._key = secrets.token_hex(32)

    @property
    def need_bytes(self) -> int:
        """The file and its work buffers."""
        return self.model.size_bytes + OVERHEAD_BYTES

    def present(self) -> bool:
        """By the record of the fetcher; the file is not read."""
        return models.is_verified(self.model)

    def load(self) -> None:
        """Map the file and make the buffers; takes a twentieth of a second when the file is cached."""
        models.check_file(self.model.path, self.model)
        wait_without_spinning()
        try:
            import xllamacpp
        except ImportError as error:
            raise HostError(f"embeddings need the package xllamacpp ({error}); run: make run") from error
        self._folder = library.private_folder("embed")
        try:
            params = library.hide(self._params(xllamacpp.CommonParams()), self._folder, self._key)
            self._server = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            self.close()
            raise HostError(
                f"llama.cpp cannot load {self.model.path}: {error}; delete it and fetch it again"
            ) from error

    def embed(self, texts: Sequence[str], *, cut: bool) -> tuple[list[list[float]], int]:
        """Compute one batch."""
        inputs = [self._fitting(text, cut=cut) for text in texts]
        try:
            reply = self._server.handle_embeddings({"input": inputs})
        except (RuntimeError, ValueError) as error:
            raise UnavailableError(f"llama.cpp failed: {error}") from error
        found = json.loads(reply) if isinstance(reply, str | bytes) else reply
        rows = found.get("data")
        if not isinstance(rows, list) or len(rows) != len(inputs):
            raise UnavailableError(f"llama.cpp made no vectors: {str(found)[:200]}")
        rows.sort(key=lambda row: row["index"])
        return [row["embedding"] for row in rows], int(found["usage"]["prompt_tokens"])

    def close(self) -> None:
        """Unload the model and remove the private folder."""
        self._server = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _fitting(self, text: str, *, cut: bool) -> str | list[int]:
        """The text, or its first tokens when it is too long and may be cut.

        A token is at least a character, so short texts need no counting.
        """
        if len(text) + MARKS <= TOKENS_MAX or self._folder is None:
            return text
        body = {"content": text, "add_special": True}
        reply = library.post(self._folder / library.SOCKET, self._key, "/tokenize", body)
        tokens = [int(token) for token in reply.get("tokens", ())]
        if len(tokens) <= TOKENS_MAX:
            return text
        if not cut:
            raise BadRequestError(f"a text has {len(tokens)} tokens; the model {self.model.name} reads {TOKENS_MAX}")
        return [*tokens[: TOKENS_MAX - 1], tokens[-1]]

    def _params(self, params: Any) -> Any:
        params.model.path = str(self.model.path)
        params.embedding = True
        params.n_ctx = TOKENS_MAX * SEQUENCES  # the library splits it
        params.n_parallel = SEQUENCES
        params.n_batch = params.n_ubatch = TOKENS_MAX
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        params.n_gpu_layers = params.cache_ram_mib = 0
        params.fit_params = params.warmup = False
        return params
