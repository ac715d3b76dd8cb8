"""Why it exists: a service as the manifest will have it, between the Compose file and the text that is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sutazai.compose.dockerfile import Image
    from sutazai.compose.http_agents import Operations
    from sutazai.compose.images import Known
    from sutazai.compose.programs import Program
    from sutazai.compose.service import ComposeService

SERVICE, AGENT, MODEL, PLANNED, LEFT_OUT = "service", "agent", "llm", "planned", "left out"


@dataclass
class Entry:
    """What becomes of a service.

    Attributes:
        source: the Compose service.
        becomes: ``service`` (it runs), ``llm`` (the fleet's model server stands for it), ``planned`` (it cannot run
            without its image), ``left out``.
        name: in the manifest.
        why: the reason when it does not run.
        image: what its Dockerfile says.
        known: its row in the table of images.
        program: what runs.
        inside: its ports in the container, the main one first.
        ports: port in the container → port in the manifest.
        argv: command of the manifest, placeholders in it.
        env: environment of the manifest, placeholders in it.
        cwd: working folder, relative to the manifest.
        after: names in the manifest.
        memory_bytes: limit.
        proposed: whether we chose it.
        pool: memory pool.
        operations: what it can do, when it is an HTTP program whose operations we know.
        job: whether others wait for its end.
        comments: said above it in the manifest.
    """

    source: ComposeService
    becomes: str
    name: str = ""
    why: str = ""
    image: Image | None = None
    known: Known | None = None
    program: Program | None = None
    inside: list[int] = field(default_factory=list)
    ports: dict[int, int] = field(default_factory=dict)
    argv: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = ""
    after: list[str] = field(default_factory=list)
    memory_bytes: int = 0
    proposed: bool = False
    pool: str = "standard"
    operations: Operations | None = None
    job: bool = False
    comments: list[str] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        """Whether it is a service that the fleet starts."""
        return self.becomes == SERVICE

    def port_names(self) -> dict[int, str]:
        """Port in the container → its name in the manifest, without those that got none."""
        given = [inside for inside in self.inside if self.ports.get(inside)]
        return {inside: "main" if index == 0 else f"p{inside}" for index, inside in enumerate(given)}
