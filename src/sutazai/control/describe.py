"""Why it exists: the plan holds each skill's schema, and only the agent's own code knows it, in a process of its own.

Agent code is imported in a subprocess of its language, never here. Importing scientific libraries takes seconds, so
what was found is kept in the fleet's state folder under a digest of the agent's files and of the runtime.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sutazai
from sutazai.errors import ConfigError
from sutazai.host.languages import LANGUAGES
from sutazai.spec import HOME_RUNTIME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sutazai.spec import Agent

TIMEOUT_S = 120
PARALLEL_MAX = 2
SOURCES_MAX = 2_000
_CACHE_NAME = "skills.json"

Skills = list[dict[str, Any]]


def describe(agents: Sequence[Agent], state_dir: Path | None) -> tuple[dict[str, Skills], list[ConfigError]]:
    """Find the skills of agents.

    Args:
        agents: whose skills are wanted.
        state_dir: where the findings are kept; ``None`` keeps nothing.

    Returns:
        Skills by agent, and what was wrong with the others.
    """
    cache = _load(state_dir)
    keys = {agent.name: _digest(agent) for agent in agents}
    found = {agent.name: cache[keys[agent.name]] for agent in agents if keys[agent.name] in cache}
    missing = [agent for agent in agents if agent.name not in found]
    mistakes: list[ConfigError] = []
    groups = [group for group in _groups(missing) if group]
    with ThreadPoolExecutor(max_workers=PARALLEL_MAX) as pool:
        for skills, wrong in pool.map(_describe_group, groups):
            found |= skills
            mistakes += wrong
    if missing and state_dir is not None:
        _store(state_dir, {keys[name]: skills for name, skills in found.items()})
    return found, mistakes


def _groups(agents: Sequence[Agent]) -> list[list[Agent]]:
    """Put agents of one family together, so that their libraries are imported once; a group for each process."""
    apart = [[agent for agent in agents if agent.runtime == name] for name in LANGUAGES]
    ordered = sorted((agent for agent in agents if agent.runtime == HOME_RUNTIME), key=lambda agent: agent.family)
    return [*_halves(ordered), *apart]


def _halves(ordered: list[Agent]) -> list[list[Agent]]:
    if len(ordered) < PARALLEL_MAX * 2:
        return [ordered]
    families = sorted({agent.family for agent in ordered})
    if len(families) == 1:
        half = len(ordered) // 2
        return [ordered[:half], ordered[half:]]
    return [
        [agent for agent in ordered if agent.family == families[0]],
        [agent for agent in ordered if agent.family != families[0]],
    ]


def _describe_group(agents: list[Agent]) -> tuple[dict[str, Skills], list[ConfigError]]:
    """Describe several agents in one process; when that fails, each alone, so that the culprit is named."""
    try:
        answers = _run(_command(agents[0].runtime, [agent.module for agent in agents]), len(agents))
    except _DescribeError as error:
        if len(agents) == 1:
            return {}, [_mistake(agents[0], str(error))]
        found: dict[str, Skills] = {}
        mistakes: list[ConfigError] = []
        for agent in agents:
            skills, wrong = _describe_group([agent])
            found |= skills
            mistakes += wrong
        return found, mistakes
    found, mistakes = {}, []
    for agent, answer in zip(agents, answers, strict=True):
        if problem := _problem(agent, answer):
            mistakes.append(_mistake(agent, problem))
        else:
            found[agent.name] = answer["skills"]
    return found, mistakes


class _DescribeError(Exception):
    """The subprocess did not describe what it was asked for."""


def _command(runtime: str, modules: list[str]) -> list[str]:
    if runtime == HOME_RUNTIME:
        return [sys.executable, "-m", "sutazai.runtime.describe", *modules]
    language = LANGUAGES[runtime]
    program, why = language.find()
    if not program:
        raise _DescribeError(f"{why}; {language.hint}")
    return [program, *language.describe, *modules]


def _run(command: list[str], count: int) -> list[dict[str, Any]]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise _DescribeError(f"importing it took longer than {TIMEOUT_S} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise _DescribeError(lines[-1].strip() if lines else f"describe ended with {done.returncode}")
    try:
        data = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise _DescribeError("it printed something else than its skills while being imported") from error
    answers: list[dict[str, Any]] = data if isinstance(data, list) else [data]
    if len(answers) != count:
        raise _DescribeError(f"{len(answers)} of {count} modules were described")
    return answers


def _problem(agent: Agent, answer: dict[str, Any]) -> str:
    if answer.get("error"):
        return str(answer["error"])
    if answer.get("name") != agent.name:
        return f'its code calls itself Agent("{answer.get("name")}")'
    if not answer.get("skills"):
        return "it has no skill" + (": decorate a function with @agent.skill" if agent.runtime == HOME_RUNTIME else "")
    return ""


def _mistake(agent: Agent, problem: str) -> ConfigError:
    return ConfigError(
        f"{agent.name}: its code cannot be used: {problem}",
        path=agent.place.path,
        line=agent.place.line,
        column=agent.place.column,
        hint=_hint(agent),
    )


def _hint(agent: Agent) -> str:
    try:
        return f"run: {shlex.join(_command(agent.runtime, [agent.module]))}"
    except _DescribeError:
        return LANGUAGES[agent.runtime].hint


def _digest(agent: Agent) -> str:
    """Digest what an agent's description depends on: its own sources, the runtime, the interpreter."""
    digest = hashlib.sha256(f"{sutazai.__version__} {sys.version} {agent.name}".encode())
    module = Path(agent.module)
    if agent.runtime == HOME_RUNTIME:
        own = sorted(module.rglob("*.py")) if module.is_dir() else [module]
        runtime = sorted((Path(sutazai.__file__).parent / "runtime").glob("*.py"))
    else:
        language = LANGUAGES[agent.runtime]
        beside = module.parent.rglob("*") if agent.origin != "file" else [module]
        own = sorted(path for path in beside if path.suffix in language.suffixes)
        runtime = language.sources()
    for path in [*own[:SOURCES_MAX], *runtime]:
        digest.update(f"\0{path}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _load(state_dir: Path | None) -> dict[str, Skills]:
    if state_dir is None:
        return {}
    try:
        data = json.loads((state_dir / _CACHE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _store(state_dir: Path, found: dict[str, Skills]) -> None:
    state_dir.mkdir(parents=True, exist_ok=True)
    temporary = state_dir / f"{_CACHE_NAME}.new"
    temporary.write_text(json.dumps(found))
    temporary.replace(state_dir / _CACHE_NAME)
