"""Why it exists: an agent that is already an HTTP server becomes one of the fleet without a change of its code.

``http:`` in an agent's entry names the service that runs it (or a URL), and which of its operations are skills.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sutazai.spec.places import NOWHERE, Place

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.spec.section import Section

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SKILLS_MAX = 500
_SKILL = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_OPERATION = re.compile(r"([A-Za-z]+)\s+(/[^\s?#]*)", re.ASCII)
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)


@dataclass(frozen=True, slots=True)
class HttpSkill:
    """One operation of an HTTP server.

    Attributes:
        name: of the skill.
        method: in capitals.
        path: with ``{name}`` for each part that the caller gives.
        place: in the file.
    """

    name: str
    method: str
    path: str
    place: Place = NOWHERE

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in the path that the caller gives."""
        return tuple(_PARAMETER.findall(self.path))


@dataclass(frozen=True, slots=True)
class HttpAgent:
    """An HTTP server that is an agent.

    Attributes:
        service: that runs it, empty for a server outside of the fleet.
        url: of a server outside of the fleet, empty for a service.
        skills: operations by name; none means: all that ``openapi`` describes, or any request where there is none.
        openapi: absolute path of its OpenAPI document (JSON), empty for none.
        place: in the file.
    """

    service: str
    url: str
    skills: tuple[HttpSkill, ...]
    openapi: str
    place: Place = NOWHERE


def read_http(section: Section, folder: Path) -> HttpAgent | None:
    """Read ``http`` of an agent's entry.

    Args:
        section: the entry.
        folder: of the manifest; ``openapi`` is relative to it.
    """
    inner = section.section("http")
    if inner is None:
        return None
    service, url = inner.identifier("service", ""), inner.text("url")
    if bool(service) == bool(url):
        section.add("http", "one of service and url is needed", "service: the name of the service that runs it")
    if url and not _is_url(url):
        inner.add("url", f"{url!r} is no URL of a server", "write http://127.0.0.1:9000, without a path")
    openapi = inner.text("openapi")
    file = str((folder / openapi).resolve()) if openapi else ""
    if openapi and not (folder / openapi).is_file():
        hint = "it is relative to the manifest; save the server's /openapi.json"
        inner.add("openapi", f"there is no file {file}", hint)
    skills = _skills(inner)
    inner.finish()
    return HttpAgent(service, url.rstrip("/"), skills, file, section.key_place("http"))


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme == "http" and bool(parts.hostname) and parts.path in {"", "/"} and parts.port != 0
    except ValueError:
        return False


def _skills(section: Section) -> tuple[HttpSkill, ...]:
    skills = []
    for name, text in list(section.strings("skills").items())[:SKILLS_MAX]:
        match = _OPERATION.fullmatch(text.strip())
        if not _SKILL.fullmatch(name):
            section.add("skills", f"{name!r} is no name of a skill", "use lower case, digits and _: ask_question")
        elif match is None or match[1].upper() not in METHODS:
            section.add("skills", f"{name}: {text!r} is no operation", f"write {name}: POST /path")
        else:
            skills.append(HttpSkill(name, match[1].upper(), match[2], section.key_place("skills")))
    return tuple(skills)
