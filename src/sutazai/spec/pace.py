"""Why it exists: how fast an agent's tasks start, how failed ones are tried again, how much waits, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from sutazai.limits import (
    CALLS_OPEN_MAX_DEFAULT,
    RETRY_BASE_MS,
    RETRY_BUDGET_DEFAULT,
    RETRY_CAP_MS,
    RETRY_FACTOR_DEFAULT,
    RETRY_LEAST_US_DEFAULT,
)


@dataclass(frozen=True, slots=True)
class Rate:
    """How many turns of an agent may start in a time.

    Attributes:
        interval_us: microseconds from one start to the next; 0 for no limit.
        burst: starts at once, after a pause.
    """

    interval_us: int = 0
    burst: int = 1


@dataclass(frozen=True, slots=True)
class Retry:
    """Pauses between an agent's attempts: ``base``, then ``factor`` times as long each time, at most ``max``.

    Attributes:
        base_ms: longest pause before the second attempt.
        factor: how it grows.
        max_ms: never longer.
        jitter: ``full``: the pause is drawn between nothing and that time; ``none``: it is that time.
        budget: retries for each first attempt, in the long run; what is beyond waits longer.
        least_us: beside that a retry every so many microseconds.
    """

    base_ms: int = RETRY_BASE_MS
    factor: float = RETRY_FACTOR_DEFAULT
    max_ms: int = RETRY_CAP_MS
    jitter: str = "full"
    budget: float = RETRY_BUDGET_DEFAULT
    least_us: int = RETRY_LEAST_US_DEFAULT


@dataclass(frozen=True, slots=True)
class Breaker:
    """When an agent is left alone because it fails everybody.

    Attributes:
        enabled: whether it ever is.
        failures: when so many different tasks failed one after the other.
        ratio: or this share of the tasks within the window.
        volume: which is looked at from so many on.
        window_ms: the sliding window.
        pause_ms: for so long the first time; each time in a row twice as long.
        pause_ms_max: never longer.
        probes: turns at a time after the pause; so many have to succeed.
        timeout_ms: a turn that its deadline ended counts as a failure when it had at least so long.
        when_open: callers from outside are taken into the ``queue``, or ``refuse`` them.
    """

    enabled: bool = True
    failures: int = 5
    ratio: float = 0.5
    volume: int = 20
    window_ms: int = 60_000
    pause_ms: int = 5_000
    pause_ms_max: int = 120_000
    probes: int = 1
    timeout_ms: int = 1_000
    when_open: str = "queue"


@dataclass(frozen=True, slots=True)
class Queue:
    """How much may wait for an agent.

    Attributes:
        tasks_max: open tasks; 0 for no bound of its own.
        bytes_max: of their inputs; 0 for no bound of its own.
        per_caller_max: open tasks that one other agent may have given it.
    """

    tasks_max: int = 0
    bytes_max: int = 0
    per_caller_max: int = CALLS_OPEN_MAX_DEFAULT


RATE_DEFAULT = Rate()
RETRY_DEFAULT = Retry()
QUEUE_DEFAULT = Queue()
BREAKER_DEFAULT = Breaker()
