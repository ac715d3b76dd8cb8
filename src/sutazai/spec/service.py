"""Why it exists: reads ``services``: what to run, with which limits, when it is ready and how its life is checked."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from sutazai.limits import LOG_BYTES_MAX_DEFAULT, MANIFEST_COMMAND_CHARACTERS_MAX, STOP_GRACE_MS_DEFAULT
from sutazai.spec.model import Check, Provided, Service, ServicePort, Share
from sutazai.spec.places import Mapping, Scalar, Sequence
from sutazai.spec.section import Section, is_null, one_of

if TYPE_CHECKING:
    from pathlib import Path

PORT_MAX = 65535
PIDS_DEFAULT = 256
PIDS_MAX = 1_000_000
CPU_WEIGHT_MAX = 10_000
UNKNOWN_PORT = -1  # it was wrong, and that has been said
#: Kinds of a check that ask a port.
PORT_KINDS = ("http", "tcp", "postgres", "redis", "amqp")
READY_KINDS = (*PORT_KINDS, "unix", "exit", "notify", "none")
PROBE_KINDS = (*PORT_KINDS, "unix", "none")
STATUSES = ("built", "planned")
#: Our own processes that can be a service of the manifest; ``sutazai.plan`` knows their ports.
PROVIDERS = ("gateway", "control", "llm", "broker")
PLACEHOLDERS = ("python", "port", "port_of", "state", "fleet", "folder")
#: ``{word}``, ``{word.part}`` or ``{word.part.inner}``; doubled braces are braces.
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([a-z_]+)(?:\.([a-z0-9-]+))?(?:\.([a-z0-9-]+))?\}", re.ASCII)


def read_services(
    root: Section, folder: Path, standard: frozenset[str] = frozenset()
) -> tuple[dict[str, Service], dict[str, Provided]]:
    """Read ``services``.

    Args:
        folder: of the manifest; ``cwd`` is relative to it.
        standard: services that the profile brings with it: they need no command here.

    Returns:
        Services with a process of their own, and those that our own processes are.
    """
    services: dict[str, Service] = {}
    provided: dict[str, Provided] = {}
    for name, section in root.sections("services", "service"):
        if section.has("by"):
            provided[name.text] = _provided(name, section)
        else:
            services[name.text] = _service(name, section, folder, is_ours=name.text in standard)
    return services, provided


def _provided(name: Scalar, section: Section) -> Provided:
    by = section.choice("by", PROVIDERS, PROVIDERS[0])
    ports = _ports(section)
    section.text("description")
    section.finish()
    return Provided(name.text, by, ports, name.place)


def is_planned(section: Section) -> bool:
    """Read ``status``: what is ``planned`` is counted in the proof and not started."""
    return section.choice("status", STATUSES, "built") == "planned"


def read_share(section: Section) -> Share:
    """Read ``cpu``, ``weight`` and ``cpu_set``, which services, agents and the LLM have in common."""
    return Share(
        quota_cores=section.cores("cpu"),
        weight=section.count("weight", 0, most=CPU_WEIGHT_MAX),
        cpu_set=section.identifier("cpu_set"),
    )


def _service(name: Scalar, section: Section, folder: Path, *, is_ours: bool) -> Service:
    planned = is_planned(section)
    ports = _ports(section)
    argv = _argv(section, required=not planned and not is_ours)
    env = section.strings("env")
    for where, texts in (("command", argv), ("env", tuple(env.values()))):
        _check_placeholders(section, where, texts, ports)
    memory = section.size("memory")
    peak = section.size("start_peak", memory)
    if memory and peak > memory:
        section.add(
            "start_peak", "is larger than memory, so the start would be killed", "make memory at least as large"
        )
    ready_default = Check("tcp", ports[0].number) if ports else Check()
    restart = section.choice("restart", ("on-exit", "on-unhealthy"), "on-exit")
    probe = _check(section, "probe", PROBE_KINDS, ports, Check(timeout_ms=1_000, interval_ms=1_000))
    if restart == "on-unhealthy" and probe.kind == "none":
        section.add("restart", "on-unhealthy needs a probe", "write probe: {http: /health}")
    on_demand = section.choice("start", ("boot", "on-demand"), "boot") == "on-demand"
    if on_demand and not planned:
        section.add("start", "on-demand is not in this version", "remove it: services start at boot")
    service = Service(
        name=name.text,
        argv=argv,
        ports=ports,
        memory_bytes=memory,
        start_peak_bytes=min(peak, memory) if memory else peak,
        cpu=read_share(section),
        pids_max=section.count("pids", PIDS_DEFAULT, most=PIDS_MAX),
        pool=section.identifier("pool", "infrastructure"),
        after=tuple(item.text for item in section.scalars("after")),
        ready=_check(section, "ready", READY_KINDS, ports, ready_default),
        probe=probe,
        restart_when_unhealthy=restart == "on-unhealthy",
        env=env,
        cwd=_cwd(section, folder),
        log_bytes_max=section.size("log", LOG_BYTES_MAX_DEFAULT),
        stop_grace_ms=section.duration_ms("stop_grace", STOP_GRACE_MS_DEFAULT),
        user=section.text("user"),
        place=name.place,
        planned=planned,
        on_demand=on_demand and planned,
        description=section.text("description"),
    )
    section.finish()
    return service


def _argv(section: Section, *, required: bool) -> tuple[str, ...]:
    node = section.node("command")
    if node is None and not required:
        return ()
    if node is None:
        section.mistakes.add(
            f"{section.where} has no command", section.place, 'write command: "program argument" or a list of them'
        )
        return ()
    if isinstance(node, Sequence):
        argv = tuple(item.text for item in section.scalars("command"))
    else:
        text = section.text("command")
        if len(text) > MANIFEST_COMMAND_CHARACTERS_MAX:
            section.add("command", f"has {len(text)} characters", "write it as a list of words, or into a script")
            return ()
        try:
            argv = tuple(shlex.split(text))
        except ValueError as error:
            section.add(
                "command", f"cannot be split into words: {str(error).lower()}", "close the quote, or write a list"
            )
            return ()
    if not argv or not argv[0]:
        section.add("command", "names no program", 'write command: "program argument"')
    return argv


def _check_placeholders(section: Section, where: str, texts: tuple[str, ...], ports: tuple[ServicePort, ...]) -> None:
    names = {port.name for port in ports}
    for text in texts:
        for match in {match[0]: match for match in PLACEHOLDER.finditer(text)}.values():
            word, part = match[1], match[2]
            if word is None:
                continue
            if word == "port_of":
                if not part:
                    section.add(where, "{port_of} names no process", "write {port_of.NAME}, a service's name or llm")
                continue  # whether that process exists shows when all of them are read
            if word not in PLACEHOLDERS or (part and word != "port") or match[3]:
                section.add(where, f"unknown placeholder {match[0]}", _placeholder_hint(word))
            elif word == "port" and not ports:
                section.add(where, "{port} is used, but the service has no port", "write port: 10600")
            elif part and part not in names:
                section.add(where, f"{match[0]}: there is no port {part!r}", one_of(part, sorted(names)))


def _placeholder_hint(word: str) -> str:
    known = [f"{{{name}}}" for name in PLACEHOLDERS]
    return f"{one_of(f'{{{word}}}', known)}; a real brace is written twice: {{{{{word}}}}}"


def _ports(section: Section) -> tuple[ServicePort, ...]:
    """Read ``port: 10600`` or ``ports: {http: 10600, …}``."""
    if section.has("port") and section.has("ports"):
        section.add("ports", "port and ports are both written", "name them all in ports, the first is the main one")
    found = []
    if (text := section.raw("port", what="10600")) is not None and (number := _port(section, "port", text)):
        found.append(ServicePort("main", number, section.place_of("port")))
    node = section.node("ports")
    if isinstance(node, Mapping) and (inner := section.section("ports")):
        texts = [(key, inner.raw(key, what="10600")) for key in inner.written()]
        numbers = [(key, _port(inner, key, text)) for key, text in texts if text is not None]
        found.extend(ServicePort(key, number, inner.place_of(key)) for key, number in numbers if number)
    elif node is not None:
        section.add("ports", "here are names with ports meant", "write ports: {http: 10600, admin: 10601}")
    return tuple(found)


def _port(section: Section, key: str, text: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) and 1 <= int(text) <= PORT_MAX:
        return int(text)
    first = text.partition(":")[0]
    hint = f"write the port of the fleet only, {first}" if ":" in text else f"a port is 1 to {PORT_MAX}"
    section.add(key, f"{text!r} is no port", hint)
    return 0


def _check(section: Section, key: str, kinds: tuple[str, ...], ports: tuple[ServicePort, ...], default: Check) -> Check:
    """Read a readiness gate or a probe: a word (``tcp``) or a table with one kind in it (``{http: /health}``)."""
    node = section.node(key)
    if node is None:
        return default
    probe = key == "probe"
    base = Check(timeout_ms=1_000, interval_ms=1_000) if probe else Check()
    if isinstance(node, Scalar):
        kind = section.choice(key, kinds, "none")
        if kind in {"http", "unix"}:
            section.add(
                key,
                f"{kind} needs a path",
                f"write {key}: {{{kind}: {'/health' if kind == 'http' else '/run/x.sock'}}}",
            )
            kind = "none"
        return _checked(section, key, kind, base, ports[0].number if ports else 0, "")
    inner = section.section(key)
    if inner is None:
        return default
    chosen = [kind for kind in kinds if inner.has(kind)]
    if len(chosen) != 1:
        problem = f"{' and '.join(chosen)} are both written" if chosen else "says no kind of check"
        inner.mistakes.add(f"{inner.where}: {problem}", inner.place, f"write one of: {', '.join(kinds)}")
    kind = chosen[0] if chosen else "none"
    path = inner.text(kind) if kind in {"http", "unix"} else ""
    if kind == "http" and not path.startswith("/"):
        inner.add("http", f"{path!r} is no path", "write http: /health; the port is the service's own")
    timeout = inner.duration_ms("timeout", base.timeout_ms)
    interval = inner.duration_ms("interval", base.interval_ms)
    fail_after = inner.count("fail_after", base.fail_after, most=1_000) if probe else base.fail_after
    check = Check(timeout_ms=timeout, interval_ms=interval, fail_after=fail_after)
    port = _check_port(inner, ports)
    inner.finish()
    return _checked(section, key, kind, check, port, path)


def _check_port(section: Section, ports: tuple[ServicePort, ...]) -> int:
    text = section.raw("port", what="the-name-of-a-port")
    if text is None:
        return ports[0].number if ports else 0
    for port in ports:
        if text in {port.name, str(port.number)}:
            return port.number
    section.add("port", f"the service has no port {text!r}", one_of(text, [port.name for port in ports]))
    return UNKNOWN_PORT


def _checked(section: Section, key: str, kind: str, check: Check, port: int, path: str) -> Check:
    if kind in PORT_KINDS and not port:
        section.add(key, f"{kind} needs a port", "write port: 10600 in the service")
        kind = "none"
    return Check(
        kind=kind,  # type: ignore[arg-type]  # out of the kinds of the caller
        port=port if kind in PORT_KINDS and port != UNKNOWN_PORT else 0,
        path=path,
        timeout_ms=check.timeout_ms,
        interval_ms=check.interval_ms,
        fail_after=check.fail_after,
        place=section.place_of(key),
    )


def _cwd(section: Section, folder: Path) -> str:
    text = section.text("cwd")
    if is_null(section.node("cwd")):
        return str(folder)
    path = (folder / text).resolve()
    if not path.is_dir():
        section.add("cwd", f"there is no folder {path}", "make it, or name another; it is relative to the manifest")
    return str(path)
