"""Why it exists: ``/v1/embeddings`` in OpenAI's form: what is asked is checked here, what is found is written here.

https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.llm import fields
from sutazai.llm.embedder import shortened

if TYPE_CHECKING:
    from sutazai.llm.embedder import Vectors

TEXTS_MAX = 512
DIMENSIONS = 384


@dataclass(frozen=True, slots=True)
class VectorCall:
    """A checked request.

    Attributes:
        model: as it was sent; ``None`` for the default.
        texts: 1 to ``TEXTS_MAX``.
        as_base64: vectors as little-endian 32-bit floats in base64, which OpenAI's client asks for.
        dimensions: numbers of each vector that are wanted; ``None`` for all.
        cut: shorten texts that are too long (``truncate``, which OpenAI does not have), instead of refusing them.
    """

    model: str | None
    texts: list[str]
    as_base64: bool
    dimensions: int | None
    cut: bool


def parse(body: Any) -> VectorCall:
    """Check a decoded body.

    Raises:
        Refusal: with the field that is wrong.
    """
    body = fields.mapping(body)
    form = fields.field(body, "encoding_format", str, "float")
    if form not in {"float", "base64"}:
        raise fields.wrong("encoding_format", "must be float or base64")
    return VectorCall(
        model=fields.field(body, "model", str, None),
        texts=texts(body.get("input"), least=1),
        as_base64=form == "base64",
        dimensions=dimensions(body),
        cut=bool(fields.field(body, "truncate", bool, False)),  # noqa: FBT003 a default
    )


def texts(value: Any, *, least: int) -> list[str]:
    """Check the texts of a request.

    Args:
        value: a text or a list of texts.
        least: how many there must be; with 1, none of them may be empty.

    Raises:
        Refusal: something else, or too many.
    """
    found = [value] if isinstance(value, str) else value
    if isinstance(found, list) and found and not isinstance(found[0], str):
        raise fields.wrong("input", "must be text: numbers of another model's tokens mean nothing to this one")
    if not isinstance(found, list) or not least <= len(found) <= TEXTS_MAX:
        raise fields.wrong("input", f"must be a text or a list of {least} to {TEXTS_MAX} texts")
    for index, text in enumerate(found):
        fields.text(text, f"input[{index}]")
        if least and not text:
            raise fields.wrong(f"input[{index}]", "is empty")
    return found


def dimensions(body: dict[str, Any]) -> int | None:
    """Check how many numbers of each vector are wanted."""
    wanted: int | None = fields.field(body, "dimensions", int, None)
    if wanted is not None and not 1 <= wanted <= DIMENSIONS:
        raise fields.wrong("dimensions", f"must be from 1 to {DIMENSIONS}")
    return wanted


def written(call: VectorCall, found: Vectors, model: str) -> dict[str, Any]:
    """The answer."""
    rows = found.values
    if call.dimensions is not None and call.dimensions < DIMENSIONS:
        rows = [shortened(row, call.dimensions) for row in rows]
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(row) if call.as_base64 else row}
        for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _packed(row: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()
