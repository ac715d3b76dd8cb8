"""Why it exists: every failure a user can meet has a stable code, says what to do, and is told apart by type.

The tree (``retryable`` ones are marked with ``~``)::

    SutazaiError
    ├─ ConfigError            bad-config          one mistake in a manifest, with file:line:column and a hint
    ├─ ConfigErrors           bad-config          all mistakes of a manifest at once (an exception group)
    ├─ HostError              host                the machine lacks or refuses something
    │  ├─ PortTakenError      port-taken
    │  └─ LimitNotEnforcedError limit-not-enforced
    ├─ ProtocolError          protocol            the other side of a socket does not speak our protocol
    ├─ UnavailableError ~     unavailable         a process that should answer does not (yet)
    ├─ RefusedError           refused             a request that is understood and not done
    │  ├─ NotFoundError       not-found
    │  ├─ InvalidInputError   invalid-input       the input does not fit the skill's schema
    │  ├─ QueueFullError ~    queue-full          back-pressure: try again after ``retry_after_s``
    │  ├─ StorageFullError ~  storage-full        the disk is full: accepted work is kept, new work is not taken
    │  ├─ StoreAwayError ~    unavailable         the store's database does not answer: ask again
    │  ├─ FencedError         fenced              the turn's lease went to somebody else: its result is dropped
    │  ├─ UploadMissingError ~ upload-missing     a commit names a result that this broker was not given
    │  ├─ ResourceExhaustedError ~ resource-exhausted  no room for another instance now
    │  └─ CircuitOpenError ~  circuit-open        the agent fails everybody: it is left alone for ``retry_after_s``
    ├─ SkillError ~           skill-failed        agent code raised
    │  ├─ CalleeFailedError ~ callee-failed       a call of it failed, and it needs its result
    │  └─ NonRetryableError   non-retryable       agent code raised, and trying again cannot help
    └─ InternalError          internal            a broken invariant: the process stops
"""

from __future__ import annotations

from typing import ClassVar


class SutazaiError(Exception):
    """Root of all errors of this package.

    Attributes:
        code: stable name of the kind of failure, as it stands in HTTP problems, exit messages and logs.
        retryable: whether the same request may succeed later without a change by the caller.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False


class ConfigError(SutazaiError):
    """One mistake in a manifest.

    Attributes:
        path: file as the user named it.
        line: 1-based, 0 when the mistake has no place (a missing file).
        column: 1-based, 0 when unknown.
        problem: what is wrong.
        hint: what to write instead; may be empty.
    """

    code = "bad-config"

    def __init__(self, problem: str, *, path: str = "", line: int = 0, column: int = 0, hint: str = "") -> None:
        """Keep the parts and build the message ``path:line:column: problem (hint)``."""
        self.path, self.line, self.column, self.problem, self.hint = path, line, column, problem, hint
        where = ":".join(str(part) for part in (path, line, column) if part)
        super().__init__(f"{where}: {problem}" + (f" ({hint})" if hint else ""))


class ConfigErrors(ExceptionGroup[ConfigError]):
    """All mistakes of a manifest, in the order of their lines.

    Not a ``SutazaiError`` by inheritance (an exception group has its own root) but raised only for bad config.
    """

    code: ClassVar[str] = "bad-config"
    retryable: ClassVar[bool] = False

    def derive(self, excs: list[ConfigError]) -> ConfigErrors:  # type: ignore[override]
        """Make a group of the same kind out of a part of the mistakes."""
        return ConfigErrors(self.message, excs)


class HostError(SutazaiError):
    """The machine lacks or refuses something; the message says what to do."""

    code = "host"


class PortTakenError(HostError):
    """A port that the plan needs is held by somebody else.

    Attributes:
        port: the TCP port.
        holder: ``pid 123 (nginx)``, or ``an unknown process`` when the kernel does not let us see.
    """

    code = "port-taken"

    def __init__(self, port: int, holder: str) -> None:
        """Keep port and holder."""
        self.port, self.holder = port, holder
        super().__init__(f"port {port} is held by {holder}; stop it, or give this fleet another port_offset")


class LimitNotEnforcedError(HostError):
    """A limit that the manifest asks for cannot be held by this host."""

    code = "limit-not-enforced"


class ProtocolError(SutazaiError):
    """The peer sent what is not in ``docs/reference/protocol.md``; the connection is closed."""

    code = "protocol"


class UnavailableError(SutazaiError):
    """A process of the fleet does not answer; it is being restarted, or the fleet is not up."""

    code = "unavailable"
    retryable = True


class RefusedError(SutazaiError):
    """A request that was understood and is not done.

    Attributes:
        detail: the reason, for a person.
    """

    code = "refused"

    def __init__(self, detail: str) -> None:
        """Keep the reason."""
        self.detail = detail
        super().__init__(detail)


class NotFoundError(RefusedError):
    """No such task, agent, skill or process."""

    code = "not-found"


class InvalidInputError(RefusedError):
    """The input does not fit the skill's schema."""

    code = "invalid-input"


