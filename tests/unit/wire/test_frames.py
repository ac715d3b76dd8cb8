"""Frames survive any way a stream is cut, and refuse everything that is no frame."""

from __future__ import annotations

import contextlib
import json
import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sutazai.errors import ProtocolError
from sutazai.limits import BLOBS_PER_MESSAGE_MAX, FRAME_BYTES_MAX
from sutazai.wire.frames import HEADER, Decoder, encode

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    SCALARS | TEXTS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=8
)
MESSAGES = st.dictionaries(TEXTS.filter(lambda key: key not in {"t", "blobs"}), VALUES, max_size=5).flatmap(
    lambda fields: st.text("abc", min_size=1, max_size=9).map(lambda kind: {**fields, "t": kind})
)


def decode_all(data: bytes, cuts: list[int]) -> list[tuple[dict[str, Any], list[bytes]]]:
    """Feed the bytes in the pieces that the cuts make."""
    decoder, out = Decoder(), []
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(places):
        out.extend(decoder.feed(data[start:end]))
    assert not decoder.partial
    return out


@given(
    st.lists(st.tuples(MESSAGES, st.lists(st.binary(max_size=30), max_size=3)), max_size=5),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_any_cut_gives_the_same_messages(sent: list[tuple[dict[str, Any], list[bytes]]], cuts: list[int]) -> None:
    """Whatever pieces a stream arrives in, the decoder gives the messages and raw parts that were encoded."""
    data = b"".join(encode(message, blobs) for message, blobs in sent)
    received = decode_all(data, cuts)
    assert [(message, blobs) for message, blobs in received] == [
        ({**message, "blobs": len(blobs)} if blobs else message, blobs) for message, blobs in sent
    ]


def test_byte_by_byte() -> None:
    """One byte at a time is enough."""
    decoder = Decoder()
    data = encode({"t": "a", "n": 1}, [b"xy"]) + encode({"t": "b"})
    out = [item for byte in data for item in decoder.feed(bytes([byte]))]
    assert out == [({"t": "a", "n": 1, "blobs": 1}, [b"xy"]), ({"t": "b"}, [])]


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waits(data: bytes) -> None:
    """No bytes make the decoder fail with anything but ProtocolError, and after one it stays broken."""
    decoder = Decoder()
    with contextlib.suppress(ProtocolError):
        list(decoder.feed(data))
        return
    with pytest.raises(ProtocolError):
        list(decoder.feed(encode({"t": "fine"})))


@given(st.binary(min_size=1, max_size=60))
def test_garbage_payload_in_a_good_frame(payload: bytes) -> None:
    """A frame whose payload is no JSON object with a type is refused, whatever it holds."""
    try:
        value = json.loads(payload)
        good = isinstance(value, dict) and isinstance(value.get("t"), str)
    except (ValueError, RecursionError):
        good = False
    if not good:
        with pytest.raises(ProtocolError):
            list(Decoder().feed(HEADER.pack(len(payload), 1) + payload))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">IB", FRAME_BYTES_MAX + 1, 1),
        struct.pack(">IB", 2, 9) + b"{}",
        struct.pack(">IB", 2, 2) + b"xy",
        struct.pack(">IB", 2, 1) + b"[]",
        struct.pack(">IB", 4, 1) + b"null",
        struct.pack(">IB", 7, 1) + b'{"t":1}',
        struct.pack(">IB", 0, 1),
        HEADER.pack(20, 1) + b'{"t":"a","blobs":99}',
        HEADER.pack(20, 1) + b'{"t":"a","blobs":-1}',
        HEADER.pack(22, 1) + b'{"t":"a","blobs":true}',
        encode({"t": "a"}, [b"x"])[:-6] + encode({"t": "b"}),
        HEADER.pack(100_000, 1) + b'{"t":"a","x":' + b"[" * 99_987,
    ],
)
def test_what_is_no_frame(data: bytes) -> None:
    """Oversize, unknown kinds, stray raw parts, no object, no type, wrong counts and endless nesting are refused."""
    with pytest.raises(ProtocolError):
        list(Decoder().feed(data))


def test_oversize_is_refused_before_it_arrives() -> None:
    """A length above the limit is refused from its header alone, so nobody can make us hold it."""
    with pytest.raises(ProtocolError, match="above the limit"):
        list(Decoder().feed(HEADER.pack(2**32 - 1, 1)))


def test_encode_refuses_what_a_peer_would_refuse() -> None:
    """The sender learns of a message that is too large, or no JSON, before a byte is written."""
    for message, blobs in (
        ({"t": "a", "x": "y" * FRAME_BYTES_MAX}, []),
        ({"t": "a"}, [b"x" * (FRAME_BYTES_MAX + 1)]),
        ({"t": "a"}, [b""] * (BLOBS_PER_MESSAGE_MAX + 1)),
        ({"t": "a"}, [b"x" * FRAME_BYTES_MAX] * 5),
        ({"t": "a", "x": object()}, []),
        ({"t": "a", "x": "\ud800"}, []),
    ):
        with pytest.raises(ProtocolError):
            encode(message, blobs)


def test_large_frame_passes() -> None:
    """A frame of just the limit is fine, in two pieces."""
    text = "x" * (FRAME_BYTES_MAX - 20)
    data = encode({"t": "a", "x": text})
    decoder = Decoder()
    assert list(decoder.feed(data[: 1 << 20])) == []
    assert decoder.partial
    assert list(decoder.feed(data[1 << 20 :])) == [({"t": "a", "x": text}, [])]
