"""Why it exists: a model outlives its instance, and no byte of it is trusted because of where it lies.

An instance runs as a user of its own that changes with each wake, so it owns no place on disk. What it must keep, the
broker keeps for it: session state. A model's bytes are the state of the session ``bytes/<recipe>``, all cards are that
of the session ``index``. So models are committed with the task that made them, survive what tasks survive, and need no
other rights (docs/adr/0019).

The bytes are skops' format, never a pickle: loading builds objects of the types listed here and nothing else. The
digest on the card is checked first.
"""

from __future__ import annotations

import base64
import hashlib
import lzma
import zipfile
from typing import Any

from sutazai.agents.model_training_specialist.models import Card
from sutazai.runtime import NonRetryableError

INDEX_SESSION = "index"
MODEL_BYTES_MAX = 700_000
UNPACKED_BYTES_MAX = 32 * 1_048_576
NAMES_MAX = 40
VERSIONS_KEPT = 5
#: Beyond what skops trusts by itself. All are data; none runs code when it is built.
TRUSTED = ("numpy.dtype", "sklearn.compose._column_transformer._RemainderColsList", "builtins.slice")


class ModelTooLargeError(NonRetryableError):
    """The model does not fit into the store."""

    code = "model-too-large"


def pack(pipeline: Any) -> bytes:
    """Write a fitted pipeline.

    Raises:
        ModelTooLargeError: it has more than ``MODEL_BYTES_MAX``.
    """
    from skops import io

    data = lzma.compress(io.dumps(pipeline), preset=6)
    if len(data) > MODEL_BYTES_MAX:
        raise ModelTooLargeError(
            f"the model has {len(data)} bytes; at most {MODEL_BYTES_MAX} are kept: train with fewer rows or columns"
        )
    return data


def unpack(data: bytes, card: Card) -> Any:
    """Build a pipeline out of stored bytes.

    Raises:
        NonRetryableError: the digest is another, or there is a type in it that is not trusted.
    """
    from skops import io

    if hashlib.sha256(data).hexdigest() != card.model_digest:
        raise NonRetryableError(f"the stored bytes of {card.name} version {card.version} are not those of its card")
    try:
        plain = lzma.LZMADecompressor(memlimit=128 * 1_048_576).decompress(data, UNPACKED_BYTES_MAX + 1)
        if len(plain) > UNPACKED_BYTES_MAX:
            raise NonRetryableError("the stored model is larger than any that this agent makes")
        if foreign := sorted(set(io.get_untrusted_types(data=plain)) - set(TRUSTED)):
            raise NonRetryableError(f"the stored model holds types that are not trusted: {', '.join(foreign)}")
        return io.loads(plain, trusted=list(TRUSTED))
    except (lzma.LZMAError, zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError) as error:
        raise NonRetryableError(f"the stored model cannot be read: {error}") from error


def encode(data: bytes) -> str:
    """Turn bytes into what state can hold."""
    return base64.b64encode(data).decode()


def add(state: dict[str, Any], card: Card) -> tuple[Card, bool, list[str]]:
    """Put a card into the index, or find the version that the same recipe gave.

    Returns:
        The card with its version, whether it is new, and the recipes whose bytes nobody needs any more.

    Raises:
        NonRetryableError: there are too many names.
    """
    names: dict[str, list[dict[str, Any]]] = state.setdefault("models", {})
    kept = names.get(card.name, [])
    for entry in kept:
        if entry["recipe"] == card.recipe:
            return Card.model_validate(entry), False, []
    if card.name not in names and len(names) >= NAMES_MAX:
        raise NonRetryableError(f"{NAMES_MAX} models are kept already: use a name that is there, or forget one")
    numbered = card.model_copy(update={"version": state.setdefault("next", {}).get(card.name, 1)})
    state["next"][card.name] = numbered.version + 1
    names[card.name] = [*kept, numbered.model_dump(mode="json")][-VERSIONS_KEPT:]
    left = [entry["recipe"] for entry in kept[: max(0, len(kept) + 1 - VERSIONS_KEPT)]]
    return numbered, True, _orphans(names, left)


def forget(state: dict[str, Any], name: str) -> list[str]:
    """Take a name with all its versions out of the index.

    Returns:
        The recipes whose bytes nobody needs any more.

    Raises:
        NonRetryableError: there is no such name.
    """
    names = state.get("models", {})
    if name not in names:
        raise NonRetryableError(_unknown(name, names))
    left = [entry["recipe"] for entry in names.pop(name)]
    return _orphans(names, left)


def find(state: dict[str, Any], name: str, version: int) -> Card:
    """Find a card; version 0 is the newest.

    Raises:
        NonRetryableError: there is none.
    """
    names = state.get("models", {})
    if name not in names:
        raise NonRetryableError(_unknown(name, names))
    for entry in reversed(names[name]):
        if version in {0, entry["version"]}:
            return Card.model_validate(entry)
    kept = ", ".join(str(entry["version"]) for entry in names[name])
    raise NonRetryableError(f"{name} has no version {version}; kept are: {kept}")


def _orphans(names: dict[str, list[dict[str, Any]]], recipes: list[str]) -> list[str]:
    used = {entry["recipe"] for entries in names.values() for entry in entries}
    return [recipe for recipe in recipes if recipe not in used]


def _unknown(name: str, names: dict[str, Any]) -> str:
    return f"there is no model {name!r}; there are: {', '.join(sorted(names)) or 'none yet, train one'}"
