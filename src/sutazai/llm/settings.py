"""Why it exists: what the planner decided about cores and memory reaches the model server in one checked place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sutazai.errors import ConfigError
from sutazai.llm.models import DEFAULT_MODEL

OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Settings:
    """How the model server runs; each field is an environment variable ``SUTAZAI_LLM_<FIELD>`` of its own.

    Attributes:
        model: name of the catalogue, or path of a GGUF file (``SUTAZAI_LLM_MODEL``).
        driver: who runs it (``SUTAZAI_LLM_DRIVER``): ``llamacpp``, ``ollama``, ``openai``, or ``scripted`` (tests).
        threads: cores used for one answer (``SUTAZAI_LLM_THREADS``); the planner sets floor(CPU quota), because more
            threads than quota slow a model down many times over.
        slots: answers at the same time (``SUTAZAI_LLM_SLOTS``).
        context_tokens: context of one slot, tokens (``SUTAZAI_LLM_CONTEXT_TOKENS``).
        memory_bytes: refuse to start above this (``SUTAZAI_LLM_MEMORY_BYTES``); 0 for no bound.
        queue_max: requests that may wait for a slot (``SUTAZAI_LLM_QUEUE``).
        output_tokens_max: bound of every answer, tokens (``SUTAZAI_LLM_OUTPUT_TOKENS_MAX``).
        prefix_cache_bytes: prompts kept to start warm (``SUTAZAI_LLM_PREFIX_CACHE_BYTES``).
        upstream_url: where ``ollama`` or ``openai`` runs it (``SUTAZAI_LLM_UPSTREAM_URL``).
        upstream_stall_s: how long that server may be silent (``SUTAZAI_LLM_UPSTREAM_STALL_S``), seconds.
        api_key_file: file with the key for that server (``SUTAZAI_LLM_API_KEY_FILE``); empty for none.
    """

    model: str = DEFAULT_MODEL
    driver: str = "llamacpp"
    threads: int = 1
    slots: int = 2
    context_tokens: int = 4_096
    memory_bytes: int = 0
    queue_max: int = 32
    output_tokens_max: int = 1_024
    prefix_cache_bytes: int = 32 * 1024**2
    upstream_url: str = ""
    upstream_stall_s: int = 120
    api_key_file: str = ""

    @classmethod
    def from_env(cls) -> Settings:
        """Read the environment.

        Raises:
            ConfigError: a value is no number or out of its bounds.
        """
        return cls(
            model=os.environ.get("SUTAZAI_LLM_MODEL") or DEFAULT_MODEL,
            driver=os.environ.get("SUTAZAI_LLM_DRIVER") or "llamacpp",
            threads=_number("SUTAZAI_LLM_THREADS", len(os.sched_getaffinity(0)), 1, 256),
            slots=_number("SUTAZAI_LLM_SLOTS", 2, 1, 16),
            context_tokens=_number("SUTAZAI_LLM_CONTEXT_TOKENS", 4_096, 256, 131_072),
            memory_bytes=_number("SUTAZAI_LLM_MEMORY_BYTES", 0, 0, 2**50),
            queue_max=_number("SUTAZAI_LLM_QUEUE", 32, 0, 10_000),
            output_tokens_max=_number("SUTAZAI_LLM_OUTPUT_TOKENS_MAX", 1_024, 1, 131_072),
            prefix_cache_bytes=_number("SUTAZAI_LLM_PREFIX_CACHE_BYTES", 32 * 1024**2, 0, 2**40),
            upstream_url=os.environ.get("SUTAZAI_LLM_UPSTREAM_URL", ""),
            upstream_stall_s=_number("SUTAZAI_LLM_UPSTREAM_STALL_S", 120, 1, 3_600),
            api_key_file=os.environ.get("SUTAZAI_LLM_API_KEY_FILE", ""),
        )

    def api_key(self) -> str:
        """The key for the server that runs the model: from its file, else ``SUTAZAI_LLM_API_KEY``; empty for none.

        The file is read each time, so that a new key needs no restart. A key never stands in a manifest or a plan.

        Raises:
            ConfigError: the file cannot be read, is empty, or may be read by others.
        """
        if not self.api_key_file:
            return os.environ.get("SUTAZAI_LLM_API_KEY", "").strip()
        path = Path(self.api_key_file)
        try:
            if path.stat().st_mode & OTHERS:
                raise ConfigError(f"others may read the key in {path}", hint=f"run: chmod 600 {path}")
            key = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the key in {path}: {error}", hint="see llm.api_key_file") from error
        if not key or not key.isascii() or not key.isprintable():
            raise ConfigError(f"{path} holds no key", hint="one line of plain characters, nothing else")
        return key


def _number(name: str, default: int, least: int, most: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise ConfigError(f"{name}={text} is no whole number from {least} to {most}")
    return value
