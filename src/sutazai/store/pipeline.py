"""Why it exists: a group is hundreds of statements; a round trip for each would make PostgreSQL ten times slower.

All statements are prepared when the connection is made and leave in libpq's pipeline mode: what nobody reads is not
waited for, and a read waits for itself and for what stands before it. Whatever goes wrong at the server ends the whole
group, because a statement that was not waited for cannot be tied to its operation any more; so values are checked here,
before they leave.
"""

from __future__ import annotations

import select
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from psycopg import Error as PsycopgError
from psycopg.pq import DiagnosticField, ExecStatus

from sutazai.errors import InternalError
from sutazai.store.protocol import DiskFullError, StoreLostError
from sutazai.store.queries import numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from psycopg.pq.abc import PGconn, PGresult

_INTEGERS = {20, 21, 23}
_TEXTS = {19, 25, 1043}
_INT8 = 1 << 63
_DISK_FULL = "53100"
#: Classes of SQLSTATE after which the same group may succeed: connection, rollback by the server, its resources, locks,
#: an operator's doing.
_PASSING = ("08", "40", "53", "55", "57")


class Prepared:
    """A statement that the server knows.

    Args:
        name: at the server.
        text: with ``?`` or ``:name`` for values.
    """

    __slots__ = ("has_rows", "is_json", "name", "names", "readers", "text", "writes")

    def __init__(self, name: str, text: str) -> None:
        written, self.names = numbered(text)
        self.name, self.text = name.encode(), written.encode()
        self.writes = text.split(None, 1)[0] in {"INSERT", "UPDATE", "DELETE"}
        self.has_rows = not self.writes or "RETURNING" in text
        self.is_json = " AS JSON)" in text
        self.readers: list[Callable[[bytes], Any]] = []


class Pending:
    """A statement on its way; its rows are there when they are asked for."""

    __slots__ = ("_pipeline", "prepared", "rows", "tag")

    def __init__(self, pipeline: Pipeline, prepared: Prepared) -> None:
        self._pipeline, self.prepared = pipeline, prepared
        self.rows: Iterator[tuple[Any, ...]] | None = None
        self.tag = b""

    def _wait(self) -> Iterator[tuple[Any, ...]]:
        if self.rows is None:
            self._pipeline.wait_for(self)
        if self.rows is None:
            raise InternalError(f"the statement {self.prepared.name.decode()} has no answer")
        return self.rows

    def fetchone(self) -> Any:
        """Give the next row; None after the last."""
        return next(self._wait(), None)

    def fetchall(self) -> list[Any]:
        """Give all rows that are left."""
        return list(self._wait())


