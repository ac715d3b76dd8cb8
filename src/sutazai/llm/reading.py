"""Why it exists: a request's body is bounded in size and time, and its client may go at any moment."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from sutazai.limits import BODY_BYTES_MAX, BODY_WAIT_MS_MAX
from sutazai.llm.refusal import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

CLIENT_GONE_STATUS = 499


async def read_json(request: Request) -> Any:
    """Read a bounded body in bounded time, and decode it.

    Raises:
        Refusal: too large, too slow, no UTF-8, or no JSON.
    """
    data = bytearray()
    too_large = Refusal(413, f"the body is larger than {BODY_BYTES_MAX} bytes", code="body_too_large")
    if int(request.headers.get("content-length") or 0) > BODY_BYTES_MAX:
        raise too_large
    try:
        async with asyncio.timeout(BODY_WAIT_MS_MAX / 1_000):
            async for chunk in request.stream():
                data += chunk
                if len(data) > BODY_BYTES_MAX:
                    raise too_large
    except TimeoutError as error:
        raise Refusal(408, "the body did not arrive in time", code="timeout") from error
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the body is no UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON: {error}") from error


async def unless_gone(request: Request, work: asyncio.Future[Any]) -> bool:
    """Wait for work to end; answers ``False``, and cancels it, when the client closes its connection first."""
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        gone.cancel()
        if not work.done():
            work.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
