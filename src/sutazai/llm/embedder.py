"""Why it exists: texts become vectors by a small model of its own, which is in memory only while somebody uses it.

The chat model's own vectors are useless for search (docs/adr/0015). The small one is loaded at the first text, in this
process and inside its memory limit, and given back when nobody asked for a while. One thread works on it; a long list
is cut into batches, so that lists of several clients take turns and a client that goes costs one batch at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sutazai.errors import NotFoundError, QueueFullError, UnavailableError
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.llm.models import Model

BATCH_TEXTS = 16
IDLE_S = 300.0
WAITING_MAX = 32
RETRY_AFTER_S = 2


@dataclass(frozen=True, slots=True)
class Vectors:
    """Texts as vectors.

    Attributes:
        values: one a text, in its order, each of length 1.
        tokens: counted, of all texts together.
        load_ns: of the whole time, what loading the model took; 0 when it was in memory.
    """

    values: list[list[float]]
    tokens: int
    load_ns: int


class Backend(Protocol):
    """Who computes vectors. It blocks; one thread calls it at a time."""

    model: Model

    @property
    def need_bytes(self) -> int:
        """Memory while it is loaded, estimated on the safe side."""
        ...

    def present(self) -> bool:
        """Whether its file is on this machine, and the right one."""
        ...

    def load(self) -> None:
        """Bring it into memory.

        Raises:
            HostError: the file is missing or damaged.
        """
        ...

    def embed(self, texts: Sequence[str], *, cut: bool) -> tuple[list[list[float]], int]:
        """Compute a batch; answers the vectors and the counted tokens.

        Raises:
            BadRequestError: a text is longer than the model reads, and may not be cut.
            UnavailableError: it failed.
        """
        ...

    def close(self) -> None:
        """Give the memory back; harmless when nothing is loaded."""
        ...


class Embedder:
    """The embedding model: on demand, in turn, within bounds.

    Args:
        backend: who computes.
        room_bytes: memory that is left for it; ``None`` for no bound.
        idle_s: seconds without a text after which it leaves the memory.
    """

    def __init__(self, backend: Backend, room_bytes: int | None, idle_s: float = IDLE_S) -> None:
        self._backend, self._room_bytes, self._idle_s = backend, room_bytes, idle_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self._loaded = False
        self._waiting = 0
        self._used_s = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def model(self) -> Model:
        """The catalogue's entry."""
        return self._backend.model

    @property
    def state(self) -> str:
        """``absent`` (its file is not here), ``idle`` (not in memory) or ``loaded``."""
        if self._loaded:
            return "loaded"
        return "idle" if self._backend.present() else "absent"

    @property
    def need_bytes(self) -> int:
        """Memory that it takes now, estimated: 0 while it is not loaded."""
        return self._backend.need_bytes if self._loaded else 0

    def unload_in_s(self) -> float:
        """Seconds until it leaves the memory when nobody asks."""
        return max(0.0, self._used_s + self._idle_s - time.monotonic())

    def check(self, name: str | None, default: str) -> None:
        """Check which model a request means.

        Args:
            name: as it was sent, ``None`` for the default.
            default: the chat model, which has no useful vectors.

        Raises:
            NotFoundError: it is another one.
        """
        model = self.model
        if name is None or name.lower().removesuffix(":latest") in {model.name, *model.aliases}:
            return
        why = "is a chat model" if name.removesuffix(":latest") == default.removesuffix(":latest") else "is not here"
        raise NotFoundError(f"the model {name!r} {why}; embeddings come from {model.name!r}")

    async def embed(self, texts: Sequence[str], *, cut: bool) -> Vectors:
        """Compute the vectors of some texts.

        Args:
            texts: at least one.
            cut: shorten a text that is longer than the model reads, instead of refusing it.

        Raises:
            BadRequestError: a text is too long.
            QueueFullError: too many lists wait already.
            UnavailableError: the model's file is not here, or there is no memory for it; says what to do.
        """
        if self._waiting >= WAITING_MAX:
            raise QueueFullError(f"{self._waiting} lists of texts wait already", RETRY_AFTER_S)
        if not self._loaded:
            self._check_possible()
        values: list[list[float]] = []
        tokens = load_ns = 0
        gone = threading.Event()
        self._waiting += 1
        try:
            for at in range(0, len(texts), BATCH_TEXTS):
                found, count, loading_ns = await self._batch(texts[at : at + BATCH_TEXTS], gone, cut=cut)
                values += found
                tokens += count
                load_ns += loading_ns
        finally:
            gone.set()  # a batch that is still in line is skipped
            self._waiting -= 1
            self._used_s = time.monotonic()
            self._arm()
        return Vectors(values, tokens, load_ns)

    async def close(self) -> None:
        """Give everything back."""
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(RuntimeError):  # closed twice
            await asyncio.get_running_loop().run_in_executor(self._thread, self._unload)
        self._thread.shutdown(wait=False)

    async def _batch(
        self, texts: Sequence[str], gone: threading.Event, *, cut: bool
    ) -> tuple[list[list[float]], int, int]:
        def work() -> tuple[list[list[float]], int, int]:
            if gone.is_set():
                return [], 0, 0
            load_ns = self._load()
            return *self._backend.embed(texts, cut=cut), load_ns

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _check_possible(self) -> None:
        backend, name = self._backend, self.model.name
        if not backend.present():
            raise UnavailableError(f"the model {name} is not on this machine; run: python -m sutazai.llm.fetch {name}")
        if self._room_bytes is not None and backend.need_bytes > self._room_bytes:
            lacking = math.ceil((backend.need_bytes - self._room_bytes) / MIB)
            raise UnavailableError(
                f"there is no memory for the model {name}: llm.memory in the manifest must be {lacking} MB larger "
                "(or slots or context smaller)"
            )

    def _load(self) -> int:
        if self._loaded:
            return 0
        begun_ns = time.monotonic_ns()
        self._backend.load()
        self._loaded = True
        return time.monotonic_ns() - begun_ns

    def _unload(self) -> None:
        self._loaded = False
        self._backend.close()

    def _arm(self) -> None:
        """Wake up when it may be idle long enough; one timer at a time."""
        if self._timer is None and self._loaded:
            self._timer = asyncio.get_running_loop().call_later(self.unload_in_s(), self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._waiting or self.unload_in_s() > 0:
            self._arm()
        else:
            asyncio.get_running_loop().run_in_executor(self._thread, self._unload)


def shortened(vector: Sequence[float], dimensions: int) -> list[float]:
    """The first numbers of a vector, made length 1 again."""
    head = vector[:dimensions]
    size = math.sqrt(sum(value * value for value in head)) or 1.0
    return [value / size for value in head]
