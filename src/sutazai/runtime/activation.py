"""Why it exists: the life of an instance: connect, lease a turn, run it, commit it, and go when there is nothing to do.

An instance is never asked to be careful: it may be killed at every line here. What it committed is stored, what it did
not commit is done again by another one.
"""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.errors import (
    FencedError,
    NonRetryableError,
    ProtocolError,
    QueueFullError,
    RefusedError,
    StorageFullError,
    UnavailableError,
    UploadMissingError,
)
from sutazai.limits import ACT_PATIENCE_MS, ACT_WAIT_MS, CACHE_MAKE_MS, CACHE_WAIT_MS
from sutazai.runtime.broker_link import BrokerLink, Identity
from sutazai.runtime.context import Context, Surroundings
from sutazai.runtime.execute import TurnCancelledError, describe_error, execute
from sutazai.runtime.kernel import guard_lives
from sutazai.runtime.parts import download, upload
from sutazai.runtime.running import SkillRunner
from sutazai.runtime.turn import Commit, Turn, read_turn
from sutazai.runtime.watch import DEADLINE, Watcher
from sutazai.wire.messages import LEASED, OUTCOME_CHECKPOINT, OUTCOME_FAILED
from sutazai.wire.transport import backoff_s

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from sutazai.runtime.log import Log
    from sutazai.runtime.skill import Agent

