"""Why it exists: every address in a Compose file means a container; here each gets the port where a process listens.

First the ports in the containers are found, then each gets one on the host, then commands and environments are
rewritten.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sutazai.compose.dockerfile import Image
from sutazai.compose.entry import MODEL, Entry
from sutazai.compose.links import LOOPBACK, Links, Target, own_value, own_words
from sutazai.compose.ports import PORTS_PER_SERVICE_MAX, PortDesk
from sutazai.compose.programs import CLOSE, OPEN, PORT, host_text, port_in
from sutazai.compose.report import LinkRow

if TYPE_CHECKING:
    from sutazai.compose.reading import Project

LLM_NAME = "llm"
LLM_PORT = f"{OPEN}port_of.llm{CLOSE}"
#: Names of the host itself; ports behind them are the host's and stay.
HOST_NAMES = ("host.docker.internal", "gateway.docker.internal", "host.containers.internal")


class Wiring:
    """Gives ports to entries and rewrites what points at them."""

    def __init__(
        self, project: Project, entries: list[Entry], desk: PortDesk, rows: list[LinkRow], out_folder: Path
    ) -> None:
        self._project, self._entries, self._desk, self._rows, self._out = project, entries, desk, rows, out_folder

    def run(self) -> None:
        """Do all steps."""
        self._inside_ports()
        self._give_ports()
        self._texts()

    def _inside_ports(self) -> None:
        """Find the ports in the containers: published, exposed, named by the command, the health check or others."""
        links = Links({name: Target(entry.name, {}, "") for entry in self._entries for name in hosts_of(entry)})
        wanted: dict[str, list[int]] = {}
        for entry in self._entries:
            for text in _all_texts(entry):
                for host, port in links.references(text):
                    wanted.setdefault(host, []).append(port)
        for entry in self._entries:
            source, program = entry.source, entry.program
            found = [port.inside for port in source.ports]
            found += [*source.expose, *(program.expose if program else entry.image.expose if entry.image else [])]
            named = port_in(program.argv) if program else 0
            found += [named] if named else []
            if program and program.default_port and not found and program.port_words:
                found.append(program.default_port)
            if source.health and source.health.port:
                found.append(source.health.port)
            if entry.known and source.entrypoint is None:
                found += list(entry.known.ports)
            asked = [port for host in hosts_of(entry) for port in wanted.get(host, [])]
            entry.inside = list(dict.fromkeys(found or asked))[:PORTS_PER_SERVICE_MAX]
            for port in dict.fromkeys(asked):
                if port not in entry.inside:
                    text = f"others ask it on port {port}, which is none of its own: they get its main one"
                    self._project.notes.add(source.name, "ports", source.place, text, warn=True)

    def _give_ports(self) -> None:
        order = sorted(self._entries, key=lambda entry: not self._is_fixed(entry))
        llm_seen = False
        for entry in order:
            published = {port.inside: port.host for port in entry.source.ports if port.host}
            if entry.becomes == MODEL:
                if not llm_seen:
                    self._desk.llm(11434, published.get(11434, 0))
                llm_seen = True
                continue
            fixed = self._is_fixed(entry)
            for index, inside in enumerate(entry.inside):
                blueprint = entry.known.ports.get(inside, 0) if entry.known else 0
                host = inside if fixed and index == 0 else published.get(inside, 0)
                number = self._desk.give(entry.name, inside, host, blueprint)
                if number:
                    entry.ports[inside] = number
                else:
                    text = f"port {inside} got none: all of the reserved range is given"
                    self._project.notes.add(entry.source.name, "ports", entry.source.place, text, warn=True)
            self._say_fixed(entry, fixed=fixed)

    def _is_fixed(self, entry: Entry) -> bool:
        """Tell whether a program can only listen where its own code says: nothing tells it a port."""
        program = entry.program
        if not entry.runs or program is None or not entry.inside:
            return False
        inside = entry.inside[0]
        ports = {inside: PORT}
        words = own_words(program.argv, ports)
        env = {**program.env, **entry.source.environment}
        told = any(PORT in word for word in words) or any(
            PORT in own_value(key, text, ports) for key, text in env.items()
        )
        return not (told or program.port_words or program.reads_port)

    def _say_fixed(self, entry: Entry, *, fixed: bool) -> None:
        if not fixed:
            return
        inside, number = entry.inside[0], entry.ports.get(entry.inside[0], 0)
        if number == inside:
            text = (
                f"nothing tells the program its port: it keeps {inside}, where its code listens, whatever port_offset"
            )
        else:
            text = f"nothing tells the program its port; make it listen on the variable PORT, which is {number}"
        self._project.notes.add(entry.source.name, "ports", entry.source.place, text, warn=True)
        entry.comments.append(text)

    def _targets(self) -> dict[str, Target]:
        found = {name: Target(name, {}, "") for name in HOST_NAMES}
        for entry in self._entries:
            if entry.becomes == MODEL:
                target = Target(LLM_NAME, dict.fromkeys(entry.inside, LLM_PORT), LLM_PORT)
            else:
                names = entry.port_names()
                ports = {
                    inside: f"{OPEN}port_of.{entry.name}{'' if name == 'main' else f'.{name}'}{CLOSE}"
                    for inside, name in names.items()
                }
                target = Target(entry.name, ports, next(iter(ports.values()), ""))
            found |= dict.fromkeys(hosts_of(entry), target)
        return found

    def _texts(self) -> None:
        targets = self._targets()
        links = Links(targets)
        for entry in self._entries:
            if not entry.runs or entry.program is None:
                continue
            program = entry.program
            own = {
                inside: PORT if name == "main" else f"{OPEN}port.{name}{CLOSE}"
                for inside, name in entry.port_names().items()
            }
            raw = {**program.env, **entry.source.environment}
            env = {key: self._host_paths(entry, key, text) for key, text in raw.items()}
            linked = links.rewrite_env(env)
            linked = {key: own_value(key, text, own) if text == env[key] else text for key, text in linked.items()}
            if linked.get("PORT") == PORT:
                del linked["PORT"]  # every service with a port is handed it
            argv = own_words(program.argv, own)
            if program.port_words and own and not any(PORT in word for word in argv):
                argv += program.port_words
            words = [links.rewrite(word) for word in argv]
            changed = [
                (key, env[key], text) for key, text in linked.items() if LOOPBACK in text or f"{OPEN}port_of" in text
            ]
            changed += [("command", old, new) for old, new in zip(argv, words, strict=True) if old != new]
            self._rows += [
                LinkRow(entry.name, *(_masked(shown(text)) for text in row)) for row in changed if row[1] != row[2]
            ]
            entry.env = linked
            entry.argv = [self._relative(word, program.cwd) for word in words]
            entry.cwd = os.path.relpath(program.cwd, self._out)

    def _host_paths(self, entry: Entry, key: str, text: str) -> str:
        """Turn a value that is a path of the container into one of this host, where there is one."""
        if not text.startswith("/") or key == "PATH":
            return text
        image = entry.image or Image(entry.source.image)
        parts = [
            host_text(entry.source, image, part) or part if part.startswith("/") else part for part in text.split(":")
        ]
        return ":".join(self._relative(part, None) for part in parts)

    def _relative(self, word: str, cwd: Path | None) -> str:
        """Write a path of this host so that the folder can be moved: relative, or from the manifest's own folder."""
        flag, sign, value = word.partition("=") if word.startswith("-") else ("", "", word)
        if not value.startswith("/") or not Path(value).is_relative_to(self._project.folder):
            return word
        path = Path(value)
        if cwd is not None and path.is_relative_to(cwd):
            return f"{flag}{sign}{path.relative_to(cwd)}"
        return f"{flag}{sign}{OPEN}folder{CLOSE}/{os.path.relpath(path, self._out)}"


def shown(text: str) -> str:
    """Write a text as the manifest has it: braces doubled, placeholders in single ones."""
    return text.replace("{", "{{").replace("}", "}}").replace(OPEN, "{").replace(CLOSE, "}")


def _masked(text: str) -> str:
    """Write an address without its password: a report is shown to others."""
    return re.sub(r"(://[^:/@\s]*:)[^@/\s]+@", r"\1***@", text)


def hosts_of(entry: Entry) -> list[str]:
    """Names under which others reach a service."""
    return list(dict.fromkeys([entry.source.name, *entry.source.aliases]))


def _all_texts(entry: Entry) -> list[str]:
    source = entry.source
    return [*source.environment.values(), *(source.command or ()), *(entry.program.argv if entry.program else ())]
