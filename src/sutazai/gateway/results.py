"""Why it exists: a result is handed out as it is stored, in pieces, whatever its size: a large one is never in memory.

``ETag`` is the digest of the bytes, so a client that has them gets 304, and one that was cut off can see that it was.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import IO, TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response, StreamingResponse

from sutazai.gateway.problems import Problem
from sutazai.wire.messages import SUCCEEDED, TERMINAL
from sutazai.wire.payloads import open_payload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request

_PIECE_BYTES = 256 * 1024


async def answer(task: dict[str, Any], folder: Path, request: Request) -> Response:
    """Hand out the result of a task as JSON.

    Args:
        task: as the broker tells it.
        folder: of results that lie in files.
        request: whose ``If-None-Match`` is respected.

    Raises:
        Problem: 409 while it is open or when it did not succeed.
        NotFoundError: its file is gone.
    """
    status = task["status"]
    if status != SUCCEEDED:
        hint = "it has no result" if status in TERMINAL else f"wait for it: GET /tasks/{task['id']} with Prefer: wait"
        raise Problem(409, "no-result", f"{task['id']} is {status}: {hint}")
    reference = task.get("result_ref")
    data = b"" if reference else msgspec.json.encode(task.get("result"))
    digest = reference["digest"] if reference else f"sha256:{hashlib.sha256(data).hexdigest()}"
    headers = {"ETag": f'"{digest}"', "Cache-Control": "private, no-cache"}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if not reference:
        return Response(data, 200, headers, "application/json")
    file = await asyncio.to_thread(open_payload, folder, reference)
    headers["Content-Length"] = str(reference["bytes"])
    if request.method == "HEAD":
        file.close()
        return Response(None, 200, headers, reference["media"])
    return StreamingResponse(_pieces(file), 200, headers, reference["media"])


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    try:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece
    finally:
        file.close()


def with_link(task: dict[str, Any]) -> dict[str, Any]:
    """Say in a task whose result lies in a file where to get it."""
    if task.get("result_ref"):
        task["result_ref"]["href"] = f"/tasks/{task['id']}/result"
    return task
