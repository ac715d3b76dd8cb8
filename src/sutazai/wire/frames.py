"""Why it exists: a stream of bytes has no messages; frames give it some, and refuse what is too large or no frame.

A frame is a 4-byte big-endian payload length, one byte for its kind, and the payload. Kind 1 is a JSON object with a
string ``t``; kind 2 is raw bytes that belong to the JSON message before them, which says how many follow: ``blobs``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec

from sutazai.errors import ProtocolError
from sutazai.limits import BLOBS_PER_MESSAGE_MAX, FRAME_BYTES_MAX, FRAMES_UNSENT_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KIND_JSON = 0x01
KIND_BLOB = 0x02
HEADER = struct.Struct(">IB")
_KINDS = (KIND_JSON, KIND_BLOB)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def encode(message: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """Write one message and its raw bytes as frames.

    Args:
        message: a JSON object with its type in ``t``; ``blobs`` is set here when there are some.
        blobs: at most ``BLOBS_PER_MESSAGE_MAX``, each at most ``FRAME_BYTES_MAX`` bytes.

    Raises:
        ProtocolError: it is no JSON, or larger than a frame may be.
    """
    if blobs:
        message = {**message, "blobs": len(blobs)}
    try:
        payload = _encoder.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"the message {message.get('t')!r} cannot be written as JSON: {error}") from error
    if not blobs and len(payload) <= FRAME_BYTES_MAX:
        return HEADER.pack(len(payload), KIND_JSON) + payload
    _check_sizes(payload, blobs)
    parts = [HEADER.pack(len(payload), KIND_JSON), payload]
    for blob in blobs:
        parts += [HEADER.pack(len(blob), KIND_BLOB), blob]
    return b"".join(parts)


def _check_sizes(payload: bytes, blobs: Sequence[bytes]) -> None:
    largest = max((len(part) for part in (payload, *blobs)), default=0)
    if largest > FRAME_BYTES_MAX:
        raise ProtocolError(f"a frame of {largest} bytes is above the limit of {FRAME_BYTES_MAX}: send a file's path")
    if len(blobs) > BLOBS_PER_MESSAGE_MAX:
        raise ProtocolError(f"{len(blobs)} raw parts are above the limit of {BLOBS_PER_MESSAGE_MAX} for a message")
    total = len(payload) + sum(map(len, blobs))
    if total > FRAMES_UNSENT_BYTES_MAX:
        raise ProtocolError(f"a message of {total} bytes is above the limit of {FRAMES_UNSENT_BYTES_MAX}")


class Decoder:
    """Cuts a stream into messages, whatever the pieces it comes in.

    After a ``ProtocolError`` the stream cannot be read on: every later ``feed`` raises it again.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # so much of the buffer has been given
        self._message: dict[str, Any] | None = None
        self._blobs: list[bytes] = []
        self._blobs_missing = 0
        self._bytes_held = 0
        self._broken: ProtocolError | None = None

    @property
    def partial(self) -> bool:
        """Whether the stream stopped in the middle of a message."""
        return len(self._buffer) > self._at or self._message is not None

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
        """Take bytes and give the messages that are complete with them, in order.

        The bytes are kept at once; the messages are cut while the iterator is read.

        Raises:
            ProtocolError: the bytes are no frames, no JSON object with ``t``, or too large.
        """
        self._forget()
        self._buffer += data
        return self._messages()

    def _messages(self) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
        if self._broken is not None:
            raise self._broken
        try:
            while (frame := self._frame()) is not None:
                kind, payload = frame
                if kind == KIND_JSON and not self._blobs_missing:
                    message = _parse(payload)
                    if "blobs" not in message:
                        yield message, []
                        continue
                    complete = self._announced(message, len(payload))
                else:
                    complete = self._take(kind, payload)
                if complete is not None:
                    yield complete
            self._forget()
        except ProtocolError as error:
            self._broken = error
            self._buffer.clear()
            self._at = 0
            raise

    def _forget(self) -> None:
        """Let go of what has been given."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0

    def _frame(self) -> tuple[int, bytes] | None:
        buffer, at = self._buffer, self._at
        start = at + HEADER.size
        if len(buffer) < start:
            return None
        length, kind = HEADER.unpack_from(buffer, at)
        if kind not in _KINDS:
            raise ProtocolError(f"a frame of the unknown kind {kind}: the other side speaks another protocol")
        if length > FRAME_BYTES_MAX:
            raise ProtocolError(f"a frame of {length} bytes is above the limit of {FRAME_BYTES_MAX}")
        end = start + length
        if len(buffer) < end:
            return None
        self._at = end
        return kind, bytes(buffer[start:end])

    def _announced(self, message: dict[str, Any], size: int) -> tuple[dict[str, Any], list[bytes]] | None:
        """A message that says how many raw parts follow it."""
        self._blobs_missing = _blob_count(message)
        if not self._blobs_missing:
            return message, []
        self._message, self._bytes_held = message, size
        return None

    def _take(self, kind: int, payload: bytes) -> tuple[dict[str, Any], list[bytes]] | None:
        if kind != KIND_BLOB or self._message is None:
            raise ProtocolError("raw bytes without a message that announces them, or a message in their place")
        self._bytes_held += len(payload)
        if self._bytes_held > FRAMES_UNSENT_BYTES_MAX:
            raise ProtocolError(f"a message of more than {FRAMES_UNSENT_BYTES_MAX} bytes")
        self._blobs.append(payload)
        self._blobs_missing -= 1
        if self._blobs_missing:
            return None
        complete = self._message, self._blobs
        self._message, self._blobs, self._bytes_held = None, [], 0
        return complete


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        message = _decoder.decode(payload)
    except (ValueError, RecursionError, OverflowError) as error:
        raise ProtocolError(f"a message is no JSON: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("t"), str):
        raise ProtocolError("a message is a JSON object with its type in 't'")
    return message


def _blob_count(message: dict[str, Any]) -> int:
    count = message.get("blobs", 0)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= BLOBS_PER_MESSAGE_MAX:
        raise ProtocolError(f"'blobs' must be a number from 0 to {BLOBS_PER_MESSAGE_MAX}")
    return count
