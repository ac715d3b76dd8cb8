"""Why it exists: memory that nobody needs now is given back on request, with numbers, and without hurting anybody.

Two kinds of steps: an idle instance hibernates early (the broker asks it to, so that the usual way is gone and no task
is lost), and a group gives its page cache back (the kernel does it, in a thread, because it may take long). Nothing is
killed, no limit is touched, no anonymous memory is swapped out. Asking twice is harmless.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from sutazai.errors import NotFoundError, UnavailableError
from sutazai.limits import ACT_MS_MAX
from sutazai.supervisor.acts import ActLog, arguments_of
from sutazai.supervisor.instances import BROKER
from sutazai.supervisor.loop import READ
from sutazai.units import MIB, format_bytes

if TYPE_CHECKING:
    from sutazai.supervisor.lines import LineServer, Request
    from sutazai.supervisor.loop import Loop
    from sutazai.supervisor.status import Parts

REST_MS_MAX = 1_500
_LOOK_MS = 10
#: Less page cache than this is not worth a step when the whole fleet is asked.
CACHE_BYTES_MIN = 1 * MIB


@dataclass(slots=True)
class Step:
    """One thing that gives memory back.

    Attributes:
        kind: what it is.
        subject: process or agent.
        group: path of its cgroup.
        ticket: of an instance.
        before_bytes: memory of the group before.
        gain_bytes: what it should free.
        after_bytes: memory of the group afterwards; what it would be, in a dry run.
        done: whether it was done.
        why: it was not done, or would not be.
    """

    kind: Literal["hibernate", "page-cache"]
    subject: str
    group: str
    ticket: str
    before_bytes: int
    gain_bytes: int
    after_bytes: int = 0
    done: bool = False
    why: str = ""

    @property
    def freed_bytes(self) -> int:
        """What was freed."""
        return max(0, self.before_bytes - self.after_bytes) if self.done else 0

    def to_json(self) -> dict[str, Any]:
        """For the answer."""
        data = asdict(self)
        del data["group"], data["gain_bytes"]
        return data


@dataclass(slots=True)
class _Work:
    """A request under way.

    Attributes:
        request: who is to be answered.
        wanted_bytes: 0 for all there is.
        steps: in order.
        until_ms: the answer is sent by then.
        answered: it was sent.
        stop: the thread begins no further group.
    """

    request: Request
    wanted_bytes: int
    steps: list[Step]
    until_ms: int
    answered: bool = False
    stop: bool = False

    @property
    def freed_bytes(self) -> int:
        """By all steps so far."""
        return sum(step.freed_bytes for step in self.steps)

    @property
    def enough(self) -> bool:
        """Whether as much as was wanted is free."""
        return 0 < self.wanted_bytes <= self.freed_bytes


class Reclaimer:
    """Does the operation ``reclaim``."""

    def __init__(self, loop: Loop, parts: Parts, server: LineServer, log: ActLog) -> None:
        self._loop, self._parts, self._server, self._log = loop, parts, server, log
        self._work: _Work | None = None
        self._thread: threading.Thread | None = None
        self._done_fd = -1

    def reclaim(self, request: Request) -> None:
        """Say what would be given back, or give it back and answer when it is done.

        Raises:
            NotFoundError: there is no such process or agent.
            ProtocolError: an argument is wrong.
            UnavailableError: another one is under way.
        """
        arguments = arguments_of(request)
        subject, wanted = str(arguments["subject"]), int(arguments["bytes"])
        idle = {ticket for ticket in request.body.get("idle") or () if isinstance(ticket, str)}
        steps = self._steps(subject, idle)
        if arguments["dry_run"]:
            self._forecast(steps, wanted)
            request.reply(done=_answer(subject, wanted, steps, dry_run=True))
            return
        if self._work is not None:
            raise UnavailableError("memory is being given back already; ask again in a moment")
        self._work = _Work(request, wanted, steps, self._loop.now_ms() + ACT_MS_MAX)
        self._hibernate(self._work)

    # What there is

    def _steps(self, subject: str, idle: set[str]) -> list[Step]:
        """List what may be done, cheapest for the fleet first: idle instances, then page cache, the largest first."""
        parts = self._parts
        agents = parts.instances.agents
        if subject and subject not in parts.keeper.units and subject not in agents:
            raise NotFoundError(f"there is no process and no agent {subject!r} in this fleet")
        usage = parts.cells.groups.usage
        rests, caches = [], []
        for instance in parts.instances.live.values():
            name = instance.agent.name
            if instance.state != "running" or subject not in {"", name}:
                continue
            used = usage(instance.group)
            if instance.ticket in idle:
                step = Step("hibernate", name, instance.group, instance.ticket, used.memory_bytes, used.memory_bytes)
                rests.append(step)
            elif used.file_bytes >= (0 if subject else CACHE_BYTES_MIN):
                step = Step("page-cache", name, instance.group, instance.ticket, used.memory_bytes, used.file_bytes)
                caches.append(step)
        for unit in parts.keeper.units.values():
            if not unit.pid or subject not in {"", unit.name}:
                continue
            used = usage(unit.group)
            if used.file_bytes >= (0 if subject else CACHE_BYTES_MIN):
                caches.append(Step("page-cache", unit.name, unit.group, "", used.memory_bytes, used.file_bytes))
        return [*sorted(rests, key=_by_gain), *sorted(caches, key=_by_gain)]

    @staticmethod
    def _forecast(steps: list[Step], wanted: int) -> None:
        expected = 0
        for step in steps:
            step.after_bytes = step.before_bytes
            if wanted and expected >= wanted:
                step.why = "not needed: enough is free before it"
                continue
            step.after_bytes = max(0, step.before_bytes - step.gain_bytes)
            expected += step.before_bytes - step.after_bytes

    # Idle instances

    def _hibernate(self, work: _Work) -> None:
        chosen, expected = [], 0
        for step in work.steps:
            step.after_bytes = step.before_bytes
            if step.kind == "hibernate" and not (work.wanted_bytes and expected >= work.wanted_bytes):
                chosen.append(step)
                expected += step.gain_bytes
        broker = self._server.named(BROKER)
        if chosen and broker is not None:
            broker.push("rest", tickets=[step.ticket for step in chosen])
        self._await_rest(work, chosen, self._loop.now_ms() + REST_MS_MAX)

    def _await_rest(self, work: _Work, chosen: list[Step], until_ms: int) -> None:
        """Look whether they are gone; go on when all are, or when it takes too long."""
        live = self._parts.instances.live
        for step in chosen:
            if not step.done and step.ticket not in live:
                step.done, step.after_bytes = True, 0
        if all(step.done for step in chosen) or self._loop.now_ms() >= until_ms:
            for step in chosen:
                if not step.done:
                    step.why = "it has work again, or did not leave in time"
            self._drop_caches(work)
        else:
            self._loop.after(_LOOK_MS, lambda: self._await_rest(work, chosen, until_ms))

    # Page cache

    def _drop_caches(self, work: _Work) -> None:
        """Start the thread; the loop goes on, and hears by a descriptor when it is through."""
        caches = [step for step in work.steps if step.kind == "page-cache"]
        if work.enough or not caches:
            self._finish(work)
            return
        self._done_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop.watch(self._done_fd, READ, lambda _: self._through(work))
        self._loop.after(max(0, work.until_ms - self._loop.now_ms()), lambda: self._late(work))
        until_s = time.monotonic() + max(0, work.until_ms - self._loop.now_ms()) / 1_000
        self._thread = threading.Thread(target=self._run, args=(work, caches, until_s), name="reclaim", daemon=True)
        self._thread.start()

    def _run(self, work: _Work, caches: list[Step], until_s: float) -> None:
        """Be the thread: one group after the other; touches nothing that the loop writes."""
        groups = self._parts.cells.groups
        try:
            for step in caches:
                if work.stop or time.monotonic() >= until_s:
                    return
                if work.enough:
                    step.why = "not needed: enough was free before it"
                    continue
                left = max(0, work.wanted_bytes - work.freed_bytes)
                want = min(step.gain_bytes, left) if work.wanted_bytes else step.gain_bytes
                found = groups.reclaim(step.group, want, until_s)
                step.why = found.why
                if not found.why:
                    step.after_bytes, step.done = found.memory_bytes, True
        finally:
            os.eventfd_write(self._done_fd, 1)

    def _late(self, work: _Work) -> None:
        """The time for an answer is over: say what is done, and let the thread end what it has begun."""
        if self._work is work and not work.answered:
            work.stop = True
            self._answer(work)

    def _through(self, work: _Work) -> None:
        self._loop.unwatch(self._done_fd)
        if self._thread is not None:
            self._thread.join()  # it has written its last word
            self._thread = None
        os.close(self._done_fd)
        self._done_fd = -1
        self._finish(work)

    def _finish(self, work: _Work) -> None:
        self._work = None
        self._answer(work)

    def _answer(self, work: _Work) -> None:
        if work.answered:
            return
        work.answered = True
        for step in work.steps:
            if not step.done and not step.why:
                step.why = "not needed: enough was free before it" if work.enough else _NO_TIME
        subject = str(work.request.body.get("subject") or "")
        answer = _answer(subject, work.wanted_bytes, work.steps, dry_run=False)
        self._log.add(
            work.request, answer["text"], freed_bytes=answer["freed_bytes"], before_bytes=answer["before_bytes"],
            after_bytes=answer["after_bytes"],
        )  # fmt: skip
        work.request.reply(done=answer)


_NO_TIME = f"not finished within {ACT_MS_MAX} ms: ask again"


def _by_gain(step: Step) -> int:
    return -step.gain_bytes


def _answer(subject: str, wanted: int, steps: list[Step], *, dry_run: bool) -> dict[str, Any]:
    before = sum(step.before_bytes for step in steps)
    after = sum(step.after_bytes for step in steps)
    freed = max(0, before - after)
    count = sum(step.done or (dry_run and not step.why) for step in steps)
    text = f"{'would free' if dry_run else 'freed'} {format_bytes(freed)} of {format_bytes(before)} in {count} steps"
    left = [step for step in steps if step.why and not step.why.startswith("not needed")]
    if left:
        text += f"; not done: {left[0].subject}: {left[0].why}" + (f", and {len(left) - 1} more" if left[1:] else "")
    if not steps:
        text = "there is nothing to give back: no idle instance and no page cache worth a step"
    return {
        "action": "reclaim", "subject": subject, "dry_run": dry_run, "wanted_bytes": wanted, "before_bytes": before,
        "after_bytes": after, "freed_bytes": freed, "steps": [step.to_json() for step in steps], "text": text,
    }  # fmt: skip
