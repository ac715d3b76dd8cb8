"""Why it exists: an embedded fleet needs no messenger: the broker counts its ready tasks itself and may always look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.bus.dispatch.protocol import ALWAYS, Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.bus.dispatch.protocol import Site
    from sutazai.store.model import Event

_LOOK = Signal("")


class Inproc:
    """Looks at every agent at the end of every group."""

    name = "inproc"
    carries = False

    def serve(self, site: Site) -> None:
        """Nothing to prepare."""

    async def run(self) -> None:
        """Nothing to connect to."""

    def committed(self, events: Sequence[Event]) -> None:
        """The counts say it all."""

    def looks(self, agent: str) -> int:  # noqa: ARG002 the same for all
        """As many as there are tasks and instances."""
        return ALWAYS

    def take(self, agent: str) -> Signal:  # noqa: ARG002 the same for all
        """One more."""
        return _LOOK

    def used(self, signal: Signal) -> None:
        """Nothing is kept."""

    def unused(self, signal: Signal) -> None:
        """Nothing is kept."""

    def tick(self, now_ms: int, waiting: Sequence[tuple[str, int]]) -> None:
        """Nothing can be lost."""

    def facts(self) -> dict[str, Any]:
        """It is always there."""
        return {"driver": self.name, "state": "up", "why": ""}
