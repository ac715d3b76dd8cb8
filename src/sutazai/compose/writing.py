"""Why it exists: the manifest is read by people first: ordered, commented, and the same for the same Compose files."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from sutazai.compose.entry import MODEL, PLANNED, Entry
from sutazai.compose.wiring import shown
from sutazai.limits import LOG_BYTES_MAX_DEFAULT
from sutazai.spec.policies import LLM_BYTES_DEFAULT, LLM_MODEL_DEFAULT
from sutazai.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sutazai.compose.translate import Translator

PLATFORM_BYTES = 1_024 * MIB  # our own processes with one worker
POOL_BYTES_LEAST = 64 * MIB
RESERVE_SHARE = 20
AGENT_BYTES = 64 * MIB  # of an instance that carries one request
LLM_BYTES_LEAST = 640 * MIB  # of the smallest model in the catalogue with its context
READY_MS_LEAST = 30_000
PROBE_MS_MAX = 60_000
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*", re.ASCII)
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "none"}
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(translator: Translator, fleet: str, files: Iterable[Path], folder: Path) -> str:
    """Write the manifest's text.

    Args:
        translator: after its run.
        fleet: name.
        files: the Compose files, named in the first line.
        folder: where the manifest will stand.
    """
    entries = translator.entries
    models = [entry for entry in entries if entry.becomes == MODEL]
    running = [entry for entry in entries if entry.runs]
    planned = [entry for entry in entries if entry.becomes == PLANNED]
    lines = [
        f"# Taken over from {', '.join(path.name for path in files)} by sutazai import. Nothing was started.",
        "# A limit with the word proposed is ours: the Compose file had none. Measure, and write your own.",
        "# See it on paper first: sutazai plan; then: sutazai up.",
        "",
        f"fleet: {fleet}",
        "port_offset: 0",
    ]
    lines += _pools(entries)
    if translator.desk.kept:
        ports = ", ".join(str(port) for port in sorted(translator.desk.kept))
        lines += ["", "port_ranges:", f"  services: [{ports}]   # kept from the Compose file"]
    lines += ["", "runtime_pools:", "  python: {workers: 1}   # the agents' instances come from it"]
    lines += _cpu_sets(running)
    if models:
        lines += _llm(models, translator.models)
    if running or planned:
        lines += ["", "services:"]
    for index, entry in enumerate(running):
        lines += [*([""] if index else []), *_service(entry)]
    if planned:
        lines += [
            *([""] if running else []),
            "  # Planned, not started: these need their image, and there is no container engine here. One that you",
            "  # install yourself runs when it has a command and its status and start are removed. Remove what you do",
            "  # not need: its memory is part of the plan.",
        ]
    for entry in planned:
        lines += _planned(entry)
    lines += _agents(running, folder)
    return "\n".join(lines) + "\n"


def _pools(entries: list[Entry]) -> list[str]:
    """Size each pool by the limits of what is started in it, and for the largest of what is planned."""
    models = [entry for entry in entries if entry.becomes == MODEL]
    sizes = {"infrastructure": llm_bytes(models[0]) if models else 0, "standard": 0, "monitoring": 0}
    for entry in entries:
        if entry.runs:
            sizes[entry.pool] += entry.memory_bytes
    if any(entry.operations for entry in entries):
        sizes["standard"] += AGENT_BYTES
    for name in sizes:
        planned = [entry.memory_bytes for entry in entries if entry.becomes == PLANNED and entry.pool == name]
        sizes[name] += max(planned, default=0)
    sizes = {name: max(-(-size // MIB) * MIB, POOL_BYTES_LEAST) for name, size in sizes.items()}
    total = sum(sizes.values()) + PLATFORM_BYTES
    reserve = max(total // RESERVE_SHARE // MIB * MIB, POOL_BYTES_LEAST)
    standard = min(sizes["standard"], 256 * MIB)
    return [
        "",
        "memory_pools:   # the limits of what is started, and the largest of what is planned",
        f"  infrastructure: {{size: {size_text(sizes['infrastructure'])}}}",
        f"  critical: {{size: {size_text(PLATFORM_BYTES)}, max_per_agent: 128MB}}   # the fleet's own processes",
        f"  standard: {{size: {size_text(sizes['standard'])}, max_per_agent: {size_text(standard)}}}",
        f"  monitoring: {{size: {size_text(sizes['monitoring'])}}}",
        f"  reserve: {{size: {size_text(reserve)}}}",
    ]


def llm_bytes(entry: Entry) -> int:
    """Limit of the model server: the Compose file's where it is enough for the smallest model."""
    return entry.memory_bytes if entry.memory_bytes >= LLM_BYTES_LEAST else LLM_BYTES_DEFAULT


