"""Why it exists: clients choose a model by its size, family and template; they are read once from the file's head."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sutazai.errors import SutazaiError
from sutazai.llm import models
from sutazai.llm.gguf import read_head

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.llm.drivers.protocol import Loaded

#: ``general.file_type`` of GGUF: how most of a file's weights are stored.
#: https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h (llama_ftype)
_QUANTIZATIONS = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16",
}  # fmt: skip
_MILLION, _BILLION = 10**6, 10**9


@dataclass(frozen=True, slots=True)
class Card:
    """What is known about one model.

    Attributes:
        name: without a tag.
        size_bytes: of its file, 0 when it is elsewhere.
        digest: SHA-256 by the catalogue; empty for a file that nobody vouches for.
        modified: of the file.
        details: in Ollama's form.
        head: the file's own facts, without its vocabulary.
        template: of its conversations, as the file has it.
        licence: SPDX identifier, empty when unknown.
        use: ``completion`` or ``embedding``.
    """

    name: str
    size_bytes: int
    digest: str
    modified: dt.datetime
    details: dict[str, Any]
    head: dict[str, Any]
    template: str
    licence: str
    use: str


def of_loaded(loaded: Loaded) -> Card:
    """The card of the model that answers."""
    if loaded.path is None:
        moment = dt.datetime.fromtimestamp(0, dt.UTC)
        return Card(loaded.name, 0, "", moment, _details({}, 0, ""), dict(loaded.facts), "", "", "completion")
    known = None if models.is_local(loaded.name) else _known(loaded.name)
    return _read(loaded.name, loaded.path, known, "completion")


def of_embedding(model: models.Model) -> Card:
    """The card of the embedding model, whose file is here."""
    return _read(model.name, model.path, model, "embedding")


def _known(name: str) -> models.Model | None:
    try:
        return models.find(name)
    except SutazaiError:
        return None


@lru_cache(maxsize=8)
def _read(name: str, path: Path, known: models.Model | None, use: str) -> Card:
    head, parameters = read_head(path)
    template = str(head.pop("tokenizer.chat_template", ""))
    stat = path.stat()
    return Card(
        name=name,
        size_bytes=stat.st_size,
        digest=known.sha256 if known else "",
        modified=dt.datetime.fromtimestamp(stat.st_mtime, dt.UTC),
        details=_details(head, parameters, "gguf"),
        head={**head, "general.parameter_count": parameters},
        template=template,
        licence=known.licence if known else str(head.get("general.license", "")),
        use=use,
    )


def _details(head: dict[str, Any], parameters: int, form: str) -> dict[str, Any]:
    family = str(head.get("general.architecture", ""))
    return {
        "parent_model": "",
        "format": form,
        "family": family,
        "families": [family] if family else [],
        "parameter_size": _count(parameters),
        "quantization_level": _QUANTIZATIONS.get(int(head.get("general.file_type", -1)), ""),
    }


def _count(parameters: int) -> str:
    if parameters >= _BILLION:
        return f"{parameters / _BILLION:.2f}B"
    return f"{parameters / _MILLION:.2f}M" if parameters else ""
