"""Why it exists: the promises of ``docs/explanation/states-and-crashes.md``, as checks on a simulated world."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sutazai.ids import child_task_id
from sutazai.limits import INFRA_LOSSES_MAX_DEFAULT
from sutazai.store.model import STATUS_NAMES, STATUS_NUMBERS, SUCCEEDED, TERMINAL_FIRST

if TYPE_CHECKING:
    from sutazai.testing.simulation import World

_ROWS = "SELECT seq, id, agent, session, status, fence, attempt, attempts_max, losses, held, due_ms FROM tasks"


class SimulationError(AssertionError):
    """A promise of the broker is broken; the message says which, and how to see it again."""


class Checks:
    """Follows a world and fails it.

    Args:
        world: it follows.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[str, tuple[int, int]] = {}
        self._accepted: dict[str, dict[str, Any]] = {}
        self._told: dict[str, str] = {}
        self._ends: dict[tuple[str, int], str] = {}
        self._watched: dict[tuple[int, int], int] = {}

    def _query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._world.store._connection.execute(text, values).fetchall()  # noqa: SLF001 the judge looks inside

    def clock_started(self, now_ms: int) -> None:
        """A broker starts: its clock never runs back behind what is stored."""
        reading = self._world.store.reading()
        if reading is not None and now_ms < reading.broker_ms:
            self._world.fail(f"the broker's clock ran back from {reading.broker_ms} to {now_ms}")

    def accepted(self, task: str, spec: dict[str, Any]) -> None:
        """A client was told that its task is stored."""
        self._accepted[task] = spec
        if not self._query("SELECT 1 FROM tasks WHERE id = ?", task):
            self._world.fail(f"{task} was accepted and is not stored")

    def told(self, task: str, status: str) -> None:
        """A client was told a status: a terminal one is the last."""
        before = self._told.get(task)
        if before is not None and STATUS_NUMBERS[before] >= TERMINAL_FIRST and before != status:
            self._world.fail(f"{task} was {before} and is {status}")
        self._told[task] = status

    def watched(self, pid: int, request: int, event: dict[str, Any]) -> None:
        """A client saw an event: their numbers grow without a gap."""
        before = self._watched.get((pid, request))
        if before is not None and event["seq"] != before + 1:
            self._world.fail(f"event {event['seq']} of {event['task']} came after {before}")
        self._watched[pid, request] = event["seq"]

    def begun(self, turn: dict[str, Any]) -> None:
        """An instance got a turn: it holds the newest token, and what it waited for is over."""
        task = turn["task"]
        for result in task["results"]:
            if STATUS_NUMBERS[result["status"]] < TERMINAL_FIRST:
                self._world.fail(f"{task['id']} goes on while {result['task']} is {result['status']}")
        if task["step"] == "collect":
            wanted = [child_task_id(task["id"], "here", index) for index in range(task["input"]["width"])]
            if [result["task"] for result in task["results"]] != wanted or task["carry"] != {"of": task["id"]}:
                self._world.fail(f"{task['id']} got other results than it waited for")

    def is_over(self, turn: dict[str, Any], ticket: str) -> None:
        """An instance got another turn: the one it runs must have been taken from it."""
        task = turn["task"]["id"]
        if self._query("SELECT 1 FROM tasks WHERE id = ? AND status = 1 AND fence = ?", task, turn["fence"]):
            self._world.fail(f"{ticket} got a turn while it runs one that nobody took from it")

    def committed(self, turn: dict[str, Any], commit: dict[str, Any], status: str) -> None:
        """An instance was told that its turn is stored."""
        key = (turn["task"]["id"], turn["fence"])
        if commit["outcome"] == "checkpoint" and status == "leased":
            return
        before = self._ends.setdefault(key, status)
        if before != status:
            self._world.fail(f"turn {key} was told {before} and then {status}")
        rows = self._query(
            "SELECT status FROM turns WHERE task = (SELECT seq FROM tasks WHERE id = ?) AND fence = ?", *key
        )
        if rows != [(STATUS_NUMBERS[status],)]:
            self._world.fail(f"turn {key} was told {status}, the history says {rows}")

    def after_commit(self) -> None:
        """What must hold at every moment."""
        heads: dict[tuple[str, str], int] = {}
        counts: dict[str, list[int]] = {}
        for seq, name, agent, session, status, fence, attempt, attempts_max, losses, held, due_ms in self._query(_ROWS):
            self._check_moves(name, status, fence)
            if attempt > attempts_max or losses > INFRA_LOSSES_MAX_DEFAULT or attempt < 0:
                self._world.fail(f"{name} has {attempt} attempts and {losses} losses")
            if status >= TERMINAL_FIRST:
                continue
            if session is not None:
                head = heads.setdefault((agent, session), seq)
                if (head == seq) == bool(held) or (head != seq and status != 0):
                    self._world.fail(f"{name} is {STATUS_NAMES[status]}, held {held}; its session's head is {head}")
            numbers = counts.setdefault(agent, [0, 0, 0, 0])
            numbers[status] += 1
            numbers[3] += status == 0 and not held and due_ms == 0
        self._check_counts(counts)
        for name, above in self._query(
            "SELECT c.id, p.id FROM tasks AS c JOIN tasks AS p ON c.parent = p.seq WHERE c.status < 3 AND p.status > 5"
        ):
            self._world.fail(f"{name} is open and its parent {above} was cancelled or has expired")

    def _check_moves(self, name: str, status: int, fence: int) -> None:
        before, token = self._seen.get(name, (status, fence))
        if before >= TERMINAL_FIRST and status != before:
            self._world.fail(f"{name} left {STATUS_NAMES[before]} for {STATUS_NAMES[status]}")
        if fence < token:
            self._world.fail(f"the token of {name} fell from {token} to {fence}")
        self._seen[name] = (status, fence)

    def _check_counts(self, counts: dict[str, list[int]]) -> None:
        for agent, entry in self._world.store.counts.agents.items():
            numbers = counts.get(agent, [0, 0, 0, 0])
            if [entry.queued, entry.leased, entry.waiting, entry.ready] != numbers:
                self._world.fail(f"{agent} counts {entry}, the store holds {numbers}")

    def refused(self, turn: dict[str, Any], ticket: str, code: str) -> None:
        """A commit was refused: it had not been stored before."""
        rows = self._query(
            "SELECT outcome FROM turns WHERE task = (SELECT seq FROM tasks WHERE id = ?) AND fence = ? AND ticket = ?"
            " AND outcome IN ('result', 'wait', 'failed')",
            turn["task"]["id"], turn["fence"], ticket,
        )  # fmt: skip
        if rows or code != "fenced":
            self._world.fail(f"a commit of {turn['task']['id']} was refused as {code}, the history says {rows}")

    def open_tasks(self) -> list[str]:
        """Tasks that are not terminal."""
        return [row[0] for row in self._query("SELECT id FROM tasks WHERE status < 3")]

    def at_the_end(self) -> None:
        """Everything is at rest: what was accepted is over, and nothing was done twice."""
        rows = {row[1]: row for row in self._query(_ROWS)}
        for task, spec in self._accepted.items():
            if rows[task][4] < TERMINAL_FIRST:
                self._world.fail(f"{task} was accepted and is still {STATUS_NAMES[rows[task][4]]}")
            self._judge(task, spec["input"]["kind"], rows[task][4])
        if len(self._accepted) != self._query("SELECT COUNT(*) FROM tasks WHERE parent IS NULL")[0][0]:
            self._world.fail("a submission under one key was stored twice, or somebody made a task up")
        self._check_turns()
        self._check_children()
        self._check_states()

    def _judge(self, task: str, kind: str, status: int) -> None:
        name = STATUS_NAMES[status]
        allowed = {
            "fatal": {"failed", "cancelled", "expired", "dead"},
            "poison": {"dead", "cancelled", "expired"},
        }.get(kind, {"succeeded", "dead", "cancelled", "expired"})
        if name not in allowed:
            self._world.fail(f"{task} of kind {kind} ended as {name}")

    def _check_turns(self) -> None:
        for name, status, results, waits in self._query(
            "SELECT id, status, (SELECT COUNT(*) FROM turns WHERE task = seq AND outcome = 'result'),"
            " (SELECT COUNT(*) FROM turns WHERE task = seq AND outcome = 'wait' AND step = '') FROM tasks"
        ):
            if results != (status == SUCCEEDED) or waits > 1:
                self._world.fail(f"{name} is {STATUS_NAMES[status]} with {results} results and {waits} first waits")
        for name, events, stored in self._query(
            "SELECT id, events, (SELECT COUNT(*) FROM task_events WHERE task = tasks.seq) FROM tasks"
        ):
            if events != stored:
                self._world.fail(f"{name} counts {events} events and has {stored}")

    def _check_children(self) -> None:
        """A turn that was executed twice has made its children once."""
        for name, text, waits, children in self._query(
            "SELECT id, (SELECT data FROM payloads WHERE key = t.seq * 4),"
            " (SELECT COUNT(*) FROM turns WHERE task = t.seq AND outcome IN ('wait', 'result')),"
            " (SELECT COUNT(*) FROM tasks AS c WHERE c.parent = t.seq) FROM tasks AS t"
        ):
            data = json.loads(text)
            wanted = {"fan": data["width"], "emit": 1}.get(data["kind"], 0) if waits else 0
            if children != wanted:
                self._world.fail(f"{name} has {children} children and asked for {wanted}")

    def _check_states(self) -> None:
        """The version counts commits of state, no entry stands twice, and the order is that of acceptance."""
        for agent, session, version, text in self._query("SELECT agent, session, version, data FROM states"):
            journal = json.loads(text)["journal"]
            if len(set(journal)) != len(journal) or len(journal) != version:
                self._world.fail(f"state of {agent} {session} is at version {version}: {journal}")
            done = [entry.removeprefix("done ") for entry in journal if entry.startswith("done ")]
            stored = self._query(
                "SELECT id FROM tasks WHERE agent = ? AND session = ? AND status = 3 ORDER BY seq", agent, session
            )
            if done != [row[0] for row in stored]:
                self._world.fail(f"state of {agent} {session} has {done}, the store {stored}")
