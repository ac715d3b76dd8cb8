"""Why it exists: OpenAI's door and Ollama's refuse for the same reasons, each in the form of its own clients."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sutazai.errors import NotFoundError, QueueFullError
from sutazai.llm.drivers.protocol import BadRequestError

if TYPE_CHECKING:
    from sutazai.errors import SutazaiError

OLLAMA_PATHS = "/api/"
_log = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818 it is an answer, not a failure of ours
    """A request that is not done.

    Attributes:
        status: of the HTTP answer.
        message: for a person.
        kind: ``invalid_request_error``, ``rate_limit_error``, ``server_error``.
        param: which field is meant, or ``None``.
        code: stable name, or ``None``.
        retry_after_s: when to try again, 0 for never mind.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: int = 0
    ) -> None:
        """Keep the parts; the kind follows from the status."""
        super().__init__(message)
        kinds = {429: "rate_limit_error", 500: "server_error", 503: "server_error"}
        self.status, self.message, self.param, self.code = status, message, param, code
        self.kind = kinds.get(status, "invalid_request_error")
        self.retry_after_s = retry_after_s

    def body(self, path: str) -> dict[str, Any]:
        """The JSON of the answer, in the form that clients of this path read."""
        if path.startswith(OLLAMA_PATHS):
            return {"error": self.message}
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """``Retry-After``, when there is a time."""
        return {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}


def of(error: SutazaiError) -> Refusal:
    """Say what an error of the desk, a driver or the embedder means over HTTP."""
    if isinstance(error, QueueFullError):
        return Refusal(429, f"the queue is full: {error}", code="queue_full", retry_after_s=error.retry_after_s)
    if isinstance(error, BadRequestError):
        return Refusal(400, str(error), code="invalid_request")
    if isinstance(error, NotFoundError):
        return Refusal(404, str(error), param="model", code="model_not_found")
    _log.warning("the driver failed: %s", error)
    return Refusal(503 if error.retryable else 500, str(error), code=error.code, retry_after_s=1)
