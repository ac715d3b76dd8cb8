"""Why it exists: a process that a test started ends with the test, also when it never came up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from sutazai.errors import InternalError

if TYPE_CHECKING:
    from types import TracebackType


class Running:
    """A process of a test as a context: started on entering, ended on leaving."""

    def start(self) -> Running:
        """Start it and wait until it answers.

        Raises:
            InternalError: the class does not say how.
        """
        raise InternalError(f"{type(self).__name__} does not say how it starts")

    def close(self) -> None:
        """End it and remove what it left.

        Raises:
            InternalError: the class does not say how.
        """
        raise InternalError(f"{type(self).__name__} does not say how it ends")

    def __enter__(self) -> Self:
        """Start it; what came up only in part is ended."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.close()
