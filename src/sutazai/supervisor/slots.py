"""Why it exists: what an instance is given besides memory, a user id of its own and a secret, needs no file to survive.

A uid belongs to one instance at a time and is free again when that instance's group is empty. A token is an HMAC of the
ticket, so that the next ``sutazaid`` computes the same one.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

from sutazai.limits import INSTANCE_UIDS_MAX

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32
TOKEN_DIGITS = 32
_BLOCK_BYTES = 64


class Slots:
    """User ids for instances, lowest free first."""

    def __init__(self, uid_first: int) -> None:
        """Begin with all free.

        Args:
            uid_first: 0 means that no uid is dropped.
        """
        self._first = uid_first
        self._taken: set[int] = set()

    def begin_at(self, uid_first: int) -> None:
        """Take over the first uid of a new plan; what is given stays given."""
        self._first = uid_first

    def take(self) -> int:
        """Take the lowest free uid; 0 when none is dropped."""
        if self._first <= 0:
            return 0
        uid = self._first
        while uid in self._taken:
            uid += 1
        self._taken.add(uid)
        return uid

    def has_room(self) -> bool:
        """Whether a user id is free; beyond its block they belong to other fleets."""
        return self._first <= 0 or len(self._taken) < INSTANCE_UIDS_MAX

    def mark(self, uid: int) -> None:
        """Take a certain uid: an instance has it already."""
        if self._first > 0 and uid >= self._first:
            self._taken.add(uid)

    def give_back(self, uid: int) -> None:
        """Its instance is gone, with everything it started."""
        self._taken.discard(uid)


class Tokens:
    """Secrets of tickets (HMAC-SHA256, RFC 2104)."""

    def __init__(self, key_file: Path) -> None:
        """Read the fleet's key, or make it.

        Raises:
            OSError: it can be neither read nor written.
        """
        try:
            key = key_file.read_bytes()
        except FileNotFoundError:
            key = b""
        if len(key) < KEY_BYTES:
            key = os.urandom(KEY_BYTES)
            descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(descriptor, key)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        block = key[:_BLOCK_BYTES].ljust(_BLOCK_BYTES, b"\0")
        self._inner = bytes(byte ^ 0x36 for byte in block)
        self._outer = bytes(byte ^ 0x5C for byte in block)

    def of(self, ticket: str) -> str:
        """Compute the secret of a ticket."""
        inner = sha256(self._inner + ticket.encode()).digest()
        return sha256(self._outer + inner).hexdigest()[:TOKEN_DIGITS]
