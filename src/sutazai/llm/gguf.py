"""Why it exists: a model that does not fit its memory limit must be refused by name, not killed by the kernel.

Only the head of a GGUF file is read: the numbers that decide how large the key-value cache is.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.errors import HostError
from sutazai.llm.models import GGUF_MAGIC
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

KEYS_MAX = 10_000
DIMENSIONS_MAX = 8
_TENSORS = "tensors"
#: Interpreter, libraries, work buffers of one batch and the repacked weights, measured with the two models of the
#: catalogue: 95 MB and 178 MB beside file and cache.
OVERHEAD_BYTES = 200 * MIB
#: A cached key or value is a 16-bit float.
CACHE_ELEMENT_BYTES = 2

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Shape:
    """What the head of a model file says.

    Attributes:
        architecture: family of the network, ``qwen2`` for example.
        layers: blocks, each with a cache of its own.
        heads_kv: key-value heads of one layer (the largest, when layers differ).
        head_size: elements of one head (key and value together, halved).
        context_tokens_max: longest context it was trained for.
        file_bytes: size of the file.
    """

    architecture: str
    layers: int
    heads_kv: int
    head_size: int
    context_tokens_max: int
    file_bytes: int

    def cache_bytes(self, context_tokens: int) -> int:
        """Size of the key-value cache of so many tokens, all slots together."""
        return 2 * context_tokens * self.layers * self.heads_kv * self.head_size * CACHE_ELEMENT_BYTES

    def need_bytes(self, context_tokens: int) -> int:
        """Memory to run the model with: file, cache and a fixed overhead. Bytes, on the safe side."""
        return self.file_bytes + self.cache_bytes(context_tokens) + OVERHEAD_BYTES


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def number(self, code: str) -> Any:
        form = f"<{code}"
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def text(self) -> str:
        length = self.number("Q")
        if length > len(self._data) - self._at:
            raise ValueError("a text is longer than the file")
        raw = self._data[self._at : self._at + length]
        self._at += length
        return raw.decode(errors="replace")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise ValueError(f"unknown kind of value {kind}")
        inner, count = self.number("I"), self.number("Q")
        if inner in _SCALARS:
            size = struct.calcsize(f"<{_SCALARS[inner]}")
            if count * size > len(self._data) - self._at:
                raise ValueError("a list is longer than the file")
            values = struct.unpack_from(f"<{count}{_SCALARS[inner]}", self._data, self._at)
            self._at += count * size
            return values
        return [self.value(inner) for _ in range(count)]


def read_shape(path: Path) -> Shape:
    """Read the head of a model file.

    Raises:
        HostError: the file cannot be read, or is no GGUF file of version 2 or 3.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[: len(GGUF_MAGIC)] != GGUF_MAGIC:
                raise HostError(f"{path} is no GGUF file")
            facts = _read_facts(_Reader(data))
            return _shape(facts, len(data))
    except OSError as error:
        raise HostError(f"cannot read the model {path}: {error.strerror}") from error
    except (ValueError, struct.error, KeyError, MemoryError, TypeError) as error:
        raise HostError(f"the head of the model {path} is damaged: {error}; fetch it again") from error


def read_head(path: Path) -> tuple[dict[str, Any], int]:
    """Read all facts of a model file but its vocabulary, with the template of its conversations.

    Args:
        path: of the file.

    Returns:
        the facts by their key, and the number of parameters (elements of all tensors).

    Raises:
        HostError: as ``read_shape``.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Reader(data)
            facts = _read_facts(reader)
            return facts, _parameters(reader, facts.pop(_TENSORS))
    except OSError as error:
        raise HostError(f"cannot read the model {path}: {error.strerror}") from error
    except (ValueError, struct.error, KeyError, MemoryError, TypeError) as error:
        raise HostError(f"the head of the model {path} is damaged: {error}; fetch it again") from error


def _parameters(reader: _Reader, tensors: int) -> int:
    total = 0
    for _ in range(tensors):
        reader.text()
        size = 1
        for _ in range(min(reader.number("I"), DIMENSIONS_MAX)):
            size *= reader.number("Q")
        reader.number("I")  # type
        reader.number("Q")  # offset
        total += size
    return total


def _read_facts(reader: _Reader) -> dict[str, Any]:
    reader.number("I")  # the magic
    version = reader.number("I")
    if version not in {2, 3}:
        raise ValueError(f"GGUF version {version} is not known")
    tensors = reader.number("Q")
    count = reader.number("Q")
    if count > KEYS_MAX:
        raise ValueError(f"{count} keys")
    facts: dict[str, Any] = {_TENSORS: tensors}
    for _ in range(count):
        key = reader.text()
        value = reader.value(reader.number("I"))
        if not key.startswith("tokenizer.") or key == "tokenizer.chat_template":  # long lists that nobody here needs
            facts[key] = value
    return facts


def _shape(facts: dict[str, Any], file_bytes: int) -> Shape:
    family = str(facts["general.architecture"])

    def fact(name: str, default: int) -> int:
        value = facts.get(f"{family}.{name}", default)
        return int(max(value, default=default) if isinstance(value, tuple | list) else value)

    heads = fact("attention.head_count", 1)
    width = fact("embedding_length", 0) // max(heads, 1)
    key, value = fact("attention.key_length", width), fact("attention.value_length", width)
    return Shape(
        architecture=family,
        layers=fact("block_count", 0),
        heads_kv=fact("attention.head_count_kv", heads),
        head_size=(key + value) // 2,
        context_tokens_max=fact("context_length", 0),
        file_bytes=file_bytes,
    )
