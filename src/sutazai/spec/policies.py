"""Why it exists: reads ``policies`` and ``llm``: how failures are met, how long agents stay, which model answers."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sutazai.limits import (
    ATTEMPTS_MAX_DEFAULT,
    CRASH_LOOP_COUNT,
    CRASH_LOOP_WINDOW_MS,
    DEADLINE_MS_DEFAULT,
    RESTART_BASE_MS,
    RESTART_CAP_MS,
)
from sutazai.spec.model import Llm, Policies, Share
from sutazai.spec.places import Scalar
from sutazai.spec.quantities import CORES
from sutazai.spec.work import read_rate
from sutazai.units import GIB, MIB

if TYPE_CHECKING:
    from pathlib import Path

    from sutazai.spec.section import Section

KEEP_MS_DEFAULT = {"critical": 300_000, "standard": 60_000}
NO_LLM = ("none", "false", "off", "no")
LLM_MODEL_DEFAULT = "qwen2.5-coder-0.5b-instruct"
LLM_DRIVERS = ("llamacpp", "ollama", "openai")
LLM_BYTES_DEFAULT = 1 * GIB
LLM_ELSEWHERE_BYTES_DEFAULT = 256 * MIB
MODEL_HINT = "write the name that the server at llm.url has for it"
URL_HINT = "write url: http://HOST:PORT or https://HOST, without a user, a key or a query"
LLM_SLOTS_DEFAULT = 2
LLM_CONTEXT_DEFAULT = 4096
LLM_CONTEXT_LEAST = 512
LLM_CONTEXT_MAX = 131_072

DEFAULT_POLICIES = Policies(
    restart_base_ms=RESTART_BASE_MS,
    restart_cap_ms=RESTART_CAP_MS,
    crash_loop_count=CRASH_LOOP_COUNT,
    crash_loop_window_ms=CRASH_LOOP_WINDOW_MS,
    attempts_max=ATTEMPTS_MAX_DEFAULT,
    deadline_ms=DEADLINE_MS_DEFAULT,
    keep_ms=KEEP_MS_DEFAULT,
)


def read_policies(root: Section) -> Policies:
    """Read ``policies``."""
    default = DEFAULT_POLICIES
    section = root.section("policies")
    if section is None:
        return default
    restart, retry, keep = section.section("restart"), section.section("retry"), section.section("keep")
    callers = section.section("callers")
    section.finish()
    policies = Policies(
        restart_base_ms=restart.duration_ms("first", default.restart_base_ms) if restart else default.restart_base_ms,
        restart_cap_ms=restart.duration_ms("longest", default.restart_cap_ms) if restart else default.restart_cap_ms,
        crash_loop_count=restart.count("crash_loop", default.crash_loop_count, least=2, most=100)
        if restart
        else default.crash_loop_count,
        crash_loop_window_ms=restart.duration_ms("window", default.crash_loop_window_ms)
        if restart
        else default.crash_loop_window_ms,
        attempts_max=retry.count("attempts", default.attempts_max, most=100) if retry else default.attempts_max,
        deadline_ms=retry.duration_ms("deadline", default.deadline_ms) if retry else default.deadline_ms,
        keep_ms={pool: keep.duration_ms(pool, ms) if keep else ms for pool, ms in default.keep_ms.items()},
        callers=read_rate(callers, default.callers) if callers else default.callers,
    )
    if restart and policies.restart_base_ms > policies.restart_cap_ms:
        restart.add("first", "is longer than longest", "the wait grows from first to longest")
    for inner in (restart, retry, keep, callers):
        if inner:
            inner.finish()
    return policies


def read_llm(root: Section, folder: Path) -> Llm | None:
    """Read ``llm``; nothing written means: no model server.

    Args:
        folder: of the manifest; a path to a model file is relative to it.
    """
    node = root.node("llm")
    if node is None or isinstance(node, Scalar):
        root.choice("llm", NO_LLM, NO_LLM[0])
        return None
    section = root.section("llm")
    if section is None:
        return None
    driver = section.choice("driver", LLM_DRIVERS, LLM_DRIVERS[0])
    is_here = driver == LLM_DRIVERS[0]
    memory = section.size("memory", LLM_BYTES_DEFAULT if is_here else LLM_ELSEWHERE_BYTES_DEFAULT)
    url, key_file = _elsewhere(section, folder, is_here=is_here)
    peak = section.size("start_peak", memory)
    if peak > memory:
        section.add(
            "start_peak", "is larger than memory, so the start would be killed", "make memory at least as large"
        )
    cores = section.auto_or("cpu", CORES)
    if cores is not None and cores < 1:
        section.add(
            "cpu", f"{cores:g} of a core is too little", "a model server needs 1c or more; auto is a third of the host"
        )
        cores = 1.0
    threads = section.count("threads", 1, most=1_024) if section.has("threads") else None
    llm = Llm(
        model=_model(section, folder) if is_here else section.text("model", required=True, hint=MODEL_HINT),
        memory_bytes=memory,
        start_peak_bytes=min(peak, memory),
        cpu_cores=cores,
        cpu=Share(weight=section.count("weight", 0, most=10_000), cpu_set=section.identifier("cpu_set")),
        slots=section.count("slots", LLM_SLOTS_DEFAULT, most=64),
        context=section.count("context", LLM_CONTEXT_DEFAULT, least=LLM_CONTEXT_LEAST, most=LLM_CONTEXT_MAX),
        threads=threads,
        driver=driver,
        url=url,
        api_key_file=key_file,
        place=root.key_place("llm"),
    )
    section.finish()
    return llm


def _elsewhere(section: Section, folder: Path, *, is_here: bool) -> tuple[str, str]:
    """Read the address of a server that runs the model, and the file with the key for it."""
    url, key_file = section.text("url"), section.text("api_key_file")
    if is_here:
        for key, text in (("url", url), ("api_key_file", key_file)):
            if text:
                section.add(key, "is for a model elsewhere", "write driver: ollama or driver: openai, or remove it")
        return "", ""
    if not url:
        section.add("driver", "needs the address of the server that runs the model", URL_HINT)
    elif not _is_address(url):
        section.add("url", f"{url!r} is no address of a server", URL_HINT)
    if not key_file:
        return url, ""
    path = (folder / key_file).expanduser().resolve()
    if not path.is_file():
        section.add("api_key_file", f"there is no file {path}", "a path is relative to the manifest; chmod 600")
    return url, str(path)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.username or parts.password or parts.query or parts.fragment) and port != 0
    return plain and parts.scheme in {"http", "https"} and bool(parts.hostname)


def _model(section: Section, folder: Path) -> str:
    text = section.text("model", LLM_MODEL_DEFAULT)
    if "/" not in text and not text.endswith(".gguf"):
        return text
    path = (folder / text).expanduser().resolve()
    if not path.is_file():
        section.add("model", f"there is no file {path}", "a path is relative to the manifest; a name has no / in it")
    return str(path)
