"""Why it exists: decides what becomes of each Compose service: a running one, the model server, or one that is planned.

``runnable`` is the one place that says what a build context turns into; all else works on its answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sutazai.compose import images
from sutazai.compose.dockerfile import Image, try_dockerfile
from sutazai.compose.entry import AGENT, LEFT_OUT, MODEL, PLANNED, SERVICE, Entry
from sutazai.compose.http_agents import find_operations
from sutazai.compose.ports import PortDesk
from sutazai.compose.programs import CLOSE, OPEN, Program, find_program
from sutazai.compose.report import LimitRow, Report, ServiceRow
from sutazai.compose.service import ComposeService, read_service
from sutazai.compose.wiring import LLM_NAME, Wiring, shown
from sutazai.errors import ConfigErrors
from sutazai.limits import NAME_CHARACTERS_MAX
from sutazai.spec.check import RESERVED_NAMES
from sutazai.spec.graph import find_cycle
from sutazai.spec.section import NAME, one_of
from sutazai.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.compose.reading import Project

DEFAULT_MB = 256  # what the blueprint's standard pool allows an agent
LLM_PORT = f"{OPEN}port_of.llm{CLOSE}"
HOST_NAMES = ("host.docker.internal", "gateway.docker.internal", "host.containers.internal")
_PULL = re.compile(
    r"ollama\s+(?:pull|run)\s+([\w.:/-]+)|/api/pull.*?[\"'](?:name|model)\\?[\"']\s*:\s*\\?[\"']([\w.:/-]+)"
)


class Translator:
    """Turns a project into entries, step by step; ``report`` collects what is to be told."""

    def __init__(self, project: Project, out_folder: Path) -> None:
        self.project, self.out_folder = project, out_folder
        self.report = Report()
        self.desk = PortDesk(rows=self.report.ports)
        self.entries: list[Entry] = []
        self.models: list[str] = []

    def run(self) -> list[Entry]:
        """Do all steps.

        Raises:
            ConfigErrors: the Compose file has mistakes, all of them are named.
        """
        services = [read_service(name, section, self.project) for name, section in self.project.services.values()]
        for service in services:
            for alias, target in service.links.items():
                next((other.aliases for other in services if other.name == target), []).append(alias)
        self._check_order(services)
        self.project.mistakes.raise_if_any(next(iter(self.project.folders)))
        self.entries = [self._classify(service) for service in services]
        self.project.mistakes.raise_if_any(next(iter(self.project.folders)))
        self._name()
        Wiring(self.project, self.entries, self.desk, self.report.links, self.out_folder).run()
        self._order()
        self._limits()
        for entry in self.entries:
            self._left_behind(entry)
        for entry in self.entries:
            how = " ".join(shown(word) for word in entry.argv) if entry.runs else entry.why
            self.report.services.append(ServiceRow(entry.source.name, entry.name, entry.becomes, how))
            if entry.program:
                self.report.prepare += [(entry.name, text) for text in entry.program.prepare]
        self._agents()
        for name, profiles in self.project.switched_off.items():
            why = f"its profile is off; add --profile {profiles[0]} to take it along"
            self.report.services.append(ServiceRow(name, "", LEFT_OUT, why))
        return self.entries

    # What each one is

    def _check_order(self, services: list[ComposeService]) -> None:
        names = [service.name for service in services]
        mistakes = self.project.mistakes
        for service in services:
            for dependency in list(service.depends):
                if dependency.name in names:
                    continue
                service.depends.remove(dependency)
                off = self.project.switched_off.get(dependency.name)
                if not dependency.required:
                    text = f"{dependency.name} is not there and not required"
                    self.project.notes.add(service.name, "depends_on", dependency.place, text)
                elif off:
                    hint = f"add --profile {off[0]}"
                    problem = f"{service.name} depends on {dependency.name}, whose profile is off"
                    mistakes.add(problem, dependency.place, hint)
                else:
                    problem = f"{service.name} depends on unknown service {dependency.name!r}"
                    mistakes.add(problem, dependency.place, one_of(dependency.name, names))
        edges = {service.name: [dependency.name for dependency in service.depends] for service in services}
        if cycle := find_cycle(edges):
            first = next(service for service in services if service.name == cycle[0])
            place = next(dependency.place for dependency in first.depends if dependency.name == cycle[1])
            mistakes.add(
                f"services depend on each other in a circle: {' → '.join(cycle)}",
                place,
                f"remove {cycle[1]} from {cycle[0]}",
            )

    def _classify(self, service: ComposeService) -> Entry:
        image = self._dockerfile(service)
        base = image.base if image else service.image
        known = images.known(base)
        if known and known.name == images.LLM:
            return self._model(service, known, image)
        found = runnable(service, image, self.project.folder)
        if isinstance(found, Program):
            for remark in found.remarks:
                self.project.notes.add(service.name, "image", service.place, remark, warn=True)
            return Entry(service, SERVICE, image=image, program=found)
        why = (known.why if known else "") or found
        pool = known.pool if known else "standard"
        return Entry(service, PLANNED, why=why, image=image, known=known, pool=pool)

    def _dockerfile(self, service: ComposeService) -> Image | None:
        build = service.build
        if build is None:
            return None
        found = try_dockerfile(build.dockerfile, build.context, build.target, build.args, build.inline)
        if isinstance(found, ConfigErrors):
            self.project.mistakes.take(found)
            return None
        return found

    def _model(self, service: ComposeService, known: images.Known, image: Image | None) -> Entry:
        """Put the fleet's model server in the place of an Ollama, and remember the models that it was to fetch."""
        words = " ".join([*(service.entrypoint or ()), *(service.command or ()), *service.environment.values()])
        pulled = [match[1] or match[2] for match in _PULL.finditer(words)]
        pulled += [text for key, text in service.environment.items() if key in {"OLLAMA_MODEL", "MODEL"} and text]
        self.models += [model for model in pulled if model not in self.models]
        first = not any(entry.becomes == MODEL for entry in self.entries)
        why = f"the fleet's own model server answers on its port instead of {service.image or known.name}"
        for key in service.environment:
            if key.startswith("OLLAMA_"):
                text = "the model server's settings are below llm: slots, context, cpu, memory"
                self.project.notes.add(service.name, key, service.place, text)
        return Entry(service, MODEL, LLM_NAME, why, image=image, known=known, pool="infrastructure" if first else "")

    # Names

    def _name(self) -> None:
        taken = set(RESERVED_NAMES)
        chosen: dict[str, Entry] = {}
        for entry in sorted(self.entries, key=_strangeness):
            if entry.known and entry.known.name:
                chosen.setdefault(entry.known.name, entry)
        for entry in self.entries:
            if entry.becomes == MODEL:
                continue
            wanted = manifest_name(entry.source.name)
            if entry.known and chosen.get(entry.known.name) is entry:
                wanted = entry.known.name
            elif wanted in chosen:
                wanted = f"my-{wanted}"
            name, number = f"my-{wanted}" if wanted in RESERVED_NAMES else wanted, 2
            while name in taken:
                name, number = f"{wanted}-{number}", number + 1
            taken.add(name)
            entry.name = name
            if name != entry.source.name:
                text = f"is called {name} in the manifest"
                self.project.notes.add(entry.source.name, "name", entry.source.place, text)

    # Order and limits

    def _order(self) -> None:
        by_name = {entry.source.name: entry for entry in self.entries}
        for entry in self.entries:
            for dependency in entry.source.depends:
                target = by_name[dependency.name]
                if target.becomes == PLANNED and entry.runs:
                    text = f"starts without {target.name}, which does not run here: {target.why}"
                    self.project.notes.add(entry.source.name, "depends_on", dependency.place, text, warn=True)
                    entry.comments.append(f"needs {target.name}, which does not run here")
                elif (target.runs or target.becomes == MODEL) and target.name not in entry.after:
                    entry.after.append(target.name)
                    if dependency.condition == "service_completed_successfully":
                        target.job = target.runs

    def _agents(self) -> None:
        """Make HTTP agents of the programs whose operations are known: durable tasks beside the port they have."""
        names = {entry.name for entry in self.entries}
        for entry in self.entries:
            if not entry.runs or entry.program is None or not entry.ports or f"{entry.name}-agent" in names:
                continue
            operations = find_operations(entry.program.cwd)
            if operations:
                entry.operations = operations
                what = ", ".join(operations.skills) or "what its OpenAPI document describes"
                self.report.services.append(
                    ServiceRow(entry.source.name, f"{entry.name}-agent", AGENT, f"durable tasks: {what}")
                )

    def _left_behind(self, entry: Entry) -> None:
        """Note what a service had besides its keys: data in volumes, restarts, settings of what does not run."""
        source, notes = entry.source, self.project.notes
        if entry.becomes == PLANNED:
            notes.add(
                "", "services", source.place, "settings of what is planned stay in the Compose file: see # services"
            )
        for mount in source.mounts if entry.runs else ():
            if mount.host is None:
                text = f"{mount.target} was a volume: its program must write to {{state}}, and its data is not copied"
                notes.add(source.name, "volumes", mount.place, text, warn=True)
        if entry.runs and source.restart in {"", "no"} and not entry.job:
            if source.restart == "no" and not entry.ports:
                entry.job = True
                return
            text = f"restart is {source.restart or 'not written'}: here a service that ends is started again"
            notes.add(source.name, "restart", source.place, text)

    def _limits(self) -> None:
        seen_model = False
        for entry in self.entries:
            if entry.becomes == MODEL and seen_model:
                continue
            seen_model = seen_model or entry.becomes == MODEL
            written = entry.source.limits.memory_bytes
            known = entry.known
            entry.proposed = not written
            entry.memory_bytes = written or (known.memory_mb if known else DEFAULT_MB) * MIB
            source = "the Compose file" if written else _proposal(entry)
            counts = entry.runs or entry.becomes == MODEL
            self.report.limits.append(LimitRow(entry.name, entry.memory_bytes, entry.proposed, source, counts))


def _proposal(entry: Entry) -> str:
    if entry.known is None:
        return "proposed: what the standard pool allows an agent"
    return f"proposed: usual for {entry.known.name or images.repository(entry.source.image)}"


def runnable(service: ComposeService, image: Image | None, home: Path) -> Program | str:
    """Say what a service runs on this host, or why it cannot.

    The one place that decides what a build context turns into: a service of the manifest with a command.
    """
    return find_program(service, image, home)


def _strangeness(entry: Entry) -> tuple[bool, bool, bool]:
    """Order those of one image: the one that is it comes before a helper that only uses its programs."""
    source, known = entry.source, entry.known
    return (source.entrypoint is not None, not source.ports, known is not None and source.name != known.name)


def manifest_name(text: str) -> str:
    """Turn a Compose name into one that a manifest allows: lower case letters, digits and single dashes."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    name = name if NAME.fullmatch(name) else f"s-{name}".rstrip("-")
    return name[: NAME_CHARACTERS_MAX - 8].rstrip("-")
