"""Why it exists: every refusal over HTTP has one form (RFC 9457) with a stable code, whoever refused.

``type``, ``title``, ``status``, ``detail`` and ``code`` are always there; ``errors`` lists the fields of a body that do
not fit, each with a JSON pointer into the body.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from sutazai.errors import (
    CircuitOpenError,
    FencedError,
    InvalidInputError,
    NotFoundError,
    ProtocolError,
    QueueFullError,
    RefusedError,
    ResourceExhaustedError,
    StorageFullError,
    SutazaiError,
    UnavailableError,
)

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:sutazai:problem:"
RETRY_AFTER_S = 1

#: Which status an error of ours has; the first class that fits counts.
STATUSES: tuple[tuple[type[SutazaiError], int], ...] = (
    (NotFoundError, 404),
    (InvalidInputError, 422),
    (QueueFullError, 429),
    (StorageFullError, 507),
    (ResourceExhaustedError, 503),
    (CircuitOpenError, 503),
    (FencedError, 409),
    (RefusedError, 409),
    (UnavailableError, 503),
    (ProtocolError, 502),
    (SutazaiError, 500),
)


class Problem(Exception):  # noqa: N818 the RFC's word
    """A request that is not done.

    Attributes:
        status: of the HTTP answer.
        code: stable name of the kind of problem.
        detail: for a person; says what to do.
        headers: of the answer.
        more: further members, ``errors`` for example.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        """Keep the parts."""
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.more = headers or {}, more

    @classmethod
    def of(cls, error: SutazaiError) -> Problem:
        """Make a problem out of one of our errors."""
        status = next(status for kind, status in STATUSES if isinstance(error, kind))
        headers = {}
        if error.retryable:
            headers["Retry-After"] = str(getattr(error, "retry_after_s", RETRY_AFTER_S))
        return cls(status, error.code, str(error), headers=headers, retryable=error.retryable)

    def response(self) -> Response:
        """The HTTP answer."""
        body = {
            "type": TYPE_PREFIX + self.code,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.more,
        }
        return Response(msgspec.json.encode(body), self.status, self.headers, CONTENT_TYPE)


def invalid(detail: str, errors: list[dict[str, str]]) -> Problem:
    """A body that was understood as JSON and does not fit."""
    return Problem(422, InvalidInputError.code, detail, errors=errors)
