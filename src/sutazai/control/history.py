"""Why it exists: availability and repair times come from when conditions began and ended, which the event log knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sutazai.telemetry.events import Event


def spans(newest_first: Iterable[Event], active: list[dict[str, Any]], since_ms: int) -> list[dict[str, Any]]:
    """Conditions that held at some time since ``since_ms``, oldest first.

    Args:
        newest_first: events.
        active: entries of the conditions that hold now.
        since_ms: beginning of the window.
    """
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for entry in active:
        since = int(entry.get("since_wall_ms") or 0)
        found[str(entry["name"]), str(entry["subject"]), since] = _span(entry, str(entry["subject"]), since, None)
    for event in newest_first:
        if event.at_wall_ms < since_ms:
            break
        if event.kind not in {"condition-raised", "condition-cleared"}:
            continue
        name, since = str(event.data.get("name")), int(event.data.get("since_wall_ms") or event.at_wall_ms)
        key = (name, event.subject, since)
        if event.kind == "condition-cleared":
            entry = {**event.data, "text": event.data.get("text_before", "")}
            ended = int(event.data.get("ended_wall_ms") or event.at_wall_ms)
            if ended >= since_ms:
                found.setdefault(key, _span(entry, event.subject, since, ended))
        elif key not in found:
            # Raised and never cleared in the log, yet not active: its end was lost with a log file.
            entry = {**event.data, "text": event.text.partition(": ")[2]}
            found[key] = _span(entry, event.subject, since, event.at_wall_ms)
    return sorted(found.values(), key=lambda span: (span["raised_wall_ms"], span["name"], span["subject"]))


def _span(entry: dict[str, Any], subject: str, since: int, cleared: int | None) -> dict[str, Any]:
    name = str(entry["name"])
    return {
        "name": name,
        "subject": subject,
        "severity": entry.get("severity") or "warning",
        "text": entry.get("text") or "",
        "raised_wall_ms": since,
        "cleared_wall_ms": cleared,
        "source": f"condition:{name}/{subject}@{since}",
    }
