"""Why it exists: other tools read SARIF 2.1.0 (an OASIS standard); this writes what the scan found as that."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from sutazai.agents.semgrep_security_analyzer.engine import Answer
    from sutazai.agents.semgrep_security_analyzer.models import Place, Rule, SecurityFinding

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "SRCROOT"
#: CVSS-like scores by which code hosts order results.
_SCORES = {
    ("error", "high"): "8.5",
    ("error", "medium"): "7.0",
    ("warning", "high"): "5.5",
    ("warning", "medium"): "4.0",
}


def write(answer: Answer, rules: dict[str, Rule], skipped: list[str]) -> dict[str, Any]:
    """Write a log with one run."""
    told = [*answer.findings, *answer.suppressed]
    used = sorted({item.rule for item in told})
    index = {name: number for number, name in enumerate(used)}
    marked = {id(item) for item in answer.suppressed}
    notifications = [{"level": "error", "message": {"text": text}} for text in answer.errors]
    notifications += [
        {"level": "note", "message": {"text": f"{name}: no rule is for this language"}} for name in skipped
    ]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "semgrep-core",
                        "version": answer.version,
                        "informationUri": "https://semgrep.dev",
                        "rules": [_rule(rules[name]) for name in used],
                    }
                },
                "columnKind": "utf16CodeUnits",
                "originalUriBaseIds": {ROOT: {"description": {"text": "the folder, or the files, that were given"}}},
                "invocations": [
                    {"executionSuccessful": not answer.errors, "toolExecutionNotifications": notifications}
                ],
                "artifacts": [{"location": _location_of(name)} for name in answer.scanned],
                "results": [_result(item, index[item.rule], suppressed=id(item) in marked) for item in told],
            }
        ],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    number = rule.cwe.removeprefix("CWE-")
    return {
        "id": rule.id,
        "name": rule.title,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.message},
        "helpUri": f"https://cwe.mitre.org/data/definitions/{number}.html",
        "defaultConfiguration": {"level": rule.severity},
        "properties": {
            "tags": ["security", f"external/cwe/{rule.cwe.lower()}"],
            "precision": rule.confidence,
            "security-severity": _SCORES.get((rule.severity, rule.confidence), "3.0"),
        },
    }


def _result(item: SecurityFinding, index: int, *, suppressed: bool) -> dict[str, Any]:
    identity = hashlib.sha256(f"{item.rule}\0{item.place.path}\0{' '.join(item.code.split())}".encode()).hexdigest()
    result: dict[str, Any] = {
        "ruleId": item.rule,
        "ruleIndex": index,
        "level": item.severity,
        "message": {"text": item.message},
        "locations": [{"physicalLocation": _physical(item.place, item.code)}],
        "partialFingerprints": {"ruleAndCode/v1": identity},
    }
    if item.trace:
        steps = [{"location": {"physicalLocation": _physical(place, "")}} for place in item.trace]
        result["codeFlows"] = [{"threadFlows": [{"locations": steps}]}]
    if suppressed:
        result["suppressions"] = [{"kind": "inSource", "status": "accepted"}]
    return result


def _physical(place: Place, code: str) -> dict[str, Any]:
    region: dict[str, Any] = {
        "startLine": place.line,
        "startColumn": place.column,
        "endLine": place.end_line,
        "endColumn": place.end_column,
    }
    if code:
        region["snippet"] = {"text": code}
    return {"artifactLocation": _location_of(place.path), "region": region}


def _location_of(path: str) -> dict[str, str]:
    return {"uri": quote(path), "uriBaseId": ROOT}
