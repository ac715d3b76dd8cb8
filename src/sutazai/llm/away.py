"""Why it exists: a model that runs elsewhere may be away while our server is well; who looks at us must see that.

The other server is asked now and then, and the last answer is kept. Nothing waits for it: a request is always tried.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sutazai.errors import SutazaiError
from sutazai.llm.drivers.protocol import Probed

if TYPE_CHECKING:
    from sutazai.llm.drivers.protocol import Driver

EVERY_S = 10.0
_log = logging.getLogger(__name__)


class Watch:
    """Whether a driver's model is there.

    Attributes:
        reason: why it is not; empty when it is, or is part of this process.
        known: it was asked at least once, or needs no asking.
    """

    def __init__(self, driver: Driver, every_s: float = EVERY_S) -> None:
        self._driver, self._every_s = driver, every_s
        self._task: asyncio.Task[None] | None = None
        self.reason = ""
        self.known = not isinstance(driver, Probed)

    def start(self) -> None:
        """Begin to ask, if there is somebody to ask."""
        if isinstance(self._driver, Probed):
            self._task = asyncio.create_task(self._ask(self._driver), name="llm-watch")

    def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()

    async def _ask(self, driver: Probed) -> None:
        while True:
            reason = ""
            try:
                await asyncio.to_thread(driver.probe)
            except SutazaiError as error:
                reason = str(error)
            if reason != self.reason or not self.known:
                _log.warning("the model is away: %s", reason) if reason else _log.info("the model is there")
            self.reason, self.known = reason, True
            await asyncio.sleep(self._every_s)
