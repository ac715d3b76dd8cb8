"""Why it exists: the promises of ``docs/explanation/states-and-crashes.md``, as checks on a simulated world."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sutazai.bus.breaker import State
from sutazai.ids import child_task_id
from sutazai.limits import INFRA_LOSSES_MAX_DEFAULT
from sutazai.store.model import DEAD, STATUS_NAMES, STATUS_NUMBERS, SUCCEEDED, TERMINAL_FIRST, Claim, Outcome, Turn
from sutazai.store.times import Occur

if TYPE_CHECKING:
    from sutazai.bus.group import Entry, Group
    from sutazai.testing.simulation import World

_ROWS = (
    "SELECT seq, id, agent, session, status, fence, attempt, attempts_max, losses, held, due_ms, handled FROM tasks"
    " ORDER BY seq"
)


_SCHEDULED = "SELECT task FROM task_events WHERE seq = 1 AND data LIKE '%schedule%'"
_GIVEN = f"SELECT COUNT(*) FROM tasks WHERE parent IS NULL AND replay_of IS NULL AND seq NOT IN ({_SCHEDULED})"  # noqa: S608


_PASSED_OVER = (
    "SELECT c.id FROM signals AS s JOIN tasks AS c ON c.parent = s.task WHERE s.given = 0 AND c.agent = 'signal'"
    " AND c.skill = s.name AND c.status < 3"
)
_SIGNALLED = (
    "SELECT c.parent, r.effects FROM turns AS r JOIN tasks AS c ON c.seq = r.task WHERE r.outcome = 'signal'"
    " AND c.parent IS NOT NULL"
)
_ORPHANS = "SELECT c.id, p.id FROM tasks AS c JOIN tasks AS p ON c.parent = p.seq WHERE c.status < 3 AND p.status > 5"
#: Key of signals that are sent to who waits at the end, as often as it takes.
LATE = "late"
_JUMPS_MS = 20_000  # the wall clock may be set back, more than once, between a decision and its group


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
        self._handled: dict[str, str] = {}
        self._starting: list[tuple[str, int]] = []
        self._occurring: list[tuple[Occur, int]] = []
        self._occurred: set[tuple[str, str, int]] = set()
        self._starts: dict[str, list[int]] = {}
        self._put_back: list[Entry] = []

    def _query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._world.query(text, values)

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

    def handled(self, kind: str, entry: dict[str, Any]) -> None:
        """A client was told what became of a dead letter: there is one answer, and a replay is one task."""
        task = entry["task"]
        if "error" in entry:
            if task not in self._handled and not self._query(
                "SELECT 1 FROM tasks WHERE id = ? AND handled IS NOT NULL", task
            ):
                self._world.fail(f"{kind} of {task} was refused: {entry['error']}")
            return
        answer = str(entry.get("replay", kind))
        if self._handled.setdefault(task, answer) != answer:
            self._world.fail(f"{task} was told {self._handled[task]} and then {answer}")
        if kind == "replay" and self._query("SELECT replay_of FROM tasks WHERE id = ?", answer) != [(task,)]:
            self._world.fail(f"{task} was told to run again as {answer}, which does not say so")

    def signalled(self, task: str, key: str) -> None:
        """A client was told that its signal was taken: it is kept or somebody got it, and it stands there once."""
        kept = self._query(
            "SELECT 1 FROM signals WHERE key = ? AND task = (SELECT seq FROM tasks WHERE id = ?)", key, task
        )
        direct = self._query("SELECT 1 FROM tasks WHERE id = ? AND agent = 'signal' AND status >= 3", task)
        if len(kept) + len(direct) != 1:
            self._world.fail(f"the signal {key} to {task} was taken and stands there {len(kept)} times")

    def signals_awaited(self) -> list[str]:
        """Tasks that wait for a signal now."""
        return [
            name for (name,) in self._query("SELECT id FROM tasks WHERE agent = 'signal' AND status = 0 ORDER BY seq")
        ]

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

    def claims(self, group: Group, now_ms: int) -> None:
        """A group was run at this time of the broker: these turns start when it is committed."""
        self._occurring = [
            (entry.operation, self._world.clock.wall_ms())
            for entry in group.done
            if isinstance(entry.operation, Occur) and isinstance(entry.result, Outcome) and entry.result.reply
        ]
        self._check_breakers(group)
        for entry in group.done:
            turn = entry.result.reply if isinstance(entry.result, Outcome) else None
            if isinstance(turn, Turn) and isinstance(entry.operation, Claim):
                bound = entry.operation.priority_max
                if bound is not None and turn.priority > bound:
                    self._world.fail(f"{turn.task} of priority {turn.priority} was claimed, {bound} was the bound")
        self._starting = [
            (entry.operation.agent, now_ms)
            for entry in group.done
            if isinstance(entry.operation, Claim) and isinstance(entry.result, Outcome) and entry.result.reply
        ]

    def _check_breakers(self, group: Group) -> None:
        """An open circuit starts no turn, a half-open one no more than its probes; claims of before are under way."""
        starts: dict[str, int] = {}
        for entry in group.done:
            if not isinstance(entry.operation, Claim) or any(entry is older for older in self._put_back):
                continue
            if isinstance(entry.result, Outcome) and entry.result.reply:
                starts[entry.operation.agent] = starts.get(entry.operation.agent, 0) + 1
        self._put_back = list(group.later)
        for agent, count in starts.items():
            breaker = self._world.broker.guards.breaker(agent) if self._world.broker is not None else None
            if breaker is None or breaker.state is State.CLOSED:
                continue
            if breaker.state is State.OPEN or count > breaker.policy.probes:
                self._world.fail(f"{count} turns of {agent} started while its circuit is {breaker.state}")

    def broker_died(self) -> None:
        """What was not committed has not happened."""
        self._starting, self._occurring = [], []

    def _check_schedules(self) -> None:
        """A time becomes a task when it has come, and once."""
        occurring, self._occurring = self._occurring, []
        for occur, wall_ms in occurring:
            key = (occur.agent, occur.schedule, occur.at_wall_ms)
            if key in self._occurred or occur.at_wall_ms > wall_ms + _JUMPS_MS:
                self._world.fail(f"the time {key} was done at {wall_ms}, twice or too early")
            self._occurred.add(key)

    def _check_rates(self) -> None:
        """In no time that ends now have more turns started than the agent's rate allows."""
        starting, self._starting = self._starting, []
        for agent, now_ms in starting:
            starts = self._starts.setdefault(agent, [])
            starts.append(now_ms)
            rate = self._world.agents[agent].rate
            for number, since_ms in enumerate(reversed(starts), 1):
                if rate and number > rate["burst"] + (now_ms - since_ms) * 1_000 // rate["interval_us"]:
                    self._world.fail(f"{number} turns of {agent} started in {now_ms - since_ms} ms, its rate is {rate}")

    def after_commit(self) -> None:
        """What must hold at every moment."""
        self._check_rates()
        self._check_schedules()
        heads: dict[tuple[str, str], int] = {}
        counts: dict[str, list[int]] = {}
        dead: dict[str, int] = {}
        for row in self._query(_ROWS):
            seq, name, agent, session, status, fence, attempt, attempts_max, losses, held, due_ms, handled = row
            self._check_moves(name, status, fence)
            if attempt > attempts_max or losses > INFRA_LOSSES_MAX_DEFAULT or attempt < 0:
                self._world.fail(f"{name} has {attempt} attempts and {losses} losses")
            if status == DEAD and handled is None:
                dead[agent] = dead.get(agent, 0) + 1
            if status >= TERMINAL_FIRST:
                continue
            if session is not None:
                head = heads.setdefault((agent, session), seq)
                if (head == seq) == bool(held) or (head != seq and status != 0):
                    self._world.fail(f"{name} is {STATUS_NAMES[status]}, held {held}; its session's head is {head}")
            numbers = counts.setdefault(agent, [0, 0, 0, 0])
            numbers[status] += 1
            numbers[3] += status == 0 and not held and due_ms == 0
        self._check_counts(counts, dead)
        held = self._query("SELECT COALESCE(SUM(input_bytes), 0) FROM tasks WHERE status < 3")[0][0]
        if held != self._world.store.counts.bytes:
            self._world.fail(f"the open tasks hold {held} bytes, {self._world.store.counts.bytes} are counted")
        for name, above in self._query(_ORPHANS):
            self._world.fail(f"{name} is open and its parent {above} was cancelled or has expired")
        self._check_signals()

    def _check_signals(self) -> None:
        """Nobody waits for a signal that is kept for him, and none is given twice."""
        if waits := self._query(_PASSED_OVER):
            self._world.fail(f"these wait for signals that are kept for them: {waits}")
        given = [(parent, json.loads(effects)["key"]) for parent, effects in self._query(_SIGNALLED)]
        twice = {entry for entry in given if given.count(entry) > 1 and entry[1] != LATE}
        if twice:
            self._world.fail(f"these signals were given twice: {twice}")

    def _check_moves(self, name: str, status: int, fence: int) -> None:
        before, token = self._seen.get(name, (status, fence))
        if before >= TERMINAL_FIRST and status != before:
            self._world.fail(f"{name} left {STATUS_NAMES[before]} for {STATUS_NAMES[status]}")
        if fence < token:
            self._world.fail(f"the token of {name} fell from {token} to {fence}")
        self._seen[name] = (status, fence)

    def _check_counts(self, counts: dict[str, list[int]], dead: dict[str, int]) -> None:
        for agent, entry in self._world.store.counts.agents.items():
            numbers = counts.get(agent, [0, 0, 0, 0])
            numbers = [*numbers, dead.get(agent, 0)]
            if [entry.queued, entry.leased, entry.waiting, entry.ready, entry.dead] != numbers:
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

    def letters(self) -> list[str]:
        """Dead letters that nobody has handled and that are no replays of others."""
        return [
            row[0]
            for row in self._query("SELECT id FROM tasks WHERE status = 5 AND handled IS NULL AND replay_of IS NULL")
        ]

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
        if len(self._accepted) != self._query(_GIVEN)[0][0]:
            self._world.fail("a submission under one key was stored twice, or somebody made a task up")
        broker = self._world.broker
        if broker is not None and broker.bulkhead.calls():
            self._world.fail(f"nothing is open, and these calls are counted: {broker.bulkhead.calls()}")
        self._check_replays()
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

    def _check_replays(self) -> None:
        """A dead letter has one task that does it again, both name each other, and what was discarded has none."""
        for name, handled, replayed_by, again in self._query(
            "SELECT t.id, t.handled, t.replayed_by, n.id FROM tasks AS t LEFT JOIN tasks AS n ON n.replay_of = t.id"
        ):
            if replayed_by != again or (again is not None) != (handled == "replayed"):
                self._world.fail(f"{name} is {handled}, replayed by {replayed_by}; {again} says it replays it")

    def _check_turns(self) -> None:
        for name, status, results, waits, used in self._query(
            "SELECT id, status, (SELECT COUNT(*) FROM turns WHERE task = seq AND outcome IN ('result', 'signal')),"
            " (SELECT COUNT(*) FROM turns WHERE task = seq AND outcome = 'wait' AND step = ''),"
            " (SELECT used FROM fallbacks WHERE task = seq) FROM tasks"
        ):
            by = json.loads(used)["by"] if used else ""  # a value is a result, another agent begins anew
            if results + (by == "value") != (status == SUCCEEDED) or waits > 1 + (by not in {"", "value"}):
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
            wanted = {"fan": data["width"], "emit": 1, "sign": min(waits, 2)}.get(data["kind"], 0) if waits else 0
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
