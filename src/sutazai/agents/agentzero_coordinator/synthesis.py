"""Why it exists: single findings become one root cause here, by rules over measured facts; no model is asked. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sutazai.runtime.evidence import Finding, Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.agents.agentzero_coordinator.models import Run, Step

_MESSAGE_CHARACTERS_MAX = 160
_WHAT = {
    "detect": "what is unhealthy",
    "diagnose-memory": "who holds and leaks memory",
    "forecast": "what comes next",
    "timeline": "what happened when",
    "report": "the report itself",
}


def take(run: Run, step: Step, result: Any) -> None:
    """Keep what a finished step found: statements, time line, the subject, and what synthesis needs."""
    if not isinstance(result, dict):
        run.notes.append(f"{step.skill} returned no object: nothing of it is used")
        return
    taken, refused = statements(result.get("findings"))
    run.findings += taken
    if refused:
        run.notes.append(f"{step.skill}: {refused} findings have a wrong form and are left out")
    if isinstance(entries := result.get("entries"), list):
        run.entries += [entry for entry in entries if isinstance(entry, dict)]
    if step.capability == "detect" and not run.subject and isinstance(worst := result.get("worst"), str):
        run.subject = worst
    if step.capability == "detect":
        run.results["detect"] = {"processes": result.get("processes"), "verdict": result.get("verdict")}
    elif step.capability == "diagnose-memory":
        run.results["diagnose-memory"] = {"growth": result.get("growth"), "leaking": result.get("leaking")}


def statements(found: Any) -> tuple[list[Finding], int]:
    """Read findings; returns those of the right form, and how many were not."""
    taken, refused = [], 0
    for entry in found if isinstance(found, list) else []:
        try:
            taken.append(Finding.model_validate(entry))
        except ValidationError:
            refused += 1
    return taken, refused


def missing(step: Step, source: str) -> Finding:
    """Name evidence that could not be had."""
    what = _WHAT.get(step.capability, "an extra of the plan")
    error = Measure(value=(step.error or step.status)[:_MESSAGE_CHARACTERS_MAX], unit="text", source=source)
    return Finding(
        section="missing",
        text=f"There is no evidence on {what}: `{step.skill}` ended as {step.status}: {{error}}.",
        measures={"error": error},
    )


def uncovered(need: str) -> Finding:
    """Name evidence that no skill of the fleet can give."""
    text = f"There is no evidence on {_WHAT.get(need, need)}: no skill of this fleet gives it."
    return Finding(section="missing", text=text)


def root_cause(run: Run) -> list[Finding]:
    """Join health and memory: does a leak explain the trouble?"""
    subject = run.subject
    grown = _named(run.results.get("diagnose-memory", {}).get("growth"), "process", subject)
    health = _named(run.results.get("detect", {}).get("processes"), "name", subject)
    if not subject or not grown:
        return []
    if grown.get("verdict") != "leaking":
        text = (
            f"No memory leak explains the trouble of `{subject}`: its memory is judged {_word(grown.get('verdict'))}."
        )
        return [Finding(section="cause", subject=subject, text=text)]
    measures = _measures({"slope": grown.get("slope"), "limit": grown.get("limit"), "kills": health.get("oom_kills")})
    if "slope" not in measures:
        return []
    text = f"The root cause is a memory leak in `{subject}`: it grows by {{slope}} and gives nothing back"
    if "limit" in measures:
        text += "; at its limit of {limit} the kernel ends it, and a restart begins the same again"
    if "kills" in measures and measures["kills"].value:
        text += " ({kills} kills so far)"
    elif "kills" in measures:
        del measures["kills"]
    return [Finding(section="cause", subject=subject, text=f"{text}.", measures=measures)]


def _named(entries: Any, key: str, name: str) -> dict[str, Any]:
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get(key) == name:
            return entry
    return {}


def _measures(found: dict[str, Any]) -> dict[str, Measure]:
    measures = {}
    for name, value in found.items():
        try:
            measures[name] = Measure.model_validate(value)
        except ValidationError:
            continue
    return measures


def _word(verdict: Any) -> str:
    return verdict if isinstance(verdict, str) and verdict.replace("-", "").isalpha() else "unclear"


def ordered(run: Run) -> list[Finding]:
    """All statements for the report: the root cause first, then the subject's, then the others'; none twice."""
    rest = sorted(run.findings, key=lambda item: item.subject != run.subject)
    seen: set[str] = set()
    kept = []
    for item in (*root_cause(run), *rest, *(uncovered(need) for need in run.plan.uncovered)):
        key = item.model_dump_json()
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def by(steps: Sequence[Step]) -> list[str]:
    """Who found what, for the report."""
    return [f"{step.skill} (chosen by {step.chosen_by}): task {step.task} {step.status}" for step in steps if step.task]
