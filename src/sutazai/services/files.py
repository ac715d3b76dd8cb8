"""Why it exists: secrets and settings of a server are written whole, for its user's eyes only; secrets only once."""

from __future__ import annotations

import os
import secrets
import tempfile
from typing import TYPE_CHECKING

from sutazai.errors import HostError

if TYPE_CHECKING:
    from pathlib import Path

_SECRET_BYTES = 24


def own_folder(path: Path) -> Path:
    """Make a folder that only its user can enter.

    Raises:
        HostError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
    except OSError as error:
        raise HostError(f"{path} cannot be a state folder: {error.strerror}; give another one with --state") from error
    return path


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; mode 600."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 mkstemp gave a text
    except BaseException:
        os.unlink(name)  # noqa: PTH108 the same
        raise


def secret(path: Path) -> str:
    """Read the secret of a file; make one when there is none. URL-safe, 192 bits, mode 600.

    Raises:
        HostError: others may read the file.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
        mode = path.stat().st_mode
    except FileNotFoundError:
        text = secrets.token_urlsafe(_SECRET_BYTES)
        write_private(path, text + "\n")
        return text
    if mode & 0o077:
        raise HostError(f"{path} holds a secret and others may read it: chmod 600 {path}, or delete it for a new one")
    if not text:
        raise HostError(f"{path} should hold a secret and is empty: delete it, and a new one is made")
    return text
