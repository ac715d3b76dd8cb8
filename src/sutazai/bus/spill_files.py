"""Why it exists: results that are too large for a row are files, and a file is only there when all of it is on disk.

Each is written as ``<name>.part``, synced, given its name, and its folder is synced; only then a commit may name it.
Names are made here, out of a digest and a random number: none ever comes from an instance. The functions block; the
broker calls them in a thread of their own, one after the other (``Thread``).
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sutazai.errors import InvalidInputError, NotFoundError, RefusedError, StorageFullError, StoreAwayError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    Done = Callable[[Any], None]

PART = ".part"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_TEXT = "the disk has no room for this result: it is kept by its instance until there is; free some room"


class Part:
    """A file that is being written.

    Attributes:
        name: that it will have.
        received: bytes written.
    """

    def __init__(self, name: str, descriptor: int) -> None:
        self.name, self.descriptor = name, descriptor
        self.received = 0
        self.hash = hashlib.sha256()


class SpillFiles:
    """The folder of large results.

    Args:
        folder: in the fleet's state folder; the broker alone writes there.
        room_bytes: that a result leaves free on the disk, for the store.
    """

    def __init__(self, folder: Path, room_bytes: int) -> None:
        self._folder, self._room_bytes = folder, room_bytes

    def prepare(self) -> None:
        """Make the folder, and remove what was being written when the last broker ended: nobody goes on with it."""
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(self._folder.parent)
        for path in self._folder.glob(f"*{PART}"):
            path.unlink(missing_ok=True)

    def _has_room(self, size: int) -> None:
        disk = os.statvfs(self._folder)
        if disk.f_bavail * disk.f_frsize < size + self._room_bytes:
            raise StorageFullError(_FULL_TEXT)

    def begin(self, digest: str, size: int) -> Part:
        """Start a file.

        Raises:
            StorageFullError: the disk has no room for it.
        """
        if not self._folder.is_dir():  # the disk was full when the broker started
            self.prepare()
        self._has_room(size)
        name = f"{digest.removeprefix('sha256:')}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return Part(name, os.open(self._folder / f"{name}{PART}", flags, 0o600))

    def append(self, part: Part, data: bytes) -> None:
        """Write the next bytes.

        Raises:
            StorageFullError: the store would have too little room.
        """
        self._has_room(len(data))
        left = memoryview(data)
        while left:
            left = left[os.write(part.descriptor, left) :]
        part.hash.update(data)
        part.received += len(data)

    def finish(self, part: Part, digest: str) -> None:
        """Make the file durable under its name.

        Raises:
            InvalidInputError: its bytes are others than were announced.
        """
        if not hmac.compare_digest(f"sha256:{part.hash.hexdigest()}", digest):
            raise InvalidInputError("the bytes that arrived do not have the digest that was announced")
        os.fsync(part.descriptor)
        os.close(part.descriptor)
        part.descriptor = -1
        (self._folder / f"{part.name}{PART}").rename(self._folder / part.name)
        _sync(self._folder)

    def drop(self, part: Part) -> None:
        """Give up a file that is being written."""
        if part.descriptor >= 0:
            os.close(part.descriptor)
            part.descriptor = -1
        (self._folder / f"{part.name}{PART}").unlink(missing_ok=True)

    def remove(self, names: list[str]) -> None:
        """Remove files; one that is gone is as well."""
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """All files that have their names."""
        if not self._folder.is_dir():
            return []
        return [entry.name for entry in os.scandir(self._folder) if not entry.name.endswith(PART)]

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read a part of a file.

        Raises:
            NotFoundError: it is gone.
        """
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFoundError(f"the file of this result is gone from {self._folder}: {name}") from error
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def as_refusal(error: BaseException) -> RefusedError:
    """Say what a failed step means to who asked.

    Raises:
        BaseException: the error itself, when it is nobody's but this program's.
    """
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return StorageFullError(_FULL_TEXT)
        return StoreAwayError(f"the file of the result cannot be written or read now: {error.strerror or error}")
    raise error


class Thread:
    """Runs steps one after the other in a thread, so that the broker goes on reading while the disk works.

    Args:
        loop: that hears of their ends.
        flushed: called when somebody may have been answered.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, flushed: Callable[[], None]) -> None:
        self._loop, self._flushed = loop, flushed
        self._pool = ThreadPoolExecutor(1, "spill")

    def __call__(self, step: Callable[[], Any], done: Done) -> None:
        """Run a step; ``done`` gets what it gave, or the error that it raised."""

        def ended(future: asyncio.Future[Any]) -> None:
            if not future.cancelled():
                done(future.exception() or future.result())
                self._flushed()

        self._loop.run_in_executor(self._pool, step).add_done_callback(ended)

    def close(self) -> None:
        """Finish what was begun; what was not is forgotten."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def at_once(step: Callable[[], Any], done: Done) -> None:
    """Run a step where it is asked for: without a thread, for tests and the simulation."""
    try:
        result = step()
    except Exception as error:  # noqa: BLE001 told like any other result
        result = error
    done(result)
