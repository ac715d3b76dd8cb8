"""An operation costs the same in a store with much past work: counted in steps of the database, not in time."""

from __future__ import annotations

from typing import Any

import pytest

from sutazai.store import model
from sutazai.store.failure import Failure
from sutazai.store.letters import DeadLetters, Replay
from sutazai.store.protocol import ClockReading
from sutazai.store.sqlite import SqliteStore
from sutazai.store.times import Occur, Rate
from sutazai.testing.full_store import fill

SMALL, LARGE = 300, 30_000
GROWTH_MAX = 1.3  # the depth of a tree grows by one; a scan would grow by a hundred
NOW_MS = 50_000_000


def new_task(name: str, **fields: Any) -> model.NewTask:
    """Make a task of an agent that has much past work."""
    given = {"priority": 5, "deadline_ms": 60_000, "attempts_max": 1, **fields}
    return model.NewTask(name, "agent-7", "do", "{}", **given)


class Counted:
    """A store whose steps are counted."""

    def __init__(self, size: int) -> None:
        self.store = SqliteStore(None, ballast_bytes=0)
        fill(self.store._connection, 1, size)
        self.store._recount()
        self.steps = 0
        self.store._connection.set_progress_handler(self._step, 1)

    def _step(self) -> int:
        self.steps += 1
        return 0

    def cost(self, operation: model.Operation) -> tuple[Any, int]:
        """Do one operation in a group of its own; gives its reply and its steps."""
        self.steps = 0
        self.store.begin()
        reply = self.store.apply(operation, NOW_MS, NOW_MS).reply
        self.store.commit(ClockReading(NOW_MS, 1, 1, ""))
        return reply, self.steps


def costs(size: int) -> dict[str, int]:
    """What each operation costs in a store of this size."""
    counted = Counted(size)
    found: dict[str, int] = {}

    def do(name: str, operation: model.Operation) -> Any:
        reply, found[name] = counted.cost(operation)
        return reply

    do("submit", model.Submit((new_task("t1", idempotency_key="k1", key_window_ms=5), new_task("t2", session="s"))))
    for name, call in {"recount": counted.store._recount, "leases": counted.store.leases,
                       "timers": counted.store.timers}.items():  # fmt: skip
        counted.steps = 0
        call()
        found[f"opening: {name}"] = counted.steps
    turn = do("claim", model.Claim("agent-7", "k", 1, Rate(1_000, 5)))
    do("commit", model.Commit(turn.task, turn.fence, "k", "result", result="{}"))
    turn = counted.cost(model.Claim("agent-7", "k", 1))[0]
    do("fail", model.Commit(turn.task, turn.fence, "k", "failed", failure=Failure("x", "y")))
    do("replay", Replay(turn.task, "test", 60_000))
    turn = counted.cost(model.Claim("agent-7", "k", 1))[0]
    do("lose", model.Lose(turn.task, turn.fence, own=False, reason="test"))
    do("cancel", model.Cancel(turn.task))
    do("occur", Occur("agent-7", "tick", 5, new_task("t3")))
    do("key that is taken", model.Submit((new_task("t4"),)))
    for name, operation in {
        "promote": model.Promote(), "expire": model.Expire(), "purge": model.Purge(kept=size - 100, limit=20),
        "states": model.PurgeStates((("agent-7", 1),)), "get": model.Get("t1"),
        "dead letters": DeadLetters("agent-7", handled=False, limit=20),
        "dead letters of all": DeadLetters(None, handled=False, limit=20),
        "list of all": model.List(None, None, 10), "list of an agent": model.List(None, "agent-7", 10),
        "list of nobody": model.List(None, "nobody", 10),
        "successes of nobody": model.List("succeeded", "nobody", 10), "queue": model.List("queued", None, 10),
    }.items():  # fmt: skip
        do(name, operation)
    counted.store.close()
    return found


@pytest.fixture(scope="module")
def both() -> tuple[dict[str, int], dict[str, int]]:
    """Costs in a small and in a large store."""
    return costs(SMALL), costs(LARGE)


def test_no_operation_costs_more_with_more_past_work(both: tuple[dict[str, int], dict[str, int]]) -> None:
    """A hundred times the tasks, the same steps."""
    small, large = both
    grown = {name: (small[name], steps) for name, steps in large.items() if steps > small[name] * GROWTH_MAX + 20}
    assert grown == {}


def test_the_counting_would_see_a_scan() -> None:
    """A query without an index costs what the store is large: the measure is no decoration."""
    costs_of = []
    for size in (SMALL, LARGE):
        counted = Counted(size)
        counted.steps = 0
        counted.store._connection.execute("SELECT COUNT(*) FROM tasks WHERE skill = 'none'").fetchone()
        costs_of.append(counted.steps)
        counted.store.close()
    assert costs_of[1] > costs_of[0] * 50
