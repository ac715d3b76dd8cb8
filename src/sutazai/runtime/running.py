"""Why it exists: a skill runs in the main thread, plain or on one event loop that is used again for every turn.

The loop is made for the first ``async`` skill; an agent without one never pays for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING, Any

from sutazai.runtime.execute import TurnCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sutazai.runtime.watch import Watcher

_TIDY_S = 1.0


class SkillRunner:
    """Runs functions of the agent so that the watcher can stop them."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Run it.

        Raises:
            TurnCancelledError: the turn was stopped meanwhile.
            BaseException: whatever the function raises.
        """
        try:
            value = self._run(function, arguments)
        except BaseException:
            self._watcher.in_skill = False
            if self._watcher.reason:
                raise TurnCancelledError(self._watcher.reason) from None
            raise
        if self._watcher.reason:
            raise TurnCancelledError(self._watcher.reason)
        return value

    def _run(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        try:
            self._watcher.in_skill = True
            if self._watcher.reason:
                raise TurnCancelledError(self._watcher.reason)
            value = function(**arguments)
            return self._finish(value) if inspect.iscoroutine(value) else value
        finally:
            self._watcher.in_skill = False

    def _finish(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        loop = self._open_loop()
        task = loop.create_task(coroutine)
        self._watcher.task = task
        try:
            return loop.run_until_complete(task)
        except BaseException:
            if not task.done():  # a signal got in between: what the loop holds is not known
                self._close_loop()
            raise
        finally:
            self._watcher.task = None
            if self._loop is not None:
                self._tidy(self._loop)

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    def _tidy(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what the skill left running, so that it does not run in the next task's turn."""
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_TIDY_S))

    def _close_loop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            with contextlib.suppress(Exception):
                loop.close()
