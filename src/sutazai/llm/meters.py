"""Why it exists: how busy the model is and how often it fails is read under fixed names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sutazai.telemetry.names import metric

if TYPE_CHECKING:
    from sutazai.llm.drivers.protocol import Finish

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)


class Meters:
    """The model server's metrics, in a registry of their own."""

    def __init__(self, model: str, need_bytes: int) -> None:
        self._model = model
        self._registry = CollectorRegistry()
        self._seconds = Histogram(*_named("ai_inference_duration_seconds"), registry=self._registry, buckets=_BUCKETS_S)
        self._memory = Gauge(*_named("ai_model_memory_bytes"), registry=self._registry)
        self._tokens = Counter(*_named("ai_tokens_processed_total"), registry=self._registry)
        self._errors = Counter(*_named("ai_errors_total"), registry=self._registry)
        self._waiting = Gauge(*_named("ai_queue_requests"), registry=self._registry)
        self._up = Gauge(*_named("ai_model_up"), registry=self._registry)
        self._memory.labels(model).set(need_bytes)
        for kind in ("prompt", "generated"):
            self._tokens.labels(model, kind)

    def answered(self, finish: Finish, seconds: float) -> None:
        """Count one answer."""
        self._seconds.labels(self._model).observe(seconds)
        self._tokens.labels(self._model, "prompt").inc(finish.prompt_tokens)
        self._tokens.labels(self._model, "generated").inc(finish.completion_tokens)

    def embedded(self, model: str, tokens: int, seconds: float) -> None:
        """Count one list of texts that became vectors."""
        self._seconds.labels(model).observe(seconds)
        self._tokens.labels(model, "prompt").inc(tokens)

    def there(self, *, is_there: bool) -> None:
        """Whether the model can answer, as far as is known."""
        self._up.labels(self._model).set(int(is_there))

    def failed(self, code: str) -> None:
        """Count one request that was not answered."""
        self._errors.labels(self._model, code).inc()

    def page(self, waiting: int, embedding: tuple[str, int]) -> bytes:
        """The metrics in Prometheus' text form.

        Args:
            waiting: requests in line.
            embedding: name of the embedding model, and the memory it takes now.
        """
        self._memory.labels(embedding[0]).set(embedding[1])
        self._waiting.labels(self._model).set(waiting)
        return generate_latest(self._registry)


def _named(name: str) -> tuple[str, str, tuple[str, ...]]:
    fact = metric(name)
    return fact.name, fact.help, fact.labels
