"""Why it exists: the table of condition kinds is data that the documentation, the agents and the code all read.

Standard library only: the supervisor imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sutazai.errors import InternalError

#: The most severe first.
SEVERITIES = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a condition of this name means.

    Attributes:
        name: in CamelCase, never reused for something else.
        severity: ``critical`` (work is lost or stands still without a person), ``warning`` (the fleet mends it or goes
            on with less), ``info``.
        summary: one sentence with ``{subject}``, used when the raiser gives no text.
        meaning: what it says about the fleet.
        fix: what a person does, with ``{subject}``.
        causes: which conditions explain it: ``Kind`` (same subject), ``Kind/*`` (any), ``Kind/subject``.
    """

    name: str
    severity: Literal["critical", "warning", "info"]
    summary: str
    meaning: str
    fix: str
    causes: tuple[str, ...] = ()


_TABLE = (
    # The host
    Kind(
        "HostMemoryLow",
        "critical",
        "the host has little memory left",
        "MemAvailable is below the plan's headroom; nothing new starts until it recovers.",
        "stop programs outside the fleet, or give the fleet smaller pools; `sutazai status` shows who uses what",
    ),
    Kind(
        "DiskLow",
        "warning",
        "the disk of {subject} is nearly full",
        "The file system that holds the fleet's state has little room; at zero, new tasks are refused.",
        "free disk space on {subject}; the fleet goes on by itself",
    ),
    Kind(
        "StorageFull",
        "critical",
        "the disk of {subject} is full",
        "New tasks are refused (507); accepted work is kept and goes on.",
        "free disk space; {subject} resumes alone",
        ("DiskLow/*",),
    ),
    Kind(
        "CpuPressure",
        "info",
        "processes wait for the cores of {subject}",
        "Runnable processes wait for a core for a large part of the time.",
        "lower the number of instances, or move work away from this host",
    ),
    Kind(
        "LimitNotEnforced",
        "warning",
        "a limit of {subject} is not held by the kernel",
        "This host offers no control group for this limit; what can be done by sampling is done.",
        "run `sutazai doctor`: it names the limit and what the host lacks",
    ),
    Kind(
        "PrivilegesNotDropped",
        "warning",
        "{subject} runs with the supervisor's own user id",
        "Instances could not change to an unprivileged user, so agent code may read what it should not.",
        "run `sutazai doctor`: the interpreter and the environment must be readable by the instances' uids",
    ),
    Kind(
        "Unguarded",
        "warning",
        "sutazaid runs without its guard",
        "When sutazaid dies now, nothing starts it again; running work goes on.",
        "sutazaid takes the guard's place by itself; where it says that it cannot, mend what it names",
    ),
    # Memory
    Kind(
        "MemoryPressure",
        "warning",
        "{subject} uses nearly all of its memory limit",
        "Use is close to the limit that the kernel holds; beyond it processes of this group are killed.",
        "find out what grows (`sutazai ask ram-hardware-optimizer`), or raise the limit of {subject} in the manifest",
        ("HostMemoryLow/host",),
    ),
    Kind(
        "ReserveEntered",
        "critical",
        "memory of the emergency reserve is in use",
        "The pools together have eaten into the reserve that no ticket is ever cut from.",
        "lower limits or instance numbers in the manifest; the governor hibernates idle agents meanwhile",
        ("HostMemoryLow/host",),
    ),
    Kind(
        "OomKilled",
        "warning",
        "{subject} was killed at its memory limit",
        "The kernel killed a process of this group because it went over its limit; nobody else was touched.",
        "raise the memory of {subject} in the manifest, or mend what leaks (`sutazai logs {subject}`)",
        ("MemoryPressure",),
    ),
    # Processes
    Kind(
        "PortTaken",
        "critical",
        "a port of {subject} is held by another program",
        "The process cannot listen, so it is not started.",
        "stop the other program, or set another `port_offset` in the manifest",
    ),
    Kind(
        "ModelMissing",
        "critical",
        "the language model of {subject} is missing or damaged",
        "The model file is not there, or its digest is wrong.",
        "run `sutazai doctor`; it names the file and fetches it again",
    ),
    Kind(
        "CrashLoop",
        "critical",
        "{subject} keeps crashing",
        "It ended too often in a short time; it is started again with growing pauses.",
        "read `sutazai logs {subject}`, mend the cause, then `sutazai restart {subject}`",
        ("OomKilled", "MemoryPressure", "PortTaken", "ModelMissing", "StorageFull/*", "HostMemoryLow/host"),
    ),
    Kind(
        "NotReady",
        "warning",
        "{subject} did not become ready in time",
        "It was started, and its readiness check has not passed.",
        "read `sutazai logs {subject}`",
        ("CrashLoop", "OomKilled", "PortTaken", "ModelMissing", "HostMemoryLow/host"),
    ),
    Kind(
        "Unhealthy",
        "warning",
        "{subject} fails its health check",
        "It runs, but its liveness check fails again and again.",
        "read `sutazai logs {subject}`; `sutazai restart {subject}` starts it anew",
        ("CrashLoop", "NotReady", "OomKilled", "MemoryPressure"),
    ),
    Kind(
        "WorkerCannotFork",
        "critical",
        "{subject} cannot fork instances",
        "A zygote refuses to fork (it has more than one thread) or its forks fail.",
        "read `sutazai logs {subject}`; a module that it pre-loads starts threads",
        ("CrashLoop", "HostMemoryLow/host"),
    ),
    # The platform
    Kind(
        "SupervisorDown",
        "critical",
        "sutazaid does not answer",
        "Running work goes on under its limits; nothing new starts until sutazaid is back.",
        "its guard starts it again by itself; if not, run `sutazai up`",
    ),
    Kind(
        "BrokerDown",
        "critical",
        "the broker does not answer",
        "No task is accepted or committed; running skills retry their commit until their deadline.",
        "sutazaid starts it again by itself; read `sutazai logs broker`",
        ("CrashLoop/broker", "NotReady/broker", "OomKilled/broker", "StorageFull/*", "SupervisorDown/*"),
    ),
    Kind(
        "StoreDown",
        "critical",
        "{subject} cannot reach the database of its store",
        "Callers are told unavailable (503); what is running goes on and commits when the database is back.",
        "read `sutazai logs postgres`; the broker connects again by itself",
        ("CrashLoop/postgres", "NotReady/postgres", "OomKilled/postgres", "Unhealthy/postgres", "DiskLow/*"),
    ),
    Kind(
        "DispatcherDown",
        "warning",
        "{subject} has no connection to RabbitMQ",
        "Signals cannot be carried; meanwhile the broker looks for due tasks by itself, nothing is lost.",
        "read `sutazai logs rabbitmq`; the broker connects again by itself",
        ("CrashLoop/rabbitmq", "NotReady/rabbitmq", "OomKilled/rabbitmq", "Unhealthy/rabbitmq", "PortTaken/rabbitmq"),
    ),
    Kind(
        "CacheDown",
        "warning",
        "the cache does not answer {subject}",
        "Agents find nothing in it and make anew what they need; the gateway counts callers by itself.",
        "read `sutazai logs redis`, or free the disk in the embedded profile; it is used again by itself",
        ("CrashLoop/redis", "NotReady/redis", "OomKilled/redis", "Unhealthy/redis", "PortTaken/redis", "StorageFull"),
    ),
    Kind(
        "DispatcherBlocked",
        "warning",
        "RabbitMQ takes no signals of {subject}",
        "It does not confirm them in time (memory or disk alarm, or it stands still); the broker looks by itself.",
        "give RabbitMQ memory or disk space; the broker uses it again by itself",
        ("MemoryPressure/rabbitmq", "DiskLow/*", "CpuPressure/host"),
    ),
    Kind(
        "LlmUnavailable",
        "warning",
        "the language model server does not answer",
        "Skills that need a language model fail and are tried again; all others work.",
        "read `sutazai logs llm`; `sutazai doctor` checks the model file",
        ("ModelMissing/llm", "CrashLoop/llm", "NotReady/llm", "OomKilled/llm", "Unhealthy/llm"),
    ),
    Kind(
        "PlanRefused",
        "warning",
        "a new plan was refused, the old one runs",
        "The plan file could not be read or does not fit; nothing was changed.",
        "run `sutazai plan` to see what is wrong, then `sutazai up` again",
    ),
    Kind(
        "Draining",
        "info",
        "the fleet is stopping",
        "No new task is leased; running turns finish.",
        "nothing to do; `sutazai up` starts the fleet again",
    ),
    # Work
    Kind(
        "ResourceExhausted",
        "info",
        "there is no room for another instance of {subject}",
        "Its tasks wait in their queue until memory of its pool is free.",
        "wait, or give its pool more memory or a higher instance limit in the manifest",
        ("MemoryPressure/*", "HostMemoryLow/host", "ReserveEntered/*", "SupervisorDown/*"),
    ),
    Kind(
        "QueueFull",
        "warning",
        "the queue of {subject} is full",
        "New tasks for it are answered with 429 and Retry-After; none is dropped.",
        "send more slowly, or allow more instances of {subject}",
        ("ResourceExhausted", "CrashLoop", "WorkerCannotFork/*", "LlmUnavailable/*"),
    ),
    Kind(
        "CircuitOpen",
        "warning",
        "{subject} fails everybody and is left alone for a while",
        "Its last tasks failed, so it gets no turn until a probe succeeds; its tasks wait and keep their attempts.",
        "read `sutazai why {subject}` and `sutazai logs {subject}`; it is probed and used again by itself",
        ("OomKilled", "CrashLoop", "ResourceExhausted", "MemoryPressure", "LlmUnavailable/*"),
    ),
    Kind(
        "RetryBudgetEmpty",
        "info",
        "{subject} has more retries than its budget allows",
        "Retries are spread over time so that they do not make an outage worse; none is lost.",
        "find out why its tasks fail (`sutazai why {subject}`); or raise `retry: {{budget, least}}` in the manifest",
        ("CircuitOpen", "OomKilled", "CrashLoop", "LlmUnavailable/*"),
    ),
    Kind(
        "DeadLetters",
        "warning",
        "tasks of {subject} used up their attempts",
        "They are kept with their evidence and can be replayed; they will not run by themselves.",
        "read them with `sutazai task dead --agent {subject}`, mend the cause, replay or discard them",
        ("OomKilled", "CrashLoop", "LlmUnavailable/*", "CircuitOpen"),
    ),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _TABLE}


def _check() -> None:
    """Refuse a table with a name twice, a cause that does not exist, or causes that form a cycle."""
    if len(KINDS) != len(_TABLE):
        raise InternalError("two condition kinds have the same name")
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise InternalError(f"condition kinds explain each other: {' -> '.join((*path, name))}")
        if name not in KINDS:
            raise InternalError(f"{path[-1]} names the cause {name}, which is no condition kind")
        if name not in done:
            for cause in KINDS[name].causes:
                visit(cause.partition("/")[0], (*path, name))
            done.add(name)

    for name in KINDS:
        visit(name, ())


_check()
