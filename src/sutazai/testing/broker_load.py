"""Why it exists: a kill proves something only under load, when what people were told is compared with the store.

``load`` submits from several threads while its block runs; ``judge`` then looks whether anything that was accepted is
lost, was done twice, or ran out of order.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.errors import ProtocolError, StorageFullError, UnavailableError
from sutazai.store.model import SUCCEEDED, TERMINAL_FIRST
from sutazai.testing.store_contract import expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sutazai.testing.broker_process import BrokerProcess
    from sutazai.wire.transport import BlockingConnection

    Query = Callable[[str], list[tuple[Any, ...]]]

WAIT_S = 60.0
AWAY = (UnavailableError, ProtocolError)


@dataclass
class Caller:
    """Submits tasks one by one under keys, again and again until each is accepted, then waits for all."""

    broker: BrokerProcess
    number: int
    stop: threading.Event = field(default_factory=threading.Event)
    accepted: dict[str, str] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)
    full: int = 0

    def connect(self) -> BlockingConnection:
        """Connect, however long it takes."""
        while True:
            try:
                return self.broker.client()
            except AWAY:
                time.sleep(0.01)

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Ask until there is an answer, over as many connections as it takes."""
        while True:
            try:
                with self.connect() as client:
                    return client.request(dict(message), WAIT_S)
            except AWAY:
                time.sleep(0.01)

    def submit_for_ever(self) -> None:
        """Submit until told to stop."""
        client = self.connect()
        index, is_unanswered = 0, False
        while is_unanswered or not self.stop.is_set():  # what may be stored is asked for until it is known
            key = f"c{self.number}-{index}"
            session = f"s{index % 3}" if index % 2 else None
            task = {"agent": f"a{index % 2}", "skill": "echo", "input": {"key": key}, "session": session}
            message = {"t": "submit", "tasks": [{**task, "idempotency_key": key, "attempts_max": 50}]}
            try:
                reply = client.request(message, WAIT_S)
            except AWAY:
                is_unanswered = True
                client.close()
                client = self.connect()
                continue
            except StorageFullError:
                is_unanswered = False
                self.full += 1
                time.sleep(0.02)
                continue
            self.accepted[key] = reply["tasks"][0]["id"]
            index, is_unanswered = index + 1, False
        client.close()

    def wait_for_all(self) -> None:
        """Wait until everything that was accepted is over."""
        for key, task in self.accepted.items():
            status = "queued"
            give_up_s = time.monotonic() + WAIT_S
            while status in {"queued", "leased", "waiting"}:
                if time.monotonic() > give_up_s:
                    raise AssertionError(f"{key} ({task}) is still {status}")
                reply = self.ask({"t": "wait", "task": task, "timeout_ms": 5_000})
                status = reply["task"]["status"]
            self.ends[task] = status


@contextlib.contextmanager
def load(broker: BrokerProcess, callers: int = 3) -> Iterator[list[Caller]]:
    """Callers that submit in threads while the block runs, and wait for the rest after it."""
    people = [Caller(broker, number) for number in range(callers)]
    threads = [threading.Thread(target=person.submit_for_ever) for person in people]
    for thread in threads:
        thread.start()
    try:
        yield people
    finally:
        for person in people:
            person.stop.set()
        for thread in threads:
            thread.join()
    for person in people:
        person.wait_for_all()


def told_instances(broker: BrokerProcess) -> dict[tuple[str, int], str]:
    """What instances were told of their commits: by task and token the status."""
    told = {}
    for log in Path(broker.run_root).glob("k*.log"):
        for line in log.read_text().splitlines():
            verb, task, fence, *rest = line.split()
            if verb == "committed":
                told[task, int(fence)] = rest[0]
    return told


def judge(broker: BrokerProcess, callers: list[Caller], query: Query | None = None) -> dict[str, int]:
    """Stop the broker and compare what everybody was told with its store; gives numbers for the report.

    Args:
        broker: is stopped first.
        callers: of ``load``.
        query: runs a statement where the tasks are; None asks the broker's file.

    Raises:
        AssertionError: something is lost, doubled or out of order.
    """
    told = told_instances(broker)
    expect(broker.stop(), 0, "the broker's exit code")
    accepted = {task for caller in callers for task in caller.accepted.values()}
    if query is not None:
        return _judged(query, told, accepted)
    with contextlib.closing(sqlite3.connect(broker.store)) as file:
        return _judged(lambda statement: file.execute(statement).fetchall(), told, accepted)


def _judged(query: Query, told: dict[tuple[str, int], str], accepted: set[str]) -> dict[str, int]:
    statuses: dict[str, int] = dict(query("SELECT id, status FROM tasks"))
    lost = [task for task in accepted if statuses.get(task, 0) < TERMINAL_FIRST]
    expect(lost, [], "accepted and lost")
    expect(len(statuses), len(accepted), "submissions that were stored, each once under its key")
    expect(set(statuses.values()), {SUCCEEDED}, "how all tasks ended")
    results: dict[int, int] = dict(query("SELECT task, COUNT(*) FROM turns WHERE outcome = 'result' GROUP BY task"))
    expect(set(results.values()), {1}, "committed results of a task")
    committed = "SELECT tasks.id, turns.fence FROM turns JOIN tasks ON seq = task WHERE outcome = 'result'"
    stored = {tuple(row) for row in query(committed)}
    expect(set(told) - stored, set(), "commits that an instance was told of and that are not stored")
    order: dict[tuple[str, str], list[str]] = {}
    for name, agent, session in query("SELECT id, agent, session FROM tasks WHERE session IS NOT NULL ORDER BY seq"):
        order.setdefault((agent, session), []).append(name)
    for agent, session, version, text in query("SELECT agent, session, version, data FROM states"):
        journal = json.loads(text)["journal"]
        expect(journal, order[agent, session], "the journal of a session: in order, nothing doubled")
        expect(version, len(journal), "the version of its state")
    turns = query("SELECT outcome, COUNT(*) FROM turns GROUP BY outcome")
    return {"accepted": len(accepted), "told": len(told), **dict(turns)}