def _cpu_sets(running: list[Entry]) -> list[str]:
    sets: dict[str, list[str]] = {}
    for entry in running:
        if entry.source.limits.cpu_set:
            sets.setdefault(entry.source.limits.cpu_set, []).append(entry.name)
    lines = ["", "cpu_sets:"] if sets else []
    for number, (cores, members) in enumerate(sets.items(), start=1):
        lines.append(f'  set-{number}: {{cores: "{cores}", members: [{", ".join(members)}]}}')
    return lines


def _llm(models: list[Entry], pulled: list[str]) -> list[str]:
    entry = models[0]
    lines = ["", "llm:   # stands for " + ", ".join(dict.fromkeys(each.source.name for each in models))]
    if pulled:
        lines.append(
            f"  # was to fetch {', '.join(pulled)}; other models: name one of the catalogue, or the path of a GGUF file"
        )
    size = llm_bytes(entry)
    mark = "" if size == entry.source.limits.memory_bytes else "   # proposed"
    lines += [f"  model: {LLM_MODEL_DEFAULT}", f"  memory: {size_text(size)}{mark}"]
    if entry.source.limits.cpu_cores >= 1:
        lines.append(f"  cpu: {cores_text(entry.source.limits.cpu_cores)}")
    return lines


def _service(entry: Entry) -> Iterator[str]:
    for comment in entry.comments:
        yield f"  # {_comment(comment)}"
    for text in entry.program.prepare if entry.program else ():
        yield f"  # first: {_comment(text)}"
    yield f"  {entry.name}:"
    yield "    command:"
    yield from (f"      - {quoted(shown(word))}" for word in entry.argv)
    if entry.cwd != ".":
        yield f"    cwd: {quoted(entry.cwd)}"
    yield from _ports(entry)
    yield from _limits(entry)
    if entry.after:
        yield f"    after: [{', '.join(entry.after)}]"
    yield from _checks(entry)
    if entry.source.stop_grace_ms:
        yield f"    stop_grace: {duration_text(entry.source.stop_grace_ms)}"
    if entry.env:
        yield "    env:"
        yield from (f"      {quoted(key)}: {quoted(shown(text), value=True)}" for key, text in entry.env.items())


def _ports(entry: Entry) -> Iterator[str]:
    names = entry.port_names()
    if len(names) == 1:
        inside = next(iter(names))
        yield f"    port: {entry.ports[inside]}{_was(entry, inside)}"
    elif names:
        yield "    ports:"
        yield from (f"      {name}: {entry.ports[inside]}{_was(entry, inside)}" for inside, name in names.items())


def _limits(entry: Entry) -> Iterator[str]:
    limits = entry.source.limits
    if entry.pool != "infrastructure":
        yield f"    pool: {entry.pool}"
    yield f"    memory: {size_text(entry.memory_bytes)}{'   # proposed' if entry.proposed else ''}"
    if 0 < limits.reserved_bytes < entry.memory_bytes:
        yield f"    start_peak: {size_text(limits.reserved_bytes)}   # was its reservation"
    if limits.cpu_cores:
        yield f"    cpu: {cores_text(limits.cpu_cores)}"
    if limits.weight:
        yield f"    weight: {limits.weight}"
    if limits.pids:
        yield f"    pids: {limits.pids}"
    if limits.log_bytes and limits.log_bytes != LOG_BYTES_MAX_DEFAULT:
        yield f"    log: {size_text(limits.log_bytes)}"


