"""Why it exists: how fast an agent's tasks may start and how a failed one is tried again is the manifest's word.

Reads ``rate``, ``burst``, ``retry`` and ``queue`` of an agent; the store holds the rate, whoever claims.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from sutazai.limits import (
    QUEUE_BYTES_MAX,
    QUEUE_TASKS_MAX,
    RATE_BURST_MAX,
    RATE_INTERVAL_US_LEAST,
    RETRY_CAP_MS_MAX,
    RETRY_FACTOR_MAX,
)
from sutazai.spec.model import Queue, Rate, Retry
from sutazai.spec.quantities import RATE
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from sutazai.spec.section import Section

ATTEMPTS_MAX = 100
JITTERS = ("full", "none")
_NUMBER = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3})?", re.ASCII)


def read_rate(section: Section, base: Rate) -> Rate:
    """Read how many turns of an agent may start in a time; a base without one stays without a limit."""
    interval_us = section.quantity("rate", RATE, base.interval_us)
    if 0 < interval_us < RATE_INTERVAL_US_LEAST:
        section.add("rate", "is more than a thousand in a second", "write at most 1000/s, or leave it out")
    burst = section.count("burst", base.burst, most=RATE_BURST_MAX)
    if section.has("burst") and not section.has("rate") and not base.interval_us:
        section.add("burst", "there is no rate", f"write rate: {RATE.example} beside it, or leave burst out")
    return Rate(interval_us, burst)


def read_queue(section: Section, base: Queue) -> Queue:
    """Read how much may wait for an agent."""
    inner = section.section("queue")
    if inner is None:
        return base
    queue = Queue(inner.count("tasks", base.tasks_max, most=QUEUE_TASKS_MAX), inner.size("bytes", base.bytes_max))
    inner.finish()
    if queue.bytes_max > QUEUE_BYTES_MAX:
        most = format_bytes(QUEUE_BYTES_MAX)
        inner.add("bytes", f"is more than {most}, the bound of all agents together", f"write at most {most}")
    return queue


def read_attempts(section: Section, default: int) -> int:
    """Read own failures until a task is dead: ``attempts``, or ``attempts`` below ``retry``."""
    inner = section.section("retry")
    attempts = section.count("attempts", default, most=ATTEMPTS_MAX)
    if inner is None or not inner.has("attempts"):
        return attempts
    if section.has("attempts"):
        inner.add("attempts", f"attempts is also written in {section.where}", "write one of them")
    return inner.count("attempts", default, most=ATTEMPTS_MAX)


def read_retry(section: Section, base: Retry) -> Retry:
    """Read the pauses between attempts."""
    inner = section.section("retry")
    if inner is None:
        return base
    inner.has("attempts")
    retry = Retry(
        base_ms=inner.duration_ms("base", base.base_ms),
        factor=_factor(inner, base.factor),
        max_ms=inner.duration_ms("max", base.max_ms),
        jitter=inner.choice("jitter", JITTERS, base.jitter),
    )
    inner.finish()
    if retry.max_ms > RETRY_CAP_MS_MAX:
        inner.add("max", "is longer than a day", "write at most 1d")
        retry = replace(retry, max_ms=RETRY_CAP_MS_MAX)
    if retry.base_ms > retry.max_ms:
        inner.add("base" if inner.has("base") else "max", "base is longer than max", "the pause grows from base to max")
        retry = replace(retry, base_ms=retry.max_ms)
    return retry


def _factor(section: Section, default: float) -> float:
    text = section.raw("factor", what="2.0")
    if text is None:
        return default
    if _NUMBER.fullmatch(text) is None or not 1 <= float(text) <= RETRY_FACTOR_MAX:
        section.add("factor", f"{text!r} is no factor", f"write a number from 1 to {RETRY_FACTOR_MAX}, like 2 or 1.5")
        return default
    return float(text)
