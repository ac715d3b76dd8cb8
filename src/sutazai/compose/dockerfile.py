"""Why it exists: what a build context runs, and where its files are in the container, stands in its Dockerfile.

A simple Dockerfile is read, none is run: ``FROM``, ``ARG``, ``ENV``, ``WORKDIR``, ``COPY``, ``ADD``, ``EXPOSE``,
``CMD`` and ``ENTRYPOINT`` of the wanted stage and of those it is built on. ``RUN`` lines tell
what has to be installed first.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from sutazai.errors import ConfigErrors
from sutazai.spec.document import read_text
from sutazai.spec.places import Place, fail

#: Programs that bring a project's packages; they are repeated by the person who takes the fleet over.
_INSTALLERS = re.compile(r"\b(?:uv sync|(?:poetry|pipenv|yarn|pnpm|bun) install|npm (?:ci|install)|yarn)\b[^&|;]*")
_PIP = re.compile(r"\bpip[0-9.]*\s+install\s+([^&|;]*)|\buv\s+pip\s+install\s+([^&|;]*)")
_APT = re.compile(r"\b(?:apt-get|apt|apk)\s+(?:-\S+\s+)*(?:install|add)\s+([^&|;]*)")
_HEREDOC = re.compile(r"<<-?\s*[\"']?([A-Za-z_][A-Za-z0-9_]*)")
_VARIABLE = re.compile(r"\\\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-+])([^}]*))?\}|\$([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
ROOT = PurePosixPath("/")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Copy:
    """Files of the build context inside the image.

    Attributes:
        source: on this host; for a pattern, the folder that holds the matches.
        target: in the image, absolute.
        whole: whether ``target`` is all of the folder ``source``, not single files of it.
    """

    source: Path
    target: PurePosixPath
    whole: bool


@dataclass(frozen=True, slots=True)
class Words:
    """A command: words, or a line for a shell."""

    words: tuple[str, ...]
    for_shell: bool = False


@dataclass
class Image:
    """What a stage of a Dockerfile makes.

    Attributes:
        base: the image that it begins with, outside of this Dockerfile.
        workdir: in the image, absolute.
        env: environment.
        copies: files of the context.
        expose: ports.
        cmd: words, if there are any.
        entrypoint: words, if there are any.
        requirements: files of Python packages, on this host.
        packages: Python packages named one by one.
        installs: other installers' lines.
        system: packages of the operating system.
        from_stages: whether files come out of another stage.
    """

    base: str
    workdir: PurePosixPath = ROOT
    env: dict[str, str] = field(default_factory=dict)
    copies: list[Copy] = field(default_factory=list)
    expose: list[int] = field(default_factory=list)
    cmd: Words | None = None
    entrypoint: Words | None = None
    requirements: list[Path] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    installs: list[str] = field(default_factory=list)
    system: list[str] = field(default_factory=list)
    from_stages: bool = False

    def copied(self) -> Image:
        """Make one that a later stage may change."""
        return replace(
            self,
            env=dict(self.env),
            copies=list(self.copies),
            expose=list(self.expose),
            requirements=list(self.requirements),
            packages=list(self.packages),
            installs=list(self.installs),
            system=list(self.system),
        )


def read_dockerfile(path: Path, context: Path, *, target: str = "", args: dict[str, str], inline: str = "") -> Image:
    """Read a Dockerfile.

    Raises:
        ConfigErrors: it cannot be read, has no ``FROM``, or not the wanted stage.
    """
    text = inline or read_text(path, hint="a Dockerfile begins with FROM image")
    reader = _Reader(context, args)
    for word, rest in _instructions(text):
        reader.take(word, rest)
    place = Place(str(path), 1, 1)
    if reader.image is None:
        raise fail("has no FROM line", place, "a Dockerfile begins with FROM image")
    if not target:
        return reader.image
    wanted = reader.stages.get(target.lower())
    if wanted is None:
        raise fail(f"has no stage {target!r}", place, f"its stages are: {', '.join(reader.stages) or 'without names'}")
    return wanted


def _instructions(text: str) -> list[tuple[str, str]]:
    """Split a Dockerfile into instructions; continued lines are joined, comments and here-documents left out."""
    found: list[tuple[str, str]] = []
    lines = iter(text.splitlines())
    escape = "`" if re.match(r"\s*#\s*escape\s*=\s*`", text) else "\\"
    for raw in lines:
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        while line.endswith(escape):
            follow = next(lines, None)
            if follow is None:
                break
            if follow.strip().startswith("#") or not follow.strip():
                continue
            line = line[:-1].rstrip() + " " + follow.strip()
        word, _, rest = line.partition(" ")
        if match := _HEREDOC.search(rest):
            body = []
            for inner in lines:
                if inner.strip() == match[1]:
                    break
                body.append(inner.strip())
            rest = "; ".join(body) if word.upper() == "RUN" else rest
        found.append((word.upper(), rest.strip()))
    return found


class _Reader:
    """Takes one instruction after the other."""

    def __init__(self, context: Path, args: dict[str, str]) -> None:
        self._context, self._given = context, args
        self._args: dict[str, str] = {}
        self.stages: dict[str, Image] = {}
        self.image: Image | None = None

    def take(self, word: str, rest: str) -> None:
        """Read one instruction; those that say nothing about running are passed over."""
        handler = getattr(self, f"_{word.lower()}", None) if word.isalpha() else None
        if word in {"FROM", "ARG"}:
            self._from(rest) if word == "FROM" else self._arg(rest)
        elif handler is not None and self.image is not None and word in _KNOWN:
            handler(self.image, rest)

    def _fill(self, text: str) -> str:
        known = {**self._args, **(self.image.env if self.image else {})}

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[4]
            if name is None:
                return "$"
            have = known.get(name, "")
            if match[2] and match[2].endswith("-"):
                return have or match[3]
            return (match[3] if have else "") if match[2] else have

        return _VARIABLE.sub(value, text)

    def _from(self, rest: str) -> None:
        words = [word for word in self._fill(rest).split() if not word.startswith("--")]
        if not words:
            return
        known = self.stages.get(words[0].lower())
        self.image = known.copied() if known else Image(words[0])
        named = len(words) > 2 and words[1].lower() == "as"  # noqa: PLR2004 FROM a AS b
        self.stages[words[2].lower() if named else str(len(self.stages))] = self.image

    def _arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        self._args[name.strip()] = self._given.get(name.strip(), self._fill(default.strip().strip("\"'")))

    def _env(self, image: Image, rest: str) -> None:
        if re.match(r"[A-Za-z_][A-Za-z0-9_]*\s+[^=]*$", rest) or "=" not in rest.split(" ", 1)[0]:
            name, _, value = rest.partition(" ")
            image.env[name] = self._fill(value.strip())
            return
        for pair in _split(rest):
            name, _, value = pair.partition("=")
            image.env[name] = self._fill(value)

    def _workdir(self, image: Image, rest: str) -> None:
        image.workdir = _join(image.workdir, self._fill(rest).strip("\"'"))

    def _expose(self, image: Image, rest: str) -> None:
        for word in self._fill(rest).split():
            number, _, protocol = word.partition("/")
            if _PORT.fullmatch(number) and protocol.lower() in {"", "tcp"} and int(number) not in image.expose:
                image.expose.append(int(number))

    def _cmd(self, image: Image, rest: str) -> None:
        image.cmd = self._command(rest)

    def _entrypoint(self, image: Image, rest: str) -> None:
        image.entrypoint = self._command(rest)
        image.cmd = None

    def _command(self, rest: str) -> Words:
        if rest.startswith("["):
            try:
                return Words(tuple(str(word) for word in json.loads(rest)))
            except ValueError:
                return Words((rest,), for_shell=True)
        return Words((rest,), for_shell=True)

    def _add(self, image: Image, rest: str) -> None:
        self._copy(image, rest)

    def _copy(self, image: Image, rest: str) -> None:
        flags = re.match(r"(?:--\S+\s+)*", rest)
        if flags and "--from=" in flags[0]:
            image.from_stages = True
            return
        body = self._fill(rest[flags.end() if flags else 0 :])
        try:
            words = [str(word) for word in json.loads(body)] if body.startswith("[") else _split(body)
        except ValueError:
            return
        if len(words) < 2:  # noqa: PLR2004 source and target
            return
        *sources, last = words
        target = _join(image.workdir, last)
        for source in sources:
            if "://" in source or source.startswith("<<"):
                continue
            self._copy_one(image, source, target, into=last.endswith(("/", ".")) or len(sources) > 1)

    def _copy_one(self, image: Image, source: str, target: PurePosixPath, *, into: bool) -> None:
        if any(sign in source for sign in "*?["):
            folder = (self._context / source.lstrip("/")).parent
            image.copies.append(Copy(folder, target, whole=False))
            return
        path = self._context / source.lstrip("/")
        if path.is_dir():
            image.copies.append(Copy(_clean(path), target, whole=True))
        else:
            image.copies.append(Copy(_clean(path), target / path.name if into else target, whole=False))

    def _run(self, image: Image, rest: str) -> None:
        text = self._fill(rest)
        for match in _PIP.finditer(text):
            self._pip(image, _split(match[1] or match[2] or ""))
        image.installs += [match[0].strip() for match in _INSTALLERS.finditer(text)]
        for match in _APT.finditer(text):
            image.system += [word for word in _split(match[1]) if not word.startswith("-") and word not in image.system]

    def _pip(self, image: Image, words: list[str]) -> None:
        rest = iter(words)
        for word in rest:
            if word in {"-r", "--requirement"}:
                named = next(rest, "")
                folder = host_folder(image, _join(image.workdir, named).parent, self._context)
                image.requirements.append((folder or self._context) / PurePosixPath(named).name)
            elif word in {"-e", "--editable"}:
                image.packages.append("-e " + next(rest, "."))
            elif word in {
                "-i",
                "--index-url",
                "--extra-index-url",
                "-f",
                "--find-links",
                "--trusted-host",
                "-c",
                "--timeout",
            }:
                next(rest, "")
            elif not word.startswith("-") and word not in {"pip", "setuptools", "wheel", "\\"}:
                image.packages.append(word)


_KNOWN = ("ENV", "WORKDIR", "EXPOSE", "CMD", "ENTRYPOINT", "ADD", "COPY", "RUN")


def host_folder(image: Image, inside: PurePosixPath, context: Path) -> Path | None:
    """Find the folder of this host whose files are in a folder of the image; ``None`` when there is none."""
    found = host_folders(image, inside, context)
    return found[0] if found else None


def host_folders(image: Image, inside: PurePosixPath, context: Path) -> list[Path]:
    """Find all folders of this host whose files are in a folder of the image, the best first."""
    whole: list[Path] = []
    parts: list[Path] = []
    for copy in reversed(image.copies):
        if copy.whole and inside.is_relative_to(copy.target):
            whole.append(copy.source / inside.relative_to(copy.target))
            continue
        if not copy.target.is_relative_to(inside):
            continue
        rest = copy.target.relative_to(inside).parts
        if not copy.whole and not copy.target.suffix and copy.source.is_dir():  # a pattern
            rest = (*rest, "*")
            source = copy.source / "*"
        else:
            source = copy.source
        if rest and source.parts[-len(rest) :] == rest:
            parts.append(Path(*source.parts[: -len(rest)]))
        elif not copy.whole and len(rest) == 1:
            parts.append(source.parent)
    found = dict.fromkeys(path for path in (*whole, *parts) if path.is_dir() and path.is_relative_to(context))
    return list(found)


def _clean(path: Path) -> Path:
    import os

    return Path(os.path.normpath(path))


def _join(base: PurePosixPath, text: str) -> PurePosixPath:
    import posixpath

    return PurePosixPath(posixpath.normpath(base / text))


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def try_dockerfile(path: Path, context: Path, target: str, args: dict[str, str], inline: str) -> Image | ConfigErrors:
    """Read a Dockerfile, or give the mistakes instead of raising them."""
    try:
        return read_dockerfile(path, context, target=target, args=args, inline=inline)
    except ConfigErrors as group:
        return group
