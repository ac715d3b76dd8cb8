"""Why it exists: memory, CPU and processes have three generations of spelling in Compose; here they become one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.limits import LOG_BYTES_MAX_DEFAULT
from sutazai.units import GIB, KIB, MIB, format_bytes

if TYPE_CHECKING:
    from sutazai.compose.report import Notes
    from sutazai.spec.section import Section

#: A service of less cannot start an interpreter; Docker's own least is 6 MB.
MEMORY_BYTES_LEAST = 4 * MIB
CPU_SHARES_DEFAULT = 1024
WEIGHT_DEFAULT, WEIGHT_MAX = 100, 10_000
CPU_PERIOD_US = 100_000
LOG_BYTES_LEAST = 64 * KIB
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|µs|ms|s|m|h|d|w)", re.ASCII)
_MILLISECONDS = {
    "us": 0.001,
    "µs": 0.001,
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_CORE = re.compile(r"[0-9]{1,3}", re.ASCII)
_CPUS = re.compile(r"[0-9]{1,5}(?:\.[0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a service; 0 and empty mean: not written.

    Attributes:
        memory_bytes: hard limit.
        reserved_bytes: what is said to be needed.
        cpu_cores: hard ceiling.
        cpu_set: cores, as written.
        weight: share under contention, in the manifest's measure (100 is the default).
        pids: processes and threads.
        log_bytes: size at which the log is rotated.
    """

    memory_bytes: int = 0
    reserved_bytes: int = 0
    cpu_cores: float = 0.0
    cpu_set: str = ""
    weight: int = 0
    pids: int = 0
    log_bytes: int = 0


def read_limits(section: Section, deploy: Section | None, notes: Notes, service: str) -> Limits:
    """Read the limits of a service; where old and new spelling are both written, ``deploy`` wins, as in Compose."""
    resources = deploy.section("resources") if deploy else None
    limits = resources.section("limits") if resources else None
    reservations = resources.section("reservations") if resources else None
    memory = (size(limits, "memory") if limits else 0) or size(section, "mem_limit")
    reserved = (size(reservations, "memory") if reservations else 0) or size(section, "mem_reservation")
    if reservations and reservations.has("devices"):
        text = "devices (a GPU) are not given out: this is a machine without one"
        notes.add(service, "deploy.resources.reservations.devices", reservations.key_place("devices"), text)
    if reservations and reservations.has("cpus"):
        text = "CPU is not reserved; write cpu (ceiling) or weight (share)"
        notes.add(service, "deploy.resources.reservations.cpus", reservations.key_place("cpus"), text)
    cpus = (_cpus(limits, "cpus") if limits else 0.0) or _cpus(section, "cpus") or _quota(section)
    shares = section.count("cpu_shares", 0, least=0, most=262_144)
    restart = deploy.section("restart_policy") if deploy else None
    if restart:
        text = "restarts are policies.restart of the fleet: doubled waits, and a condition when it loops"
        notes.add(service, "deploy.restart_policy", restart.place, text)
    return Limits(
        memory_bytes=memory,
        reserved_bytes=reserved,
        cpu_cores=cpus,
        cpu_set=_cpu_set(section),
        weight=min(max(round(shares * WEIGHT_DEFAULT / CPU_SHARES_DEFAULT), 1), WEIGHT_MAX) if shares else 0,
        pids=(_pids(limits, "pids") if limits else 0) or _pids(section, "pids_limit"),
        log_bytes=_log(section, notes, service),
    )


def size(section: Section, key: str) -> int:
    """Read bytes in Docker's spelling (``512m``, ``1.5gb``, a bare number is bytes); 0 when it is not written."""
    text = section.raw(key, what="512m")
    if text is None:
        return 0
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        section.add(key, f"{text!r} is no size", "write 512m or 2g")
        return 0
    found = int(float(match[1]) * _UNITS[match[2].lower()])
    if 0 < found < MEMORY_BYTES_LEAST:
        section.add(key, f"{text} is {format_bytes(found)}, too little for any program", f"did you mean {match[1]}m?")
        return 0
    return found


def duration_ms(section: Section, key: str, default: int) -> int:
    """Read a duration in Compose's spelling (``30s``, ``1m30s``)."""
    text = section.raw(key, what="30s")
    if text is None:
        return default
    if text.isdigit() and text.isascii():
        return int(text) // MIB if int(text) >= 10**9 else int(text) * 1_000 if text != "0" else default
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        section.add(key, f"{text!r} is no duration", "write 30s or 1m30s")
        return default
    return int(sum(float(number) * _MILLISECONDS[unit] for number, unit in parts)) or default


def _cpus(section: Section, key: str) -> float:
    text = section.raw(key, what='"0.5"')
    if text is None:
        return 0.0
    if _CPUS.fullmatch(text) is None:
        section.add(key, f"{text!r} is no number of cores", 'write "0.5" or "2"')
        return 0.0
    return float(text)


def _cpu_set(section: Section) -> str:
    text = section.text("cpuset").replace(" ", "")
    pairs = [part.partition("-") for part in text.split(",")] if text else []
    for first, sign, last in pairs:
        numbers = (first, last) if sign else (first,)
        if not all(_CORE.fullmatch(number) for number in numbers) or (sign and int(last) < int(first)):
            section.add("cpuset", f"{text!r} is no list of cores", 'write "0-3" or "0,2"')
            return ""
    return text


def _quota(section: Section) -> float:
    quota = section.count("cpu_quota", 0, least=0, most=10**9)
    period = section.count("cpu_period", CPU_PERIOD_US, most=10**9)
    return round(quota / period, 3)


def _pids(section: Section, key: str) -> int:
    return 0 if section.raw(key, what="100") == "-1" else section.count(key, 0, least=0)


def _log(section: Section, notes: Notes, service: str) -> int:
    logging = section.section("logging")
    if logging is None:
        return 0
    options = logging.section("options")
    found = size_or_zero(options, "max-size") if options else 0
    text = f"logs go to sutazai logs {service}, rotated at {format_bytes(found or LOG_BYTES_MAX_DEFAULT)}"
    notes.add(service, "logging", logging.place, text)
    return found


def size_or_zero(section: Section, key: str) -> int:
    """Read the size of a log; one below the least counts as not written."""
    match = _SIZE.fullmatch((section.raw(key, what="10m") or "").strip())
    found = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    return found if found >= LOG_BYTES_LEAST else 0
