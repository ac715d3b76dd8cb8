"""Why it exists: who fills a context must know how many tokens a text has, and only the model's own tokenizer knows.

``POST /tokenize`` in llama.cpp's form, and for several texts at once. A driver that has no tokenizer (one that asks a
server elsewhere) answers that plainly; nothing here estimates.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sutazai.llm.drivers.protocol import BadRequestError
from sutazai.llm.refusal import Refusal

if TYPE_CHECKING:
    from sutazai.llm.drivers.protocol import Driver

TEXTS_MAX = 2_000
_FIELDS = frozenset({"content", "add_special", "parse_special", "model"})


@runtime_checkable
class Tokenizer(Protocol):
    """What a driver may offer beyond answers. It blocks; it may be called from any thread."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Cut a text into the model's tokens.

        Args:
            text: any length up to the body's bound.
            add_special: also give what the model expects at the beginning and the end of a text.
            parse_special: read marks like ``<|im_end|>`` as one token, as in a prompt.

        Raises:
            UnavailableError: the model does not answer now.
        """
        ...


@dataclass(frozen=True, slots=True)
class TokenizeCall:
    """A checked request.

    Attributes:
        texts: what is counted.
        single: it was one text, so the tokens themselves are wanted.
        add_special: see ``Tokenizer``.
        parse_special: see ``Tokenizer``.
    """

    texts: tuple[str, ...]
    single: bool
    add_special: bool
    parse_special: bool


def parse(body: Any, model: str) -> TokenizeCall:
    """Check a decoded body.

    Raises:
        Refusal: 400 for a wrong field, 404 for another model than the loaded one.
    """
    if not isinstance(body, dict):
        raise Refusal(400, "the body is a JSON object")
    if unknown := sorted(str(key) for key in set(body) - _FIELDS):
        raise Refusal(400, f"unknown field {unknown[0]!r}; there are {', '.join(sorted(_FIELDS))}", param=unknown[0])
    if body.get("model", model) != model:
        raise Refusal(404, f"the only model is {model!r}", param="model", code="model_not_found")
    content = body.get("content")
    texts = [content] if isinstance(content, str) else content
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "content is a text or a list of texts", param="content")
    if len(texts) > TEXTS_MAX:
        raise Refusal(400, f"content has {len(texts)} texts; the limit is {TEXTS_MAX}", param="content")
    flags = {}
    for name, default in (("add_special", False), ("parse_special", True)):
        flags[name] = body.get(name, default)
        if not isinstance(flags[name], bool):
            raise Refusal(400, f"{name} is true or false", param=name)
    return TokenizeCall(tuple(texts), isinstance(content, str), flags["add_special"], flags["parse_special"])


async def answer(driver: Driver, body: Any, model: str) -> dict[str, Any]:
    """Answer a request: the tokens of one text, or the counts of several.

    Raises:
        Refusal: as ``parse``, or 501 when the driver has no tokenizer.
        UnavailableError: the model does not answer now.
    """
    call = parse(body, model)
    if not isinstance(driver, Tokenizer):
        raise Refusal(501, f"the driver {driver.name} has no tokenizer: tokens cannot be counted", code="unsupported")
    tokenizer: Tokenizer = driver

    def work() -> list[list[int]]:
        return [
            tokenizer.tokenize(text, add_special=call.add_special, parse_special=call.parse_special)
            for text in call.texts
        ]

    try:
        tokens = await asyncio.to_thread(work)
    except BadRequestError as error:
        raise Refusal(400, str(error), code="invalid_request") from error
    if call.single:
        return {"model": model, "tokens": tokens[0], "count": len(tokens[0])}
    return {"model": model, "counts": [len(found) for found in tokens]}