PATIENCE_S = 60.0
_COMMIT_TIMEOUT_S = 20.0
_COMMIT_GRACE_S = 2.0
_FULL_PAUSE_S = 0.5
_LEAVE_TIMEOUT_S = 2.0
_LAST_LOOK_S = 0.1
_ACT_PAUSE_S = 0.05
_KEEP_MS_MIN = 50  # it was woken for a task: the broker gets the time to hand it over
_PROTOCOL_ERRORS_MAX = 3
PARENT_SIGNAL = signal.SIGUSR1


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance lives.

    Attributes:
        broker_socket: where its turns come from.
        guard_file: tells whether the fleet is still there.
        keep_ms: idle time after which it offers to hibernate.
        fleet: name of the fleet.
        llm_url: of the language model.
        scratch: its private folder.
        settings: of the agent.
    """

    broker_socket: Path
    guard_file: Path
    keep_ms: int = 30_000
    fleet: str = ""
    llm_url: str = ""
    scratch: Path = field(default_factory=Path)
    settings: dict[str, Any] = field(default_factory=dict)


class Instance:
    """An agent in memory."""

    def __init__(self, load: Callable[[], Agent | BaseException], identity: Identity, place: Place, log: Log) -> None:
        """Take what loads the agent, or gives what its import raised: then every turn fails with that.

        So the caller sees why. The agent is loaded while the broker reads the hello.
        """
        self._load, self._place, self._log = load, place, log
        self._link = BrokerLink(place.broker_socket, identity)
        self._watcher = Watcher(self._link, log)
        self._runner = SkillRunner(self._watcher)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._pid = os.getpid()

    def run(self) -> int:
        """Work until there is nothing to do, or somebody asks to stop.

        Returns:
            The process's exit code.
        """
        self._prepare()
        self._link.greet()
        self._agent = self._load()
        self._leave_if_forked()
        if not self._connect():
            return 0
        self._watcher.prepare()  # while the broker looks for a task
        self._build()
        while not self._watcher.drain:
            try:
                message = self._next()
                if message is None or message["t"] == "rest":
                    if self._may_leave():
                        return 0
                    self._link.send({"t": "pull"})  # there is work: the credit may have been lost with a stopped turn
                elif message["t"] == "turn":
                    self._turn(message)
                elif message["t"] == "drain":
                    return 0
            except UnavailableError:
                if not self._connect():
                    return 0
            except ProtocolError as error:
                self._log.error("the broker's message makes no sense", error=str(error))
                self._link.drop()
        self._finish()
        return 0

    def _build(self) -> None:
        """Build the skills' models as long as no task is there: who waits has time."""
        if isinstance(self._agent, BaseException):
            return
        for skill in self._agent.skills.values():
            if self._link.connection.readable:
                return
            skill.build()

    def _finish(self) -> None:
        """Leave on request; a turn that the broker had handed over meanwhile is done first."""
        try:
            while not self._may_leave(_LEAVE_TIMEOUT_S):
                message = self._watcher.arrived.popleft() if self._watcher.arrived else self._link.receive(_LAST_LOOK_S)
                if message is None:
                    return
                if message["t"] == "turn":
                    self._turn(message)
        except (UnavailableError, ProtocolError):
            return

    def _prepare(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_terminate)
        signal.signal(PARENT_SIGNAL, self._on_parent_death)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        os.register_at_fork(after_in_child=self._link.drop)  # a skill's fork must not keep our connection open

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._watcher.drain = True
        os.eventfd_write(self._wake, 1)

    def _on_parent_death(self, _number: int, _frame: FrameType | None) -> None:
        """Go after this turn when the fleet is gone; the death of ``sutazaid`` alone is repaired by its guard."""
        lives = guard_lives(self._place.guard_file)
        if not (os.getppid() != 1 if lives is None else lives):
            self._watcher.drain = True
            os.eventfd_write(self._wake, 1)

    def _fleet_is_gone(self) -> bool:
        return guard_lives(self._place.guard_file) is False or self._watcher.drain

    def _connect(self) -> bool:
        """Connect without a turn and ask for one; ``False`` when the broker does not come back."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not self._watcher.drain:
            if not self._link.connect_until(None, give_up_s, self._fleet_is_gone):
                self._log.warning("the broker does not come back; leaving")
                return False
            try:
                self._link.send({"t": "pull"})
            except UnavailableError:
                continue
            return True
        return False

    def _next(self) -> dict[str, Any] | None:
        """Wait for a message; ``None`` when the keep time is over or somebody asked to stop."""
        if self._watcher.arrived:
            return self._watcher.arrived.popleft()
        give_up_s = time.monotonic() + max(_KEEP_MS_MIN, self._place.keep_ms) / 1_000
        poller = select.poll()
        poller.register(self._link.connection, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while not self._watcher.drain:
            if (message := self._link.receive(0)) is not None:
                return message
            left_ms = round((give_up_s - time.monotonic()) * 1_000)
            if left_ms <= 0 or not poller.poll(left_ms):
                return None
        return None

    def _may_leave(self, timeout_s: float = _COMMIT_TIMEOUT_S) -> bool:
        """Ask the broker whether the instance may exit; a turn that came meanwhile is kept for the loop."""
        if not self._link.connected:
            return True
        try:
            reply = self._link.request({"t": "hibernate"}, timeout_s)
        except RefusedError:
            return self._watcher.drain
        return bool(reply["t"] == "bye")

    def _turn(self, message: dict[str, Any]) -> None:
        def load(task: str, reference: dict[str, Any]) -> Any:
            return download(lambda fields: self._exchange(turn, fields), task, reference["bytes"])

        turn = read_turn(message, load)
        if isinstance(self._agent, BaseException):
            self._watcher.drain = True  # the next wake imports again: the code may have been mended
            self._commit(turn, Commit(OUTCOME_FAILED, error=describe_error(self._agent)), 0, pull=False)
            return
        around = Surroundings(
            settings=self._place.settings,
            llm_url=self._place.llm_url,
            fleet=self._place.fleet,
            scratch=self._place.scratch,
            log=self._log,
            is_cancelled=self._watcher.is_stopping,
            on_progress=self._watcher.progressed,
            on_checkpoint=lambda context: self._checkpoint(turn, context),
            on_act=lambda _, action, arguments: self._act(turn, action, arguments),
            on_own=lambda fields: self._own(turn, fields),
            on_recall=lambda fields: self._ask(turn, {"t": "recall", **fields}),
            on_load=load,
            on_cache=lambda fields, blobs: self._cache(turn, fields, blobs),
        )
        context = Context(turn, around)
        self._watcher.begin(turn, context)
        try:
            commit = execute(self._agent, turn, context, self._runner)
        except TurnCancelledError as stopped:
            self._leave_if_forked()
            self._watcher.end()
            self._give_up(turn, str(stopped))
            return
        self._leave_if_forked()
        self._watcher.end()
        self._commit(turn, commit, context.state_version, pull=not self._watcher.drain)

    def _give_up(self, turn: Turn, reason: str) -> None:
        """Store nothing of a stopped turn; only when the clock here was first, the broker is told that it ended."""
        self._log.warning("a turn was given up", task=turn.task.id, reason=reason)
        if reason == DEADLINE:
            error = {
                "code": "deadline",
                "message": "the turn ran until its deadline",
                "retryable": True,
                "detail": None,
            }
            self._commit(turn, Commit(OUTCOME_FAILED, error=error), 0, pull=not self._watcher.drain)
        elif not self._watcher.drain:
            self._link.send({"t": "pull"})

    def _leave_if_forked(self) -> None:
        """End a process that the agent's code forked and that came back here: it is not the instance."""
        if os.getpid() != self._pid:
            os._exit(0)

    def _checkpoint(self, turn: Turn, context: Context) -> int:
        emits = [call.wire(turn.task.priority) for call in context.emitted.values()]
        state = context.changed_state()
        commit = Commit(OUTCOME_CHECKPOINT, state=state, emits=emits, keeps=dict(context.kept))
        with self._watcher.paused():
            reply = self._send_commit(turn, commit, context.state_version, pull=False)
        if reply["status"] != LEASED:
            raise TurnCancelledError(f"its checkpoint was refused: the task is {reply['status']}")
        next_version = context.state_version + (1 if state is not None else 0)
        return int(reply.get("state_version", next_version))

    def _act(self, turn: Turn, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Ask the broker until it answers; asking twice is harmless, and a cancelled turn hears of it afterwards."""
        done: dict[str, Any] = self._ask(turn, {"t": "act", "action": action, "arguments": arguments})["done"]
        return done

    def _own(self, turn: Turn, fields: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask for tasks of this agent."""
        tasks: list[dict[str, Any]] = self._ask(turn, {"t": "own", **fields})["tasks"]
        return tasks

    def _ask(self, turn: Turn, fields: dict[str, Any]) -> dict[str, Any]:
        """Ask the broker in the middle of a turn, again until it answers."""
        return self._exchange(turn, fields)[0]

    def _exchange(self, turn: Turn, fields: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Ask, and give the raw bytes of the answer too."""
        message = {**fields, **turn.held}
        give_up_s = min(turn.deadline_s, time.monotonic() + ACT_PATIENCE_MS / 1_000)
        with self._watcher.paused():
            for wait_s in backoff_s(_ACT_PAUSE_S, 1.0):
                try:
                    # not by link.request: that "unavailable" may be sutazaid's, and this connection holds the turn
                    reply = self._link.connection.exchange(message, (), ACT_WAIT_MS / 1_000 + 1)
                except QueueFullError:
                    if time.monotonic() + wait_s > give_up_s:
                        raise
                    time.sleep(wait_s)
                except FencedError as error:
                    raise TurnCancelledError("lease") from error
                except RefusedError as error:
                    raise NonRetryableError(str(error)) from error
                except UnavailableError:
                    if time.monotonic() + wait_s > give_up_s:
                        raise
                    time.sleep(wait_s)
                    if not self._link.connected:
                        self._link.connect_until(turn.held, give_up_s)
                else:
                    return reply
        raise UnavailableError("the fleet cannot be asked now")

    def _cache(
        self, turn: Turn, fields: dict[str, Any], blobs: tuple[bytes, ...]
    ) -> tuple[dict[str, Any], list[bytes]] | None:
        """Ask the cache once; without an answer the skill goes on as if there were nothing."""
        with self._watcher.paused():
            try:
                wait_ms = CACHE_WAIT_MS + (CACHE_MAKE_MS if fields.get("make") else 0)
                return self._link.connection.exchange({**fields, **turn.held}, blobs, wait_ms / 1_000)
            except FencedError as error:
                raise TurnCancelledError("lease") from error
            except RefusedError as error:
                raise NonRetryableError(str(error)) from error
            except UnavailableError:
                return None

    def _commit(self, turn: Turn, commit: Commit, state_version: int, *, pull: bool) -> None:
        try:
            self._send_commit(turn, commit, state_version, pull=pull)
        except (FencedError, TurnCancelledError) as error:
            self._log.warning("a turn's result was not wanted any more", task=turn.task.id, reason=str(error))
        except RefusedError as error:
            if commit.large and not error.retryable:  # above the agent's limit: it would be the next time too
                message = f"its result was not taken: {error.detail}"
                failure = {"code": "invalid-output", "message": message, "retryable": False, "detail": None}
                self._commit(turn, Commit(OUTCOME_FAILED, error=failure), 0, pull=pull)
                return
            self._log.error("the broker refused a commit", task=turn.task.id, error=str(error), code=error.code)
        except ProtocolError as error:
            self._log.error("the broker cannot read a commit", task=turn.task.id, error=str(error))
        else:
            return
        if pull:
            self._link.send({"t": "pull"})

    def _deliver(self, turn: Turn, commit: Commit, message: dict[str, Any]) -> dict[str, Any]:
        """Send a commit once; a large result is uploaded when the broker says that it has not got it."""
        try:
            return self._link.request(message, _COMMIT_TIMEOUT_S)
        except UploadMissingError:
            upload(self._link, turn, commit.large, message["result_ref"])
            return self._link.request(message, _COMMIT_TIMEOUT_S)

    def _send_commit(self, turn: Turn, commit: Commit, state_version: int, *, pull: bool) -> dict[str, Any]:
        """Send a commit until it is answered, over as many connections as it takes, until the deadline.

        Raises:
            RefusedError: the broker does not take it.
            TurnCancelledError: the deadline is over and the broker is still away.
            ProtocolError: the broker cannot read it.
        """
        message = commit.message(turn, state_version, pull=pull)
        give_up_s = turn.deadline_s + _COMMIT_GRACE_S
        misread = 0
        while True:
            try:
                return self._deliver(turn, commit, message)
            except UnavailableError:
                if commit.large:  # the disk may be why: it is asked again, not at once
                    time.sleep(_ACT_PAUSE_S)
            except (StorageFullError, QueueFullError, UploadMissingError):
                # the work is done: keep it until there is room, the broker renews the lease
                if time.monotonic() > give_up_s:
                    raise
                time.sleep(_FULL_PAUSE_S)
                continue
            except ProtocolError:
                misread += 1
                if misread >= _PROTOCOL_ERRORS_MAX:
                    raise
            if not self._link.connect_until(turn.held, give_up_s):
                raise TurnCancelledError("the broker was away until the deadline")
