"""Why it exists: semgrep's engine is run as a program, without its command line, and its answer is read with care.

The engine is the OCaml program inside of semgrep's wheel, in an environment of its own (docs/adr/0018). It opens no
network connection; the parts of semgrep that do (metrics, version check, rule registry) are in the command line, which
is not installed. Its arguments are not a public interface, so the version is pinned in ``requirements/env-semgrep.in``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.agents.semgrep_security_analyzer import ruleset
from sutazai.agents.semgrep_security_analyzer.models import Place, SecurityFinding
from sutazai.runtime import files
from sutazai.runtime.programs import MissingProgramError, ProgramFailedError, environment, run, short

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = "semgrep"
INSTALL = "scripts/bootstrap env-semgrep"
FILE_SECONDS_MAX = 5
MEMORY_MB_MAX = 200
TEXT_CHARACTERS_MAX = 400
_TRACE_PLACES_MAX = 20
_ORDER = {"error": 0, "warning": 1}
_SURE = {"high": 0, "medium": 1, "low": 2}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine found.

    Attributes:
        findings: the worst first.
        suppressed: marked with ``nosemgrep``.
        scanned: names of files.
        errors: in words.
        version: of the engine.
    """

    findings: list[SecurityFinding]
    suppressed: list[SecurityFinding]
    scanned: list[str]
    errors: list[str]
    version: str


def program() -> Path:
    """Find the engine.

    Raises:
        MissingProgramError: it is not installed.
    """
    place = environment(ENVIRONMENT)
    for found in place.glob("lib/python3*/site-packages/semgrep/bin/semgrep-core"):
        return found
    raise MissingProgramError(f"semgrep is not installed here: run `{INSTALL}` in the checkout")


def scan(texts: dict[str, str], folder: Path, timeout_s: float) -> Answer:
    """Scan texts.

    Args:
        texts: by relative name; all in a language that there are rules for.
        folder: to work in; files are made there.
        timeout_s: for all of it.

    Raises:
        MissingProgramError: there is no engine.
        ProgramFailedError: it took too long, too much memory, or ended without an answer.
    """
    core = program()
    source = folder / "source"
    files.write_tree(source, texts)
    (folder / "rules.yaml").write_text(ruleset.text())
    targets = [
        [
            "CodeTarget",
            {
                "path": {"fpath": str(source / name), "ppath": f"/{name}"},
                "analyzer": ruleset.language(name),
                "products": ["sast"],
            },
        ]
        for name in texts
    ]
    (folder / "targets.json").write_text(json.dumps(["Targets", targets]))
    command = [
        str(core), "-rules", "rules.yaml", "-targets", "targets.json", "-json_nodots", "-j", "1", "-fast",
        "-timeout", str(FILE_SECONDS_MAX), "-max_memory", str(MEMORY_MB_MAX), "-max_match_per_file", "1000",
    ]  # fmt: skip
    ran = run(command, folder=folder, timeout_s=timeout_s)
    if ran.timed_out:
        raise ProgramFailedError(f"semgrep took more than {timeout_s:.0f} s: give fewer files")
    try:
        told = json.loads(ran.out[ran.out.index(b"{") :])
    except ValueError as error:
        why = f"signal {-ran.status}" if ran.status < 0 else f"status {ran.status}"
        raise ProgramFailedError(f"semgrep ended with {why}: {short(ran.told)}") from error
    return _read(told, texts, str(source) + "/")


def _read(told: dict[str, Any], texts: dict[str, str], root: str) -> Answer:
    found: dict[bool, list[SecurityFinding]] = {False: [], True: []}
    for entry in told["results"]:
        found[bool(entry["extra"].get("is_ignored"))].append(_finding(entry, texts, root))
    findings = sorted(_unique(found[False]), key=_rank)
    numbered = [item.model_copy(update={"rank": number}) for number, item in enumerate(findings, 1)]
    errors = [_error(entry, root) for entry in told["errors"]]
    return Answer(numbered, _unique(found[True]), sorted(texts), errors, str(told["version"]))


def _finding(entry: dict[str, Any], texts: dict[str, str], root: str) -> SecurityFinding:
    rule = ruleset.rules()[str(entry["check_id"]).rpartition(".")[2]]
    place = _place(entry, root)
    lines = texts[place.path].splitlines()[place.line - 1 : place.end_line]
    return SecurityFinding(
        rank=0,
        rule=rule.id,
        title=rule.title,
        cwe=rule.cwe,
        severity=rule.severity,
        confidence=rule.confidence,
        message=str(entry["extra"]["message"])[:TEXT_CHARACTERS_MAX],
        place=place,
        code="\n".join(lines).strip()[:TEXT_CHARACTERS_MAX],
        trace=_trace(entry["extra"].get("dataflow_trace") or {}, root),
    )


def _trace(trace: dict[str, Any], root: str) -> list[Place]:
    if not trace:
        return []
    steps = [_end(trace.get("taint_source"), last=False)]
    steps += [step["location"] for step in trace.get("intermediate_vars") or []]
    steps.append(_end(trace.get("taint_sink"), last=True))
    return [_place(step, root) for step in steps if step is not None][:_TRACE_PLACES_MAX]


def _end(step: Any, *, last: bool) -> dict[str, Any] | None:
    """Find the place of a source or sink: ``[kind, [location, text]]``, or a call with such a pair inside."""
    while isinstance(step, list) and step:
        if isinstance(step[0], dict) and "start" in step[0]:
            return dict(step[0])
        step = step[1] if isinstance(step[0], str) and len(step) > 1 else step[-1 if last else 0]
    return None


def _place(entry: dict[str, Any], root: str) -> Place:
    start, end = entry["start"], entry["end"]
    path = str(entry["path"]).removeprefix(root)
    return Place(path=path, line=start["line"], column=start["col"], end_line=end["line"], end_column=end["col"])


def _error(entry: dict[str, Any], root: str) -> str:
    where = entry.get("location") or {}
    path = str(where.get("path", "")).removeprefix(root)
    line = (where.get("start") or {}).get("line", 0)
    kind = entry.get("error_type", "error")
    name = kind[0] if isinstance(kind, list) and kind else kind
    return f"{path}:{line}: {name}: {short(str(entry.get('message', '')))}".replace(root, "")


def _unique(findings: list[SecurityFinding]) -> list[SecurityFinding]:
    """Keep one of those that have rule and place in common (two ways of data to one sink)."""
    kept: dict[tuple[Any, ...], SecurityFinding] = {}
    for item in findings:
        kept.setdefault((item.rule, *item.place.model_dump().values()), item)
    return list(kept.values())


def _rank(item: SecurityFinding) -> tuple[Any, ...]:
    followed = 0 if item.trace else 1
    return _ORDER[item.severity], _SURE[item.confidence], followed, item.place.path, item.place.line, item.rule
