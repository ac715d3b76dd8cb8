"""Why it exists: a fleet runs processes, not images: this finds the program, its folder and what must be installed.

A program can run without its image when the image is only a language (``python``, ``node`` …) and the files are a plain
copy, or a mount, of a folder of this host. Everything else is named with its reason; nothing is guessed.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sutazai.compose.dockerfile import Image, Words, host_folders
from sutazai.compose.images import is_base

if TYPE_CHECKING:
    from sutazai.compose.service import ComposeService

#: Placeholders of the manifest, written so that no text of the user's can be mistaken for one; see ``shown``.
OPEN, CLOSE = "\ue000", "\ue001"
PYTHON = f"{OPEN}python{CLOSE}"
STATE = f"{OPEN}state{CLOSE}"
PORT = f"{OPEN}port{CLOSE}"
SHELLS = ("sh", "bash", "ash", "dash")
#: Python programs that are started as modules, and how each is told its port when the command does not say it.
MODULES = {
    "uvicorn": ("--port", PORT),
    "fastapi": ("--port", PORT),
    "streamlit": ("--server.port", PORT),
    "flask": ("--port", PORT),
    "chainlit": ("--port", PORT),
    "gunicorn": ("--bind", f"127.0.0.1:{PORT}"),
    "hypercorn": ("--bind", f"127.0.0.1:{PORT}"),
    "celery": (),
    "alembic": (),
}
_DEFAULT_PORTS = {
    "uvicorn": 8000, "fastapi": 8000, "streamlit": 8501, "flask": 5000, "chainlit": 8000, "gunicorn": 8000,
    "hypercorn": 8000, "http.server": 8000,
}  # fmt: skip
_WRAPPERS = (
    ("uv", "run"),
    ("poetry", "run"),
    ("pipenv", "run"),
    ("tini", "--"),
    ("dumb-init", "--"),
    ("exec",),
    ("env",),
)
_PYTHON = re.compile(r"(?:/\S*/)?(?:python|pypy)[0-9.]*", re.ASCII)
_PYTHON_IN_LINE = re.compile(r"(^|[;&|(]\s*|\bexec\s+|\bthen\s+|\bdo\s+)(?:/\S*/)?python[0-9.]*(?=\s)")
_MODULE_IN_LINE = re.compile(rf"(^|[;&|(]\s*|\bexec\s+|\bthen\s+|\bdo\s+)({'|'.join(MODULES)})(?=\s)")
_SEVERAL = re.compile(r"[;&|<>()\n]")
_PORT_FLAG = re.compile(r"(?:--(?:[a-z]+[.-])?port|-p|-P|--bind|-b|--web\.listen-address)[= ]\S*?(\d{2,5})\b", re.ASCII)
_META = re.compile(r"[$&|;<>()*?~`\n{}]")
_SOURCE_FILES_MAX, _SOURCE_BYTES_MAX = 60, 256 * 1024
_READS_PORT = re.compile(r"""(?:environ(?:\.get)?[\[(]|getenv\(|process\.env[.\[]|ENV\[|Getenv\()\s*["']?PORT\b""")


@dataclass
class Program:
    """A program of this host.

    Attributes:
        argv: words; absolute paths in the container are host paths already.
        cwd: working folder on this host.
        env: the image's environment.
        expose: ports that the Dockerfile names.
        default_port: where it listens when it is told nothing, 0 when unknown.
        port_words: what tells it its port when it is told nothing.
        reads_port: whether its source asks for ``PORT``.
        prepare: what a person has to run first.
        remarks: what else a person should know.
    """

    argv: list[str]
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)
    expose: list[int] = field(default_factory=list)
    default_port: int = 0
    port_words: tuple[str, ...] = ()
    reads_port: bool = False
    prepare: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def find_program(service: ComposeService, image: Image | None, home: Path) -> Program | str:
    """Find what a service would run on this host.

    Args:
        service: of the Compose file.
        image: what its Dockerfile says; ``None`` when it has only an image.
        home: folder of the Compose file.

    Returns:
        The program, or the reason why there is none without the image.
    """
    base = image.base if image else service.image
    stage = image or Image(service.image)
    if not is_base(base):
        return f"it is inside the image {base}"
    argv = _argv(service, stage)
    if not argv or not argv[0]:
        return f"neither the Compose file nor the Dockerfile names its command, and {base} brings none of its own"
    return _Finder(service, stage, home).find(argv)


def _argv(service: ComposeService, image: Image) -> list[str]:
    entrypoint = _words(image.entrypoint) if service.entrypoint is None else list(service.entrypoint)
    if service.command is not None:
        command = list(service.command)
    else:
        command = _words(image.cmd) if service.entrypoint is None else []
    if service.entrypoint is None and image.entrypoint and image.entrypoint.for_shell:
        command = []  # a shell's line takes no arguments
    return [*entrypoint, *command]


def _words(words: Words | None) -> list[str]:
    if words is None:
        return []
    return ["/bin/sh", "-c", words.words[0]] if words.for_shell else list(words.words)


class _Finder:
    """Finds the program of one service."""

    def __init__(self, service: ComposeService, image: Image, home: Path) -> None:
        self._service, self._image, self._home = service, image, home
        self._context = service.build.context if service.build else None
        self._workdir = PurePosixPath("/") / (service.working_dir or image.workdir)

    def find(self, argv: list[str]) -> Program | str:
        argv = _unwrapped(argv)
        if not argv:
            return "its command is empty"
        folders = self._folders(self._workdir)
        if not folders:
            return self._no_files(argv)
        cwd = next((folder for folder in folders if self._holds(folder, argv)), folders[0])
        program = Program(argv, cwd, env=dict(self._image.env), expose=list(self._image.expose))
        program.env.pop("PATH", None)
        self._packages(program)
        problem = self._translate(program)
        if problem:
            return problem
        program.reads_port = _asks_for_port(cwd)
        return program

    def _no_files(self, argv: list[str]) -> Program | str:
        """Run what needs no file of its own, like ``sleep 5``; for the rest say why not."""
        if argv and "/" not in argv[0] and not any(_is_file_like(word) for word in argv):
            program = Program(
                argv, self._context or self._home, env=dict(self._image.env), expose=list(self._image.expose)
            )
            problem = self._translate(program)
            return problem or program
        where = f"{self._workdir} in the image"
        return f"its files are in {where}, which is no plain copy and no mount of a folder of this host"

    def _folders(self, inside: PurePosixPath) -> list[Path]:
        found = [
            mount.host / inside.relative_to(mount.target)
            for mount in sorted(self._service.mounts, key=lambda each: -len(each.target.parts))
            if mount.host and inside.is_relative_to(mount.target)
        ]
        if self._context:
            found += host_folders(self._image, inside, self._context)
        return [folder for folder in dict.fromkeys(found) if folder.is_dir()]

    def _holds(self, folder: Path, argv: list[str]) -> bool:
        """Tell whether a folder holds what the command names: a file, or a Python module."""
        names = [word for word in argv if _is_file_like(word) and not word.startswith("/")]
        names += [word.replace(".", "/") for flag, word in pairwise(argv) if flag == "-m"]
        names += [
            word.partition(":")[0].replace(".", "/")
            for word in argv
            if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", word)
        ]
        return any((folder / name).exists() or (folder / f"{name}.py").exists() for name in names)

    def _translate(self, program: Program) -> str:
        """Turn paths of the container into paths of this host, and interpreters into those that are here."""
        argv = program.argv
        if PurePosixPath(argv[0]).name in SHELLS and argv[1:2] == ["-c"] and len(argv) > 2:  # noqa: PLR2004 sh -c line
            line = argv[2].strip()
            if _META.search(line):
                python = self._python(program)
                argv[:2] = ["/bin/sh", "-c"]
                line = _PYTHON_IN_LINE.sub(lambda match: match[1] + python, self._in_line(line))
                line = _MODULE_IN_LINE.sub(lambda match: f"{match[1]}{python} -m {match[2]}", line)
                argv[2] = line if _SEVERAL.search(line) or line.startswith("exec ") else f"exec {line}"
                return ""
            try:
                program.argv = argv = _unwrapped(shlex.split(line))
            except ValueError:
                return f"its command cannot be split into words: {line}"
            if not argv or not argv[0]:
                return "its command is empty"
        name = argv[0]
        if _PYTHON.fullmatch(name) or PurePosixPath(name).name in MODULES:
            module = PurePosixPath(name).name
            if _PYTHON.fullmatch(name):
                module = "".join(argv[2:3]) if argv[1:2] == ["-m"] else ""
                argv[:1] = [self._python(program)]
            else:
                argv[:1] = [self._python(program), "-m", module]
            program.port_words = MODULES.get(module, ())
            program.default_port = _DEFAULT_PORTS.get(module, 0)
        for index, word in enumerate(argv):
            argv[index] = self._path(word, program)
        if argv[0].startswith("/") and not Path(argv[0]).exists():
            return f"its program {name} is made inside the image"
        return ""

    def _python(self, program: Program) -> str:
        """Name the interpreter: the project's own environment where it has one or needs one, else the fleet's."""
        root = self._context or program.cwd
        for name in (".venv", "venv"):
            if (root / name / "bin/python").exists():
                return os.path.relpath(root / name / "bin/python", program.cwd)
        return os.path.relpath(root / ".venv/bin/python", program.cwd) if program.prepare else PYTHON

    def _packages(self, program: Program) -> None:
        """Say what has to be installed first; an import installs nothing."""
        image, root = self._image, self._context
        if root is None:
            return
        folder = os.path.relpath(root, self._home)
        enter = "" if folder == "." else f"cd {shlex.quote(folder)} && "
        wanted = [f"-r {shlex.quote(os.path.relpath(path, root))}" for path in dict.fromkeys(image.requirements)]
        wanted += [
            package if package.startswith("-e ") else shlex.quote(package) for package in dict.fromkeys(image.packages)
        ]
        if wanted:
            program.prepare.append(f"{enter}python3 -m venv .venv && .venv/bin/pip install {' '.join(wanted)}")
        for line in dict.fromkeys(image.installs):
            inside = "POETRY_VIRTUALENVS_IN_PROJECT=1 " if line.startswith("poetry") else ""
            program.prepare.append(f"{enter}{inside}{line}")
        if image.system:
            program.remarks.append(f"its image installs programs of the system: {', '.join(image.system)}")

    def _in_line(self, line: str) -> str:
        return re.sub(r"(?<![\w/.:-])/[\w./-]+", lambda match: self._host_text(match[0]) or match[0], line)

    def _path(self, word: str, program: Program) -> str:
        flag, sign, value = word.partition("=") if word.startswith("-") else ("", "", word)
        if not value.startswith("/"):
            return word
        found = self._host_text(value)
        if found is None:
            if not Path(value).exists():
                program.remarks.append(f"{value} is a path inside the container; give it one of this host")
            return word
        return f"{flag}{sign}{found}"

    def _host_text(self, inside: str) -> str | None:
        return host_text(self._service, self._image, inside)


def host_text(service: ComposeService, image: Image, inside: str) -> str | None:
    """Write a path of the container as one of this host; a named volume is the service's own folder ``{state}``."""
    path = PurePosixPath(os.path.normpath(inside))
    volumes = [mount for mount in service.mounts if mount.host is None]
    for mount in sorted(service.mounts, key=lambda each: -len(each.target.parts)):
        if not path.is_relative_to(mount.target):
            continue
        rest = path.relative_to(mount.target)
        if mount.host is not None:
            return str(mount.host / rest)
        part = mount.volume if len(volumes) > 1 else ""
        return str(PurePosixPath(STATE) / part / rest)
    context = service.build.context if service.build else None
    if context is None:
        return None
    for copy in reversed(image.copies):
        if not copy.whole and path == copy.target and copy.source.is_file():
            return str(copy.source)
    for folder in host_folders(image, path.parent, context):
        if (folder / path.name).exists():
            return str(folder / path.name)
    folders = host_folders(image, path, context)
    return str(folders[0]) if folders else None


def port_in(argv: list[str]) -> int:
    """Find the port that a command names, 0 when it names none."""
    match = _PORT_FLAG.search(" ".join(argv))
    if match:
        return int(match[1])
    for flag, word in pairwise(argv):
        if flag == "http.server" and word.isdigit():
            return int(word)
    return 0


def _unwrapped(argv: list[str]) -> list[str]:
    """Take off what only wraps the program: an init, an environment runner, ``exec``."""
    while argv:
        name = PurePosixPath(argv[0]).name
        wrapper = next((words for words in _WRAPPERS if (name, *argv[1 : len(words)]) == words), None)
        if wrapper is None:
            return argv
        argv = argv[len(wrapper) :]
    return argv


def _is_file_like(word: str) -> bool:
    return bool(re.fullmatch(r"[\w./-]+\.(?:py|js|mjs|cjs|ts|sh|rb|go|jar|php)", word))


def _asks_for_port(folder: Path) -> bool:
    """Look into a program's source for the environment variable PORT, which every service with a port is handed."""
    count = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in {"node_modules", "venv"}
        )
        for name in sorted(names):
            path = Path(root) / name
            if path.suffix not in {".py", ".js", ".mjs", ".ts", ".rb", ".go"} or path.is_symlink():
                continue
            count += 1
            if count > _SOURCE_FILES_MAX:
                return False
            with path.open("rb") as file:
                if _READS_PORT.search(file.read(_SOURCE_BYTES_MAX).decode(errors="replace")):
                    return True
    return False
