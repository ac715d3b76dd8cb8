"""Why it exists: scripts branch on exit codes, so they stand in one table and in the reference.

Each verb raises ``CliError``; ``main`` prints it and leaves with its code.
"""

from __future__ import annotations

OK = 0
FAILED = 1
BAD_MANIFEST = 2
NOT_UP = 3
REFUSED = 4
INTERRUPTED = 130

#: What each code means; ``docs/reference/cli.md`` shows the same table.
EXIT_CODES = {
    OK: "done",
    FAILED: "understood, not successful: the plan does not fit, a check or task failed, a process does not come up",
    BAD_MANIFEST: "bad manifest or bad arguments",
    NOT_UP: "the fleet, or the part of it that is needed, does not answer",
    REFUSED: "refused: unknown agent, task or process, input that does not fit, a full queue, another manifest's fleet",
    INTERRUPTED: "interrupted from the keyboard",
}


class CliError(Exception):
    """Ends a verb with a message for a person.

    Attributes:
        code: exit code.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        """Keep the code."""
        super().__init__(message)
        self.code = code
