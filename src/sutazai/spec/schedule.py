"""Why it exists: a schedule that makes no sense is a mistake with its line, not a job that never runs."""

from __future__ import annotations

import json
from zoneinfo import available_timezones

from sutazai.cron import Cron
from sutazai.limits import NAME_CHARACTERS_MAX, PRIORITY_LOWEST, SCHEDULES_PER_AGENT_MAX
from sutazai.spec.model import Schedule
from sutazai.spec.places import Mapping, Scalar
from sutazai.spec.section import Section, is_null, near, plain

CATCH_UPS = ("none", "last")
CRON_HINT = 'write minute, hour, day, month, day of week, like "0 3 * * 1-5"'
INPUT_BYTES_MAX = 64 * 1024


def read_schedules(section: Section, base: tuple[Schedule, ...]) -> tuple[Schedule, ...]:
    """Read ``schedules`` of an agent; one of the same name in the base gives the defaults."""
    found = {schedule.name: schedule for schedule in base}
    for name, inner in section.sections("schedules", "schedule"):
        schedule = _schedule(name, inner, found.pop(name.text, None))
        if schedule is not None:
            found[name.text] = schedule
    if len(found) > SCHEDULES_PER_AGENT_MAX:
        section.add("schedules", f"there are {len(found)}", f"an agent may have {SCHEDULES_PER_AGENT_MAX}")
    return tuple(found.values())


def _schedule(name: Scalar, section: Section, base: Schedule | None) -> Schedule | None:
    """Read one; None when it is switched off, or wrong."""
    base = base or Schedule(name.text[:NAME_CHARACTERS_MAX], "", "UTC", "", {})
    on = section.flag("enabled", default=True)
    schedule = Schedule(
        name=base.name,
        cron=section.text("cron", base.cron, required=on and not base.cron, hint=CRON_HINT),
        timezone=section.text("timezone", base.timezone),
        skill=section.text("skill", base.skill, required=on and not base.skill, hint="write skill: its-name"),
        input=_input(section, base),
        catch_up=section.choice("catch_up", CATCH_UPS, base.catch_up),
        priority=section.count("priority", base.priority, least=0, most=PRIORITY_LOWEST),
        deadline_ms=section.duration_ms("deadline", base.deadline_ms),
        place=name.place,
    )
    section.finish()
    if not on or not schedule.cron or not schedule.skill or not _makes_sense(section, schedule):
        return None
    return schedule


def _makes_sense(section: Section, schedule: Schedule) -> bool:
    try:
        Cron("* * * * *", schedule.timezone)
    except ValueError as error:
        meant = near(schedule.timezone, sorted(available_timezones()))
        section.add(
            "timezone", str(error), f"did you mean {meant}?" if meant else "write one like Europe/Berlin, or UTC"
        )
        return False
    try:
        Cron(schedule.cron, schedule.timezone)
    except ValueError as error:
        section.add("cron", str(error), CRON_HINT)
        return False
    return True


def _input(section: Section, base: Schedule) -> object:
    node = section.node("input")
    if node is None or is_null(node):
        return base.input
    if not isinstance(node, Mapping):
        section.add("input", "here are keys with values meant", "write them below input, indented")
        return base.input
    value = plain(node)
    if len(json.dumps(value)) > INPUT_BYTES_MAX:
        section.add("input", f"is longer than {INPUT_BYTES_MAX // 1024} KB", "put it into a file, give its path")
    return value
