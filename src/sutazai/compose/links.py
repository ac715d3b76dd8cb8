"""Why it exists: containers find each other by name; processes of one machine find each other by port.

``http://ollama:11434`` becomes ``http://127.0.0.1:{port_of.llm}``: the placeholder is filled when the fleet starts, so
that another ``port_offset`` moves both ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
_HOST_KEY = re.compile(r"(?:HOST|HOSTNAME|SERVER|ADDR|ADDRESS|ENDPOINT)S?$", re.IGNORECASE)
_BIND_KEY = re.compile(r"(?:HOST|BIND|ADDR|ADDRESS|LISTEN|IP)", re.IGNORECASE)
_ANY = re.compile(r"(?<![\w.\[])(?:0\.0\.0\.0|\[::\])(?=[:/\s,\"']|$)")
_PORT_WORD = re.compile(r"port|bind|listen|addr|^-[pPbl]$|^http\.server$", re.IGNORECASE)
_PORT_FLAG = r"(?:--?[a-z.-]*(?:port|bind|listen|addr)[a-z.-]*|(?<=\s)-[pPbl]|http\.server)"
_SCHEME_PORTS = {"http": 80, "ws": 80, "https": 443, "redis": 6379, "postgres": 5432, "postgresql": 5432, "amqp": 5672}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a name leads.

    Attributes:
        name: in the manifest.
        ports: port in the container → what is written for it: a placeholder, or a number where nothing runs.
        main: what is written when no port is named.
    """

    name: str
    ports: dict[int, str]
    main: str

    def port(self, inside: int) -> str:
        """Text for a port of the container; one that is not its own becomes its main one."""
        return self.ports.get(inside, self.main or str(inside))


class Links:
    """Rewrites addresses in texts whose braces are doubled already."""

    def __init__(self, targets: dict[str, Target]) -> None:
        self._targets = targets
        names = "|".join(re.escape(name) for name in sorted(targets, key=len, reverse=True)) or "(?!)"
        self._url = re.compile(
            rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<user>[^/@\s,]*@)?(?P<host>{names})(?::(?P<port>\d{{1,5}}))?(?=[/?#,\s\"']|$)",
            re.ASCII,
        )
        self._pair = re.compile(rf"(?<![\w@/.-])(?P<host>{names}):(?P<port>\d{{1,5}})(?![\w.])", re.ASCII)

    def references(self, text: str) -> list[tuple[str, int]]:
        """List the names with a port that a text holds: what a service must be listening on."""
        found = [(match["host"], int(match["port"])) for match in self._url.finditer(text) if match["port"]]
        return found + [(match["host"], int(match["port"])) for match in self._pair.finditer(text)]

    def rewrite(self, text: str) -> str:
        """Rewrite the addresses in a text."""
        return self._pair.sub(self._of_pair, self._url.sub(self._of_url, text))

    def rewrite_env(self, env: dict[str, str]) -> dict[str, str]:
        """Rewrite an environment; ``X_HOST: name`` and ``X_PORT: number`` beside it belong together."""
        found = {}
        for key, text in env.items():
            new = self.rewrite(text)
            if new == text and text in self._targets and _HOST_KEY.search(key):
                new = LOOPBACK
                target, sibling = self._targets[text], _HOST_KEY.sub("PORT", key)
                value = env.get(sibling, "")
                if value.isdigit() and int(value) in target.ports:
                    found[sibling] = target.port(int(value))
            elif new == text and (named := self._named(key)) and text.isdigit():
                new = named.port(int(text))
            found.setdefault(key, new)
        return {key: found[key] for key in env}

    def _named(self, key: str) -> Target | None:
        """Find the service that a variable like ``CHROMA_PORT`` is about."""
        prefix, sign, _ = key.lower().rpartition("_port")
        return next(
            (self._targets[name] for name in (prefix, prefix.replace("_", "-")) if sign and name in self._targets), None
        )

    def _of_url(self, match: re.Match[str]) -> str:
        target = self._targets[match["host"]]
        scheme = match["scheme"]
        if match["port"]:
            port = target.port(int(match["port"]))
        else:
            default = _SCHEME_PORTS.get(scheme.partition("+")[0], 0)
            port = target.ports.get(default, target.main)
        return f"{scheme}://{match['user'] or ''}{LOOPBACK}{':' if port else ''}{port}"

    def _of_pair(self, match: re.Match[str]) -> str:
        return f"{LOOPBACK}:{self._targets[match['host']].port(int(match['port']))}"


def own_value(key: str, text: str, ports: dict[int, str]) -> str:
    """Write a program's own port in a variable as its placeholder, and every address it listens on as loopback.

    Args:
        key: name of the variable.
        text: its value.
        ports: port in the container → placeholder.
    """
    if _BIND_KEY.search(key):
        text = _ANY.sub(LOOPBACK, text)
    for inside, placeholder in ports.items():
        if text == str(inside) and "PORT" in key.upper():
            return placeholder
        text = re.sub(rf"((?:127\.0\.0\.1|localhost):){inside}(?!\w)", rf"\g<1>{placeholder}", text)
    return text


def own_words(argv: list[str], ports: dict[int, str]) -> list[str]:
    """The same for a command: what follows a flag about ports or addresses, or a colon."""
    found = []
    before = ""
    for word in argv:
        text = _ANY.sub(LOOPBACK, word)
        for inside, placeholder in ports.items():
            if text == str(inside) and _PORT_WORD.search(before):
                text = placeholder
            text = re.sub(
                rf"({_PORT_FLAG}[= ]\S*?|(?:127\.0\.0\.1|localhost|^):){inside}(?![\w.])", rf"\g<1>{placeholder}", text
            )
        found.append(text)
        before = word
    return found
