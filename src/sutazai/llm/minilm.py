"""Why it exists: the sentence model comes as its publisher's safetensors; our one runtime for models reads GGUF.

So the download is rewritten once, with the standard library alone: the same weights, matrices as 16-bit floats, the
vocabulary in llama.cpp's form. The result is the same bytes on every machine; its digest stands in the catalogue.
Names of keys and tensors: https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py
"""

from __future__ import annotations

import json
import struct
import zipfile
from typing import TYPE_CHECKING, Any

from sutazai.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    #: Name, shape, type, and who makes the bytes.
    Tensor = tuple[str, list[int], int, Callable[[], bytes | memoryview]]

WEIGHTS, VOCABULARY, CONFIG = "model.safetensors", "tokenizer.json", "config.json"
ALIGNMENT_BYTES = 32
HEAD_BYTES_MAX = 1 << 20
PIECE_BYTES = 1 << 20
POOLING_MEAN = 1
FILE_TYPE_F16 = 1
_U32, _F32, _BOOL, _STRING, _ARRAY, _I32 = 4, 6, 7, 8, 9, 5
_NORMAL, _CONTROL = 1, 3
_MATRIX_TYPE, _PLAIN_TYPE = 1, 0  # 16-bit and 32-bit floats in GGUF
_PLAIN = ("position_embd.weight", "token_types.weight")
_OUTER = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
_INNER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def build(archive: Path, target: Path) -> None:
    """Write the GGUF file of a BERT-like sentence model.

    Args:
        archive: zip with ``model.safetensors``, ``tokenizer.json`` and ``config.json``, uncompressed or not.
        target: file to write; needs about half the archive's size.

    Raises:
        HostError: the archive does not hold such a model.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            config = json.loads(packed.read(CONFIG))
            vocabulary = json.loads(packed.read(VOCABULARY))["model"]["vocab"]
            weights = packed.read(WEIGHTS)
        _write(target, _keys(config, vocabulary), _tensors(memoryview(weights), int(config["num_hidden_layers"])))
    except (KeyError, ValueError, TypeError, struct.error, zipfile.BadZipFile) as error:
        raise HostError(f"{archive} holds no sentence model that can be rewritten: {error!r}") from error


def _keys(config: dict[str, Any], vocabulary: dict[str, int]) -> list[bytes]:
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    types = [_CONTROL if _is_control(word) else _NORMAL for word in words]
    return [
        _text("general.architecture", "bert"),
        _text("general.name", "all-MiniLM-L6-v2"),
        _text("general.license", "apache-2.0"),
        _number("general.file_type", FILE_TYPE_F16),
        _number("bert.block_count", config["num_hidden_layers"]),
        _number("bert.context_length", config["max_position_embeddings"]),
        _number("bert.embedding_length", config["hidden_size"]),
        _number("bert.feed_forward_length", config["intermediate_size"]),
        _number("bert.attention.head_count", config["num_attention_heads"]),
        _key("bert.attention.layer_norm_epsilon", _F32, struct.pack("<f", config["layer_norm_eps"])),
        _key("bert.attention.causal", _BOOL, b"\x00"),
        _number("bert.pooling_type", POOLING_MEAN),
        _text("tokenizer.ggml.model", "bert"),
        _number("tokenizer.ggml.token_type_count", config["type_vocab_size"]),
        _list("tokenizer.ggml.tokens", _STRING, [_string(_as_llama_writes(word)) for word in words]),
        _list("tokenizer.ggml.token_type", _I32, [struct.pack("<i", kind) for kind in types]),
        *(
            _number(f"tokenizer.ggml.{name}_token_id", vocabulary[word])
            for name, word in (
                ("bos", "[CLS]"), ("eos", "[SEP]"), ("unknown", "[UNK]"), ("seperator", "[SEP]"),
                ("padding", "[PAD]"), ("cls", "[CLS]"), ("mask", "[MASK]"),
            )
        ),
    ]  # fmt: skip


def _is_control(word: str) -> bool:
    return word in {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}


def _as_llama_writes(word: str) -> str:
    """WordPiece marks what goes on inside a word with ``##``; llama.cpp marks what begins one with ``▁``."""
    if word.startswith("[") and word.endswith("]"):
        return word
    return word[2:] if word.startswith("##") else f"\u2581{word}"


def _tensors(weights: memoryview, layers: int) -> Iterator[Tensor]:
    """Name, shape, type and a way to make the bytes, in the order of the file."""
    (length,) = struct.unpack_from("<Q", weights)
    if not 0 < length <= HEAD_BYTES_MAX:
        raise ValueError("the head of the weights is damaged")
    head = json.loads(bytes(weights[8 : 8 + length]))
    for theirs, ours in _names(layers):
        entry = head[theirs]
        if entry["dtype"] != "F32":
            raise ValueError(f"{theirs} is {entry['dtype']}, not F32")
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        shape = entry["shape"]
        if len(shape) > 1 and ours not in _PLAIN:
            yield ours, shape, _MATRIX_TYPE, lambda begin=begin, end=end: _halved(weights[begin:end])  # type: ignore[misc]
        else:
            yield ours, shape, _PLAIN_TYPE, lambda begin=begin, end=end: weights[begin:end]  # type: ignore[misc]


def _names(layers: int) -> Iterator[tuple[str, str]]:
    yield from _OUTER.items()
    for layer in range(layers):
        for theirs, ours in _INNER.items():
            for part in ("weight", "bias"):
                yield f"encoder.layer.{layer}.{theirs}.{part}", f"blk.{layer}.{ours}.{part}"


def _halved(data: memoryview) -> bytes:
    """32-bit floats as 16-bit ones, piece by piece: a number is a large object while it is a Python object."""
    halved = bytearray()
    for at in range(0, len(data), PIECE_BYTES):
        piece = data[at : at + PIECE_BYTES]
        count = len(piece) // 4
        halved += struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", piece))
    return bytes(halved)


def _write(target: Path, keys: list[bytes], tensors: Iterator[Tensor]) -> None:
    listed = list(tensors)
    offset, rows = 0, []
    for name, shape, kind, _ in listed:
        size = (2 if kind == _MATRIX_TYPE else 4) * _product(shape)
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        rows.append(_string(name) + dimensions + struct.pack("<IQ", kind, offset))
        offset += size + _gap(size)
    with target.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(keys)))
        file.writelines(keys)
        file.writelines(rows)
        file.write(b"\x00" * _gap(file.tell()))
        for *_, data in listed:
            written = file.write(data())
            file.write(b"\x00" * _gap(written))


def _product(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _gap(size: int) -> int:
    return -size % ALIGNMENT_BYTES


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _key(name: str, kind: int, value: bytes) -> bytes:
    return _string(name) + struct.pack("<I", kind) + value


def _text(name: str, value: str) -> bytes:
    return _key(name, _STRING, _string(value))


def _number(name: str, value: int) -> bytes:
    return _key(name, _U32, struct.pack("<I", value))


def _list(name: str, kind: int, values: list[bytes]) -> bytes:
    return _key(name, _ARRAY, struct.pack("<IQ", kind, len(values)) + b"".join(values))
