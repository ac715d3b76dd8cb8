"""Why it exists: what an HTTP server can do becomes skills with schemas, before it runs, from what describes it.

The description is the server's own OpenAPI document (3.x, JSON), saved as a file, or a list of operations in the
manifest; without both, one skill makes any request. A skill's input has one property for each parameter of the path and
of the query, and ``body``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.errors import ConfigError
from sutazai.spec.http_agent import METHODS, SKILLS_MAX, HttpSkill

if TYPE_CHECKING:
    from sutazai.spec import Agent

SKILL_CHARACTERS_MAX = 63
DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
_REFERENCE = "#/components/schemas/"
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_ROUTE = re.compile(r"/[!-~]*", re.ASCII)
_WORD = re.compile(r"[^a-z0-9]+")

ANY = "*"
#: The skill of a server that nothing describes.
ANY_REQUEST: dict[str, Any] = {
    "name": "request",
    "description": "Make any request to the server; its answer is the result.",
    "input": {
        "type": "object",
        "properties": {
            "method": {"enum": list(METHODS)},
            "path": {"type": "string", "pattern": "^/[^?#\\s]*$", "description": "with its parts filled in"},
            "query": {"type": "object", "description": "parameters of the query"},
            "body": {"description": "sent as JSON"},
        },
        "required": ["method", "path"],
        "additionalProperties": False,
    },
    "output": {},
}

#: The gateway answers these itself, on every agent's port.
OWN_PATHS = ("/health", "/metrics", "/skills", "/tasks")


@dataclass(slots=True)
class Upstream:
    """A server as the plan file has it.

    Attributes:
        skills: ``{name, description, input, output}``, for every door.
        calls: ``{method, path, query}`` by skill, for the instance that makes the request.
    """

    skills: list[dict[str, Any]] = field(default_factory=list)
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_upstream(agent: Agent) -> tuple[Upstream, list[ConfigError]]:
    """Find the skills of an agent that is an HTTP server.

    Returns:
        Its skills, and what is wrong with its document.
    """
    found = Upstream()
    http = agent.http
    if http is None:
        return found, []
    if not http.skills and not http.openapi:
        found.skills.append(ANY_REQUEST)
        found.calls[ANY_REQUEST["name"]] = {"method": ANY, "path": ANY, "query": []}
        return found, []
    try:
        operations = _operations(Path(http.openapi)) if http.openapi else {}
    except ConfigError as error:
        return found, [error]
    place = {"path": http.place.path, "line": http.place.line, "column": http.place.column}
    mistakes: list[ConfigError] = []
    wanted = http.skills or tuple(_named(operations))
    for skill in wanted:
        operation = operations.get((skill.method, skill.path))
        if operation is None and operations:
            near = ", ".join(f"{method} {path}" for method, path in list(operations)[:8])
            problem = f"{agent.name}: {http.openapi} has no {skill.method} {skill.path}"
            mistakes.append(ConfigError(problem, **place, hint=f"it has {near}"))  # type: ignore[arg-type]
            continue
        _add(found, skill, operation or {})
    if not wanted:
        problem = f"{agent.name}: {http.openapi} describes no operation"
        mistakes.append(ConfigError(problem, **place, hint="write skills: {ask: POST /ask}"))  # type: ignore[arg-type]
    return found, mistakes


def _operations(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Read an OpenAPI document; gives its operations by method and path, references to schemas kept beside them."""
    try:
        if path.stat().st_size > DOCUMENT_BYTES_MAX:
            raise ConfigError(f"is larger than {DOCUMENT_BYTES_MAX} bytes", path=str(path), hint="name single skills")
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        hint = "save the server's /openapi.json again"
        raise ConfigError(f"is no OpenAPI document: {error}", path=str(path), hint=hint) from error
    paths = document.get("paths") if isinstance(document, dict) else None
    if not isinstance(paths, dict) or not str(document.get("openapi", "")).startswith("3."):
        hint = "save the server's /openapi.json; only OpenAPI 3 is understood"
        raise ConfigError("is no OpenAPI 3 document", path=str(path), hint=hint)
    components = document.get("components")
    schemas = components.get("schemas", {}) if isinstance(components, dict) else {}
    found = {}
    for route, item in paths.items():
        if not _ROUTE.fullmatch(route) or set(route) & set("?#"):
            hint = "a path begins with / and has only visible ASCII characters, others percent-encoded"
            raise ConfigError(f"has a path that no request can have: {route[:100]!r}", path=str(path), hint=hint)
        for method, operation in item.items() if isinstance(item, dict) else ():
            if method.upper() in METHODS and isinstance(operation, dict):
                shared = item.get("parameters") if isinstance(item.get("parameters"), list) else []
                parameters = [*shared, *(operation.get("parameters") or [])]
                found[method.upper(), str(route)] = {**operation, "parameters": parameters, "schemas": schemas}
    return found


