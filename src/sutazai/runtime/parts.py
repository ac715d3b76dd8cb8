"""Why it exists: results that are too large for a message go to the broker, and come from it, in parts.

An instance is another user than the broker and shares no folder with it: what it has to give goes over its one socket.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import msgspec

from sutazai.errors import UnavailableError
from sutazai.limits import PART_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.runtime.broker_link import BrokerLink
    from sutazai.runtime.turn import Turn

_PART_TIMEOUT_S = 60.0  # the last part is answered when all of the file is on disk


def upload(link: BrokerLink, turn: Turn, data: bytes, reference: dict[str, Any]) -> None:
    """Send a result, part by part; each is answered before the next one leaves.

    Raises:
        RefusedError: the broker does not take it.
        UnavailableError: the connection is gone: begin anew.
    """
    for offset in range(0, len(data), PART_BYTES_MAX):
        message = {"t": "upload", **turn.held, "offset": offset, **reference}
        try:
            link.connection.exchange(message, (data[offset : offset + PART_BYTES_MAX],), _PART_TIMEOUT_S)
        except UnavailableError:
            link.drop()
            raise


def download(ask: Callable[[dict[str, Any]], tuple[dict[str, Any], list[bytes]]], task: str, size: int) -> Any:
    """Read the result of a task, part by part, and decode it.

    Args:
        ask: sends a request to the broker until it is answered.
        task: whose result.
        size: of it, bytes.

    Raises:
        UnavailableError: what arrived is not what was stored.
    """
    data = bytearray()
    digest = ""
    while len(data) < size:
        reply, parts = ask({"t": "download", "of": task, "offset": len(data)})
        digest = reply["digest"]
        if len(parts) != 1 or not parts[0] or reply["bytes"] != size:
            raise UnavailableError(f"the result of {task} ended after {len(data)} of {size} bytes")
        data += parts[0]
    if not hmac.compare_digest(f"sha256:{hashlib.sha256(data).hexdigest()}", digest):
        raise UnavailableError(f"the result of {task} is damaged: its file is not what was stored")
    return msgspec.json.decode(data)
