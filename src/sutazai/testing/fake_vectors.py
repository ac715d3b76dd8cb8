"""Why it exists: tests of everything around the embedding model need vectors at once, without a model."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sutazai.llm import models
from sutazai.llm.drivers.protocol import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

TOKENS_MAX = 50
NEED_BYTES = 1_000


class FakeVectors:
    """Computes vectors at once.

    Attributes:
        here: whether the model's file is there.
        gate: cleared by a test to hold a batch.
        loads: how often it was loaded.
        batches: sizes of the batches that were computed.
    """

    need_bytes = NEED_BYTES

    def __init__(self) -> None:
        self.model = models.find(models.DEFAULT_EMBED_MODEL)
        self.here, self.loaded, self.loads = True, False, 0
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def present(self) -> bool:
        """As the test says."""
        return self.here

    def load(self) -> None:
        """Count it."""
        self.loaded, self.loads = True, self.loads + 1

    def embed(self, texts: Sequence[str], *, cut: bool) -> tuple[list[list[float]], int]:
        """Texts with a cat are alike, all others too."""
        self.gate.wait()
        self.batches.append(len(texts))
        words = [text.split() for text in texts]
        if not cut and any(len(found) > TOKENS_MAX for found in words):
            raise BadRequestError(f"a text has more than {TOKENS_MAX} tokens")
        rows = [[0.6, 0.8, *([0.0] * 382)] if "cat" in text else [0.0] * 383 + [1.0] for text in texts]
        return rows, sum(len(found[:TOKENS_MAX]) for found in words)

    def close(self) -> None:
        """Remember it."""
        self.loaded = False