class QueueFullError(RefusedError):
    """The queue is at its bound.

    Attributes:
        retry_after_s: when to try again, seconds, at least 1.
        agent: whose queue it is; empty for that of all.
    """

    code = "queue-full"
    retryable = True

    def __init__(self, detail: str, retry_after_s: int = 1, agent: str = "") -> None:
        """Keep the reason and the waiting time."""
        self.retry_after_s, self.agent = max(1, retry_after_s), agent
        super().__init__(detail)


class StorageFullError(RefusedError):
    """The disk is full: accepted work is kept, new work is refused until there is room."""

    code = "storage-full"
    retryable = True


class StoreAwayError(RefusedError):
    """The store's database does not answer. Over a socket it arrives as ``UnavailableError``."""

    code = "unavailable"
    retryable = True


class FencedError(RefusedError):
    """The turn's lease was given to somebody else, or its task was cancelled: its result is dropped."""

    code = "fenced"


class UploadMissingError(RefusedError):
    """A commit names a result that was not uploaded, or not to this broker: upload it, then commit again."""

    code = "upload-missing"
    retryable = True


class ResourceExhaustedError(RefusedError):
    """There is no room for another instance now; the task waits in its queue."""

    code = "resource-exhausted"
    retryable = True


class CircuitOpenError(RefusedError):
    """An agent fails everybody, so it is given nothing for a while, and it is one that refuses callers meanwhile.

    Attributes:
        retry_after_s: when its breaker lets a probe through, seconds, at least 1.
        agent: whose breaker it is.
    """

    code = "circuit-open"
    retryable = True

    def __init__(self, detail: str, retry_after_s: int = 1, agent: str = "") -> None:
        """Keep the reason and the waiting time."""
        self.retry_after_s, self.agent = max(1, retry_after_s), agent
        super().__init__(detail)


class SkillError(SutazaiError):
    """Agent code raised; the task is tried again by its retry policy."""

    code = "skill-failed"
    retryable = True


class CalleeFailedError(SkillError):
    """A task that the agent waited for ended badly, and the agent cannot go on without it. Not its own fault."""

    code = "callee-failed"


class NonRetryableError(SkillError):
    """Agent code raised and says that trying again cannot help; the task fails at once."""

    code = "non-retryable"
    retryable = False


class InternalError(SutazaiError):
    """A broken invariant of this program. The process logs it and stops; its supervisor starts it anew."""

    code = "internal"


#: Every class by its stable code, for rebuilding an error that came over a socket.
BY_CODE: dict[str, type[RefusedError]] = {
    cls.code: cls
    for cls in (
        RefusedError,
        NotFoundError,
        InvalidInputError,
        QueueFullError,
        StorageFullError,
        FencedError,
        UploadMissingError,
        ResourceExhaustedError,
        CircuitOpenError,
    )
}
