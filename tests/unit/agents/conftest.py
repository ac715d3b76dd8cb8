"""Doubles for agents: a fleet of recorded facts, a scripted language model, and a broker of one page."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.client import AgentCard, Condition, ConditionSpan, Event, LogLine, MemoryOwner, Series, Status
from sutazai.runtime import Answer, Context, NonRetryableError, Result, UnavailableError
from sutazai.runtime.context import Surroundings
from sutazai.runtime.execute import execute
from sutazai.runtime.turn import TaskInfo, Turn
from sutazai.spec.agent import builtin_agents_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sutazai.runtime import Agent

AGENTS: dict[str, Agent] = {
    agent.name: agent
    for folder in sorted(builtin_agents_dir().glob("*/agent.py"))
    for agent in [importlib.import_module(f"sutazai.agents.{folder.parent.name}.agent").agent]
}
#: The agents of the recorded fleet: those that the first incident needs.
FLEET = (
    "agent-orchestrator",
    "agentzero-coordinator",
    "crewai",
    "health-monitor",
    "incident-timeline-writer",
    "ram-hardware-optimizer",
    "system-performance-forecaster",
)
MB = 1_048_576
NOW_MS = 1_764_000_300_000
LIFE_S = 48


def shop_memory(seconds: int = 300, end_ms: int = NOW_MS) -> list[list[float]]:
    """The leaky shop's memory: it grows by 1.75 MB/s from 14 MB and starts anew every 48 seconds."""
    return [
        [end_ms - (seconds - second) * 1000, 14 * MB + (second % LIFE_S) * 1.75 * MB] for second in range(seconds + 1)
    ]


def shop_probe(seconds: int = 300, end_ms: int = NOW_MS) -> list[list[float]]:
    """Its liveness checks: they fail from the 17th second of each life on."""
    return [[end_ms - (seconds - second) * 1000, 1.0 if second % LIFE_S < 17 else 0.0] for second in range(seconds + 1)]


