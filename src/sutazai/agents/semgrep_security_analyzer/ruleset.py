"""Why it exists: the rules are data of this agent, written for it, and one file for the engine."""

from __future__ import annotations

import functools
from pathlib import Path

from sutazai.agents.semgrep_security_analyzer.models import Rule

LANGUAGES = {
    ".py": "python",
    ".js": "javascript",
    ".jsx": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".ts": "typescript",
    ".tsx": "typescript",
    ".go": "go",
    ".sh": "bash",
}
DOCKERFILE = "Dockerfile"


def language(name: str) -> str | None:
    """Find the language of a file by its name; ``None`` when there is no rule for it."""
    path = Path(name)
    if path.name.startswith(DOCKERFILE) or path.suffix == f".{DOCKERFILE.lower()}":
        return "dockerfile"
    return LANGUAGES.get(path.suffix.lower())


@functools.cache
def text() -> str:
    """Put the rule files together."""
    folder = Path(__file__).parent
    parts = [file.read_text().partition("rules:\n")[2] for file in sorted(folder.glob("rules_*.yaml"))]
    return "rules:\n" + "".join(parts)


@functools.cache
def rules() -> dict[str, Rule]:
    """Read what is told of each rule."""
    import yaml

    found = {}
    for entry in yaml.safe_load(text())["rules"]:
        facts = entry["metadata"]
        found[entry["id"]] = Rule(
            id=entry["id"],
            title=facts["title"],
            cwe=facts["cwe"],
            severity=entry["severity"].lower(),
            confidence=facts["confidence"],
            languages=entry["languages"],
            message=entry["message"],
        )
    return found
