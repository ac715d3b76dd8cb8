"""Why it exists: an agent gets files in two ways, and both are checked in one place before a byte is looked at.

* In the task itself: text, or bytes as base64. A task holds 1 MB, so files of up to about 750 KB.
* By path, of a file below one of the folders that the fleet's manifest names in the agent's ``settings.folders``.
  Without that setting no path is read: who may submit a task could otherwise read all that the instance's user can.

The instance runs as a user of its own, so a file must be readable by all (``chmod o+r``), and its folders too.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

from sutazai.errors import NonRetryableError
from sutazai.units import format_bytes

FOLDERS_SETTING = "folders"
_WALK_ENTRIES_MAX = 20_000


def decode(content: str, bytes_max: int) -> bytes:
    """Read bytes out of base64.

    Raises:
        NonRetryableError: it is no base64, or more than ``bytes_max``.
    """
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NonRetryableError(f"the content is no base64: {error}") from error
    if len(data) > bytes_max:
        raise NonRetryableError(f"the file has {format_bytes(len(data))}; the limit is {format_bytes(bytes_max)}")
    return data


def read(path: str, settings: dict[str, Any], bytes_max: int) -> bytes:
    """Read a file by its path.

    Raises:
        NonRetryableError: no folder is allowed, it lies outside of those, is no file, is too large, cannot be read.
    """
    return _read(Path(path), _allowed(path, settings), bytes_max)


def read_tree(
    path: str, settings: dict[str, Any], suffixes: tuple[str, ...], *, files_max: int, bytes_max: int
) -> dict[str, str]:
    """Read the text files of a folder, or one file.

    Hidden folders and links are left out; a file that is no UTF-8 is too.

    Args:
        path: folder or file.
        settings: of the agent.
        suffixes: endings of the names that are wanted.
        files_max: more are an error.
        bytes_max: of all of them together.

    Returns:
        Texts by their paths relative to the folder, in order of the names.

    Raises:
        NonRetryableError: as ``read``; or there are too many files, too many bytes, or none.
    """
    root, allowed = Path(path), _allowed(path, settings)
    if not root.is_dir():
        return {root.name: _text(_read(root, allowed, bytes_max)) or ""}
    found: dict[str, str] = {}
    total = 0
    for file in _walk(_inside(root, allowed), suffixes):
        data = _read(file, allowed, bytes_max)
        total += len(data)
        if len(found) >= files_max or total > bytes_max:
            limits = f"{files_max} files and {format_bytes(bytes_max)}"
            raise NonRetryableError(f"{path} holds more than {limits}: give a smaller folder")
        text = _text(data)
        if text is not None:
            found[file.relative_to(_inside(root, allowed)).as_posix()] = text
    if not found:
        raise NonRetryableError(f"{path} holds no file that ends in {', '.join(suffixes)}")
    return found


def write_tree(folder: Path, texts: dict[str, str]) -> None:
    """Write texts below a folder.

    Raises:
        NonRetryableError: a name leads out of it.
    """
    for name, text in texts.items():
        place = folder / safe_name(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8", newline="")


def safe_name(name: str) -> str:
    """Check the relative name of a file that was handed in.

    Raises:
        NonRetryableError: it is absolute, leads upwards, is hidden or empty.
    """
    parts = PurePosixPath(name).parts
    wrong = not parts or name.startswith("/") or "\0" in name or "\\" in name or name.endswith("/")
    if wrong or any(part.startswith(".") for part in parts):
        raise NonRetryableError(f"{name!r} is no relative name of a file, like `package/module.py`")
    return str(PurePosixPath(*parts))


def _allowed(path: str, settings: dict[str, Any]) -> list[Path]:
    folders = settings.get(FOLDERS_SETTING, [])
    if not isinstance(folders, list) or not all(isinstance(item, str) and item.startswith("/") for item in folders):
        raise NonRetryableError("settings.folders is a list of absolute paths")
    if not folders:
        raise NonRetryableError(
            f"this fleet lets the agent read no folder, so not {path}: hand the file in with the task, or write "
            "`settings: {folders: [/folder]}` for the agent in the manifest"
        )
    return [Path(os.path.realpath(item)) for item in folders]


def _inside(path: Path, allowed: list[Path]) -> Path:
    if not path.is_absolute():
        raise NonRetryableError(f"{path} is no absolute path")
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(folder) for folder in allowed):
        names = ", ".join(map(str, allowed))
        raise NonRetryableError(f"{path} lies outside of the folders that the agent may read: {names}")
    return real


def _read(path: Path, allowed: list[Path], bytes_max: int) -> bytes:
    real = _inside(path, allowed)
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NonRetryableError(f"there is no file {path}") from error
    except OSError as error:
        raise NonRetryableError(
            f"{path} cannot be read: {error.strerror}; the agent runs as user {os.geteuid()}: chmod o+r, and o+x for "
            "its folders"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        _inside(Path(f"/proc/self/fd/{descriptor}").readlink(), allowed)  # a folder may be a link by now
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise NonRetryableError(f"{path} is no file")
        if facts.st_size > bytes_max:
            raise NonRetryableError(f"{path} has {format_bytes(facts.st_size)}; the limit is {format_bytes(bytes_max)}")
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise NonRetryableError(f"{path} grew beyond {format_bytes(bytes_max)} while it was read")
    return data


def _walk(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found: list[Path] = []
    seen = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        seen += len(names) + len(folders)
        if seen > _WALK_ENTRIES_MAX:
            raise NonRetryableError(f"{root} holds more than {_WALK_ENTRIES_MAX} entries: give a smaller folder")
        files = (Path(folder) / name for name in sorted(names) if name.endswith(suffixes))
        found += [file for file in files if not file.is_symlink()]
    return found


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
