"""Why it exists: a result that lies in a file is read by its reference; clients of the broker may open the file itself.

They have the broker's user, or are root. Instances are other users: they ask the broker for the parts.
"""

from __future__ import annotations

import os
import re
from typing import IO, TYPE_CHECKING, Any

from sutazai.errors import NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"[0-9a-f]{64}-[0-9a-f]{16}", re.ASCII)


def open_payload(folder: Path, reference: dict[str, Any]) -> IO[bytes]:
    """Open the file of a result; once it is open it stays readable, also when its task is forgotten meanwhile.

    Args:
        folder: ``FleetPaths.payloads``.
        reference: ``result_ref`` of a task.

    Raises:
        NotFoundError: it is gone, or of another size than the reference says.
    """
    name, size = str(reference.get("file")), reference.get("bytes")
    if _NAME.fullmatch(name) is None:
        raise NotFoundError(f"{name[:100]!r} is no name of a large result")
    try:
        file = os.fdopen(os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotFoundError(f"the file of this result cannot be read: {folder / name}: {reason}") from error
    if (found := os.fstat(file.fileno()).st_size) != size:
        file.close()
        raise NotFoundError(f"the file of this result has {found} bytes, not {size}: {folder / name}")
    return file
