"""An OpenAPI document becomes skills: names, inputs, references; what is no such document is said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from sutazai.control.upstream import DOCUMENT_BYTES_MAX, read_upstream
from sutazai.spec import load

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.spec import Agent

NODE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "next": {"$ref": "#/components/schemas/Node"}},
    "required": ["name"],
}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/health": {"get": {"operationId": "health_health_get"}},
        "/trees/{tree}": {
            "parameters": [{"name": "tree", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "post": {
                "operationId": "plant_tree_trees__tree__post",
                "description": "Plant\n a tree.",
                "parameters": [
                    {"name": "deep", "in": "query", "required": True, "schema": {"type": "boolean"}},
                    {"name": "x-header", "in": "header", "schema": {"type": "string"}},
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Node"}}},
                },
            },
            "get": {"summary": "Look"},
        },
    },
    "components": {"schemas": {"Node": NODE, "Unused": {}}},
}


def agent(folder: Path, document: Any, skills: str = "") -> Agent:
    """An HTTP agent with a document."""
    (folder / "api.json").write_text(document if isinstance(document, str) else json.dumps(document))
    path = folder / "sutazai.yaml"
    more = f", skills: {skills}" if skills else ""
    path.write_text(f'fleet: t\nagents:\n  old:\n    http: {{url: "http://127.0.0.1:9", openapi: api.json{more}}}\n')
    return load(path).agents["old"]


def test_operations_become_skills(tmp_path: Path) -> None:
    """Named by operationId without its tail; parameters and body are one input; references work in the schema."""
    found, mistakes = read_upstream(agent(tmp_path, DOCUMENT))
    assert mistakes == []
    assert list(found.calls) == ["plant_tree", "get_trees_tree"], "the gateway's own /health is left out"
    assert found.calls["plant_tree"] == {"method": "POST", "path": "/trees/{tree}", "query": ["deep"]}
    plant, look = found.skills
    assert plant["description"] == "Plant a tree."
    assert look["description"] == "Look"
    assert list(plant["input"]["$defs"]) == ["Node"]
    validator = jsonschema_rs.validator_for(plant["input"])
    assert validator.is_valid({"tree": 1, "deep": True, "body": {"name": "a", "next": {"name": "b"}}})
    assert not validator.is_valid({"tree": 1, "deep": True, "body": {"name": "a", "next": {"name": 2}}})
    assert not validator.is_valid({"tree": 1, "body": {"name": "a"}}), "a required parameter of the query"
    assert not validator.is_valid({"tree": 1, "deep": True, "body": {"name": "a"}, "more": 1})


def test_chosen_operations(tmp_path: Path) -> None:
    """With ``skills`` only those are offered, under those names; a wrong one is a mistake that lists what there is."""
    found, mistakes = read_upstream(agent(tmp_path, DOCUMENT, '{grow: "POST /trees/{tree}", cut: POST /cut}'))
    assert list(found.calls) == ["grow"]
    (mistake,) = mistakes
    assert "has no POST /cut" in str(mistake)
    assert "POST /trees/{tree}" in mistake.hint


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{", "is no OpenAPI document"),
        ("[]", "is no OpenAPI 3 document"),
        ({"swagger": "2.0", "paths": {}}, "is no OpenAPI 3 document"),
        ({"openapi": "3.0.0", "paths": {}}, "describes no operation"),
        ("[" * 200_000, "is no OpenAPI document"),
        (" " * (DOCUMENT_BYTES_MAX + 1), "is larger than"),
    ],
)
def test_what_is_no_document(tmp_path: Path, document: Any, problem: str) -> None:
    """Each is told with the file and what to do."""
    _, mistakes = read_upstream(agent(tmp_path, document))
    (mistake,) = mistakes
    assert problem in str(mistake)
    assert mistake.hint


def test_a_server_that_nothing_describes(tmp_path: Path) -> None:
    """One skill makes any request; what is no path of this server is refused by its schema."""
    path = tmp_path / "sutazai.yaml"
    path.write_text('fleet: t\nagents:\n  old:\n    http: {url: "http://127.0.0.1:9"}\n')
    found, mistakes = read_upstream(load(path).agents["old"])
    assert mistakes == []
    assert list(found.calls) == ["request"]
    validator = jsonschema_rs.validator_for(found.skills[0]["input"])
    assert validator.is_valid({"method": "POST", "path": "/a/b", "query": {"n": 1}, "body": None})
    for wrong in ("http://elsewhere/", "a", "/a?b=c", "/a b"):
        assert not validator.is_valid({"method": "GET", "path": wrong})
    assert not validator.is_valid({"method": "CONNECT", "path": "/a"})


@pytest.mark.parametrize("route", ["items", "http://10.0.0.1/", "/a b", "/a\r\nX: 1", "/ä", "/a?b=1"])
def test_a_path_that_no_request_can_have(tmp_path: Path, route: str) -> None:
    """It is said when the plan is made, and not by each task that would use it."""
    found, mistakes = read_upstream(agent(tmp_path, {"openapi": "3.1.0", "paths": {route: {"get": {}}}}))
    assert found.skills == []
    assert "no request can have" in str(mistakes[0])


def test_long_names_hide_nobody(tmp_path: Path) -> None:
    """Operations whose names differ only behind the longest name that a skill may have are all there."""
    paths = {f"/{number}": {"get": {"operationId": "x" * 70 + str(number)}} for number in range(12)}
    found, mistakes = read_upstream(agent(tmp_path, {"openapi": "3.1.0", "paths": paths}))
    assert mistakes == []
    assert sorted(call["path"] for call in found.calls.values()) == sorted(paths)
    assert max(len(skill["name"]) for skill in found.skills) == 63