def _was(entry: Entry, inside: int) -> str:
    old = next((port.host for port in entry.source.ports if port.inside == inside), 0)
    if old == entry.ports[inside] == inside:
        return ""
    return f"   # was {old or '-'}:{inside}" if old else f"   # was {inside}, not published"


def _checks(entry: Entry) -> Iterator[str]:
    """Write when it counts as ready and how its life is checked."""
    names, health = entry.port_names(), entry.source.health
    start = f"timeout: {duration_text(READY_MS_LEAST)}"
    if entry.job:
        yield "    ready: {exit: true, timeout: 600s}"
        return
    if not names:
        return
    if health is None:
        yield f"    ready: {{tcp: true, {start}}}"
        return
    start_ms = max(health.start_ms + min(health.interval_ms * health.retries, 10 * PROBE_MS_MAX), READY_MS_LEAST)
    start = f"timeout: {duration_text(start_ms)}"
    if health.kind == "none":
        yield f"    ready: {{tcp: true, {start}}}"
        return
    name = names.get(health.port, "")
    port = f", port: {name}" if name and name != "main" else ""
    kind = (
        f"http: {quoted(health.path, value=True)}"
        if health.kind == "http" and (name or not health.port)
        else "tcp: true"
    )
    yield f"    ready: {{{kind}{port}, {start}}}"
    interval, timeout = duration_text(health.interval_ms), duration_text(health.timeout_ms)
    yield f"    probe: {{{kind}{port}, interval: {interval}, timeout: {timeout}, fail_after: {health.retries}}}"


def _planned(entry: Entry) -> Iterator[str]:
    yield f"  {entry.name}:"
    yield "    status: planned"
    yield "    start: on-demand"
    yield f"    description: {quoted(_comment(entry.why), value=True)}"
    if entry.known and entry.known.program:
        yield f"    command: {quoted(entry.known.program, value=True)}"
    yield from _ports(entry)
    yield f"    pool: {entry.pool}"
    yield f"    memory: {size_text(entry.memory_bytes)}{'   # proposed' if entry.proposed else ''}"


def _agents(running: list[Entry], folder: Path) -> Iterator[str]:
    """Write the HTTP agents: the same programs, asked by durable tasks."""
    agents = [entry for entry in running if entry.operations]
    if not agents:
        return
    yield ""
    yield "agents:   # the same programs, unchanged, behind a port of their own, with durable tasks"
    for entry in agents:
        if entry.operations is None:
            continue
        yield f"  {entry.name}-agent:"
        if entry.operations.document:
            document = os.path.relpath(entry.operations.document, folder)
            yield f"    http: {{service: {entry.name}, openapi: {quoted(document, value=True)}}}"
            continue
        yield "    http:"
        yield f"      service: {entry.name}"
        yield "      skills:"
        yield from (f"        {name}: {quoted(text, value=True)}" for name, text in entry.operations.skills.items())


def quoted(text: str, *, value: bool = False) -> str:
    """Write a text so that YAML gives it back as it is.

    Args:
        text: any.
        value: whether it stands where a colon or a comma would end it.
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and not (value and "," in text):
        return text
    body = json.dumps(text, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\U{ord(match[0]):08x}", body)


def size_text(size: int) -> str:
    """Write bytes with the largest unit that leaves a whole number."""
    for unit, factor in (("GB", GIB), ("MB", MIB), ("KB", KIB)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def duration_text(milliseconds: int) -> str:
    """Write a duration with the largest unit that leaves a whole number."""
    for unit, factor in (("m", 60_000), ("s", 1_000)):
        if milliseconds % factor == 0:
            return f"{milliseconds // factor}{unit}"
    return f"{milliseconds}ms"


def cores_text(cores: float) -> str:
    """Write cores."""
    return f"{cores:.6g}c"


def _comment(text: str) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", text).split())