class RecordedFleet:
    """``FleetClient`` with the facts of a fleet in which the shop leaks; ``fault`` makes every question fail."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.memory_points = shop_memory()
        self.agent_names = list(FLEET)
        self.extra_agents: list[AgentCard] = []

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault

    def status(self) -> Status:
        self._check()
        shop = {
            "name": "leaky-shop", "kind": "service", "pool": "standard", "state": "running", "ready": True,
            "restarts": 6, "oom_kills": 6, "memory_bytes": int(self.memory_points[-1][1]),
            "memory_limit_bytes": 96 * MB, "memory_peak_bytes": 96 * MB,
            "source": f"status:process/leaky-shop@{NOW_MS}",
        }  # fmt: skip
        broker = {
            "name": "broker", "kind": "platform", "state": "running", "ready": True, "memory_bytes": 20 * MB,
            "memory_limit_bytes": 256 * MB, "memory_peak_bytes": 22 * MB, "source": f"status:process/broker@{NOW_MS}",
        }  # fmt: skip
        idle = {
            "ticket": "k_1", "agent": "health-monitor", "state": "idle", "memory_bytes": 7 * MB,
            "source": f"status:instance/k_1@{NOW_MS}",
        }  # fmt: skip
        return Status.parse(
            {"fleet": "t", "state": "up", "at_wall_ms": NOW_MS, "processes": [shop, broker], "instances": [idle]}
        )

    def conditions(self, *, roots: bool = False) -> list[Condition]:
        self._check()
        return [
            Condition("Unhealthy", "leaky-shop", "warning", "3 checks in a row failed: HTTP 503", NOW_MS - 9_000,
                      ["OomKilled/leaky-shop"], source=f"condition:Unhealthy/leaky-shop@{NOW_MS - 9_000}"),
            Condition("OomKilled", "leaky-shop", "warning", "killed at 96 MB", NOW_MS - 12_000, fix="raise its memory",
                      source=f"condition:OomKilled/leaky-shop@{NOW_MS - 12_000}"),
        ]  # fmt: skip

    def condition_history(self, since_s: float = 3_600) -> list[ConditionSpan]:
        self._check()
        return [
            ConditionSpan("Unhealthy", "leaky-shop", "warning", "checks failed", NOW_MS - 90_000, NOW_MS - 60_000,
                          source=f"condition:Unhealthy/leaky-shop@{NOW_MS - 90_000}"),
        ]  # fmt: skip

    def metrics(self, name: str, since_s: float = 600, **labels: Any) -> list[Series]:
        self._check()
        points = {
            ("process_memory_bytes", "leaky-shop"): self.memory_points,
            ("process_memory_bytes", "broker"): [[at, 20.0 * MB] for at, _ in self.memory_points],
            ("process_memory_limit_bytes", "leaky-shop"): [[at, 96.0 * MB] for at, _ in self.memory_points],
            ("process_memory_limit_bytes", "broker"): [[at, 256.0 * MB] for at, _ in self.memory_points],
            ("probe_success", "leaky-shop"): shop_probe(),
        }
        return [
            Series(metric, {"process": process}, unit="bytes" if "bytes" in metric else "count", points=found,
                   source=f'metric:{metric}{{process="{process}"}}@{found[0][0]}..{found[-1][0]}')
            for (metric, process), found in points.items()
            if metric == name and found and labels.get("process", process) == process
        ]  # fmt: skip

    def logs(self, process: str = "", since_s: float = 600, **_: Any) -> list[LogLine]:
        self._check()
        return [
            LogLine(NOW_MS - 1000 * back, "leaky-shop", f"order ord-{back:06d} failed: walked 169 sessions, 28 MB",
                    "line", "error", source=f"log:leaky-shop@{NOW_MS - 1000 * back}+{back}")
            for back in range(9, 0, -1)
        ]  # fmt: skip

    def memory(self) -> list[MemoryOwner]:
        self._check()
        return [
            MemoryOwner("leaky-shop", "service", "standard", 1, 60 * MB, 62 * MB, 58 * MB, 2 * MB, 57 * MB, 3 * MB,
                        source=f"memory:leaky-shop/1@{NOW_MS}"),
            MemoryOwner("broker", "platform", "platform", 2, 20 * MB, 30 * MB, 12 * MB, 8 * MB, 12 * MB, 18 * MB,
                        source=f"memory:broker/2@{NOW_MS}"),
        ]  # fmt: skip

    def events(self, since_s: float = 3_600, *, kind: Any = "", subject: Any = "", limit: int = 500) -> list[Event]:
        self._check()
        found = []
        for life in range(1, 7):
            at_ms = NOW_MS - 300_000 + life * LIFE_S * 1000
            for name in ("oom-killed", "process-restarted", "process-ready"):
                found.append(Event(at_ms, name, "leaky-shop", "", source=f"event:{name}/leaky-shop@{at_ms}"))  # noqa: PERF401 readable
        return [event for event in found if not kind or event.kind in kind]

    def agents(self) -> list[AgentCard]:
        self._check()
        found = [AgentCard(name, skills=AGENTS[name].describe()["skills"]) for name in self.agent_names]
        return [*found, *self.extra_agents]


class ScriptedLlm:
    """Answers with what the test says: text, data, or an error."""

    def __init__(self, *, data: Any = None, text: str = "", error: Exception | None = None) -> None:
        self.data, self.text, self.error = data, text, error
        self.asked: list[dict[str, Any]] = []
        self.vectors: dict[str, list[float]] = {}

    def embed(self, texts: Sequence[str], **_: Any) -> list[list[float]]:
        """The vector of the first known word in each text."""
        if self.error is not None:
            raise self.error
        return [next(vector for word, vector in self.vectors.items() if word in text) for text in texts]

    def chat(self, messages: Any, **options: Any) -> Answer:
        self.asked.append({"messages": messages, **options})
        if self.error is not None:
            raise self.error
        data = self.data if options.get("schema") is not None else None
        return Answer(self.text, data, "scripted", "stop", 0, 0)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """A word is a token, and each tenth word costs one more: a whole is more than its parts, as with a real one."""
        if self.error is not None:
            raise self.error
        sizes = [len(text.split()) for text in texts]
        return [size + size // 10 for size in sizes]


class Broker:
    """Runs a task and all that it waits for through the real turn machinery, in this process.

    ``outcomes`` replaces what a skill does: an error dictionary fails it, a function of the input answers for it.
    """

    def __init__(self, fleet: RecordedFleet, llm: ScriptedLlm | None = None) -> None:
        self.fleet = fleet
        self.llm = llm or ScriptedLlm(error=UnavailableError("the language model does not answer"))
        self.outcomes: dict[str, dict[str, Any] | Callable[[dict[str, Any]], Any]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.turns: list[str] = []
        self.settings: dict[str, Any] = {}
        self.acts: list[tuple[str, dict[str, Any]]] = []
        self.act: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None
        self.deadline_s = 600.0
        self.on_own: Callable[[dict[str, Any]], list[dict[str, Any]]] | None = None
        self.states: dict[tuple[str, str], dict[str, Any]] = {}
        self._ids = itertools.count(1)
        self.kept: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, Result] = {}
        self.labels: list[str] = []

    def ask(self, agent: str, skill: str, data: dict[str, Any]) -> Result:
        """Run a task to its end."""
        return self._run(f"t_{next(self._ids)}", agent, skill, data)

    def _run(self, task: str, agent: str, skill: str, data: dict[str, Any], session: str = "") -> Result:
        if task in self.ended:
            return self.ended[task]
        self.ended[task] = self._execute(task, agent, skill, data, session)
        return self.ended[task]

    def _execute(self, task: str, agent: str, skill: str, data: dict[str, Any], session: str) -> Result:
        self.asked.append((f"{agent}.{skill}", data))
        outcome = self.outcomes.get(f"{agent}.{skill}")
        if isinstance(outcome, dict):
            return Result(task, agent, skill, outcome.get("status", "dead"), None, outcome)
        if outcome is not None:
            return Result(task, agent, skill, "succeeded", outcome(data))
        step, results, carry = "", list[Result](), None
        while True:
            self.turns.append(f"{agent}.{skill}/{step}")
            info = TaskInfo(task, agent, skill, session=session, step=step)
            state = copy.deepcopy(self.states.get((agent, session), {})) if session else None
            turn = Turn(info, data, 1, time.monotonic() + self.deadline_s, 10_000, results, carry, state)
            commit = execute(AGENTS[agent], turn, self.context(turn), lambda function, given: function(**given))
            if commit.state is not None:
                self.states[agent, session] = commit.state
            self.kept.setdefault(task, {}).update(copy.deepcopy(commit.keeps))
            self.labels += [entry["label"] for entry in commit.emits if entry["label"]]
            if commit.outcome != "wait":
                for entry in commit.emits:
                    self._run(entry["id"], entry["agent"], entry["skill"], entry["input"], entry.get("session") or "")
                status = "succeeded" if commit.outcome == "result" else "failed"
                return Result(task, agent, skill, status, commit.result, commit.error)
            wait = commit.wait or {}
            emits = {entry["id"]: entry for entry in commit.emits}
            results = [
                self.ended[child]
                if child in self.ended
                else self._run(
                    child,
                    emits[child]["agent"],
                    emits[child]["skill"],
                    emits[child]["input"],
                    emits[child].get("session") or "",
                )
                for child in wait["tasks"]
            ]
            step, carry = wait["then"], wait["carry"]

    def _recall(self, task: str, fields: dict[str, Any]) -> dict[str, Any]:
        kept = self.kept.get(fields["of"] or task, {})
        ends = [self.ended[name] for name in fields.get("results", ()) if name in self.ended]
        return {
            "values": {name: kept[name] for name in fields.get("names", ()) if name in kept},
            "results": [dataclasses.asdict(end) for end in ends],
        }

    def _act(self, _: Context, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.acts.append((action, arguments))
        if self.act is None:
            raise NonRetryableError("this agent has not the power")
        return self.act(action, arguments)

    def context(self, turn: Turn) -> Context:
        """A real context on recorded facts."""
        around = Surroundings(
            settings=self.settings, on_act=self._act, on_own=self.on_own,
            on_recall=lambda fields: self._recall(turn.task.id, fields),
        )  # fmt: skip
        context = Context(turn, around)
        context._fleet = self.fleet  # type: ignore[assignment]
        context._llm = self.llm  # type: ignore[assignment]
        return context


@pytest.fixture
def fleet() -> RecordedFleet:
    """A fleet in which the shop leaks."""
    return RecordedFleet()


@pytest.fixture
def broker(fleet: RecordedFleet) -> Broker:
    """A broker on that fleet; the language model is down."""
    return Broker(fleet)


@pytest.fixture
def scripted() -> type[ScriptedLlm]:
    """The scripted language model's class."""
    return ScriptedLlm
