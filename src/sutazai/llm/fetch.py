"""Why it exists: ``make run`` on a new machine needs the model's file, whole and the right one, without anybody's help.

``python -m sutazai.llm.fetch MODEL [--json]`` exits 0 when the file is there and its digest is right (at once when it
was there before), 1 when no source could give it, 2 when there is no such model.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sutazai.errors import HostError, NotFoundError, StorageFullError, SutazaiError
from sutazai.llm import minilm, models
from sutazai.llm.download import SOURCES, CutOffError
from sutazai.llm.progress import Reporter, Silent, reporter
from sutazai.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sutazai.llm.models import Model

SPARE_BYTES = 128 * MIB  # one wheel beside the model, and some room for everybody else
HASH_CHUNK_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model file that is on this machine.

    Attributes:
        name: of the catalogue, or the path that was asked for.
        path: of the file.
        size_bytes: of the file.
        sha256: empty for a local path, which nobody vouches for.
        source: ``publisher``, ``wheels``, ``local`` or ``present`` (it was there).
        licence: SPDX identifier, empty when unknown.
    """

    name: str
    path: Path
    size_bytes: int
    sha256: str
    source: str
    licence: str


def fetch(name: str, report: Reporter | None = None) -> Fetched:
    """Make sure that a model's file is on this machine, and is the right one.

    Args:
        name: of the catalogue, or the path of a GGUF file (which is only looked at).
        report: whom to tell about progress; nobody by default.

    Raises:
        NotFoundError: there is no such model.
        StorageFullError: the disk has no room for it.
        HostError: no source could give it; what has arrived is kept for the next try.
    """
    if models.is_local(name):
        path = models.resolve(name)
        return Fetched(name, path, path.stat().st_size, "", "local", "")
    model = models.find(name)
    report = report or Silent()
    model.path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(model, report):
        source = "present"
        if not _is_right(model, report):
            source = _get(model, report)
    return Fetched(model.name, model.path, model.size_bytes, model.sha256, source, model.licence)


@contextlib.contextmanager
def _lock(model: Model, report: Reporter) -> Iterator[None]:
    """One fetcher at a time; the second waits and then finds the file. The kernel frees it with the process."""
    path = model.path.with_name(f".{model.file}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.say(f"{model.name}: another process is fetching it; waiting")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_right(model: Model, report: Reporter) -> bool:
    """Whether the file is there and right; a wrong one is set aside so that nobody loads it."""
    if models.is_verified(model):
        return True
    if not model.path.exists():
        return False
    report.say(f"{model.name}: checking the file that is there")
    if model.path.stat().st_size == model.size_bytes and file_sha256(model.path) == model.sha256:
        _write_record(model, "present")
        return True
    aside = model.path.with_suffix(".bad")
    model.path.replace(aside)
    report.say(f"{model.name}: the file is damaged and was set aside as {aside}; fetching it again")
    return False


def _get(model: Model, report: Reporter) -> str:
    wanted = _download_of(model)
    partial = wanted.path.with_name(f"{wanted.file}.part")
    _check_room(model, wanted, partial)
    troubles: list[str] = []
    offered = [kind for kind in models.sources() if kind != "publisher" or wanted.url]
    for kind in offered or models.sources():
        try:
            _fill(kind, wanted, partial, report)
        except CutOffError as error:
            troubles.append(f"{kind}: {error}")
            report.say(f"{model.name}: {kind} failed: {error}")
        else:
            _finish(model, partial, report)
            _write_record(model, kind)
            return kind
    raise HostError(
        f"could not fetch the model {model.name}: {'; '.join(troubles)}. What has arrived is kept: run the same again "
        f"to go on, or put the file (sha256 {model.sha256}) at {model.path}"
    )


def _download_of(model: Model) -> Model:
    """What is downloaded: the model itself, or what it is made from."""
    origin = model.origin
    if origin is None:
        return model
    return replace(model, file=origin.file, size_bytes=origin.size_bytes, sha256=origin.sha256)


def _finish(model: Model, partial: Path, report: Reporter) -> None:
    """Put the file in its place; make it first, when the download is what it is made from."""
    if model.origin is None:
        partial.replace(model.path)
        return
    made = model.path.with_suffix(".new")
    report.say(f"{model.name}: writing {model.file}")
    try:
        minilm.build(partial, made)
        if (digest := file_sha256(made)) != model.sha256:
            raise HostError(f"{model.file} was made with the digest {digest}, not {model.sha256}: please report it")
        made.replace(model.path)
    finally:
        made.unlink(missing_ok=True)
    partial.unlink()


def _fill(kind: str, model: Model, partial: Path, report: Reporter) -> None:
    """Fill the partial file from one source and check its digest; once more from the start if a resumed one is bad."""
    resumed = partial.exists()
    report.say(
        f"{model.name}: fetching {model.size_bytes / MIB:.0f} MB from {kind}" + (", going on" if resumed else "")
    )
    while True:
        SOURCES[kind](model, partial, report)
        if file_sha256(partial) == model.sha256:
            return
        partial.unlink()
        if not resumed:
            raise CutOffError("the digest is wrong; the file was removed")
        resumed = False
        report.say(f"{model.name}: the pieces do not fit together; beginning again")


def _check_room(model: Model, wanted: Model, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    made = model.size_bytes if model.origin else 0
    need = wanted.size_bytes - have + made + SPARE_BYTES
    free = shutil.disk_usage(model.path.parent).free
    if free < need:
        raise StorageFullError(
            f"{model.path.parent} has {free / MIB:.0f} MB free, the model {model.name} needs {need / MIB:.0f} MB: "
            "make room, or set SUTAZAI_MODELS to a folder on a larger disk"
        )


def _write_record(model: Model, source: str) -> None:
    record = {
        "name": model.name,
        "sha256": model.sha256,
        "size_bytes": model.size_bytes,
        "mtime_ns": model.path.stat().st_mtime_ns,
        "licence": model.licence,
        "source": source,
        "publisher_url": model.url,
        "parts": [f"{part.package}=={part.version}" for part in model.parts] if source == "wheels" else [],
        "note": model.note,
        "checked_wall_ms": time.time_ns() // 1_000_000,
    }
    temporary = model.record_path.with_suffix(".new")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.replace(model.record_path)


def file_sha256(path: Path) -> str:
    """Digest of a whole file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Fetch one model from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sutazai.llm.fetch", description="Fetch a model's file.")
    parser.add_argument("model", nargs="?", default=models.DEFAULT_MODEL, help="name, or path of a .gguf file")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    options = parser.parse_args(arguments)
    status, result = 0, {}
    try:
        report = _reporter(options.model)
        with contextlib.closing(report):
            done = fetch(options.model, report)
        result = {"ok": True, "name": done.name, "path": str(done.path), "size_bytes": done.size_bytes}
        result |= {"sha256": done.sha256, "source": done.source, "licence": done.licence}
    except SutazaiError as error:
        status = 2 if isinstance(error, NotFoundError) else 1
        result = {"ok": False, "code": error.code, "error": str(error)}
    except KeyboardInterrupt:
        status, result = 130, {"ok": False, "code": "cancelled", "error": "stopped; run the same again to go on"}
    text = json.dumps(result) if options.json else result.get("error") or f"{result['name']}: {result['path']}"
    print(text, file=sys.stdout if options.json or not status else sys.stderr)
    return status


def _reporter(name: str) -> Reporter:
    if models.is_local(name):
        return Silent()
    model = models.find(name)
    return Silent() if models.is_verified(model) else reporter(name, _download_of(model).size_bytes)


if __name__ == "__main__":
    sys.exit(main())