def _named(operations: dict[tuple[str, str], dict[str, Any]]) -> list[HttpSkill]:
    """Name each operation: by its operationId as FastAPI makes it, without the path and method at its end."""
    names: dict[str, HttpSkill] = {}
    for (method, path), operation in list(operations.items())[:SKILLS_MAX]:
        if path in OWN_PATHS:
            continue
        words = _WORD.sub("_", str(operation.get("operationId") or "").lower()).strip("_")
        tail = "_" + _WORD.sub("_", f"{path}_{method}".lower()).strip("_")
        name = words.removesuffix(tail) or _WORD.sub("_", f"{method}_{path}".lower()).strip("_")
        name = name if name[:1].isalpha() else f"call_{name}"
        name, stem, number = name[:SKILL_CHARACTERS_MAX], name[: SKILL_CHARACTERS_MAX - 4], 2
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names[name] = HttpSkill(name, method, path)
    return list(names.values())


def _add(found: Upstream, skill: HttpSkill, operation: dict[str, Any]) -> None:
    properties: dict[str, Any] = {name: {"type": ["string", "number", "boolean"]} for name in skill.parameters}
    required = list(skill.parameters)
    query = []
    for parameter in operation.get("parameters", []):
        if not isinstance(parameter, dict) or parameter.get("in") not in {"path", "query"}:
            continue
        name = str(parameter.get("name"))
        properties[name] = _schema(parameter.get("schema"), parameter.get("description"))
        if parameter["in"] == "query":
            query.append(name)
            required += [name] if parameter.get("required") is True else []
    body, is_needed = _body(operation, skill.method)
    if body is not None:
        properties["body"] = body
        required += ["body"] if is_needed else []
    if not operation:
        properties["query"] = {"type": "object", "description": "parameters of the query"}
    text = operation.get("description") or operation.get("summary") or ""
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    used = _used(schema, operation.get("schemas", {}))
    found.skills.append(
        {
            "name": skill.name,
            "description": " ".join(str(text).split()) or f"{skill.method} {skill.path}",
            "input": _local({**schema, **({"$defs": used} if used else {})}),
            "output": {},
        }
    )
    found.calls[skill.name] = {"method": skill.method, "path": skill.path, "query": query}


def _schema(schema: Any, description: Any = None) -> dict[str, Any]:
    found = dict(schema) if isinstance(schema, dict) else {}
    return {**found, "description": str(description)} if description else found


def _body(operation: dict[str, Any], method: str) -> tuple[dict[str, Any] | None, bool]:
    """Find the schema of the body; None when there is none."""
    if not operation:
        return ({"description": "sent as JSON"}, False) if method in _WITH_BODY else (None, False)
    request = operation.get("requestBody")
    if not isinstance(request, dict):
        return None, False
    content = request.get("content")
    kinds = content if isinstance(content, dict) else {}
    json_kind = next((kind for kind in kinds if "json" in str(kind)), None)
    if json_kind is None:
        return {"description": "sent as JSON"}, request.get("required") is True
    return _schema(kinds[json_kind].get("schema")), request.get("required") is True


def _used(schema: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """Collect the schemas that one refers to, and those that they refer to."""
    found: dict[str, Any] = {}
    todo = [schema]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).removeprefix(_REFERENCE)
            if name in schemas and name not in found:
                found[name] = schemas[name]
                todo.append(schemas[name])
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    return found


def _local(node: Any) -> Any:
    """Let references point into the schema itself."""
    if isinstance(node, dict):
        return {
            key: f"#/$defs/{value.removeprefix(_REFERENCE)}"
            if key == "$ref" and isinstance(value, str) and value.startswith(_REFERENCE)
            else _local(value)
            for key, value in node.items()
        }
    return [_local(item) for item in node] if isinstance(node, list) else node
