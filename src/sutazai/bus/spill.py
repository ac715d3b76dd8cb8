"""Why it exists: a result that is too large for a commit comes in parts and becomes a file before the commit names it.

An instance is another user, so it writes no file of ours and names no path: it sends parts over its socket, one at a
time, and the broker, the only writer, puts them on disk. So the broker holds one part of each upload, never a result.

What is removed: only files that no task needs by the store's word **and** that no upload or commit under way holds
here. Names are never used twice, so a file that both have let go of can never be wanted again.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from sutazai.bus.spill_files import Part, SpillFiles, as_refusal, at_once
from sutazai.bus.watch import error_message
from sutazai.errors import (
    FencedError,
    InvalidInputError,
    QueueFullError,
    RefusedError,
    StorageFullError,
    UploadMissingError,
)
from sutazai.limits import DOWNLOADS_MAX, PART_BYTES_MAX, SPILLED_SWEEP_FILES, SPILLED_SWEEP_MS, UPLOADS_MAX
from sutazai.store.model import Commit, Outcome
from sutazai.store.spill import Locate, Spilled, Unreferenced
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sutazai.bus import messages
    from sutazai.bus.broker import Broker
    from sutazai.bus.sessions import Instance, Session

    Run = Callable[[Callable[[], Any], Callable[[Any], None]], None]

_log = logging.getLogger(__name__)


class _Upload:
    """A result that comes in.

    Attributes:
        ticket: of the instance.
        size: announced, bytes.
        digest: announced.
        part: the file; None before its first part is written.
        received: bytes that are written.
        busy: a part is being written.
        complete: the file is durable under its name.
    """

    __slots__ = ("busy", "complete", "digest", "part", "received", "size", "ticket")

    def __init__(self, ticket: str, size: int, digest: str) -> None:
        self.ticket, self.size, self.digest = ticket, size, digest
        self.part: Part | None = None
        self.received = 0
        self.busy = self.complete = False


class SpillDesk:
    """Serves ``upload`` and ``download``, and clears away what is not needed.

    Args:
        broker: the whole.

    Attributes:
        files: the folder; None when there is none: then large results are refused.
        run: how steps on the disk are run.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.files: SpillFiles | None = None
        self.run: Run = at_once
        self._uploads: dict[tuple[str, int], _Upload] = {}
        self._held: Counter[str] = Counter()  # files that a commit under way names
        self._reading = 0
        self._sweep_ms = 0
        self._sweeping = False

    def serve(self, files: SpillFiles, run: Run) -> None:
        """Use a folder from now on; what the last broker left there and no task needs is removed."""
        try:
            files.prepare()
        except OSError as error:  # a full disk: the broker serves on, and the folder is made when there is room
            _log.warning("the folder of large results cannot be prepared now: %s", error)
        self.files, self.run = files, run
        self._sweep_ms = self._broker.clock.now_ms()

    def _folder(self) -> SpillFiles:
        if self.files is None:
            raise RefusedError("this broker has no folder for large results: hand on a file's path")
        return self.files

    def _lease(self, instance: Instance, request: messages.Upload | messages.Download) -> None:
        lease = self._broker.leases.find(request.task, request.fence, instance.ticket)
        if lease is None or lease.ending:
            raise FencedError("only a turn that holds may do this")
        self._broker.leases.renew(lease, self._broker.clock.now_ms())

    # Coming in

    def upload(self, session: Session, instance: Instance, request: messages.Upload) -> None:
        """Write a part; answered when it is written, the last one when the file is durable.

        Raises:
            RefusedError: as its class says.
        """
        files = self._folder()
        self._lease(instance, request)
        most = self._broker.directory.result_bytes_max(instance.agent)
        if request.bytes > most:
            raise InvalidInputError(
                f"the result has {format_bytes(request.bytes)}; the limit of {instance.agent} is {format_bytes(most)}: "
                "hand on a file's path, or raise result_max of the agent in the manifest"
            )
        upload = self._continued(instance, request)
        upload.busy = True

        def step() -> None:
            if upload.part is None:
                upload.part = files.begin(upload.digest, upload.size)
            files.append(upload.part, request.raw)
            if upload.part.received == upload.size:
                files.finish(upload.part, upload.digest)

        def done(result: Any) -> None:
            upload.busy = False
            if isinstance(result, BaseException):
                self._drop((request.task, request.fence))
                error = as_refusal(result)
                _log.warning("a large result of %s was not taken: %s", request.task, error)
                session.reply(request.id, error_message(error))
                return
            upload.received += len(request.raw)
            upload.complete = upload.received == upload.size
            session.reply(request.id, {"t": "uploaded", "offset": upload.received})

        self.run(step, done)

    def _continued(self, instance: Instance, request: messages.Upload) -> _Upload:
        """Find the upload that a part belongs to, or begin it."""
        key = request.task, request.fence
        upload = self._uploads.get(key)
        if upload is not None and upload.busy:
            raise QueueFullError("the last part is still being written: send one part at a time", 1)
        if request.offset == 0:
            self._drop(key)
            if len(self._uploads) >= UPLOADS_MAX:
                raise QueueFullError(f"{UPLOADS_MAX} large results are coming in, the bound", 1)
            upload = self._uploads[key] = _Upload(instance.ticket, request.bytes, request.digest)
        if (
            upload is None
            or (upload.size, upload.digest, upload.received) != (request.bytes, request.digest, request.offset)
            or upload.received + len(request.raw) > upload.size
        ):
            raise UploadMissingError("this part does not follow the last one: begin anew at offset 0")
        return upload

    def _drop(self, key: tuple[str, int]) -> None:
        """Forget an upload; its file goes unless a commit that names it is under way or has been stored."""
        upload = self._uploads.pop(key, None)
        if upload is None or upload.part is None:
            return
        part, files = upload.part, self._folder()
        if upload.complete:
            self._forget([part.name])
        else:
            self.run(lambda: files.drop(part), _noted)

    # Commits

    def hold(self, request: messages.Commit, wanted: messages.ResultRef) -> Spilled:
        """Find the file of a commit; it is held until ``settled``. Without one the commit is refused, if it is new."""
        upload = self._uploads.get((request.task, request.fence))
        same = upload is not None and (upload.size, upload.digest) == (wanted.bytes, wanted.digest)
        if upload is None or upload.part is None or not upload.complete or not same:
            return Spilled("", wanted.bytes, wanted.digest)
        self._held[upload.part.name] += 1
        return Spilled(upload.part.name, wanted.bytes, wanted.digest)

    def settled(self, operation: Commit, result: Outcome | RefusedError) -> None:
        """A commit was stored or refused: let go of its file, and look whether a task needs it.

        A full disk is not the end: the instance repeats the commit without a new upload.
        """
        spilled = operation.result
        if not isinstance(spilled, Spilled) or not spilled.file:
            return
        self._held[spilled.file] -= 1
        if self._held[spilled.file] <= 0:
            del self._held[spilled.file]
        if isinstance(result, StorageFullError):
            return
        key = operation.task, operation.fence
        upload = self._uploads.get(key)
        if upload is not None and upload.part is not None and upload.part.name == spilled.file:
            del self._uploads[key]
        stored = isinstance(result, Outcome) and result.reply.status == "succeeded" and not result.reply.duplicate
        if not stored:
            self._forget([spilled.file])

    # Going out

    def download(self, session: Session, instance: Instance, request: messages.Download) -> None:
        """Answer with a part of a child's result.

        Raises:
            RefusedError: as its class says.
        """
        files = self._folder()
        self._lease(instance, request)
        if self._reading >= DOWNLOADS_MAX:
            raise QueueFullError(f"{DOWNLOADS_MAX} parts of large results are being read, the bound", 1)
        self._reading += 1

        def read(spilled: Spilled, found: Any) -> None:
            self._reading -= 1
            if isinstance(found, BaseException):
                session.reply(request.id, error_message(as_refusal(found)))
                return
            session.reply(
                request.id,
                {"t": "downloaded", "offset": request.offset, "bytes": spilled.bytes, "digest": spilled.digest},
                (found,),
            )

        def located(result: Outcome | RefusedError) -> None:
            if isinstance(result, RefusedError):
                self._reading -= 1
                session.reply(request.id, error_message(result))
                return
            spilled: Spilled = result.reply
            self.run(
                lambda: files.read(spilled.file, request.offset, PART_BYTES_MAX), lambda found: read(spilled, found)
            )

        self._broker.journal.enqueue(Locate(instance.agent, request.of), located)

    # Clearing away

    def remove(self, names: list[str]) -> None:
        """Remove files of tasks that the store has forgotten."""
        if self.files is not None:
            files = self.files
            self.run(lambda: files.remove(names), _noted)

    def _forget(self, names: list[str]) -> None:
        """Remove those of these files that no task needs."""

        def done(result: Outcome | RefusedError) -> None:
            if isinstance(result, Outcome):
                held = self._names_held()
                if unneeded := [name for name in result.reply if name not in held]:
                    _log.info("%d files of results that no task needs are removed", len(unneeded))
                    self.remove(unneeded)

        self._broker.journal.enqueue(Unreferenced(tuple(names)), done)

    def _names_held(self) -> set[str]:
        """Files that an upload or a commit under way holds."""
        return {upload.part.name for upload in self._uploads.values() if upload.part is not None} | set(self._held)

    def tick(self, now_ms: int) -> None:
        """Give up uploads whose turn is over, and look now and then for files that no task needs."""
        leases = self._broker.leases
        for key, upload in list(self._uploads.items()):
            lease = leases.find(*key, upload.ticket)
            is_held = upload.part is not None and upload.part.name in self._held
            if upload.busy and lease is not None:
                leases.renew(lease, now_ms)  # the disk is slow, not the instance
            elif not upload.busy and not is_held and lease is None:
                self._drop(key)
        if self.files is None or self._sweeping or now_ms < self._sweep_ms:
            return
        self._sweep_ms = now_ms + SPILLED_SWEEP_MS
        self._sweeping = True
        self.run(self.files.names, self._listed)

    def _listed(self, found: Any) -> None:
        self._sweeping = False
        if isinstance(found, BaseException):
            _log.warning("the folder of large results cannot be read: %s", found)
            return
        held = self._names_held()
        names = [name for name in found if name not in held]
        for start in range(0, len(names), SPILLED_SWEEP_FILES):
            self._forget(names[start : start + SPILLED_SWEEP_FILES])


def _noted(result: Any) -> None:
    """A file that cannot be removed now is found by the next sweep."""
    if isinstance(result, BaseException):
        _log.warning("a file of a large result cannot be removed now: %s", result)


def without_file(result: dict[str, Any]) -> dict[str, Any]:
    """Write a child's end for an instance that cannot read files: it is told why the result is not there."""
    reference = result.get("result_ref")
    if reference is None:
        return result
    error = {
        "code": "results-too-large",
        "message": f"the result has {format_bytes(reference['bytes'])} and lies in a file, this worker reads none",
        "retryable": False,
    }
    return {**result, "result_ref": None, "error": error}
