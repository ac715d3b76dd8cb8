"""Why it exists: how fast an agent's tasks may start and how a failed one is tried again is the manifest's word.

Reads ``rate``, ``burst``, ``retry``, ``queue``, ``result_max`` and ``breaker`` of an agent; the store holds the rate,
whoever claims.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from sutazai.limits import (
    BREAKER_FAILURES_MAX,
    BREAKER_PAUSE_MS_MAX,
    BREAKER_PROBES_MAX,
    BREAKER_WINDOW_MS_MAX,
    QUEUE_BYTES_MAX,
    QUEUE_TASKS_MAX,
    RATE_BURST_MAX,
    RATE_INTERVAL_US_LEAST,
    RESULT_BYTES_MAX,
    RETRY_CAP_MS_MAX,
    RETRY_FACTOR_MAX,
)
from sutazai.spec.pace import Breaker, Queue, Rate, Retry
from sutazai.spec.quantities import RATE, SHARE
from sutazai.units import format_bytes

if TYPE_CHECKING:
    from sutazai.spec.section import Section

ATTEMPTS_MAX = 100
JITTERS = ("full", "none")
WHEN_OPEN = ("queue", "refuse")
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
    queue = Queue(
        inner.count("tasks", base.tasks_max, most=QUEUE_TASKS_MAX),
        inner.size("bytes", base.bytes_max),
        inner.count("per_caller", base.per_caller_max, most=QUEUE_TASKS_MAX),
    )
    inner.finish()
    if queue.bytes_max > QUEUE_BYTES_MAX:
        most = format_bytes(QUEUE_BYTES_MAX)
        inner.add("bytes", f"is more than {most}, the bound of all agents together", f"write at most {most}")
    return queue


def read_result_max(section: Section, base: int) -> int:
    """Read how large a result of an agent may be; above ``TASK_RESULT_BYTES_MAX`` it lies in a file."""
    most = section.size("result_max", base)
    if most > RESULT_BYTES_MAX:
        text = format_bytes(RESULT_BYTES_MAX)
        section.add("result_max", f"is more than {text}", f"write at most {text}, or hand on a file's path")
    return most


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
        budget=_share(inner, "budget", base.budget),
        least_us=_least(inner, base.least_us),
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


def _least(section: Section, default: int) -> int:
    """Read how many retries there may be whatever the traffic."""
    interval_us = section.quantity("least", RATE, default)
    if interval_us < RATE_INTERVAL_US_LEAST:
        section.add("least", "is more than a thousand in a second", "write at most 1000/s, or leave it out")
        return default
    return interval_us


def _share(section: Section, key: str, default: float) -> float:
    """Read a share of at most all."""
    share = section.quantity(key, SHARE, default)
    if share > 1:
        section.add(key, "is more than all", "write at most 100%")
        return default
    return share


def read_breaker(section: Section, base: Breaker) -> Breaker:
    """Read when an agent is left alone."""
    inner = section.section("breaker")
    if inner is None:
        return base
    found = Breaker(
        enabled=inner.flag("enabled", default=base.enabled),
        failures=inner.count("failures", base.failures, most=BREAKER_FAILURES_MAX),
        ratio=_share(inner, "ratio", base.ratio),
        volume=inner.count("volume", base.volume, most=BREAKER_FAILURES_MAX),
        window_ms=inner.duration_ms("window", base.window_ms),
        pause_ms=inner.duration_ms("pause", base.pause_ms),
        pause_ms_max=inner.duration_ms("pause_max", base.pause_ms_max),
        probes=inner.count("probes", base.probes, most=BREAKER_PROBES_MAX),
        timeout_ms=inner.duration_ms("timeout", base.timeout_ms),
        when_open=inner.choice("when_open", WHEN_OPEN, base.when_open),
    )
    inner.finish()
    for key, value, most in (
        ("window", found.window_ms, BREAKER_WINDOW_MS_MAX), ("pause_max", found.pause_ms_max, BREAKER_PAUSE_MS_MAX),
    ):  # fmt: skip
        if value > most:
            inner.add(key, "is longer than an hour", "write at most 1h")
    if found.pause_ms > found.pause_ms_max:
        key = "pause" if inner.has("pause") else "pause_max"
        inner.add(key, "pause is longer than pause_max", "the pause grows from pause to pause_max")
    return found