class Pipeline:
    """A connection in pipeline mode.

    Args:
        connection: of libpq, idle; closed by its owner.
        statements: text by which the operations name a statement, its name, and the text for the server.
        wait_s: silence of the server after which it counts as lost; may be changed at any time.

    Raises:
        InternalError: a statement gives a type that operations do not read.
        StoreLostError: the connection is gone.
    """

    def __init__(self, connection: PGconn, statements: Sequence[tuple[str, str, str]], wait_s: float) -> None:
        self._connection, self.wait_s = connection, wait_s
        self._queue: deque[Pending] = deque()
        self._after_result = False
        self._prepared: dict[str, Prepared] = {}
        self.wrote = self.lost = False
        self._mark = ""  # "": no operation; "wanted": before its first write; "set": behind a savepoint
        self._control = {text: Prepared(text, text) for text in _CONTROL}
        for key, name, text in statements:
            self._prepared[key] = self._prepare(Prepared(name, text))
        for prepared in self._control.values():
            self._prepare(prepared)
        connection.nonblocking = 1
        connection.enter_pipeline_mode()
        self._poll = select.poll()
        self._socket = connection.socket

    def _prepare(self, prepared: Prepared) -> Prepared:
        """Make the server know a statement; outside of pipeline mode."""
        for result in (
            self._connection.prepare(prepared.name, prepared.text),
            described := self._connection.describe_prepared(prepared.name),
        ):
            if result.status != ExecStatus.COMMAND_OK:
                raise self._judge(result, prepared)
        for column in range(described.nfields):
            kind = described.ftype(column)
            if kind not in _INTEGERS | _TEXTS:
                raise InternalError(f"column {column} of {prepared.name.decode()} has type {kind}: CAST it")
            prepared.readers.append(int if kind in _INTEGERS else bytes.decode)
        return prepared

    # Sending

    def execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = (), /) -> Pending:
        """Send a statement, named by its common text.

        Raises:
            ValueError: a text that PostgreSQL cannot keep. OverflowError: a number beyond 64 bits.
            StoreLostError: the connection is gone.
        """
        prepared = self._prepared[statement]
        given = values if prepared.names is None else [values[name] for name in prepared.names]  # type: ignore[call-overload]
        encoded = [_encode(value, prepared) for value in given]
        if prepared.writes:
            if self._mark == "wanted":
                self.control("SAVEPOINT operation")
                self._mark = "set"
            self.wrote = self.wrote or not prepared.has_rows
        return self._send(prepared, encoded)

    def control(self, text: str) -> Pending:
        """Send a statement that steers the transaction."""
        return self._send(self._control[text], [])

    def _send(self, prepared: Prepared, values: list[bytes | None]) -> Pending:
        try:
            self._connection.send_query_prepared(prepared.name, values)
        except PsycopgError as error:
            raise self._gone(f"the connection to the database is gone: {error}") from error
        pending = Pending(self, prepared)
        self._queue.append(pending)
        return pending

    def operation_begins(self) -> None:
        """The next write opens a savepoint."""
        self._mark = "wanted"

    def operation_ends(self, *, undo: bool) -> None:
        """Close the savepoint, if there is one, keeping or undoing what was written since."""
        if self._mark == "set":
            if undo:
                self.control("ROLLBACK TO SAVEPOINT operation")
            self.control("RELEASE SAVEPOINT operation")
        self._mark = ""

    # Reading

    def wait_for(self, pending: Pending) -> None:
        """Read answers until this one is there.

        Raises:
            DiskFullError, StoreLostError, InternalError: the group is over; ``reset`` before the next one.
        """
        try:
            self._connection.send_flush_request()
            while pending.rows is None:
                self._take(self._next())
        except PsycopgError as error:
            raise self._gone(f"the connection to the database is gone: {error}") from error

    def sync(self) -> None:
        """Wait until everything that was sent is answered.

        Raises:
            DiskFullError, StoreLostError, InternalError: a statement failed; all behind it were not done.
        """
        failure: Exception | None = None
        try:
            self._connection.pipeline_sync()
            while (result := self._next()).status != ExecStatus.PIPELINE_SYNC:
                try:
                    self._take(result)
                except (DiskFullError, StoreLostError, InternalError) as error:
                    if self._connection.status != 0:
                        raise
                    failure = failure or error
        except PsycopgError as error:
            raise self._gone(f"the connection to the database is gone: {error}") from error
        if failure is not None:
            raise failure

    def reset(self) -> None:
        """End whatever transaction is open, also one that failed.

        Raises:
            StoreLostError: the connection is gone.
        """
        self._mark, self.wrote = "", False
        for text in ("", "ROLLBACK"):
            if text:
                self.control(text)
            try:
                self.sync()
            except (DiskFullError, InternalError):
                if text:
                    raise

    def _take(self, result: PGresult) -> None:
        """Hand a result to the oldest statement that has none; without one it is the server's last word."""
        if not self._queue:
            raise self._gone(f"the server ends the session: {' '.join(result.get_error_message().split())}")
        pending = self._queue.popleft()
        status = result.status
        if status == ExecStatus.TUPLES_OK:
            prepared = pending.prepared
            rows = _rows(result, prepared.readers)
            self.wrote = self.wrote or (prepared.writes and bool(rows))
            pending.rows = iter(rows)
        elif status == ExecStatus.COMMAND_OK:
            pending.tag = result.command_status or b""
            pending.rows = iter(())
        elif status == ExecStatus.PIPELINE_ABORTED:
            raise InternalError(f"{pending.prepared.name.decode()} was not done: a statement before it failed")
        else:
            raise self._judge(result, pending.prepared)

    def _next(self) -> PGresult:
        """Wait for the next result."""
        connection = self._connection
        give_up_s = 0.0
        while True:
            if not connection.is_busy():
                result = connection.get_result()
                if result is not None:
                    self._after_result = result.status != ExecStatus.PIPELINE_SYNC
                    return result
                if self._after_result:  # each statement's results end with nothing
                    self._after_result = False
                    continue
            now_s = time.monotonic()
            give_up_s = give_up_s or now_s + self.wait_s
            self._wait(give_up_s - now_s)

    def _wait(self, wait_s: float) -> None:
        """Send what waits to be sent, until something comes in.

        Raises:
            StoreLostError: the server is silent for too long.
        """
        unsent = self._connection.flush()
        self._poll.register(self._socket, select.POLLIN | (select.POLLOUT if unsent else 0))
        events = self._poll.poll(max(0.0, wait_s) * 1_000)
        if not events:
            raise self._gone(f"the database does not answer for {self.wait_s:g} s")
        if events[0][1] != select.POLLOUT:
            self._connection.consume_input()

    def _gone(self, why: str) -> StoreLostError:
        self.lost = True
        return StoreLostError(why)

    def _judge(self, result: PGresult, prepared: Prepared) -> Exception:
        state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        text = " ".join(result.get_error_message().split())
        if state == _DISK_FULL:
            return DiskFullError(text)
        if not state or state.startswith(_PASSING) or self._connection.status != 0:
            return self._gone(f"the database gave the group up: {text} ({state or 'connection'})")
        return InternalError(f"the store failed in {prepared.name.decode()}: {text} ({state})")


_CONTROL = (
    "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT operation", "ROLLBACK TO SAVEPOINT operation",
    "RELEASE SAVEPOINT operation",
)  # fmt: skip


def _encode(value: Any, prepared: Prepared) -> bytes | None:
    """Write a value as the server reads it."""
    if value is None:
        return None
    if isinstance(value, str):
        if "\0" in value or (prepared.is_json and "\\u0000" in value):
            raise ValueError("a text with a NUL character cannot be kept")
        return value.encode()
    if isinstance(value, int):
        if not -_INT8 <= value < _INT8:
            raise OverflowError("a number is beyond 64 bits")
        return b"%d" % value
    raise TypeError(f"a value is a {type(value).__name__}: texts and whole numbers are kept")


def _rows(result: PGresult, readers: list[Callable[[bytes], Any]]) -> list[tuple[Any, ...]]:
    columns = range(len(readers))
    get = result.get_value
    rows = []
    for row in range(result.ntuples):
        raw = [get(row, column) for column in columns]
        rows.append(tuple(None if cell is None else read(cell) for read, cell in zip(readers, raw, strict=True)))
    return rows
