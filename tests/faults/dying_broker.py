"""A broker that is killed at one step of its work with large results: ``python dying_broker.py STEP ARGUMENT…``.

The step is one function of the real broker; the process ends itself with SIGKILL before or behind its call.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sutazai.bus import __main__ as bus
from sutazai.bus import broker
from sutazai.bus.spill import SpillDesk
from sutazai.bus.spill_files import SpillFiles

if TYPE_CHECKING:
    from collections.abc import Callable

BEFORE, BEHIND = True, False
#: By name of the step: whose function, and whether the kill comes before it.
STEPS: dict[str, tuple[Any, str, bool]] = {
    "a part is begun": (SpillFiles, "begin", BEHIND),
    "a part is written": (SpillFiles, "append", BEHIND),
    "written, not synced": (os, "fsync", BEFORE),
    "synced, without its name": (Path, "rename", BEFORE),
    "named, the folder not synced": (Path, "rename", BEHIND),
    "on disk, not answered": (SpillFiles, "finish", BEHIND),
    "the commit is not stored": (SpillDesk, "hold", BEHIND),
    "the commit is stored, not answered": (SpillDesk, "settled", BEFORE),
    "the task is forgotten, its file is there": (SpillFiles, "remove", BEFORE),
    "the task is forgotten, its file is gone": (SpillFiles, "remove", BEHIND),
}
FORGETTING = [step for step in STEPS if "forgotten" in step]


def arm(owner: Any, name: str, *, before: bool) -> Callable[..., Any]:
    """Let the process end at the call of a function; gives the real one."""
    real: Callable[..., Any] = getattr(owner, name)

    def dying(*given: Any, **named: Any) -> None:
        if name == "settled" and not getattr(given[1].result, "file", ""):
            return real(*given, **named)  # of another commit
        if not before:
            real(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(owner, name, dying)
    return real


def main() -> int:
    """Be a broker until the step."""
    step = sys.argv.pop(1)
    owner, name, before = STEPS[step]
    if owner in {os, Path}:  # only while a file of a result is finished
        finish = SpillFiles.finish

        def finishing(*given: Any) -> None:
            arm(owner, name, before=before)
            finish(*given)

        SpillFiles.finish = finishing  # type: ignore[method-assign]
    else:
        arm(owner, name, before=before)
    if step in FORGETTING:
        bus.Options = functools.partial(bus.Options, tasks_kept=0)  # type: ignore[misc,assignment]
        broker._PURGE_EVERY_MS = 100
    return bus.main()


if __name__ == "__main__":
    sys.exit(main())
