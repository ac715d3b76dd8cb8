"""Why it exists: what every store driver must do, whatever database is behind it; the broker relies on nothing else.

A driver's test module makes a subclass with ``make_store`` and gets all tests::

    class TestSqlite(StoreContract):
        def make_store(self) -> Store:
            return SqliteStore(None)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sutazai.errors import FencedError, InternalError, InvalidInputError, NotFoundError, QueueFullError, RefusedError
from sutazai.limits import (
    EMITS_PER_TURN_MAX,
    EVENTS_PER_TASK_MAX,
    INFRA_LOSSES_MAX_DEFAULT,
    PRIORITY_AGING_MS,
    QUEUE_TASKS_MAX,
    RESULTS_BYTES_MAX,
    RETRY_BASE_MS,
    STATE_BYTES_MAX,
    TASK_DEPTH_MAX,
    TASK_RESULT_BYTES_MAX,
)
from sutazai.store import model
from sutazai.store.failure import Failure
from sutazai.store.protocol import ClockReading

if TYPE_CHECKING:
    from sutazai.store.protocol import Store

_DEADLINE_MS = 1_000_000


def expect(actual: object, wanted: object, what: str) -> None:
    """Compare.

    Raises:
        AssertionError: they differ.
    """
    if actual != wanted:
        raise AssertionError(f"{what}: {actual!r}, wanted {wanted!r}")


def expect_refused(kind: type[RefusedError], call: Any, *words: str) -> None:
    """See that a call is refused.

    Raises:
        AssertionError: it is not, or the message lacks a word.
    """
    try:
        call()
    except kind as error:
        for word in words:
            if word not in str(error):
                raise AssertionError(f"{word!r} is missing in: {error}") from error
        return
    raise AssertionError(f"it was not refused with {kind.__name__}")


class StoreContract:
    """Tests for a driver; time starts at 1 000 ms and moves only by ``at``."""

    store: Store
    now_ms: int

    def make_store(self) -> Store:
        """Give a new, empty store; each driver's subclass does.

        Raises:
            InternalError: this one does not.
        """
        raise InternalError(f"{type(self).__name__} does not say how to make its store")

    def setup_method(self) -> None:
        """Start with an empty store."""
        self.store = self.make_store()
        self.now_ms = 1_000

    def teardown_method(self) -> None:
        """Let go of it."""
        self.store.close()

    # Helpers

    def do(self, operation: model.Operation) -> Any:
        """Do one operation in a group of its own; gives its reply."""
        return self.outcome(operation).reply

    def outcome(self, operation: model.Operation) -> model.Outcome:
        """Do one operation in a group of its own."""
        self.store.begin()
        try:
            return self.store.apply(operation, self.now_ms, self.now_ms)
        finally:
            self.store.commit(ClockReading(self.now_ms, self.now_ms, self.now_ms, "boot"))

    def task(self, name: str, agent: str = "a", **fields: Any) -> model.NewTask:
        """Make a task."""
        given: dict[str, Any] = {
            "skill": "do", "input": "{}", "priority": 5, "deadline_ms": _DEADLINE_MS, "attempts_max": 3,
            "named": True, **fields,
        }  # fmt: skip
        return model.NewTask(id=name, agent=agent, **given)

    def submit(self, name: str, agent: str = "a", **fields: Any) -> model.Accepted:
        """Submit one task."""
        accepted: model.Accepted = self.do(model.Submit((self.task(name, agent, **fields),)))[0]
        return accepted

    def claim(self, agent: str = "a", ticket: str = "k1") -> model.Turn | None:
        """Claim a task."""
        turn: model.Turn | None = self.do(model.Claim(agent, ticket, 7))
        return turn

    def claimed(self, agent: str = "a", ticket: str = "k1") -> model.Turn:
        """Claim a task that must be there."""
        turn = self.claim(agent, ticket)
        if turn is None:
            raise AssertionError(f"there is no task for {agent}")
        return turn

    def commit(self, turn: model.Turn, outcome: str = "result", ticket: str = "k1", **fields: Any) -> model.Committed:
        """Commit a turn."""
        fields.setdefault("result", '"done"' if outcome == "result" else None)
        operation = model.Commit(turn.task, turn.fence, ticket, outcome, **fields)  # type: ignore[arg-type]
        committed: model.Committed = self.do(operation)
        return committed

    def get(self, name: str) -> dict[str, Any]:
        """Read a task."""
        found: dict[str, Any] = self.do(model.Get(name))
        return found

    def status(self, name: str) -> str:
        """Status of a task."""
        return str(self.get(name)["status"])

    def finish(self, agent: str = "a") -> str:
        """Claim a task and commit a result; gives its identifier."""
        turn = self.claimed(agent)
        self.commit(turn)
        return turn.task

    # Taking tasks

    def test_a_task_is_stored_claimed_and_committed(self) -> None:
        """The plain path: attempt and token count at the claim, the result is kept."""
        self.submit("t1", input='{"x":1}')
        turn = self.claimed()
        expect((turn.task, turn.input, turn.attempt, turn.fence), ("t1", '{"x":1}', 1, 1), "the turn")
        expect(self.claim(), None, "a second claim")
        expect(self.commit(turn).status, "succeeded", "the commit")
        expect(bytes(self.get("t1")["result"]), b'"done"', "the result")

    def test_submissions_are_all_or_none(self) -> None:
        """One bad task of a submission leaves nothing of it."""
        self.submit("t1")
        other = self.task("t1", input='{"other":1}')
        expect_refused(InvalidInputError, lambda: self.do(model.Submit((self.task("t2"), other))), "'t1'")
        expect_refused(NotFoundError, lambda: self.get("t2"))
        expect(self.store.counts.open, 1, "open tasks")

    def test_a_key_names_one_task(self) -> None:
        """The same key with the same meaning is the same task; with another input it is refused; agents are apart."""
        first = self.submit("t1", idempotency_key="k", input='{"a":1,"b":2}')
        again = self.submit("t2", idempotency_key="k", input='{"b":2, "a":1}')
        expect((first.duplicate, again.duplicate, again.id), (False, True, "t1"), "the second submission")
        expect_refused(InvalidInputError, lambda: self.submit("t3", idempotency_key="k", input="{}"), "'k'")
        other = self.submit("t4", "b", idempotency_key="k", input="{}")
        expect((other.duplicate, other.id), (False, "t4"), "another agent's key")

    def test_a_queue_has_a_bound(self) -> None:
        """Beyond the bound the caller is asked to come back."""
        self.store.counts.open = QUEUE_TASKS_MAX
        expect_refused(QueueFullError, lambda: self.submit("t1"), str(QUEUE_TASKS_MAX))

    def test_priority_goes_first_and_ages(self) -> None:
        """A better priority is claimed first, until a worse one has waited long enough."""
        self.submit("low", priority=9)
        self.submit("high", priority=0)
        expect(self.finish(), "high", "the first claim")
        self.now_ms += 10 * PRIORITY_AGING_MS
        self.submit("late", priority=0)
        expect(self.finish(), "low", "the claim after a long wait")

    def test_a_delayed_task_is_not_due_before_its_time(self) -> None:
        """It is claimed only after the timer has seen its time come."""
        found = self.outcome(model.Submit((self.task("t1", delay_ms=500),)))
        expect(found.due_ms, self.now_ms + 500, "the timer")
        expect(self.store.timers()[0], self.now_ms + 500, "the stored timer")
        self.do(model.Promote())
        expect(self.claim(), None, "an early claim")
        self.now_ms += 500
        expect(self.do(model.Promote()), 1, "tasks that became due")
        expect(self.claimed().task, "t1", "the claim")

    # Sessions

    def test_a_session_runs_in_order(self) -> None:
        """Only the oldest open task of a session is claimed, also while it is retried; other sessions go on."""
        self.submit("t1", session="s", priority=9)
        self.submit("t2", session="s", priority=0)
        self.submit("t3", session="other", priority=9)
        first = self.claimed()
        expect(first.task, "t1", "the head")
        expect(self.finish(), "t3", "another session")
        self.do(model.Lose("t1", first.fence, own=False, reason="test"))
        again = self.claimed()
        expect(again.task, "t1", "the head, again")
        self.commit(again)
        expect(self.finish(), "t2", "the next of the session")

    def test_state_is_versioned_and_only_of_sessions(self) -> None:
        """Each commit of state counts the version up; a wrong base fails the turn; without a session none is kept."""
        self.submit("t1", session="s")
        self.commit(self.claimed(), state='{"n":1}', state_version=0)
        self.submit("t2", session="s")
        turn = self.claimed()
        expect((turn.state, turn.state_version), ('{"n":1}', 1), "the next turn's state")
        expect(self.commit(turn, state="{}", state_version=0).status, "failed", "a commit on an old version")
        self.submit("t3")
        expect(self.commit(self.claimed(), state="{}").state_version, 0, "state without a session")
        expect(self.do(model.ReadState("a", "s")), (1, '{"n":1}'), "the stored state")

    def test_a_checkpoint_keeps_a_part_of_a_turn(self) -> None:
        """State and children of a checkpoint stay when the turn is lost; the same checkpoint twice is one."""
        self.submit("t1", session="s")
        turn = self.claimed()
        for _ in range(2):
            done = self.commit(turn, "checkpoint", state='{"n":1}', state_version=0, emits=(self.task("c1", "b"),))
            expect((done.status, done.state_version), ("leased", 1), "the checkpoint")
        self.do(model.Lose("t1", turn.fence, own=True, reason="test", jitter=0.0))
        self.now_ms += 1
        self.do(model.Promote())
        expect((self.claimed().state_version, self.status("c1")), (1, "queued"), "what was kept")

    # Fencing and repetition

    def test_a_commit_needs_the_newest_token_and_its_own_ticket(self) -> None:
        """A late, foreign or invented commit is refused and changes nothing."""
        self.submit("t1")
        old = self.claimed()
        self.do(model.Lose("t1", old.fence, own=False, reason="test"))
        new = self.claimed(ticket="k2")
        expect(new.fence > old.fence, wanted=True, what="the token grows")
        expect_refused(FencedError, lambda: self.commit(old))
        expect_refused(FencedError, lambda: self.commit(new, ticket="k1"))
        expect_refused(NotFoundError, lambda: self.do(model.Commit("none", 1, "k1", "result")))
        expect(self.commit(new, ticket="k2").status, "succeeded", "the holder's commit")

    def test_the_same_commit_twice_is_one(self) -> None:
        """Results, waits and failures are answered alike the second time, whatever has happened since."""
        self.submit("t1")
        turn = self.claimed()
        failure = Failure("x", "again")
        expect(self.commit(turn, "failed", failure=failure).status, "queued", "the first answer")
        expect(self.commit(turn, "failed", failure=failure), model.Committed("queued", True, 0), "the second")  # noqa: FBT003
        self.now_ms += RETRY_BASE_MS + 1
        self.do(model.Promote())
        turn = self.claimed()
        self.commit(turn)
        expect(self.commit(turn, result='"other"').duplicate, wanted=True, what="a repeated result")
        expect(bytes(self.get("t1")["result"]), b'"done"', "the result stays")

    # Failing

    def test_own_failures_back_off_and_end_in_death(self) -> None:
        """Each attempt waits longer, with full jitter; the last one makes a dead letter with its evidence."""
        self.submit("t1", attempts_max=3)
        for attempt in (1, 2):
            turn = self.claimed()
            expect(turn.attempt, attempt, "the attempt")
            self.commit(turn, "failed", failure=Failure("boom", f"try {attempt}"), jitter=1.0)
            expect(self.get("t1")["due_in_ms"], RETRY_BASE_MS << (attempt - 1), "the pause")
            self.now_ms += RETRY_BASE_MS << attempt
            self.do(model.Promote())
        expect(self.commit(self.claimed(), "failed", failure=Failure("boom", "last")).status, "dead", "the end")
        expect(self.get("t1")["error"]["message"], "last", "its evidence")
        expect((self.store.counts.of("a").dead, self.store.counts.open), (1, 0), "the counts")

    def test_a_failure_that_cannot_be_mended_is_final(self) -> None:
        """``retryable`` false ends the task at once; state and children of a failed turn are not kept."""
        self.submit("t1", session="s")
        turn = self.claimed()
        failure = Failure("no", "never", retryable=False)
        expect(self.commit(turn, "failed", failure=failure, state="{}").status, "failed", "the end")
        expect(self.do(model.ReadState("a", "s")), None, "the state of a failed turn")

    def test_infrastructure_losses_give_the_attempt_back_and_are_bounded(self) -> None:
        """They count apart; after their own, larger bound the task is dead."""
        self.submit("t1", attempts_max=1)
        for loss in range(1, INFRA_LOSSES_MAX_DEFAULT + 1):
            turn = self.claimed()
            expect(turn.attempt, 1, "the attempt")
            status = self.do(model.Lose("t1", turn.fence, own=False, reason="drain"))
            expect(status, "dead" if loss == INFRA_LOSSES_MAX_DEFAULT else "queued", f"after {loss} losses")

    def test_a_loss_of_an_old_token_changes_nothing(self) -> None:
        """A loss that is reported late finds another token, or a task that is over."""
        self.submit("t1")
        turn = self.claimed()
        expect(self.do(model.Lose("t1", turn.fence + 1, own=True, reason="test")), None, "a wrong token")
        self.commit(turn)
        expect(self.do(model.Lose("t1", turn.fence, own=True, reason="test")), None, "a task that is over")
        expect(self.status("t1"), "succeeded", "the task")

    # Children

    def test_a_parent_waits_for_all_its_children(self) -> None:
        """It is queued again in the transaction of the last one, and gets the results in the order it asked for."""
        self.submit("p")
        turn = self.claimed()
        emits = tuple(self.task(name, "b") for name in ("c1", "c2"))
        wait = model.Wait(("c2", "c1"), "go on", '{"kept":1}')
        expect(self.commit(turn, "wait", wait=wait, emits=emits).status, "waiting", "the wait")
        self.finish("b")
        expect((self.status("p"), self.claim()), ("waiting", None), "after one child")
        child = self.claimed("b")
        self.commit(child, "failed", failure=Failure("no", "never", retryable=False))
        after = self.claimed()
        expect((after.step, after.carry, after.attempt), ("go on", '{"kept":1}', 1), "the next turn")
        results = [(r["task"], r["status"], (r["error"] or {}).get("code")) for r in after.results]
        expect(results, [("c2", "failed", "no"), ("c1", "succeeded", None)], "the results")

    def test_children_that_are_over_are_not_waited_for(self) -> None:
        """A wait for nothing, or for what is terminal, goes on at once."""
        self.submit("p")
        turn = self.claimed()
        self.commit(turn, "checkpoint", emits=(self.task("c1", "b"),))
        self.finish("b")
        expect(self.commit(turn, "wait", wait=model.Wait(("c1",), "next")).status, "queued", "the wait")
        expect(self.claimed().results[0]["status"], "succeeded", "the result")

    def test_a_turn_executed_twice_has_its_children_once(self) -> None:
        """Children that a checkpoint stored are found again by their identifiers."""
        self.submit("p")
        turn = self.claimed()
        self.commit(turn, "checkpoint", emits=(self.task("c1", "b"),))
        self.do(model.Lose("p", turn.fence, own=False, reason="test"))
        self.commit(self.claimed(), emits=(self.task("c1", "b"), self.task("c2", "b")))
        expect(len(self.do(model.Tree("p", 10))), 3, "the tree")

    def test_waits_that_could_never_end_fail_the_turn(self) -> None:
        """For a stranger, for nobody, or for a task in the session that the waiting one holds itself."""
        self.submit("stranger", "b")
        for name, emits in (("stranger", ()), ("nobody", ()), ("own", (self.task("own", "a", session="s"),))):
            self.submit(f"p-{name}", session="s")
            turn = self.claimed()
            done = self.commit(turn, "wait", wait=model.Wait((name,), "next"), emits=emits)
            expect(done.status, "failed", f"a wait for {name}")
            expect(self.get(f"p-{name}")["error"]["code"], "invalid-commit", "why")

    def test_what_a_turn_asks_is_bounded(self) -> None:
        """Too large a result or state, too many or too deep children, and another's identifier fail the turn."""
        self.submit("taken", "b")
        large = json.dumps("x" * TASK_RESULT_BYTES_MAX)
        many = tuple(self.task(f"m{number}", "b") for number in range(EMITS_PER_TURN_MAX + 1))
        cases: dict[str, dict[str, Any]] = {
            "result": {"result": large}, "state": {"state": json.dumps("x" * STATE_BYTES_MAX)},
            "many": {"emits": many}, "taken": {"emits": (self.task("taken", "b"),)},
        }  # fmt: skip
        for name, fields in cases.items():
            self.submit(f"p-{name}")
            expect(self.commit(self.claimed(), **fields).status, "failed", name)
        expect(self.store.counts.open, 1, "open tasks")
        self.submit("d0", "deep")
        for depth in range(TASK_DEPTH_MAX + 1):
            turn = self.claimed("deep")
            status = self.commit(turn, emits=(self.task(f"d{depth + 1}", "deep"),)).status
            expect(status, "failed" if depth == TASK_DEPTH_MAX else "succeeded", f"depth {depth}")

    def test_results_that_are_too_large_together_become_errors(self) -> None:
        """The turn fits a frame; the step sees which results it did not get."""
        self.submit("p")
        names = tuple(f"c{number}" for number in range(3))
        emits = tuple(self.task(name, "b") for name in names)
        self.commit(self.claimed(), "wait", wait=model.Wait(names, "next"), emits=emits)
        for _ in names:
            self.commit(self.claimed("b"), result=json.dumps("x" * (RESULTS_BYTES_MAX // 2)))
        codes = [(result["error"] or {}).get("code") for result in self.claimed().results]
        expect(codes, [None, "results-too-large", "results-too-large"], "the errors")

    # Ending from outside

    def test_cancelling_reaches_everything_below(self) -> None:
        """A running task is fenced and named; waiting parents, children and grandchildren end; terminal ones stay."""
        self.submit("p")
        self.commit(self.claimed(), "wait", wait=model.Wait(("c",), "next"), emits=(self.task("c", "b"),))
        child = self.claimed("b")
        self.commit(child, "checkpoint", emits=(self.task("g", "b"),))
        found = self.outcome(model.Cancel("p"))
        expect(found.reply["status"], "cancelled", "the task")
        expect(found.revoked, [("c", child.fence)], "leases to be stopped")
        expect([self.status(name) for name in ("c", "g")], ["cancelled", "cancelled"], "the children")
        expect_refused(FencedError, lambda: self.commit(child))
        expect(self.do(model.Cancel("p"))["status"], "cancelled", "a second time")
        expect(self.store.counts.open, 0, "open tasks")

    def test_deadlines_end_tasks_in_any_open_state(self) -> None:
        """Queued, leased and waiting ones expire; children do not outlive the parent that waits for them."""
        self.submit("w", deadline_ms=100)
        self.commit(self.claimed(), "wait", wait=model.Wait(("c",), "next"), emits=(self.task("c", "b"),))
        self.submit("l", deadline_ms=100)
        turn = self.claimed()
        self.submit("q", deadline_ms=100)
        expect(self.store.timers()[1], self.now_ms + 100, "the timer")
        self.now_ms += 100
        expect(self.claim(), None, "a claim behind the deadline")
        found = self.outcome(model.Expire())
        expect(found.revoked, [("l", turn.fence)], "leases to be stopped")
        expect([self.status(name) for name in ("w", "l", "q")], ["expired"] * 3, "the tasks")
        expect(self.status("c") in {"expired", "cancelled"}, wanted=True, what="the child is over")

    def test_old_terminal_tasks_are_forgotten_but_not_those_still_needed(self) -> None:
        """Beyond what is kept the oldest go; a terminal child of an open parent stays."""
        self.submit("p")
        self.commit(self.claimed(), "wait", wait=model.Wait(("c1", "c2"), "next"),
                    emits=(self.task("c1", "b"), self.task("c2", "z")))  # fmt: skip
        self.finish("b")
        for number in range(5):
            self.submit(f"t{number}")
            self.finish()
        expect(self.do(model.Purge(kept=2)), 3, "forgotten")
        expect_refused(NotFoundError, lambda: self.get("t0"))
        expect([self.status(name) for name in ("c1", "t4", "p")], ["succeeded", "succeeded", "waiting"], "kept")
        expect(self.do(model.Purge(kept=1_000_000, bytes_max=0)), 0, "a large store keeps its newest")

    # Reading, events, groups

    def test_events_and_turns_tell_the_story(self) -> None:
        """Numbered without a gap and bounded; the history shows each turn with its outcome."""
        self.submit("t1", attempts_max=1_000)
        for _ in range(EVENTS_PER_TASK_MAX):
            turn = self.claimed()
            self.do(model.Lose("t1", turn.fence, own=True, reason="test", jitter=0.0))
            self.now_ms += 1
            self.do(model.Promote())
        events = self.do(model.Events("t1"))
        expect(len(events), EVENTS_PER_TASK_MAX, "events kept")
        expect([e.seq for e in events], list(range(events[0].seq, events[-1].seq + 1)), "their numbers")
        turns = self.do(model.Tree("t1", 1))[0]["turns"]
        expect({turn["outcome"] for turn in turns}, {"lost"}, "the turns")

    def test_progress_is_an_event_of_a_turn_that_runs(self) -> None:
        """It is numbered with the others; a turn that is over says nothing any more."""
        self.submit("t1")
        turn = self.claimed()
        expect(self.do(model.Progress("t1", turn.fence, {"fraction": 0.5})), wanted=True, what="while it runs")
        self.commit(turn)
        expect(self.do(model.Progress("t1", turn.fence, {"fraction": 1})), wanted=False, what="when it is over")
        story = [(event.seq, event.kind) for event in self.do(model.Events("t1"))]
        expect(story, [(1, "queued"), (2, "leased"), (3, "progress"), (4, "succeeded")], "the events")

    def test_lists_are_newest_first_and_filtered(self) -> None:
        """By status and agent; an unknown status is refused."""
        for name in ("t1", "t2"):
            self.submit(name)
        self.submit("t3", "b")
        self.finish()
        found = {
            status: [task["id"] for task in self.do(model.List(status, None, 10))]
            for status in (None, "queued", "succeeded", "dead")
        }
        expect(found, {None: ["t3", "t2", "t1"], "queued": ["t3", "t2"], "succeeded": ["t1"], "dead": []}, "lists")
        expect([task["id"] for task in self.do(model.List(None, "b", 10))], ["t3"], "of an agent")
        expect_refused(InvalidInputError, lambda: self.do(model.List("odd", None, 1)), "odd")

    def test_a_group_is_all_on_disk_or_not_at_all(self) -> None:
        """A refused operation leaves the others of its group; a rolled back group leaves nothing."""
        self.store.begin()
        self.store.apply(model.Submit((self.task("t1"),)), self.now_ms, self.now_ms)
        expect_refused(NotFoundError, lambda: self.store.apply(model.Cancel("none"), self.now_ms, self.now_ms))
        expect(self.store.wrote(), wanted=True, what="the group wrote")
        self.store.commit(ClockReading(5, 6, 7, "boot"))
        expect(self.store.reading(), ClockReading(5, 6, 7, "boot"), "the clock's reading")
        self.store.begin()
        self.store.apply(model.Submit((self.task("t2"),)), self.now_ms, self.now_ms)
        self.store.rollback()
        expect_refused(NotFoundError, lambda: self.get("t2"))
        expect(self.store.counts.open, 1, "open tasks")

    def test_leases_are_found_after_a_restart(self) -> None:
        """What runs is listed with its token and ticket."""
        self.submit("t1")
        turn = self.claimed()
        expect(self.store.leases(), [model.Lease("t1", "a", turn.fence, "k1", 7)], "the leases")
