"""Why it exists: the files that a person names become one set of services: variables, ``extends``, overrides, profiles.

Nothing is interpreted here; nodes keep the place where they were written, so that each later word about them can name
it. Relative paths belong to the first file's folder, those of an extended or included file to its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.compose.merging import merge, normalised
from sutazai.compose.report import Notes
from sutazai.compose.variables import Variables, read_env_file
from sutazai.spec.document import read_document
from sutazai.spec.places import Mapping, Mistakes, Place, Scalar, Sequence, fail
from sutazai.spec.section import Section, is_null, near, one_of

if TYPE_CHECKING:
    from collections import abc

HINT = "a Compose file is services: with names below it"
FILES_MAX = 64
SERVICES_MAX = 1_000
DEFAULT_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
)
SERVICE_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_TOP_REASONS = {
    "version": "the version of the file is obsolete, in Compose too: ignored",
    "networks": "all processes of a fleet are on 127.0.0.1 and reach each other by port",
    "volumes": "data of named volumes stays with the container engine; copy what is needed into {state} of its service",
    "models": "the fleet has one model server, llm",
}
TOP_KEYS = ("version", "name", "services", "networks", "volumes", "configs", "secrets", "include", "models")


@dataclass(frozen=True, slots=True)
class Source:
    """What is imported.

    Attributes:
        files: Compose files; each later one is laid over those before it.
        env: variables of the shell.
        env_files: read in place of the ``.env`` beside the first file.
        profiles: profiles that are switched on.
    """

    files: tuple[Path, ...]
    env: abc.Mapping[str, str]
    env_files: tuple[Path, ...] = ()
    profiles: tuple[str, ...] = ()


@dataclass
class Project:
    """All services of a Compose project, as nodes.

    Attributes:
        name: as it is written, else the folder's.
        folder: of the first file.
        variables: used to fill it.
        mistakes: where wrong values are noted.
        notes: what is not carried over, and why.
        services: by name.
        switched_off: services whose profiles are not switched on.
        top: keys beside ``services``, those of all files together.
        folders: file → the folder that its relative paths belong to.
    """

    name: str
    folder: Path
    variables: Variables
    mistakes: Mistakes
    notes: Notes = field(default_factory=Notes)
    services: dict[str, tuple[Scalar, Section]] = field(default_factory=dict)
    switched_off: dict[str, tuple[str, ...]] = field(default_factory=dict)
    top: dict[str, Mapping] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)

    def path_at(self, text: str, place: Place) -> Path:
        """Resolve a path of the Compose file on this host, without following links."""
        base = self.folders.get(place.path, self.folder)
        return Path(_normal(base / Path(text).expanduser()))


def read_project(source: Source) -> Project:
    """Read the files and put their services together.

    Raises:
        ConfigErrors: a file cannot be read or is no Compose file.
    """
    first = source.files[0]
    mistakes = Mistakes()
    project = Project("", Path(_normal(Path.cwd() / first)).parent, Variables(source.env, mistakes), mistakes)
    project.variables.values = {**_dot_env(source, project), **source.env}
    reader = _Reader(project)
    documents: dict[str, Mapping] = {}
    for path in source.files:
        project.folders[str(path)] = project.folder
        for name, service in reader.services_of(path).items():
            known = documents.get(name)
            merged = service if known is None else merge(known, service)
            documents[name] = merged if isinstance(merged, Mapping) else service
    _overrides_beside(project, source)
    project.name = project.name or project.folder.name
    if not documents and not mistakes:
        raise fail("services is empty", Place(str(first), 1, 1), "name the Compose file that holds the services")
    if len(documents) > SERVICES_MAX:
        raise fail(f"holds {len(documents)} services; at most {SERVICES_MAX} are imported", Place(str(first), 1, 1))
    _choose(project, documents, source.profiles)
    for name, place in project.variables.unset.items():
        project.notes.add("", name, place, f"the variable {name} is not set and has no default: it is empty", warn=True)
    return project


def _dot_env(source: Source, project: Project) -> dict[str, str]:
    beside = project.folder / ".env"
    paths = source.env_files or ((beside,) if beside.is_file() else ())
    found: dict[str, str] = {}
    for path in paths:
        found |= {name: value for name, value in read_env_file(path, project.variables).items() if value is not None}
    return found


def _overrides_beside(project: Project, source: Source) -> None:
    named = {_normal(Path.cwd() / path) for path in source.files}
    for name in OVERRIDES:
        path = project.folder / name
        if len(source.files) == 1 and path.is_file() and str(path) not in named:
            project.notes.add(
                "",
                name,
                Place(str(source.files[0])),
                f"{name} is beside it and was not named: name it too to merge it",
                warn=True,
            )


def _choose(project: Project, documents: dict[str, Mapping], profiles: tuple[str, ...]) -> None:
    """Sort out the services whose profiles are off, and say which profiles there are when one is unknown."""
    seen: list[str] = []
    for name, node in documents.items():
        section = Section(node, f"services.{name}", project.mistakes, node.place)
        wanted = tuple(item.text for item in section.scalars("profiles"))
        seen += [profile for profile in wanted if profile not in seen]
        if wanted and not set(wanted) & set(profiles) and "*" not in profiles:
            project.switched_off[name] = wanted
        else:
            project.services[name] = (Scalar(name, node.place), section)
    for profile in profiles:
        if profile not in seen and profile != "*":
            place = Place(next(iter(project.folders), ""), 1, 1)
            project.mistakes.add(f"no service has the profile {profile!r}", place, one_of(profile, seen))


class _Reader:
    """Reads files, each once, and resolves ``extends`` and ``include``."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._mistakes = project.mistakes
        self._files: dict[str, dict[str, Mapping]] = {}
        self._including: list[str] = []

    def services_of(self, path: Path) -> dict[str, Mapping]:
        """Services of a file and of those it includes, each with what it extends."""
        raw = self._raw(path, top=True)
        return {name: self._extended(path, name, raw[name], []) for name in raw}

    def _raw(self, path: Path, *, top: bool = False) -> dict[str, Mapping]:
        key = _normal(Path.cwd() / path)
        if key in self._files:
            return self._files[key]
        if len(self._files) >= FILES_MAX:
            raise fail(f"more than {FILES_MAX} files include or extend each other", Place(str(path)))
        document = read_document(path, self._mistakes, hint=HINT)
        root = self._project.variables.expand_node(document)
        section = Section(root if isinstance(root, Mapping) else document, "", self._mistakes, Place(str(path), 1, 1))
        services = self._services(section, path)
        self._files[key] = services
        if top:
            self._top(section)
            for included in self._include(section):
                for name, node in included.items():
                    services.setdefault(name, node)
        return services

    def _services(self, root: Section, path: Path) -> dict[str, Mapping]:
        if not root.has("services"):
            v1 = [key for key, node in root.entries() if isinstance(node, Mapping) and _looks_like_service(node)]
            hint = (
                f"this is the form of version 1: write services: above {v1[0].text} and indent what follows"
                if v1
                else near("services", root.written())
                and f"did you mean services: instead of {near('services', root.written())}:?"
            ) or "a Compose file has services: with names below it"
            raise fail("has no services", root.place if root.place.line else Place(str(path), 1, 1), hint)
        outer = root.section("services")
        found: dict[str, Mapping] = {}
        for name, node in outer.entries() if outer else []:
            if not SERVICE_NAME.fullmatch(name.text):
                self._mistakes.add(
                    f"{name.text!r} is no name of a service", name.place, "use letters, digits, . _ and -"
                )
            if isinstance(node, Mapping):
                found[name.text] = normalised(Mapping(node.entries, name.place), self._mistakes)
                continue
            kind = "a list" if isinstance(node, Sequence) else f"the value {node.text!r}"
            problem = f"services.{name.text}: here are keys with values meant, not {kind}"
            self._mistakes.add(problem, node.place, "write image: NAME below it, indented")
        return found

    def _top(self, root: Section) -> None:
        project = self._project
        project.name = root.text("name", project.name)
        for key, node in root.entries():
            if key.text in _TOP_REASONS:
                project.notes.add("", key.text, key.place, _TOP_REASONS[key.text])
            if key.text in ("networks", "volumes", "configs", "secrets", "models"):
                known = project.top.get(key.text, Mapping((), key.place))
                merged = merge(known, node)
                project.top[key.text] = merged if isinstance(merged, Mapping) else known
            elif key.text not in TOP_KEYS and not key.text.startswith("x-"):
                hint = near(key.text, TOP_KEYS)
                also = f"; did you mean {hint}?" if hint else ""
                project.notes.add("", key.text, key.place, f"unknown key {key.text!r}: ignored{also}", warn=True)

    def _include(self, root: Section) -> list[dict[str, Mapping]]:
        node = root.node("include")
        items = node.items if isinstance(node, Sequence) else ()
        found = []
        for item in items:
            section = Section(Mapping(((Scalar("path", item.place), item),), item.place), "include", self._mistakes)
            if isinstance(item, Mapping):
                section = Section(item, "include", self._mistakes)
                self._project.notes.ignored(section, ("env_file", "project_directory"), "include reads its paths only")
            for path in section.scalars("path"):
                target = self._project.path_at(path.text, path.place)
                if not target.is_file():
                    self._mistakes.add(f"include: there is no file {path.text}", path.place, f"looked for {target}")
                elif str(target) not in self._including:
                    self._including.append(str(target))
                    shown = _displayed(target, Path(item.place.path))
                    self._project.folders.setdefault(str(shown), target.parent)
                    found.append(self.services_of(shown))
        return found

    def _extended(self, path: Path, name: str, node: Mapping, trail: list[str]) -> Mapping:
        section = Section(node, f"services.{name}", self._mistakes, node.place)
        written = section.node("extends")
        if written is None:
            return node
        place = section.place_of("extends")
        step = f"{path}:{name}"
        if step in trail:
            names = " → ".join(each.rpartition(":")[2] for each in (*trail[trail.index(step) :], step))
            self._mistakes.add(f"services extend each other in a circle: {names}", place, "remove one extends")
            return node
        if isinstance(written, Scalar):
            base_name, base_path = written.text, path
        else:
            inner = section.section("extends")
            if inner is None:
                return node
            base_name = inner.text("service", required=True, hint="write service: its-name")
            file = inner.text("file")
            base_path = _displayed(self._project.path_at(file, inner.place_of("file")), path) if file else path
            inner.finish()
            if file and not base_path.is_file():
                self._mistakes.add(
                    f"{section.where}: extends: there is no file {file}", place, f"looked for {base_path}"
                )
                return node
            if file:
                self._project.folders.setdefault(str(base_path), Path(_normal(Path.cwd() / base_path)).parent)
        services = self._raw(base_path)
        if base_name not in services:
            hint = one_of(base_name, services)
            self._mistakes.add(f"{section.where} extends unknown service {base_name!r}", place, hint)
            return node
        base = self._extended(base_path, base_name, services[base_name], [*trail, step])
        own = Mapping(tuple(entry for entry in node.entries if entry[0].text != "extends"), node.place)
        base = Mapping(tuple(entry for entry in base.entries if entry[0].text != "extends"), base.place)
        merged = merge(base, own)
        return merged if isinstance(merged, Mapping) else own


def _looks_like_service(node: Mapping) -> bool:
    return any(key.text in ("image", "build") and not is_null(value) for key, value in node.entries)


def _displayed(path: Path, beside: Path) -> Path:
    """Name a file the way its neighbour was named: from the current folder, or in full."""
    import os

    return path if beside.is_absolute() else Path(os.path.relpath(path))


def _normal(path: Path) -> str:
    import os

    return os.path.normpath(path)
