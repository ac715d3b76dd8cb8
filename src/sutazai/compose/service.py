"""Why it exists: one Compose service with its many spellings, read once into one form with plain values."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sutazai.compose.keys import note_deploy, note_keys
from sutazai.compose.limits import Limits, duration_ms, read_limits
from sutazai.compose.ports import Published, read_expose, read_ports
from sutazai.compose.variables import read_env_file
from sutazai.errors import ConfigErrors
from sutazai.spec.places import Mapping, Node, Place, Scalar, Sequence
from sutazai.spec.section import Section, is_null

if TYPE_CHECKING:
    from sutazai.compose.reading import Project

CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")
DOCKERFILE = "Dockerfile"
_BUILD_KEYS = ("context", "dockerfile", "dockerfile_inline", "target", "args")
_HEALTH_URL = re.compile(
    r"(https?)://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::(\d{1,5}))?([^\s\"'|;&)\\]*)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Build:
    """Where an image would be built: folder, Dockerfile in it, stage, arguments."""

    context: Path
    dockerfile: Path
    target: str
    args: dict[str, str]
    place: Place
    inline: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host, or a named volume, inside the container.

    Attributes:
        host: absolute path, or ``None`` for a named volume.
        volume: its name, empty for a path.
        target: inside the container.
        place: in the file.
    """

    host: Path | None
    volume: str
    target: PurePosixPath
    place: Place


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a service waits for, and until when."""

    name: str
    condition: str
    required: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Health:
    """A health check; a ``kind`` of ``none`` is one that is switched off.

    Attributes:
        kind: ``http``, ``tcp``, ``none``.
        port: in the container, 0 when the test names none.
        path: of HTTP.
        interval_ms: between two checks.
        timeout_ms: of one.
        retries: failures in a row.
        start_ms: time to start in.
        text: the test as it was written.
        place: in the file.
    """

    kind: str
    port: int
    path: str
    interval_ms: int
    timeout_ms: int
    retries: int
    start_ms: int
    text: str
    place: Place


@dataclass
class ComposeService:
    """A service as Compose means it."""

    name: str
    place: Place
    image: str = ""
    build: Build | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    ports: list[Published] = field(default_factory=list)
    expose: list[int] = field(default_factory=list)
    depends: list[Dependency] = field(default_factory=list)
    health: Health | None = None
    limits: Limits = field(default_factory=Limits)
    restart: str = ""
    mounts: list[Mount] = field(default_factory=list)
    working_dir: str = ""
    aliases: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    stop_grace_ms: int = 0


def read_service(name: Scalar, section: Section, project: Project) -> ComposeService:
    """Read one service; wrong values are noted as mistakes, what is not carried over as notes."""
    note_keys(name.text, section, project.notes)
    deploy = section.section("deploy")
    if deploy:
        note_deploy(name.text, deploy, project.notes)
    service = ComposeService(
        name.text,
        name.place,
        image=section.text("image"),
        build=_build(section, project),
        command=_words(section, "command"),
        entrypoint=_words(section, "entrypoint"),
        environment=_environment(section, project),
        ports=read_ports(section, project.notes, name.text),
        expose=read_expose(section),
        depends=_depends(section),
        health=_health(section, project, name.text),
        limits=read_limits(section, deploy, project.notes, name.text),
        restart=section.text("restart"),
        mounts=_mounts(section, project, name.text),
        working_dir=section.text("working_dir"),
        aliases=_aliases(section, project, name.text),
        links={
            alias: target
            for target, sign, alias in (each.text.partition(":") for each in section.scalars("links"))
            if sign
        },
    )
    if section.has("stop_grace_period"):
        service.stop_grace_ms = duration_ms(section, "stop_grace_period", 0)
    if not service.image and service.build is None:
        section.mistakes.add(
            f"services.{name.text} has neither image nor build", name.place, "write image: NAME or build: ."
        )
    _replicas(name.text, section, deploy, project)
    return service


def _replicas(name: str, section: Section, deploy: Section | None, project: Project) -> None:
    for where, key in ((section, "scale"), (deploy, "replicas")):
        if where is None or not where.has(key):
            continue
        count = where.count(key, 1, least=0, most=10_000)
        if count != 1:
            text = f"{count} replicas: one process is started; copy the service under another name for more"
            project.notes.add(name, key, where.key_place(key), text, warn=True)


def _build(section: Section, project: Project) -> Build | None:
    node = section.node("build")
    if node is None:
        return None
    place, inline = section.place_of("build"), ""
    if isinstance(node, Scalar):
        context, dockerfile, target, args = node.text, DOCKERFILE, "", {}
        place = node.place
    else:
        inner = section.section("build")
        if inner is None:
            return None
        context, dockerfile, target = (
            inner.text("context", "."),
            inner.text("dockerfile", DOCKERFILE),
            inner.text("target"),
        )
        args_node = inner.node("args")
        args = _pairs(inner, "args") if isinstance(args_node, Mapping) else _listed(inner.scalars("args"))
        place, inline = inner.place_of("context"), inner.text("dockerfile_inline")
        project.notes.ignored(
            inner,
            tuple(key for key in inner.written() if key not in _BUILD_KEYS),
            "no image is built; its program runs from the folder of the build",
            section.where.partition(".")[2],
        )
    if "://" in context or context.startswith(("git@", "github.com/")):
        section.add("build", f"{context} is not a folder of this host", "clone it, and write the folder's path")
        return None
    folder = project.path_at(context, place)
    if not folder.is_dir():
        section.add(
            "build", f"there is no folder {context}", f"looked for {folder}; it is relative to the Compose file"
        )
        return None
    if not inline and not (folder / dockerfile).is_file():
        section.add("build", f"there is no {dockerfile} in {context}", f"looked for {folder / dockerfile}")
        return None
    return Build(folder, folder / dockerfile, target, args, place, inline)


def _pairs(section: Section, key: str) -> dict[str, str]:
    inner = section.section(key)
    return {name: inner.text(name) for name in inner.written()} if inner else {}


def _listed(items: list[Scalar]) -> dict[str, str]:
    return {name: value for name, _, value in (item.text.partition("=") for item in items)}


def _words(section: Section, key: str) -> tuple[str, ...] | None:
    """Read a command: a list of words, or a text that is split as a shell would (no shell runs)."""
    node = section.node(key)
    if node is None:
        written = {name.text: value for name, value in section.entries()}.get(key)
        return () if isinstance(written, Scalar) and written.quoted and not written.text else None
    if isinstance(node, Scalar):
        try:
            return tuple(shlex.split(node.text))
        except ValueError as error:
            section.add(key, f"cannot be split into words: {str(error).lower()}", "close the quote, or write a list")
            return None
    return tuple(item.text for item in section.scalars(key))


def _environment(section: Section, project: Project) -> dict[str, str]:
    """Read ``env_file`` and ``environment``; the second wins."""
    found: dict[str, str | None] = {}
    node = section.node("env_file")
    items = node.items if isinstance(node, Sequence) else (node,) if node else ()
    for item in items:
        found |= _env_file(item, section, project)
    inner = section.section("environment")
    for name, value in inner.entries() if inner else ():
        if isinstance(value, Scalar):
            found[name.text] = None if is_null(value) else value.text
        elif inner:
            inner.add(name.text, "here is one value meant", f"write {name.text}: value")
    service = section.where.partition(".")[2]
    kept: dict[str, str] = {}
    for key, text in found.items():
        given = project.variables.values.get(key) if text is None else text
        if given is None:
            place = inner.key_place(key) if inner else section.place
            project.notes.add(
                service, key, place, f"{key} has no value here and none in the shell: left out", warn=True
            )
            continue
        if "\0" in given:
            section.add("environment", f"{key} holds a NUL character", "remove it")
        kept[key] = given.replace("\0", "")
    return kept


def _env_file(item: Node, section: Section, project: Project) -> dict[str, str | None]:
    text, required = "", True
    if isinstance(item, Mapping):
        inner = Section(item, f"{section.where}.env_file", section.mistakes)
        text, required = (
            inner.text("path", required=True, hint="write path: .env"),
            inner.flag("required", default=True),
        )
        inner.text("format")
        inner.finish()
    elif isinstance(item, Scalar):
        text = item.text
    if not text:
        return {}
    path = project.path_at(text, item.place)
    if not path.is_file() and not required:
        service = section.where.partition(".")[2]
        project.notes.add(service, "env_file", item.place, f"{text} is missing and not required: left out", warn=True)
        return {}
    if not path.is_file():
        hint = f"looked for {path}; make it, or write - {{path: {text}, required: false}}"
        section.mistakes.add(f"{section.where}: env_file: there is no file {text}", item.place, hint)
        return {}
    try:
        return read_env_file(path, project.variables)
    except ConfigErrors as group:
        section.mistakes.take(group)
        return {}


def _depends(section: Section) -> list[Dependency]:
    found = []
    inner = section.section("depends_on")
    for name, node in inner.entries() if inner else ():
        entry = (
            Section(node, f"{section.where}.depends_on.{name.text}", section.mistakes)
            if isinstance(node, Mapping)
            else None
        )
        condition = entry.choice("condition", CONDITIONS, CONDITIONS[0]) if entry else CONDITIONS[0]
        required = entry.flag("required", default=True) if entry else True
        found.append(Dependency(name.text, condition, required, name.place))
    known = {dependency.name for dependency in found}
    for link in section.scalars("links"):
        target = link.text.partition(":")[0]
        if target not in known:
            found.append(Dependency(target, CONDITIONS[0], required=True, place=link.place))
    return found


def _health(section: Section, project: Project, name: str) -> Health | None:
    inner = section.section("healthcheck")
    if inner is None:
        return None
    node = inner.node("test")
    words = tuple(item.text for item in inner.scalars("test"))
    text = " ".join(words[1:] if words[:1] in {("CMD",), ("CMD-SHELL",)} else words)
    interval, timeout = duration_ms(inner, "interval", 30_000), duration_ms(inner, "timeout", 30_000)
    retries = inner.count("retries", 3, least=0, most=1_000) or 3
    start = duration_ms(inner, "start_period", 0)
    project.notes.ignored(inner, ("start_interval",), "readiness is asked for every 50 ms", name)
    off = inner.flag("disable", default=False) or words[:1] == ("NONE",)
    for key in inner.written():
        if key not in {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}:
            project.notes.add(
                name, f"healthcheck.{key}", inner.key_place(key), f"unknown key {key!r}: ignored", warn=True
            )
    if node is None and not off:
        inner.mistakes.add(
            f"{inner.where} has no test",
            inner.place,
            'write test: ["CMD", "curl", "-f", "http://localhost:PORT/health"]',
        )
        return None
    if isinstance(node, Sequence) and words and words[0] not in {"CMD", "CMD-SHELL", "NONE"}:
        inner.add("test", f"begins with {words[0]!r}", 'a list begins with "CMD", "CMD-SHELL" or "NONE"')
    kind, port, path = ("none", 0, "") if off else _test(text)
    if kind == "tcp":
        what = f"{text!r} is not run: it is asked whether the port takes connections"
        project.notes.add(name, "healthcheck", inner.key_place("test"), what)
    return Health(kind, port, path, interval, timeout, retries, start, text, inner.place_of("test"))


def _test(text: str) -> tuple[str, int, str]:
    """Find out what a test asks: a page, or only whether somebody listens."""
    if match := _HEALTH_URL.search(text):
        port = int(match[2]) if match[2] else 80 if match[1] == "http" else 443
        path = match[3].partition("#")[0] or "/"
        return ("http", port, path) if match[1] == "http" and path.startswith("/") else ("tcp", port, "")
    match = re.search(r"\bnc\b.*?(?:localhost|127\.0\.0\.1)\s+(\d{1,5})|/dev/tcp/[^/\s]+/(\d{1,5})", text, re.ASCII)
    return ("tcp", int(match[1] or match[2]), "") if match else ("tcp", 0, "")


def _mounts(section: Section, project: Project, name: str) -> list[Mount]:
    node = section.node("volumes")
    found = []
    for item in node.items if isinstance(node, Sequence) else ():
        mount = _long_mount(item, section, project) if isinstance(item, Mapping) else None
        if isinstance(item, Scalar):
            mount = _short_mount(item, project)
        if mount is None:
            continue
        if str(mount.host) in {"/var/run/docker.sock", "/run/docker.sock"}:
            text = "there is no container engine here: what needs its socket cannot work"
            project.notes.add(name, "volumes", item.place, text, warn=True)
        found.append(mount)
    if node is not None and not isinstance(node, Sequence):
        section.add("volumes", "here is a list meant", "write - ./folder:/folder")
    for key in ("secrets", "configs"):
        found += _files(section, key, project, name)
    return found


def _short_mount(item: Scalar, project: Project) -> Mount:
    source, sign, rest = item.text.partition(":")
    target = PurePosixPath((rest.partition(":")[0] or source) if sign else source)
    if not sign:
        return Mount(None, "", target, item.place)
    if source.startswith((".", "/", "~")):
        return Mount(project.path_at(source, item.place), "", target, item.place)
    return Mount(None, source, target, item.place)


def _long_mount(item: Mapping, section: Section, project: Project) -> Mount | None:
    inner = Section(item, f"{section.where}.volumes", section.mistakes)
    kind, source = inner.text("type", "volume"), inner.text("source")
    target = inner.text("target", required=True, hint="write target: /folder")
    if not target or kind not in {"bind", "volume"}:
        return None
    if kind == "bind":
        return Mount(project.path_at(source, inner.place_of("source")), "", PurePosixPath(target), item.place)
    return Mount(None, source, PurePosixPath(target), item.place)


def _files(section: Section, key: str, project: Project, name: str) -> list[Mount]:
    """Read secrets and configs that are files of this host; others are noted."""
    node = section.node(key)
    found = []
    known = {entry.text: value for entry, value in project.top[key].entries} if key in project.top else {}
    for item in node.items if isinstance(node, Sequence) else ():
        inner = Section(item, f"{section.where}.{key}", section.mistakes) if isinstance(item, Mapping) else None
        source = inner.text("source") if inner else item.text if isinstance(item, Scalar) else ""
        target = (inner.text("target") if inner else "") or (
            f"/run/secrets/{source}" if key == "secrets" else f"/{source}"
        )
        if key == "secrets" and not target.startswith("/"):
            target = f"/run/secrets/{target}"
        entry = known.get(source)
        file = (
            next((value for word, value in entry.entries if word.text == "file"), None)
            if isinstance(entry, Mapping)
            else None
        )
        if isinstance(file, Scalar):
            found.append(Mount(project.path_at(file.text, file.place), "", PurePosixPath(target), item.place))
        else:
            text = f"{source} is no file of this host: hand it to the program in env or a file"
            project.notes.add(name, key, item.place, text, warn=True)
    return found


def _aliases(section: Section, project: Project, name: str) -> list[str]:
    """Collect the names under which others reach this service."""
    found = [section.text("container_name"), section.text("hostname")]
    node = section.node("networks")
    if node is not None:
        text = "all processes of a fleet are on 127.0.0.1 and reach each other by port"
        project.notes.add(name, "networks", section.key_place("networks"), text)
    if isinstance(node, Mapping) and (inner := section.section("networks")):
        for network, value in inner.entries():
            if isinstance(value, Mapping):
                entry = Section(value, f"{inner.where}.{network.text}", section.mistakes)
                found += [alias.text for alias in entry.scalars("aliases")]
    if section.has("network_mode"):
        project.notes.add(
            name, "network_mode", section.key_place("network_mode"), "every process uses the host's network"
        )
    return [alias for alias in found if alias]
