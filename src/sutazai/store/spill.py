"""Why it exists: a result that is too large for a row lies in a file; the row says which, and which files are needed.

Here are the values and reads of that. Who writes the files is ``bus.spill``: a row never names a file that is not on
disk, because the file is synced and has its name before the commit is asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.errors import InvalidInputError, NotFoundError, RefusedError, UploadMissingError
from sutazai.store.queries import sql

if TYPE_CHECKING:
    from sutazai.store.txn import Txn

_PUT = sql("spilled_put")
_GET = sql("spilled_get")
_NAMED = sql("spilled_named")
_END = sql("child_end")
#: The only form of a spilled result now.
MEDIA = "application/json"


@dataclass(frozen=True, slots=True)
class Spilled:
    """A file that holds a result.

    Attributes:
        file: name in the folder of payloads; of one task alone. Empty: it was not uploaded, so a commit that has not
            been stored before is refused.
        bytes: its size.
        digest: ``sha256:`` and 64 hexadecimal digits.
        media: type of the content.
    """

    file: str
    bytes: int
    digest: str
    media: str = MEDIA

    def as_json(self) -> dict[str, Any]:
        """Write it as callers see it."""
        return {"file": self.file, "bytes": self.bytes, "digest": self.digest, "media": self.media}


@dataclass(frozen=True, slots=True)
class Unreferenced:
    """Which of these files no task needs. Reply: a list of names."""

    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Locate:
    """Where the result of a task lies that one of an agent's tasks emitted. Reply: ``Spilled``.

    Attributes:
        agent: who asks.
        task: whose result.
    """

    agent: str
    task: str


def put(txn: Txn, seq: int, spilled: Spilled) -> None:
    """Note that the result of a task lies in a file.

    Raises:
        UploadMissingError: there is no such file.
    """
    if not spilled.file:
        raise UploadMissingError("the result was not uploaded to this broker: upload it, then commit again")
    txn.execute(
        _PUT,
        {
            "task": seq, "file": spilled.file, "bytes": spilled.bytes, "digest": spilled.digest,
            "media": spilled.media,
        },
    )  # fmt: skip


def of(txn: Txn, seq: int) -> Spilled | None:
    """Read where the result of a task lies; None when it has none in a file."""
    found = txn.execute(_GET, (seq,)).fetchone()
    return None if found is None else Spilled(*found)


def unreferenced(txn: Txn, operation: Unreferenced) -> list[str]:
    """Read which files no task needs."""
    needed = {name for (name,) in txn.execute(_NAMED, (json.dumps(operation.files),)).fetchall()}
    return [name for name in operation.files if name not in needed]


def locate(txn: Txn, operation: Locate) -> Spilled:
    """Read where a child's result lies.

    Raises:
        NotFoundError: there is no such task.
        RefusedError: it was emitted by another agent's task.
        InvalidInputError: its result lies in no file.
    """
    found = txn.execute(_END, (operation.task,)).fetchone()
    if found is None:
        raise NotFoundError(f"there is no task {operation.task!r}")
    seq, agent, _, _, _, above, _ = found
    if operation.agent not in {above, agent}:
        raise RefusedError(f"the task {operation.task!r} was not made by {operation.agent}: its result is others'")
    spilled = of(txn, seq)
    if spilled is None:
        raise InvalidInputError(f"the result of {operation.task!r} lies in no file: it comes with the turn, or recall")
    return spilled
