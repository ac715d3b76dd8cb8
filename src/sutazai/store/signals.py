"""Why it exists: a program cannot know when a workflow begins to wait, so a signal that comes before that is kept.

It is kept for the task that it was sent to, in the transaction that answers its sender, and the next task below that
waits for its name gets it in the transaction that begins the wait. Which task got which signal is written down, so a
sender that lost its answer may repeat itself under its key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.errors import InvalidInputError, RefusedError
from sutazai.limits import KEPT_BYTES_MAX, SIGNAL_KEEP_MS, SIGNALS_KEPT_MAX, SIGNALS_REMEMBERED_MAX
from sutazai.store.model import Resolve
from sutazai.store.queries import sql

if TYPE_CHECKING:
    from sutazai.store.txn import Row, Txn

_PUT = sql("signal_put")
_NEWEST = sql("signal_newest")
_KEPT = sql("signals_kept")
_BY_KEY = sql("signal_by_key")
_OLDEST = sql("signal_oldest")
_GIVE = sql("signal_give")
_TRIM = sql("signals_trim")
_ANCESTOR = sql("ancestor_of")


def repeated(txn: Txn, top: Row, operation: Resolve) -> int | None:
    """Look whether a word was said to a task before under the same key.

    Returns:
        ``seq`` of the task below that got it, 0 for a signal that is kept, None when it is a new word.

    Raises:
        InvalidInputError: the key was used for another signal.
    """
    if not operation.key:
        return None
    found = txn.execute(_BY_KEY, (top.seq, operation.key)).fetchone()
    if found is None:
        return None
    name, given = found
    if operation.skill not in {"", name}:
        raise InvalidInputError(f"the key {operation.key!r} was used for the signal {name!r}: choose a new one")
    return int(given)


def note(txn: Txn, top: Row, waiting: Row, operation: Resolve) -> None:
    """Remember who below got a word, when who said it may repeat himself."""
    if operation.key and top.seq != waiting.seq:
        _put(txn, top, operation, waiting.skill, waiting.seq)


def keep(txn: Txn, top: Row, operation: Resolve) -> None:
    """Keep a signal for somebody below ``top`` who will wait for it.

    Raises:
        InvalidInputError: its data is too large.
        RefusedError: as many are kept as may be.
    """
    if len(operation.data.encode()) > KEPT_BYTES_MAX:
        raise InvalidInputError(f"the data is above {KEPT_BYTES_MAX} bytes: put it into a file, send its path")
    newest = txn.execute(_NEWEST, (top.seq,)).fetchone()[0]
    txn.execute(_TRIM, {"task": top.seq, "now_ms": txn.now_ms, "oldest": newest - SIGNALS_REMEMBERED_MAX})
    count, held = txn.execute(_KEPT, (top.seq,)).fetchone()
    if count >= SIGNALS_KEPT_MAX or held + len(operation.data) > KEPT_BYTES_MAX:
        raise RefusedError(
            f"{count} signals of {held} bytes are kept for {top.id} and nobody waits for them: not more than "
            f"{SIGNALS_KEPT_MAX} are, or {KEPT_BYTES_MAX} bytes; send it again later"
        )
    _put(txn, top, operation, operation.skill, 0)


def take(txn: Txn, parent: Row, waiting: Row) -> tuple[Resolve, int] | None:
    """Take the oldest signal that was kept for a task which begins to wait; with the time at which it was said.

    What was sent to its parent comes first, then what was sent to tasks further above.
    """
    above: int | None = parent.seq
    while above is not None:
        found = txn.execute(_OLDEST, {"task": above, "name": waiting.skill, "now_ms": txn.now_ms}).fetchone()
        if found is not None:
            number, key, said_by, comment, data, at_wall_ms = found
            txn.execute(_GIVE, {"given": waiting.seq, "task": above, "number": number})
            return Resolve(waiting.id, "signal", said_by, comment, data, waiting.skill, key), at_wall_ms
        above = txn.execute(_ANCESTOR, (above,)).fetchone()[4]
    return None


def _put(txn: Txn, top: Row, operation: Resolve, name: str, given: int) -> None:
    newest = txn.execute(_NEWEST, (top.seq,)).fetchone()[0]
    txn.execute(
        _PUT,
        {
            "task": top.seq, "number": newest + 1, "name": name, "key": operation.key, "said_by": operation.by,
            "comment": operation.comment, "data": "null" if given else operation.data, "wall_ms": txn.wall_ms,
            "until_ms": txn.now_ms + SIGNAL_KEEP_MS, "given": given,
        },
    )  # fmt: skip
    if given:
        txn.execute(_TRIM, {"task": top.seq, "now_ms": txn.now_ms, "oldest": newest - SIGNALS_REMEMBERED_MAX})
